"""LLFF's ``poses_bounds.npy``: cameras as another format of the same scene has them, what cannot be read, what is not used."""

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
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.checks import check_data
from ngp_method.data.messages import forget_said
from ngp_method.errors import UserError
from support import scenes

COUNT, SIZE = 12, (48, 40)


def parse(data: Path, **options: Any) -> DataparserOutputs:
    forget_said()
    options = {"eval_mode": "all", **options}
    return AutoDataParserConfig(data=data, **options).setup().get_dataparser_outputs("train")


def rows_of(poses: np.ndarray, size: tuple[int, int] = SIZE, focal: float = 0.9 * SIZE[0]) -> np.ndarray:
    """[N, 17] of camera-to-world poses [N, 4, 4] in OpenGL's axes."""
    hwf = np.broadcast_to(np.array([[size[1]], [size[0]], [focal]]), (len(poses), 3, 1))
    columns = [-poses[:, :3, 1:2], poses[:, :3, 0:1], poses[:, :3, 2:4], hwf]
    bounds = np.broadcast_to([2.5, 9.0], (len(poses), 2))
    return np.concatenate([np.concatenate(columns, -1).reshape(len(poses), 15), bounds], -1)


@pytest.fixture
def llff(tmp_path: Path) -> Path:
    """A scene of twelve pictures with a ``poses_bounds.npy`` alone."""
    folder = scenes.write_nerfstudio(tmp_path / "scene", count=COUNT, size=SIZE)
    (folder / "transforms.json").unlink()
    np.save(folder / "poses_bounds.npy", rows_of(scenes.orbit(COUNT)))
    return folder


def rewrite(folder: Path, change: Callable[[np.ndarray], Any]) -> None:
    path = folder / "poses_bounds.npy"
    np.save(path, change(np.load(path)))


def refusal(data: Path) -> str:
    with pytest.raises(UserError) as caught:
        parse(data)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "poses_bounds.npy" in sentence
    return sentence


