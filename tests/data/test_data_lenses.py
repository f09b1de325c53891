"""Focal lengths, principal points and sizes of transforms files: matrices, texts, smaller copies, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.images import ByteDataset
from ngp_method.errors import UserError
from support import scenes

SIZE = 48, 40
LENS = scenes.intrinsics(SIZE, 1.1)
FOUR = (LENS["fl_x"], LENS["fl_y"], LENS["cx"], LENS["cy"])
K = np.array([[FOUR[0], 0.0, FOUR[2]], [0.0, FOUR[1], FOUR[3]], [0.0, 0.0, 1.0]])


def changed(folder: Path, change: Callable[[dict[str, Any]], Any], bare: bool = False) -> Path:
    """A scene of instant-ngp's whose file was changed; ``bare``: with neither focal lengths nor a principal point."""
    scenes.write_ngp(folder, count=3, size=SIZE, stretch=1.1)
    meta = json.loads((folder / "transforms.json").read_text())
    if bare:
        for key in ("fl_x", "fl_y", "cx", "cy"):
            del meta[key]
    change(meta)
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def cameras(folder: Path) -> Cameras:
    return AutoDataParserConfig(data=folder, eval_mode="all").setup().get_dataparser_outputs().cameras


def four(found: Cameras, index: int = 0) -> list[float]:
    return [float(v[index]) for v in (found.fx, found.fy, found.cx, found.cy)]


