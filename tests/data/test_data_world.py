"""Scenes in any unit, at any place, with cameras that reconstructions have put wrong: the world and its box."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.utils.colmap_parsing_utils import qvec2rotmat

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.checks import check_data
from ngp_method.errors import UserError
from support import scenes

NOWHERE = (0.0, 0.0, 0.0)
SURVEY = (431_234.5, 5_412_345.25, 812.125)
"""Coordinates as UTM has them: float32 would leave half a unit of the northing."""


def write_ngp(folder: Path) -> None:
    scenes.write_ngp(folder, 10)


def write_ngp_of_an_object(folder: Path) -> None:
    scenes.write_ngp(folder, 10, aabb_scale=1, room=False)


def write_blender(folder: Path) -> None:
    scenes.write_blender(folder, train=10, val=2, test=0)


def write_nerfstudio(folder: Path) -> None:
    scenes.write_nerfstudio(folder, 10)


def write_colmap(folder: Path) -> None:
    scenes.write_colmap(folder, count=10, binary=False)


WRITERS = (write_ngp, write_ngp_of_an_object, write_blender, write_nerfstudio, write_colmap)
every_layout = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.removeprefix("write_"))


def parse(folder: Path, **options: Any) -> DataparserOutputs:
    return AutoDataParserConfig(data=folder, eval_mode="all", **options).setup().get_dataparser_outputs()


def change(folder: Path, how: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Puts the camera with number i at how(i, position), in the axes of the scene's files; sparse points have number -1."""
    for path in folder.glob("transforms*.json"):
        meta = json.loads(path.read_text())
        for i, frame in enumerate(meta["frames"]):
            for row, value in zip(frame["transform_matrix"], how(i, np.array(frame["transform_matrix"])[:3, 3])):
                row[3] = float(value)
        path.write_text(json.dumps(meta))
    model = folder / "sparse" / "0"
    if not model.is_dir():
        return
    lines = (model / "images.txt").read_text().splitlines()
    for i in range(0, len(lines), 2):
        words = lines[i].split()
        rotation = qvec2rotmat(np.array(words[1:5], dtype=float))
        position = -rotation.T @ np.array(words[5:8], dtype=float)
        words[5:8] = [repr(float(v)) for v in -rotation @ how(i // 2, position)]
        lines[i] = " ".join(words)
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    points = [line.split() for line in (model / "points3D.txt").read_text().splitlines()]
    for words in points:
        words[1:4] = [repr(float(v)) for v in how(-1, np.array(words[1:4], dtype=float))]
    (model / "points3D.txt").write_text("\n".join(" ".join(words) for words in points) + "\n")


def positions(outputs: DataparserOutputs) -> np.ndarray:
    """Camera positions in the frame of the files, [N, 3], by the transform that is stored for others to use."""
    matrix, scale = outputs.dataparser_transform.double().numpy(), outputs.dataparser_scale
    world = outputs.cameras.camera_to_worlds[:, :, 3].double().numpy()
    return np.linalg.solve(matrix[:, :3], (world / scale - matrix[:, 3]).T).T


@every_layout
@pytest.mark.parametrize("factor", [1e-3, 100.0, 1e6])
@pytest.mark.parametrize("offset", [NOWHERE, SURVEY], ids=["origin", "survey"])
def test_a_scene_is_the_same_in_any_unit_and_place(tmp_path: Path, write: Any, factor: float, offset: Any) -> None:
    """The box holds what the cameras look at, and has the size of it, whatever the numbers in the files are."""
    write(tmp_path)
    shift = np.array(offset)
    change(tmp_path, lambda _, position: position * factor + factor * shift)
    outputs = parse(tmp_path)
    geometry = outputs.metadata["geometry"]
    config = AutoDataParserConfig(data=tmp_path, eval_mode="all")
    check_data(config)
    # the files' own frame: radius 4, spheres within 1.5 of the origin
    matrix, scale = outputs.dataparser_transform.double().numpy(), outputs.dataparser_scale
    focus = scale * (matrix[:, :3] @ (factor * shift) + matrix[:, 3])
    unit = geometry.unit_size / scale / factor
    assert np.abs(focus - np.array(geometry.center)).max() < 0.35 * geometry.unit_size
    assert 2.5 < unit < 4.5
    radii = np.linalg.norm(positions(outputs) / factor - shift, axis=-1)
    np.testing.assert_allclose(radii, scenes.RADIUS, atol=1e-3)  # no digits are lost on the way
    distance = np.linalg.norm(outputs.cameras.camera_to_worlds[:, :, 3].numpy() - focus, axis=-1)
    np.testing.assert_allclose(distance / geometry.unit_size, scenes.RADIUS / unit, rtol=1e-3)


@every_layout
def test_one_camera_far_off_does_not_move_the_box(tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "right")
    shutil.copytree(tmp_path / "right", tmp_path / "wrong")
    change(tmp_path / "wrong", lambda i, position: position * (3000.0 if i == 4 else 1.0))
    right, wrong = parse(tmp_path / "right"), parse(tmp_path / "wrong")
    assert "1 of " in capsys.readouterr().out.split("stand far off")[0].splitlines()[-1]
    for name in ("unit_size", "aabb_scale", "near"):
        assert getattr(wrong.metadata["geometry"], name) / wrong.dataparser_scale == pytest.approx(
            getattr(right.metadata["geometry"], name) / right.dataparser_scale, rel=0.2
        )
    order = [path.name for path in wrong.image_filenames]
    others = [i for i, name in enumerate(order) if not name.endswith(("4.png", "4.jpg"))]
    a, b = (outputs.cameras.camera_to_worlds[others, :, 3] for outputs in (right, wrong))
    spread = [float((x[:, None] - x[None]).norm(dim=-1).max()) for x in (a, b)]
    assert spread[1] == pytest.approx(spread[0], rel=0.3)  # the world keeps its size, too
    assert len(order) == len(right.image_filenames)


def test_without_centring_a_surveys_coordinates_are_refused(tmp_path: Path) -> None:
    scenes.write_nerfstudio(tmp_path, 10)
    assert parse(tmp_path, center_method="none", auto_scale_poses=False)
    change(tmp_path, lambda _, position: position + np.array(SURVEY))
    for auto_scale in (False, True):
        with pytest.raises(UserError, match=r"center-method none would leave .* single precision does not hold; leave it out"):
            parse(tmp_path, center_method="none", auto_scale_poses=auto_scale)
    assert parse(tmp_path)


def test_a_stated_frame_is_taken_and_said_where_it_does_not_suit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_ngp(tmp_path, 10, aabb_scale=2, scale=0.25)
    assert parse(tmp_path).dataparser_scale == 0.25
    assert "do not look" not in capsys.readouterr().out
    change(tmp_path, lambda _, position: position * 1000.0)
    assert parse(tmp_path).dataparser_scale == 0.25
    assert "its scale and offset put the box where the cameras do not look" in capsys.readouterr().out
    assert parse(tmp_path, scale=0.00025).dataparser_scale == 0.00025
    assert "do not look" not in capsys.readouterr().out
    change(tmp_path, lambda _, position: position + 1e9)
    with pytest.raises(UserError, match=r"scale and offset would leave .* take both out of the file"):
        parse(tmp_path)


def test_aabb_scale_of_the_file_or_the_command_stays(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path / "n", 10, aabb_scale=8)
    scenes.write_blender(tmp_path / "b", train=10)
    for folder, found in ((tmp_path / "n", 8), (tmp_path / "b", 1)):
        change(folder, lambda _, position: position * 1000.0)
        assert parse(folder).metadata["geometry"].aabb_scale == found
        assert parse(folder, aabb_scale=4).metadata["geometry"].aabb_scale == 4
        twice = parse(folder, scale=0.001)
        assert twice.metadata["geometry"].unit_size / twice.dataparser_scale == pytest.approx(1000.0)


def test_what_is_looked_at_is_float64_in_the_stored_transform(tmp_path: Path) -> None:
    scenes.write_nerfstudio(tmp_path, 10)
    change(tmp_path, lambda _, position: position + np.array(SURVEY))
    outputs = parse(tmp_path)
    outputs.save_dataparser_transform(tmp_path / "dataparser_transforms.json")
    saved = json.loads((tmp_path / "dataparser_transforms.json").read_text())
    np.testing.assert_array_equal(saved["transform"], outputs.dataparser_transform.numpy())
    exported = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, "opengl")  # as ns-export cameras
    assert exported.dtype == torch.float64
    order = [int(path.stem) for path in outputs.image_filenames]
    np.testing.assert_allclose(exported[:, :, 3].numpy(), scenes.orbit(10)[order, :3, 3] + np.array(SURVEY), atol=1e-4)