def test_cameras_are_those_that_a_transforms_file_says(llff: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = parse(scenes.write_nerfstudio(tmp_path / "other", count=COUNT, size=SIZE))
    outputs = parse(llff)
    assert capsys.readouterr().out.splitlines()[-1] == f"data: llff (it has poses_bounds.npy) in {llff}"
    assert [path.name for path in outputs.image_filenames] == [path.name for path in other.image_filenames]
    torch.testing.assert_close(outputs.cameras.camera_to_worlds, other.cameras.camera_to_worlds, atol=1e-6, rtol=0)
    assert outputs.cameras.fx[:, 0].tolist() == pytest.approx([0.9 * SIZE[0]] * COUNT)
    assert outputs.cameras.fy[:, 0].tolist() == pytest.approx([0.9 * SIZE[0]] * COUNT)
    assert (float(outputs.cameras.cx[0]), float(outputs.cameras.cy[0])) == (24.0, 20.0)
    theirs, ours = other.metadata["geometry"], outputs.metadata["geometry"]
    assert ours.unit_size == pytest.approx(theirs.unit_size, rel=1e-3)
    assert (ours.aabb_scale, ours.reason) == (theirs.aabb_scale, theirs.reason)
    assert len(parse(llff, eval_mode="interval").image_filenames) == COUNT - 2  # every eighth is held out, as LLFF's users do


def test_rows_belong_to_names_sorted_letter_by_letter(llff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parse(llff)
    for index, path in enumerate(sorted((llff / "images").iterdir())):
        path.rename(path.with_name(f"{index}.png"))
    order = sorted(range(COUNT), key=str)
    assert "letter by letter" not in capsys.readouterr().out
    rewrite(llff, lambda rows: rows[order])
    outputs = parse(llff)
    assert "LLFF sorts letter by letter: 11.png comes before 2.png." in capsys.readouterr().out
    assert [int(path.stem) for path in outputs.image_filenames] == order
    world = outputs.cameras.camera_to_worlds[:, :, 3].double()
    back = (world / outputs.dataparser_scale - outputs.dataparser_transform[:, 3]) @ outputs.dataparser_transform[:, :3]
    np.testing.assert_allclose(back.numpy(), scenes.orbit(COUNT)[order, :3, 3], atol=1e-5)


@pytest.mark.parametrize("name", ["images_4", "images_12x10"])
def test_smaller_copies_alone_have_their_lens_scaled(llff: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (llff / name).mkdir()
    for index, path in enumerate(sorted((llff / "images").iterdir())):
        Image.open(path).resize((12, 10)).save(llff / name / f"image{index:03d}.png")  # LLFF gives them names of its own
    shutil.rmtree(llff / "images")
    outputs = parse(llff)
    assert "12 of 12 pictures have another size" in capsys.readouterr().out
    assert [path.parent.name for path in outputs.image_filenames] == [name] * COUNT
    assert outputs.cameras.fx[:, 0].tolist() == pytest.approx([0.9 * 12] * COUNT)
    assert (int(outputs.cameras.width[0]), float(outputs.cameras.cx[0])) == (12, 6.0)


def test_copies_beside_the_pictures_are_said_not_to_be_used(llff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(llff / "images", llff / "images_4")
    shutil.copytree(llff / "images", llff / "masks")
    assert {path.parent.name for path in parse(llff).image_filenames} == {"images"}
    said = capsys.readouterr().out
    assert f"Not used: the copies of {llff / 'images'} in images_4" in said
    assert f"Not used: {llff / 'masks'};" in said


def test_the_folder_with_as_many_pictures_is_taken(llff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(llff / "images", llff / "images_2")
    shutil.copy(llff / "images" / "0000.png", llff / "images" / "0000_b.png")
    assert {path.parent.name for path in parse(llff).image_filenames} == {"images_2"}
    assert f"{llff / 'images'} holds 13 pictures and {llff / 'poses_bounds.npy'} 12 rows" in capsys.readouterr().out


def test_what_systems_leave_beside_pictures_is_none(llff: Path) -> None:
    for name in ("._0000.png", "Thumbs.db", ".DS_Store", "0000.dng", "desktop.ini"):
        (llff / "images" / name).write_bytes(b"x")
    (llff / "poses_bounds.npy").rename(llff / "Poses_Bounds.NPY")
    assert len(parse(llff).image_filenames) == COUNT


@pytest.mark.parametrize("change", [lambda a: a[:, :15], lambda a: a[:, :15].reshape(-1, 3, 5), lambda a: a.astype(">f4")])
def test_bounds_may_be_missing_and_numbers_of_any_kind(llff: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    before = parse(llff).cameras.camera_to_worlds
    rewrite(llff, change)
    torch.testing.assert_close(parse(llff).cameras.camera_to_worlds, before, atol=1e-5, rtol=0)


def test_bounds_of_nan_are_no_matter_and_poses_of_nan_are_left_out(llff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(rows: np.ndarray) -> np.ndarray:
        rows[3, 15:] = np.nan
        rows[5, 2] = np.nan
        return rows

    rewrite(llff, spoil)
    assert [path.stem for path in parse(llff).image_filenames] == [f"{i:04d}" for i in range(COUNT) if i != 5]
    assert f"1 pictures in {llff / 'images'} have no pose and are not used, as 0005.png." in capsys.readouterr().out
    rewrite(llff, lambda rows: rows * np.nan)
    assert "None of the 12 rows" in refusal(llff)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a[:, :14], "shape [12, 14], not [N, 17]"),
        (lambda a: a.T, "shape [17, 12], not [N, 17]"),
        (lambda a: a[0], "shape [17], not [N, 17]"),
        (lambda a: a[:0], "shape [0, 17], not [N, 17]"),
        (lambda a: a.astype(str), "holds no array of numbers"),
        (lambda a: a * np.where(np.arange(17) == 4, 0.0, 1.0), "the picture is 48x0 pixels"),
        (lambda a: a * np.where(np.arange(17) == 14, -1.0, 1.0), "focal length"),
        (lambda a: a * np.where(np.isin(np.arange(17), [0, 5, 10]), -1.0, 1.0), "axes that are mirrored"),
        (lambda a: a * np.where(np.isin(np.arange(17), [0, 5, 10]), 0.5, 1.0), "axes that are no rotation"),
        (lambda a: a * np.where(np.isin(np.arange(17), [0, 5, 10]), 0.0, 1.0), "axes that are no rotation"),
        (lambda a: a[:9], "has 9 rows, and"),
        (lambda a: np.concatenate([a, a]), "has 24 rows, and"),
        (lambda a: a * np.where(np.arange(17) == 9, 2.0, 1.0), "another shape"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(llff: Path, change: Callable[[np.ndarray], np.ndarray], text: str) -> None:
    rewrite(llff, change)
    assert text in refusal(llff)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array(llff: Path, content: bytes) -> None:
    whole = (llff / "poses_bounds.npy").read_bytes()
    for broken in (content, whole[: len(whole) // 2]):
        (llff / "poses_bounds.npy").write_bytes(broken)
        assert "holds no array of numbers" in refusal(llff)


def test_no_pictures_and_films(llff: Path) -> None:
    shutil.rmtree(llff / "images")
    assert f"none in {llff / 'images'}; put them there." in refusal(llff)
    for index in range(COUNT):
        (llff / f"cam{index:02d}.mp4").write_bytes(b"")
    assert "12 films, as cam00.mp4" in refusal(llff)


def test_a_survey_keeps_its_digits(llff: Path) -> None:
    here = parse(llff).cameras.camera_to_worlds
    offset = np.zeros(17)
    offset[[3, 8, 13]] = 431_234.5, 5_412_345.25, 812.125
    rewrite(llff, lambda rows: rows + offset)
    torch.testing.assert_close(parse(llff).cameras.camera_to_worlds, here, atol=1e-5, rtol=0)


def test_all_pictures_look_one_way(llff: Path) -> None:
    """A forward-facing scene: the box follows from the cameras by the rule of the other formats."""
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, :2, 3] = np.random.default_rng(0).uniform(-1, 1, (COUNT, 2))
    rewrite(llff, lambda rows: rows_of(poses))
    check_data(AutoDataParserConfig(data=llff))
    geometry = parse(llff).metadata["geometry"]
    assert (geometry.aabb_scale, geometry.reason.split(",")[0]) == (16, "cameras that look outward or one way")


# -- what else of poses a folder holds


def said_of(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    parse(data)
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["transforms.json", "transforms_all.json", "the COLMAP model"])
def test_files_that_know_more_are_taken(llff: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    if kind == "the COLMAP model":
        scenes.write_colmap(llff, count=COUNT, size=SIZE)
    else:
        scenes.write_nerfstudio(llff, count=COUNT, size=SIZE)
        (llff / "transforms.json").rename(llff / kind)
    assert f"{llff} holds poses more than once; {kind} is taken, not used: poses_bounds.npy." in said_of(llff, capsys)
    named = said_of(llff / "poses_bounds.npy", capsys)  # which is how to take it all the same
    assert "data: llff (poses_bounds.npy was named)" in named
    assert "not used" not in named


def test_every_pose_file_that_is_not_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_blender(tmp_path, train=3, val=2, test=2)
    assert "not used" not in said_of(tmp_path, capsys)  # the other splits belong to it
    scenes.write_colmap(tmp_path, count=4)
    assert "transforms_train.json is taken, not used: the COLMAP model in sparse/0." in said_of(tmp_path, capsys)
    scenes.write_nerfstudio(tmp_path, count=4)
    for name in ("cameras_sphere.npz", "cameras.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "transforms_old.json").write_text("{}")
    (tmp_path / "intrinsics.txt").write_text("")  # without NSVF's poses it may be anything
    assert (
        "transforms.json is taken, not used: transforms_old.json, transforms_train.json, the COLMAP model in sparse/0, "
        "cameras_sphere.npz (IDR and NeuS), cameras.json." in said_of(tmp_path, capsys)
    )


def test_a_folder_of_a_format_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "Cameras.xml").write_text("<document/>")
    with pytest.raises(UserError, match=r"holds poses in Cameras\.xml \(Metashape\), which is not read; "):
        parse(tmp_path)
    (tmp_path / "intrinsics.txt").write_text("")
    (tmp_path / "pose").mkdir()
    with pytest.raises(UserError, match=r"Cameras\.xml \(Metashape\), intrinsics\.txt \(NSVF, with a folder pose\)"):
        parse(tmp_path)


def test_the_transforms_of_another_scene_do_not_count(llff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (llff / "images" / "transforms.json").write_text(json.dumps({}))
    assert "not used" not in said_of(llff, capsys)
