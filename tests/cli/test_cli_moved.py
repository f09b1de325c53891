"""Commands on runs and scenes that were moved after training, from folders that have nothing to do with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support import scenes
from support.cli import SMALL, Forks, train

pytest_plugins = ["support.cli_fixtures"]

EDGE = 24
FLAGS = (*SMALL, "--vis=tensorboard", "--max-num-iterations=20")
RUN = Path("my outputs/x/instant-hash/run")

COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "eval": lambda config, out: ("ns-eval", "--load-config", config, "--output-path", out / "eval.json"),
    "dataset": lambda config, out: (
        "ns-render", "dataset", "--load-config", config, "--output-path", out, "--rendered-output-names", "rgb",
    ),
    "interpolate": lambda config, out: (
        "ns-render", "interpolate", "--load-config", config, "--output-path", out / "film.mp4", "--interpolation-steps", 1,
        "--output-format", "images",
    ),
    "cameras": lambda config, out: ("ns-export", "cameras", "--load-config", config, "--output-dir", out),
    "mesh": lambda config, out: (
        "instant-hash-mesh", "--load-config", config, "--output-dir", out, "--resolution", 16, "--threshold", 0.01,
    ),
}  # fmt: skip
"""One of each way in which nerfstudio's commands and our own load a run."""


@pytest.fixture(scope="module")
def project(workspace: Path, forks: Forks) -> Path:
    """A folder with a blank in its name, in which a run was trained with relative paths, and which then got another name."""
    old = workspace / "old project"
    scenes.write_blender(old / "data" / "balls", train=8, val=0, test=2, size=(EDGE, EDGE))
    train(forks, "data/balls", Path("my outputs"), *FLAGS, cwd=old).done.check()
    return old.rename(workspace / "new project")


@pytest.fixture
def apart(project: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The run's folder alone, under another name, and the scene somewhere else: config.yml and scene."""
    shutil.copytree(project / RUN, tmp_path / "a run")
    shutil.copytree(project / "data" / "balls", tmp_path / "scenes" / "balls")
    return tmp_path / "a run" / "config.yml", tmp_path / "scenes" / "balls"


def test_a_project_that_was_renamed_works_from_any_folder(project: Path, forks: Forks, tmp_path: Path) -> None:
    (project / RUN / "nerfstudio_models" / ".DS_Store").touch()  # nerfstudio takes it for a checkpoint's
    done = forks.run(*COMMANDS["eval"](project / RUN / "config.yml", tmp_path), cwd=tmp_path).check()
    assert done.words.count(f"is not there any more; {project / 'data' / 'balls'} is taken.") == 1
    checkpoint = Path(json.loads((tmp_path / "eval.json").read_text())["checkpoint"])
    assert checkpoint == project / RUN / "nerfstudio_models" / "step-000000019.ckpt"


@pytest.mark.parametrize("name", ["eval", "mesh"])
def test_a_run_alone_says_what_it_misses(apart: tuple[Path, Path], forks: Forks, tmp_path: Path, name: str) -> None:
    config, _ = apart
    done = forks.run(*COMMANDS[name](config.relative_to(tmp_path), tmp_path / "out"), cwd=tmp_path)
    assert done.rc == 1
    assert "Traceback" not in done.text
    assert done.words.endswith(
        "old project/data/balls of the run a run/config.yml is not there; put it there, or say where it is by adding the line "
        "'data: DIR' at the end of a run/config.yml."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["interpolate", "cameras", "mesh"])
def test_a_line_that_is_added_to_it_says_where_the_scene_is(
    apart: tuple[Path, Path], forks: Forks, tmp_path: Path, name: str
) -> None:
    config, scene = apart
    with config.open("a") as file:
        file.write(f"data: {scene}\n")
    forks.run(*COMMANDS[name](config, tmp_path / "out put"), cwd=scene).check()
    assert [path for path in (tmp_path / "out put").rglob("*") if path.is_file()]


def test_render_dataset_has_a_flag_for_the_scene(apart: tuple[Path, Path], forks: Forks, tmp_path: Path) -> None:
    config, scene = apart
    forks.run(*COMMANDS["dataset"](config, tmp_path / "out"), "--data", scene.relative_to(tmp_path), cwd=tmp_path).check()
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 2


def test_settings_of_a_run_alone_begin_a_new_one(apart: tuple[Path, Path], forks: Forks, tmp_path: Path) -> None:
    config, scene = apart
    done = forks.run("ns-train", "instant-hash", "--load-config", config, cwd=tmp_path)
    assert (done.rc, "adding the line 'data: DIR' at the end of" in done.words) == (1, True)
    assert not (tmp_path / "outputs").exists()
    with config.open("a") as file:
        file.write(f"data: {scene}\n")
    forks.run("ns-train", "instant-hash", "--load-config", config, cwd=tmp_path).check()
    models = tmp_path / "outputs" / "x" / "instant-hash" / "run" / "nerfstudio_models"
    assert [path.name for path in models.iterdir()] == ["step-000000019.ckpt"]