def refused(folder: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        cameras(folder)
    assert str(folder / "transforms.json") in str(caught.value)


MATRICES: dict[str, Any] = {
    "3x3": K.tolist(),
    "flat": K.reshape(-1).tolist(),
    "by columns": K.T.tolist(),
    "by columns, flat": K.T.reshape(-1).tolist(),
    "3x4": np.c_[K, np.zeros(3)].tolist(),
    "4x4": np.block([[K, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]).tolist(),
    "four": list(FOUR),
    "text": [[str(v) for v in row] for row in K.tolist()],
    "object": dict(zip(("fx", "fy", "cx", "cy"), FOUR)),
    "object of texts": dict(zip(("fl_x", "fl_y", "cx", "cy"), map(str, FOUR))),
}


@pytest.mark.parametrize("level", ["frame", "file"])
@pytest.mark.parametrize("form", MATRICES)
def test_a_matrix_stands_in_for_focal_lengths(form: str, level: str, tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        for target in meta["frames"] if level == "frame" else [meta]:
            target["K"] = MATRICES[form]

    np.testing.assert_allclose(four(cameras(changed(tmp_path, change, bare=True))), FOUR, rtol=1e-6)


@pytest.mark.parametrize("key", ["K", "intrinsics", "camera_intrinsics", "intrinsic_matrix", "camera_matrix"])
def test_names_of_the_matrix_and_what_goes_before_what(key: str, tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta[key] = (K * [[2], [2], [1]]).tolist()  # not read: the file has fl_x
        meta["frames"][1][key] = K.tolist()
        meta["frames"][1]["cx"] = 20.0
        meta["frames"][2] |= {key: (K * [[2], [2], [1]]).tolist(), "fl_x": 50.0}  # not read either
        meta["fl_x"] = 60.0

    found = cameras(changed(tmp_path, change))
    np.testing.assert_allclose(four(found, 0), (60.0, *FOUR[1:]), rtol=1e-6)
    np.testing.assert_allclose(four(found, 1), (*FOUR[:2], 20.0, FOUR[3]), rtol=1e-6)
    np.testing.assert_allclose(four(found, 2), (50.0, 50.0, *FOUR[2:]), rtol=1e-6)


def test_an_object_without_a_principal_point_means_the_middle(tmp_path: Path) -> None:
    found = cameras(changed(tmp_path, lambda meta: meta.update(intrinsics={"f": 45.0}), bare=True))
    np.testing.assert_allclose(four(found), (45.0, 45.0, 24.0, 20.0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.diag([40.0, 40.0]).tolist()[0], r"K has shape \[2\]; give a 3x3 matrix"),
        ([[40.0, 1.5, 24.0], [0.0, 40.0, 20.0], [0.0, 0.0, 1.0]], "K has a skew of 1.5, which is not computed; undistort"),
        ([[0.9, 0.0, 0.5], [0.0, 0.9, 0.5], [0.0, 0.0, 1.0]], "K is in parts of the image, not in pixels"),
        ([[0.0, 0.0, 24.0], [0.0, 40.0, 20.0], [0.0, 0.0, 1.0]], "focal length of 0"),
        (["a", "b", "c", "d"], "K is not made of numbers"),
        ([[40.0, 0.0, None], [0.0, 40.0, 20.0], [0.0, 0.0, 1.0]], "K has NaN"),
        ({"width": 48}, "K has no fx and fy"),
        ({"fx": "a", "fy": 1.0}, "K: fx is 'a', not a number"),
    ],
)
def test_matrices_that_are_none(value: Any, words: str, tmp_path: Path) -> None:
    refused(changed(tmp_path, lambda meta: meta["frames"][0].update(K=value), bare=True), words)


@pytest.mark.parametrize("stated", [(96, 80), (24, 20), (97, 80), (95, 79)])
def test_pictures_of_another_size_than_stated(stated: tuple[int, int], tmp_path: Path) -> None:
    """Copies made smaller, rounded down, up or to the nearest pixel."""
    scale = stated[0] / SIZE[0]

    def change(meta: dict[str, Any]) -> None:
        for key in ("fl_x", "fl_y", "cx", "cy"):
            meta[key] *= scale
        meta["w"], meta["h"] = stated

    outputs = AutoDataParserConfig(data=changed(tmp_path, change), eval_mode="all").setup().get_dataparser_outputs()
    np.testing.assert_allclose(four(outputs.cameras), FOUR, rtol=0.02)
    assert (int(outputs.cameras.width[0]), int(outputs.cameras.height[0])) == SIZE
    assert ByteDataset(outputs).get_numpy_image(0).shape == (40, 48, 3)


def test_the_change_of_size_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras(changed(tmp_path, lambda meta: meta.update(w="96", h="80.0")))
    assert "the lens is scaled to it, of 0000.png from 96x80 to 48x40." in capsys.readouterr().out


def test_width_and_height_are_w_and_h(tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        del meta["w"], meta["h"]
        for frame in meta["frames"]:
            frame |= {"width": 96, "height": 80, "K": (K * [[2], [2], [1]]).tolist()}

    np.testing.assert_allclose(four(cameras(changed(tmp_path, change, bare=True))), FOUR, rtol=1e-6)


def test_one_line_is_enough_for_many_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(meta: dict[str, Any]) -> None:
        for index, frame in enumerate(meta["frames"], 2):
            frame["w"], frame["h"] = 48 * index, 40 * index

    cameras(changed(tmp_path / "a", change))
    assert capsys.readouterr().out.count("are of another size than w and h") == 1

    def move(meta: dict[str, Any]) -> None:
        del meta["w"], meta["h"]
        for index, frame in enumerate(meta["frames"]):
            frame["cx"] = 44.0 + index

    cameras(changed(tmp_path / "b", move))
    assert capsys.readouterr().out.count("far from the middle") == 1


def test_a_matrix_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With w and h it is scaled; without, it is said that the principal point is not that of the picture."""
    double = (K * [[2], [2], [1]]).tolist()
    found = cameras(changed(tmp_path / "a", lambda meta: meta.update(K=double, w=96, h=80), bare=True))
    np.testing.assert_allclose(four(found), FOUR, rtol=1e-6)
    assert "far from the middle" not in capsys.readouterr().out

    def change(meta: dict[str, Any]) -> None:
        del meta["w"], meta["h"]
        meta["K"] = double

    cameras(changed(tmp_path / "b", change, bare=True))
    assert "cx and cy (49.4, 39.2) are far from the middle of an image of 48x40; if" in capsys.readouterr().out


@pytest.mark.parametrize("stated", [(96, 60), (40, 48), (480, 40)])
def test_pictures_of_another_shape_are_refused(stated: tuple[int, int], tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda meta: meta.update(w=stated[0], h=stated[1]))
    refused(folder, rf"0000\.png is 48x40 pixels, and .* says {stated[0]}x{stated[1]}, which is another shape; put")


def test_texts_that_hold_numbers(tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "aabb_scale"):
            meta[key] = str(meta[key])

    np.testing.assert_allclose(four(cameras(changed(tmp_path, change))), FOUR, rtol=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"camera_model": "FISHEYE624"}, "camera_model 'FISHEYE624' is not computed; undistort .*FULL_OPENCV"),
    "model nobody knows": ({"camera_model": "MINE"}, "camera_model 'MINE' is not computed; .* or give one of"),
    "latlong": ({"latlong": True}, "the lens model of latlong is not supported; convert"),
    "f-theta": ({"ftheta_p0": 0.1}, "the lens model of ftheta_p0 is not supported; convert"),
    "skew": ({"skew": 0.5}, "the skew of skew is not computed; undistort"),
    "b1": ({"b1": 0.5}, "the skew of b1 is not computed; undistort"),
    "size of 0": ({"w": 0}, "the image size is 0 x 40"),
    "size of text": ({"w": "wide"}, "w is 'wide', not a number"),
    "cx": ({"cx": None}, "cx is None, not a number"),
    "field of view": ({"x_fov": 190}, "a field of view of 190 degrees is none"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_lenses_that_are_refused(kind: str, tmp_path: Path) -> None:
    keys, words = REFUSED[kind]
    refused(changed(tmp_path, lambda meta: meta.update(keys)), words)


@pytest.mark.parametrize("key", ["k7", "p3", "tau_x", "dist", "distortion", "distortion_coefficients", "dist_coeffs", "D"])
@pytest.mark.parametrize("level", ["frame", "file"])
def test_keys_of_a_lens_that_are_not_read_are_said(
    key: str, level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(meta: dict[str, Any]) -> None:
        for target in meta["frames"] if level == "frame" else [meta]:
            target[key] = [0.1, 0.2] if key.lower().startswith("d") else 0.1

    cameras(changed(tmp_path, change))
    said = capsys.readouterr().out
    assert said.count(f"{tmp_path / 'transforms.json'}: {key} of the lens are not used; what is read is") == 1


def test_keys_of_a_lens_that_say_nothing_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"skew": 0.0, "b1": None, "k7": 0, "dist": [0.0, 0.0], "distortion_model": "plumb_bob", "latlong": False}
    found = cameras(changed(tmp_path, lambda meta: meta.update(nothing)))
    np.testing.assert_allclose(four(found), FOUR, rtol=1e-6)
    assert "not used" not in capsys.readouterr().out
    cameras(changed(tmp_path / "b", lambda meta: meta.update(distortion_model="division")))
    assert "distortion_model of the lens are not used" in capsys.readouterr().out


def test_a_copy_made_smaller_looks_through_the_same_lens(tmp_path: Path) -> None:
    before = cameras(scenes.write_ngp(tmp_path / "a", count=3, size=SIZE, k1=0.1, p1=0.01))
    folder = scenes.write_ngp(tmp_path / "b", count=3, size=SIZE, k1=0.1, p1=0.01)
    for path in (folder / "images").iterdir():
        Image.open(path).resize((24, 20)).save(path)
    after = cameras(folder)
    for x, y in ((1.5, 2.5), (20.5, 11.5), (12.0, 10.0)):
        small = after.generate_rays(0, coords=torch.tensor([y, x])).directions
        large = before.generate_rays(0, coords=torch.tensor([2 * y, 2 * x])).directions
        torch.testing.assert_close(small, large, rtol=0, atol=1e-5)
