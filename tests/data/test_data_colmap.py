"""COLMAP folders as people have them: several models, names of another machine, copies, masks, lens models."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.masks import MaskFiles
from ngp_method.data.messages import forget_said
from ngp_method.data.models import LENSES
from ngp_method.data.pictures import same_shape
from ngp_method.errors import UserError
from support import scenes


def parse(folder: Path, **options: Any) -> DataparserOutputs:
    forget_said()
    return AutoDataParserConfig(data=folder, eval_mode="all", **options).setup().get_dataparser_outputs()


def rename(folder: Path, change: Any) -> None:
    """Changes the names in a text model's images.txt."""
    path = folder / "sparse" / "0" / "images.txt"
    lines = path.read_text().splitlines()
    lines[::2] = [" ".join([*line.split()[:9], change(line.split()[9])]) for line in lines[::2]]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return scenes.write_colmap(tmp_path / "scene", count=6, binary=False)


@pytest.mark.parametrize("small_first", [True, False])
def test_the_largest_model_is_taken(tmp_path: Path, small_first: bool, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = ("sparse/0", "sparse/1") if small_first else ("sparse/1", "sparse/0")
    scenes.write_colmap(tmp_path, count=3, model=small)
    scenes.write_colmap(tmp_path, count=8, model=large)
    assert len(parse(tmp_path).image_filenames) == 8
    out = capsys.readouterr().out
    assert f"holds 2 COLMAP models; {large} with 8 images is taken, not used: {small} (3 images)." in out


@pytest.mark.parametrize("place", ["dense", "dense/0"])
def test_undistorted_copies(scene: Path, place: str) -> None:
    (scene / place).mkdir(parents=True)
    (scene / "images").rename(scene / place / "images")
    (scene / "sparse" / "0").rename(scene / place / "sparse")
    assert len(parse(scene).image_filenames) == 6
    # beside an undistorted model only undistorted pictures count
    (scene / place / "images").rename(scene / "images")
    with pytest.raises(UserError, match="put the images there"):
        parse(scene)


def test_a_model_in_the_root(scene: Path) -> None:
    for path in (scene / "sparse" / "0").iterdir():
        path.rename(scene / path.name)
    shutil.rmtree(scene / "sparse")
    assert len(parse(scene).image_filenames) == 6


def test_names_with_blanks_in_text(scene: Path) -> None:
    for path in (scene / "images").iterdir():
        path.rename(path.with_name(f"my view {path.name}"))
    rename(scene, lambda name: f"my view {name}")
    assert parse(scene).image_filenames[0].name == "my view 0000.png"


def test_images_without_a_line_of_points(scene: Path) -> None:
    path = scene / "sparse" / "0" / "images.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line) + "\n")
    assert len(parse(scene).image_filenames) == 6


@pytest.mark.parametrize("change", ["C:\\work\\scene\\{}", "/nowhere/{}", "old/{}", "cam\\{}"])
def test_names_of_another_machine(scene: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    rename(scene, change.format)
    assert [path.name for path in parse(scene).image_filenames] == [f"{i:04d}.png" for i in range(6)]
    assert "6 of 6 images listed" in capsys.readouterr().out


def test_separators_of_another_machine(scene: Path) -> None:
    (scene / "images").rename(scene / "sub")
    (scene / "sub").rename(scene / "images2")
    (scene / "images").mkdir()
    (scene / "images2").rename(scene / "images" / "cam")
    rename(scene, lambda name: f"cam\\{name}")
    assert parse(scene).image_filenames[0] == scene / "images" / "cam" / "0000.png"


def test_what_could_be_meant_by_two_names_is_not_guessed(scene: Path) -> None:
    # cam0/a.png and cam1/a.png, but one a.png only
    lines = (scene / "sparse" / "0" / "images.txt").read_text().splitlines()
    lines[0] = " ".join([*lines[0].split()[:9], "cam0/a.png"])
    lines[2] = " ".join([*lines[2].split()[:9], "cam1/a.png"])
    (scene / "sparse" / "0" / "images.txt").write_text("\n".join(lines) + "\n")
    (scene / "images" / "0000.png").rename(scene / "images" / "a.png")
    assert len(parse(scene).image_filenames) == 4


def test_only_smaller_copies(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = parse(scene)
    (scene / "images").rename(scene / "images_2")
    for path in (scene / "images_2").iterdir():
        Image.open(path).resize((24, 20)).save(path)
    half = parse(scene)
    assert (int(half.cameras.width[0]), int(half.cameras.height[0])) == (24, 20)
    torch.testing.assert_close(half.cameras.fx, full.cameras.fx / 2)
    torch.testing.assert_close(half.cameras.cy, full.cameras.cy / 2)
    assert "6 of 6 pictures have another size" in capsys.readouterr().out


def test_pictures_of_another_shape_are_refused(scene: Path) -> None:
    for path in (scene / "images").iterdir():
        Image.open(path).resize((24, 30)).save(path)
    with pytest.raises(UserError, match="another shape"):
        parse(scene)


def test_same_shape_forgives_rounding() -> None:
    assert same_shape((618, 410), (4946, 3286))
    assert same_shape((619, 411), (4946, 3286))
    assert not same_shape((618, 430), (4946, 3286))


def test_copies_and_pictures_without_a_pose_are_counted(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(scene / "images", scene / "images_4")
    shutil.copy(scene / "images" / "0000.png", scene / "images" / "more.png")
    parse(scene)
    out = capsys.readouterr().out
    assert "1 of 7 pictures in" in out
    assert "in images_4; auto-data --downscale-factor" in out


def test_images_without_a_pose_are_left_out(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene / "sparse" / "0" / "images.txt"
    lines = path.read_text().splitlines()
    lines[0] = "1 nan nan nan nan nan nan nan 1 0000.png"
    lines[2] = "2 0 0 0 0 0 0 0 1 0001.png"
    path.write_text("\n".join(lines) + "\n")
    assert len(parse(scene).image_filenames) == 4
    assert "2 of 6 images in" in capsys.readouterr().out


def test_masks_by_colmaps_names(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scene / "masks").mkdir()
    for i in range(6):
        Image.new("L", (48, 40), 255).save(scene / "masks" / f"{i:04d}.png.png")
    masks = parse(scene).mask_filenames
    assert masks is not None
    assert [path.name for path in masks] == [f"{i:04d}.png.png" for i in range(6)]
    (scene / "masks" / "0003.png.png").unlink()
    capsys.readouterr()
    outputs = parse(scene)
    assert outputs.mask_filenames is None  # nerfstudio's own has one for each image or none
    files = MaskFiles.of(outputs)
    assert files is not None
    assert [None if file.kept is None else file.kept.name for file in files] == [
        None if i == 3 else f"{i:04d}.png.png" for i in range(6)
    ]
    said = capsys.readouterr().out
    assert f"Masks of 5 of 6 pictures are read from {scene / 'masks'}" in said
    assert "nothing is hidden in the 1 pictures without one." in said


def test_a_folder_of_masks_of_nothing(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scene / "masks").mkdir()
    Image.new("L", (48, 40), 255).save(scene / "masks" / "mask_of_all.png")
    assert MaskFiles.of(parse(scene)) is None
    assert f"No file in {scene / 'masks'} is the mask of a picture" in capsys.readouterr().out
    (scene / "mask").mkdir()
    Image.new("L", (48, 40), 255).save(scene / "mask" / "0002.png")
    files = MaskFiles.of(parse(scene))
    assert files is not None
    assert [file.kept for file in files].count(None) == 5


def test_both_kinds_of_files_rigs_and_no_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_colmap(tmp_path, count=5)
    scenes.write_colmap(tmp_path, count=5, binary=False)
    model = tmp_path / "sparse" / "0"
    for name in ("rigs", "frames"):
        (model / f"{name}.bin").write_bytes(struct.pack("<Q", 0))
    for path in model.glob("points3D.*"):
        path.unlink()
    assert len(parse(tmp_path).image_filenames) == 5
    assert "the .bin files are read" in capsys.readouterr().out


def test_half_a_model_is_named(scene: Path) -> None:
    (scene / "sparse" / "0" / "images.txt").unlink()
    with pytest.raises(UserError, match=r"has cameras\.txt and no images\.txt"):
        parse(scene)


SAME = {  # parameters of lens models that say no more than nerfstudio's numbers can
    "SIMPLE_FISHEYE": [40.0, 24.0, 20.0],
    "FISHEYE": [40.0, 41.0, 24.0, 20.0],
    "FULL_OPENCV": [40.0, 41.0, 24.0, 20.0, 0.1, 0.02, 0.001, 0.002, 0.03, 0.0, 0.0, 0.0],
    "THIN_PRISM_FISHEYE": [40.0, 41.0, 24.0, 20.0, 0.1, 0.02, 0.001, 0.002, 0.03, 0.004, 0.0, 0.0],
    "RAD_TAN_THIN_PRISM_FISHEYE": [40.0, 41.0, 24.0, 20.0, 0.1, 0.02, 0.03, 0.004, *[0.0] * 8],
}


def put_camera(folder: Path, number: int, params: list[float], binary: bool) -> None:
    model = folder / "sparse" / "0"
    if binary:
        head = struct.pack("<QIiQQ", 1, 1, number, 48, 40)
        (model / "cameras.bin").write_bytes(head + struct.pack(f"<{len(params)}d", *params))
    else:
        name = LENSES[number][0]
        (model / "cameras.txt").write_text(f"1 {name} 48 40 {' '.join(map(str, params))}\n")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("number", [6, 7, 10, 11, 12, 13, 16, 17])
def test_lens_models_that_are_refused_by_name(tmp_path: Path, number: int, binary: bool) -> None:
    scenes.write_colmap(tmp_path, count=4, binary=binary)
    name, count = LENSES[number]
    put_camera(tmp_path, number, [40.0] * count, binary)
    mend = "equirectangular" if name == "EQUIRECTANGULAR" else "colmap image_undistorter"
    with pytest.raises(UserError, match=f"{name} .*{mend}"):
        parse(tmp_path)


def test_lens_models_nobody_knows(tmp_path: Path) -> None:
    scenes.write_colmap(tmp_path / "b", count=4)
    put_camera(tmp_path / "b", 99, [40.0] * 4, True)
    scenes.write_colmap(tmp_path / "t", count=4, binary=False)
    (tmp_path / "t" / "sparse" / "0" / "cameras.txt").write_text("1 MY_LENS 48 40 1 2 3\n")
    for folder, name in (("b", "number 99"), ("t", "MY_LENS")):
        with pytest.raises(UserError, match=f"{name}.*image_undistorter"):
            parse(tmp_path / folder)


@pytest.mark.parametrize("name", SAME)
def test_lens_models_that_can_be_said(tmp_path: Path, name: str) -> None:
    scenes.write_colmap(tmp_path, count=4)
    put_camera(tmp_path, next(i for i, (lens, _) in LENSES.items() if lens == name), SAME[name], True)
    cameras = parse(tmp_path).cameras
    fisheye = "FISHEYE" in name
    assert int(cameras.camera_type[0]) == (CameraType.FISHEYE if fisheye else CameraType.PERSPECTIVE).value
    wanted = {
        "FULL_OPENCV": [0.1, 0.02, 0.03, 0.0, 0.001, 0.002],
        "THIN_PRISM_FISHEYE": [0.1, 0.02, 0.03, 0.004, 0.001, 0.002],
        "RAD_TAN_THIN_PRISM_FISHEYE": [0.1, 0.02, 0.03, 0.004, 0.0, 0.0],
    }.get(name)
    if wanted is None:
        assert cameras.distortion_params is None
    else:
        assert cameras.distortion_params is not None
        assert cameras.distortion_params[0].tolist() == pytest.approx(wanted)


def test_a_rational_lens_is_computed_where_six_numbers_follow_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_colmap(tmp_path, count=4)
    put_camera(tmp_path, 6, [40.0, 41.0, 24.0, 20.0, 0.1, 0.02, 0.001, 0.002, 0.0, 0.08, 0.0, 0.0], True)
    cameras = parse(tmp_path).cameras
    assert cameras.distortion_params is not None
    assert cameras.distortion_params[0, 0].item() == pytest.approx(0.02, abs=2e-3)  # 1 + 0.1 r^2 over 1 + 0.08 r^2
    assert f"{tmp_path / 'sparse' / '0'}: OpenCV's rational or thin-prism lens is computed by" in capsys.readouterr().out
    put_camera(tmp_path, 6, [40.0, 41.0, 24.0, 20.0, 0.1, 0.02, 0.001, 0.002, 0.0, 8.0, 0.0, 0.0], True)
    with pytest.raises(UserError, match=r"lens model FULL_OPENCV is in this case .* six numbers .*colmap image_undistorter"):
        parse(tmp_path)


@pytest.mark.parametrize(("number", "place"), [(10, 10), (10, 11), (11, 8), (11, 9), (11, 10), (11, 15)])
def test_a_fisheye_with_a_prism_is_refused(tmp_path: Path, number: int, place: int) -> None:
    scenes.write_colmap(tmp_path, count=4)
    params = [40.0, 41.0, 24.0, 20.0, *[0.0] * (LENSES[number][1] - 4)]
    params[place] = 0.01
    put_camera(tmp_path, number, params, True)
    with pytest.raises(UserError, match=f"{LENSES[number][0]} is not supported with coefficients of a thin prism.*NEW"):
        parse(tmp_path)
