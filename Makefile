# make demo   trains on the built-in scene and shows what came of it
# make test   runs the tests
# Both make the environment $(VENV) first. No more than Python 3.10 or newer, with its venv module, is needed.

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
EDITABLE ?= -e
BIN := $(VENV)/bin

# Seconds of training in the demo; the whole of it, with the installation, takes six to ten minutes on two cores.
DEMO_SECONDS ?= 150
DEMO_OUT ?= outputs
STAMP := $(shell date +%Y-%m-%d_%H%M%S)
DEMO_RUN := $(DEMO_OUT)/demo/instant-hash/$(STAMP)

# Threads that spin while they wait slow down whatever else runs; see the README's notes on speed.
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: demo test lint install install-dev clean
.DEFAULT_GOAL := help
.PHONY: help
help:
	@sed -n '1,2s/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than 3.10: sudo apt-get install python3, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(EDITABLE) .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(EDITABLE) '.[dev]'
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	@echo; echo "== 1/4  training for $(DEMO_SECONDS) s; watch it at the viewer's address below"
	$(BIN)/ns-train instant-hash --data "$$($(BIN)/python -c 'from ngp_method.demo import demo_scene_path as p; print(p())')" \
	  --output-dir $(DEMO_OUT) --experiment-name demo --timestamp $(STAMP) --max-train-seconds $(DEMO_SECONDS) \
	  --vis viewer --viewer.websocket-host 127.0.0.1 --viewer.quit-on-train-completion True
	@echo; echo "== 2/4  evaluating on the held-out views"
	$(BIN)/ns-eval --load-config $(DEMO_RUN)/config.yml --output-path $(DEMO_RUN)/eval.json \
	  --render-output-path $(DEMO_RUN)/eval
	@echo; echo "== 3/4  rendering a turntable"
	$(BIN)/instant-hash-turntable --load-config $(DEMO_RUN)/config.yml --output-dir $(DEMO_RUN)/turntable
	@echo; echo "== 4/4  done"
	@$(BIN)/python -m ngp_method.tools.report $(DEMO_RUN)

test: $(VENV)/.installed-dev
	@.ci/system-packages
	$(BIN)/pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
