"""Frames of transforms files: matrices in every layout, frames listed twice, and keys that are not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.frames import read_poses
from ngp_method.errors import UserError
from support import scenes

POSES = scenes.orbit(4)

LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "nested": lambda m: m.tolist(),
    "3x4": lambda m: m[:3].tolist(),
    "flat 16": lambda m: m.reshape(-1).tolist(),
    "flat 12": lambda m: m[:3].reshape(-1).tolist(),
    "text": lambda m: [[str(v) for v in row] for row in m.tolist()],
    "by columns": lambda m: m.T.tolist(),
    "by columns, flat 16": lambda m: m.T.reshape(-1).tolist(),
    "by columns, flat 12": lambda m: m[:3].T.reshape(-1).tolist(),
    "by columns, 4x3": lambda m: m[:3].T.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["transform_matrix", "transform_matrix_start"])
def test_matrices_in_every_layout(layout: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [{"file_path": f"{i}.png", key: LAYOUTS[layout](pose)} for i, pose in enumerate(POSES)]
    np.testing.assert_allclose(read_poses(tmp_path / layout, frames), POSES[:, :3], atol=1e-12)
    assert ("has its matrices by columns" in capsys.readouterr().out) == ("columns" in layout)


def test_a_camera_in_the_origin_is_transposed_with_the_others(tmp_path: Path) -> None:
    """Its own matrix does not tell whether it is by rows or by columns."""
    poses = POSES.copy()
    poses[1, :3, 3] = 0.0
    frames = [{"file_path": f"{i}.png", "transform_matrix": pose.T.tolist()} for i, pose in enumerate(poses)]
    np.testing.assert_allclose(read_poses(tmp_path / "t.json", frames), poses[:, :3], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.T.tolist(), "its last column is, as in a matrix by columns: transpose it"),
        (lambda m: (m @ np.diag([1, -1, 1, 1])).tolist(), "x right, y up, z backwards: negate the column"),
        (lambda m: (np.diag([1, 1, -1, 1]) @ m).tolist(), "or the row of the axis of the world that it mirrors"),
        (lambda m: m.reshape(-1)[:9].tolist(), r"shape \[9\]"),
        (lambda m: [[1, 2], [3]], "no matrix of numbers"),
    ],
)
def test_one_matrix_that_is_wrong_is_named(change: Any, words: str, tmp_path: Path) -> None:
    frames = [{"file_path": f"{i}.png", "transform_matrix": pose.tolist()} for i, pose in enumerate(POSES)]
    frames[2]["transform_matrix"] = change(POSES[2])
    with pytest.raises(UserError, match=rf't\.json: frame "2\.png".*{words}'):
        read_poses(tmp_path / "t.json", frames)


def test_mirrored_matrices_are_refused_where_all_are(tmp_path: Path) -> None:
    frames = [{"file_path": "a.png", "transform_matrix": (p @ np.diag([1, 1, -1, 1])).tolist()} for p in POSES]
    with pytest.raises(UserError, match="left-handed"):
        read_poses(tmp_path / "t.json", frames)


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    scenes.write_ngp(folder, count=4)
    meta = json.loads((folder / "transforms.json").read_text())
    change(meta)
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def cameras(folder: Path) -> Tensor:
    return AutoDataParserConfig(data=folder, eval_mode="all").setup().get_dataparser_outputs().cameras.camera_to_worlds


def each(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda meta: [frame.update(keys) for frame in meta["frames"]]  # type: ignore[return-value]


UNUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "motion": (each(transform_matrix_end=np.eye(4).tolist()), "4 of 4 frames listed in {} move while they are exposed"),
    "shutter": (each(rolling_shutter=[0.0, 0.0, 0.1]), "4 of 4 frames listed in {} have a rolling_shutter"),
    "shutter of all": (lambda meta: meta.update(rolling_shutter=[0.0, 0.0, 0.1, 0.0]), "4 of 4 frames listed in {} have a"),
    "shutter of one": (lambda meta: meta["frames"][1].update(rolling_shutter=[0, 1, 0]), "1 of 4 frames listed in {} have a"),
    "mask of another name": (each(mask_file="masks/a.png"), "4 of 4 frames listed in {} have mask_file, which is not read;"),
    "depth_path": (each(depth_path="depth/a.png"), "4 of 4 frames listed in {} have depth_path; instant-hash does not train"),
    "depth_file_path": (each(depth_file_path="images/0000.png"), "4 of 4 frames listed in {} have depth_file_path; instant-"),
}


@pytest.mark.parametrize("kind", UNUSED)
def test_keys_that_are_not_used_are_counted(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = UNUSED[kind]
    changed(tmp_path, change)
    cameras(tmp_path)
    assert capsys.readouterr().out.count(words.format(tmp_path / "transforms.json")) == 1


def test_keys_that_change_nothing_are_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta["rolling_shutter"] = [0.0, 0.0, 0.0]
        for frame in meta["frames"]:
            frame["transform_matrix_start"] = frame["transform_matrix_end"] = frame["transform_matrix"]
            frame["depth_file_path"] = None

    changed(tmp_path, change)
    cameras(tmp_path)
    assert "of 4 frames" not in capsys.readouterr().out


def test_the_start_of_the_exposure_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(meta: dict[str, Any]) -> None:
        for frame in meta["frames"]:
            frame["transform_matrix_start"] = frame.pop("transform_matrix")
            frame["transform_matrix"] = None
            frame["transform_matrix_end"] = np.eye(4).tolist()

    expected = cameras(scenes.write_ngp(tmp_path / "still", count=4))
    torch.testing.assert_close(cameras(changed(tmp_path / "moving", change)), expected)
    assert "instant-hash uses transform_matrix_start alone" in capsys.readouterr().out


def test_a_depth_file_that_is_missing_does_not_matter(tmp_path: Path) -> None:
    assert len(cameras(changed(tmp_path, each(depth_file_path="depth/none.png")))) == 4


def test_pictures_without_a_pose_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    changed(tmp_path, lambda meta: meta["frames"].pop(1))
    for name in ("0000.HEIC", "dynamic_mask_0000.png", "notes.txt", ".hidden.png"):
        (images / name).write_bytes(b"")
    Image.new("L", (48, 40)).save(images / "dynamic_mask_0000.png")
    Image.new("RGB", (48, 40)).save(images / "new.jpg")
    Image.new("L", (48, 40)).save(images / "0000.alpha.png")
    cameras(tmp_path)
    said = capsys.readouterr().out
    assert f"2 pictures in {images} have no pose and are not used, as 0001.png." in said
    assert f"1 pictures in {images} are instant-ngp's alpha of another picture and are not used, as 0000.alpha.png;" in said


@pytest.mark.parametrize("key", ["transform_matrix", "transform_matrix_start"])
def test_a_frame_listed_twice(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def twice(meta: dict[str, Any]) -> None:
        for frame in meta["frames"]:
            frame[key] = frame.pop("transform_matrix")
        meta["frames"] = [*meta["frames"][::-1], dict(meta["frames"][0])]

    assert len(cameras(changed(tmp_path, twice))) == 4
    assert "1 of 5 frames listed in" in capsys.readouterr().out
    meta = json.loads((tmp_path / "transforms.json").read_text())
    meta["frames"][-1][key] = meta["frames"][0][key]
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"lists 0000\.png twice, with different transform_matrix"):
        cameras(tmp_path)
