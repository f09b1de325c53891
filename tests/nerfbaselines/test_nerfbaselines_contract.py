"""nerfbaselines' own test of a method, by its own command, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nerfbaselines
import pytest

from measure import lpips_trunks
from ngp_method.nerfbaselines import saved
from ngp_method.nerfbaselines.spec import SPEC
from support.nerfbaselines_small import SMALL

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""Nobody listens there."""

CHECKS = (
    "Method backend initialized", "Method installed", "Method info loaded", "Train dataset loaded", "Test dataset loaded",
    "Model initialized", "Train iteration passes", "Eval few passes", "Eval all passes", "Render works", "Saving works",
    "Loading from checkpoint (without train dataset) passes", "Resaving method yields same checkpoint",
    "Restored model (without train dataset) matches original", "Loading from checkpoint (with train dataset) passes",
    "Restored model (with train dataset) matches original", "Full training works", "Checkpoint reproduces results",
    "Final evaluation works and matches predictions",
)  # fmt: skip
LEFT_OUT = (
    "Skipping public checkpoint verification - dataset not public",
    "Skipping paper results comparison for fast test",
)


def run(tmp_path: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command of nerfbaselines without network; LPIPS' networks are random ones, and nobody looks at its values."""
    lpips_trunks.write(lpips_trunks.at_random(), tmp_path / "torch")
    more = {"TORCH_HOME": str(tmp_path / "torch"), "NERFBASELINES_NO_UPDATE_CHECK": "1", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "nerfbaselines", *words, "--backend", "python"]
    env = {**os.environ, **NO_NETWORK, **more}
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_all_that_nerfbaselines_asks_of_a_method(scene: Path, tmp_path: Path) -> None:
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    presets = ["--presets", "blender"]
    words = ["test-method", "--method", "instant-hash", "--data", str(scene), "--steps", "12", *presets, *settings]
    done = run(tmp_path, words)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert done.returncode == 0, said + done.stderr[-4000:]
    lines = [line.strip() for line in said.splitlines()]
    assert [line[2:] for line in lines if line.startswith("\N{CHECK MARK}")] == list(CHECKS)
    assert [line[2:] for line in lines if line.startswith("\N{WARNING SIGN}")] == list(LEFT_OUT)


def test_a_wrong_setting_ends_its_command_with_a_sentence(scene: Path, tmp_path: Path) -> None:
    words = ["train", "--method", "instant-hash", "--data", str(scene), "--output", str(tmp_path / "out")]
    done = run(tmp_path, [*words, "--set", "pipeline.model.n_lovels=3"])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    said = "there is no setting 'pipeline.model.n_lovels' under nerfbaselines; do you mean pipeline.model.n_levels?"
    assert last == f"nerfbaselines: {said}"
    assert "Traceback" not in done.stderr


def test_it_is_found_by_its_entry_point() -> None:
    (entry,) = (e for e in metadata.entry_points(group="nerfbaselines.specs") if e.name == "instant-hash")
    assert entry.load() is SPEC
    known = nerfbaselines.get_method_spec("instant-hash")
    assert known["method_class"] == SPEC["method_class"]
    assert known["backends_order"] == ["python"]


@pytest.mark.parametrize("name", SPEC["presets"])
def test_presets_are_settings(name: str) -> None:
    given = {path: value for path, value in SPEC["presets"][name].items() if not path.startswith("@")}
    config = saved.config_of(given, None)
    for path, value in given.items():
        if path == "method":
            assert config.method_name == value
        else:
            owner = config
            for part in path.split("."):
                owner = getattr(owner, part)
            assert owner == value
