"""A tiny Blender scene as nerfbaselines reads one, and what nerfbaselines hands over of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from measure import nerfbaselines_scene
from support.scenes import write_blender


@pytest.fixture(scope="session")
def blender_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a user has it."""
    return write_blender(tmp_path_factory.mktemp("blender") / "scene", train=12, val=0, test=2)


@pytest.fixture(scope="session")
def scene(blender_folder: Path) -> Path:
    """As nerfbaselines reads it."""
    return nerfbaselines_scene.write(blender_folder, 1.0, blender_folder.parent / "local", None)


@pytest.fixture
def load(scene: Path) -> Callable[..., Any]:
    """``load("train")``: what nerfbaselines hands over, with ``id`` of its data set."""
    from nerfbaselines.datasets import load_dataset

    from ngp_method.nerfbaselines.method import InstantHash

    def of(split: str, name: str | None = "blender") -> Any:
        info = InstantHash.get_method_info()
        features, models = info["required_features"], info["supported_camera_models"]
        data = load_dataset(str(scene), split, features=features, supported_camera_models=models, load_features=True)
        data["metadata"]["id"] = name
        return data

    return of
