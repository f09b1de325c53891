# make demo   trains on the built-in scene and shows what came of it
# make test   runs the tests
# Both make the environment $(VENV) first. They need Python 3.10 or newer with its venv module and headers, and a C compiler:
# one of nerfstudio's dependencies has no wheel.

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

# What a bare system lacks is said in one sentence, with the README's line; a compiler is looked for as Python's build tools do.
NEEDED := make gcc python3-dev python3-venv
APT := sudo apt-get install $(NEEDED)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "$(PYTHON) is missing or older than 3.10: $(APT), or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: $(APT)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; p = sysconfig.get_paths()["include"]; sys.exit(not os.path.exists(p + "/Python.h"))' || \
	  { echo "$(PYTHON) has no headers (Python.h): $(APT)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, shlex, shutil, sys, sysconfig; cc = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"; \
	  sys.exit(not shutil.which(shlex.split(cc)[0]))' || \
	  { echo "There is no C compiler that $(PYTHON) would build with: $(APT), or set CC" >&2; exit 1; }
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
