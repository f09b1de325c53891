"""Fixtures of the commands' tests: one folder, one scene, one run for all of them. See ``cli.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import scenes
from .cli import SIZE, SMALL, STEPS, Forks, Run, train


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all tests of the commands."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def forks(workspace: Path) -> Iterator[Forks]:
    """Commands without the imports."""
    server = Forks(workspace)
    yield server
    server.close()


@pytest.fixture(scope="session")
def blender(workspace: Path) -> Path:
    """The tiny scene in Blender's layout, RGBA, 64x64."""
    return scenes.write_blender(workspace / "blender", train=60, test=4, size=(SIZE, SIZE))


@pytest.fixture(scope="session")
def trained(workspace: Path, blender: Path) -> Run:
    """The one run that most tests look at: ``ns-train``, relative paths, tensorboard."""
    done = train(None, blender.name, Path("runs"), *SMALL, "--vis=tensorboard", f"--max-num-iterations={STEPS}", cwd=workspace)
    done.done.check()
    return Run(workspace / done.config, done.done)
