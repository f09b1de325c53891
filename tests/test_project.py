"""The project's own promises: what it says of itself in one place holds in the others."""

from __future__ import annotations

import glob
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml

import ngp_method

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ngp_method"
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "ngp_method."))
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])
LINES_AT_MOST = 300


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name: str) -> None:
    importlib.import_module(name)


def test_the_walk_found_the_modules() -> None:
    on_disk = {p.relative_to(ROOT).with_suffix("") for p in PACKAGE.rglob("*.py")}
    names = {".".join(p.parts).removesuffix(".__init__") for p in on_disk} - {"ngp_method"}
    assert set(MODULES) == names  # a folder without __init__.py would be left out of the wheel


def test_every_entry_point_can_be_loaded(project: dict[str, Any]) -> None:
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    for group, entries in groups.items():
        for name, target in entries.items():
            module, attribute = target.split(":")
            assert hasattr(importlib.import_module(module), attribute), (group, name)


def test_the_installation_is_this_project(project: dict[str, Any]) -> None:
    installed = importlib.metadata.distribution(project["name"])
    assert installed.version == project["version"] == ngp_method.__version__
    entries = {(e.group, e.name, e.value) for e in installed.entry_points}
    for name, target in project["scripts"].items():
        assert ("console_scripts", name, target) in entries
    for group, named in project["entry-points"].items():
        assert {(group, name, target) for name, target in named.items()} <= entries


def test_nerfstudio_knows_the_method_and_the_parser() -> None:
    from nerfstudio.plugins.registry import discover_methods
    from nerfstudio.plugins.registry_dataparser import discover_dataparsers

    methods, descriptions = discover_methods()
    assert "instant-hash" in methods
    assert descriptions["instant-hash"]
    parsers, _ = discover_dataparsers()
    assert "auto-data" in parsers


def test_configs_load() -> None:
    from nerfstudio.engine.trainer import TrainerConfig

    files = sorted((ROOT / "configs").glob("*.yml"))
    assert files, "configs/ holds no YAML"
    for file in files:
        config = yaml.load(file.read_text(), Loader=yaml.Loader)
        assert isinstance(config, (TrainerConfig, dict)), file


def test_changelog_mentions_the_version(project: dict[str, Any]) -> None:
    assert re.search(rf"^## \[{re.escape(project['version'])}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_readmes_two_commands_are_in_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text()
    first_block = readme.split("```bash")[1].split("```")[0]
    assert re.findall(r"^make (\S+)", first_block, re.MULTILINE) == ["demo", "test"]
    assert {"demo", "test"} <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in ("demo", "test"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_ci_runs_the_readmes_test_command() -> None:
    assert re.search(r"^make test", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_readme_is_finished() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "TO_BE_MEASURED" not in readme
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"


def test_the_license_is_apache(project: dict[str, Any]) -> None:
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_AT_MOST, f"{path.name} has {lines} lines"


def test_the_version_needs_no_heavy_import() -> None:
    code = "import sys, ngp_method, ngp_method.demo; print(sorted({'torch', 'nerfstudio', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_package_holds_the_demo_scene() -> None:
    from ngp_method.demo import demo_scene_path

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["ngp_method"]
    shipped = {Path(p) for pattern in patterns for p in glob.glob(str(PACKAGE / pattern), recursive=True)}
    scene = {p for p in (PACKAGE / "demo" / "scene").rglob("*") if p.is_file()}
    assert scene, "the demo scene is not there"
    assert scene <= shipped
    assert sum(p.stat().st_size for p in scene) < 12e6
    # in CI this is an installed copy, not the checkout
    installed = demo_scene_path()
    assert len([p for p in installed.rglob("*") if p.is_file()]) == len(scene)


def test_the_demos_last_words(tmp_path: Path) -> None:
    from ngp_method.tools.report import report

    with pytest.raises(SystemExit, match="is missing or broken"):
        report(tmp_path)
    (tmp_path / "eval.json").write_text('{"results": {"psnr": 31.234, "ssim": 0.9712}}')
    text = report(tmp_path)
    assert "PSNR 31.23 dB, SSIM 0.9712\n" in text
    assert "LPIPS" not in text
    assert str(tmp_path / "turntable" / "turntable.mp4") in text


APT = "sudo apt-get install make gcc python3-dev python3-venv"


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ("version_info", "is missing or older than 3.10: " + APT),
        ("ensurepip", "has no venv module: " + APT),
        ("Python.h", "has no headers (Python.h): " + APT),
        ("shutil.which", "There is no C compiler that "),
    ],
)
def test_what_a_bare_system_lacks_is_said_in_one_sentence(lacking: str, sentence: str, tmp_path: Path) -> None:
    """make with a Python that answers one of the questions with no: one line that names the README's packages, and no more."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$2" in *{lacking}*) exit 1;; esac\nexit 0\n')
    python.chmod(0o755)
    command = ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert sentence in said[0]
    assert APT in said[0]
    assert not (tmp_path / "venv").exists()
    assert APT in (ROOT / "README.md").read_text()
