"""Coefficients of lenses in every order: the rays that are trained on come back to their pixels through OpenCV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.distortion import MOST_ERROR, fit_six, opencv_distort
from ngp_method.data.rays import CachedRayGenerator
from ngp_method.errors import UserError
from support import scenes

SIZE = 96, 80
K1, K2, P1, P2, K3 = 0.11, -0.05, 0.002, -0.003, 0.02
RATIONAL = (K1, K2, P1, P2, K3, 0.07, 0.004, -0.001)
PRISM = (0.0004, -0.0002, 0.0003, 0.0001)
FISHEYE = (0.03, -0.01, 0.004, -0.001)


def names(keys: str, values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(keys.split(), values, strict=True))


def rays_of(folder: Path, **keys: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of all pixels of the first view in OpenCV's camera axes [n, 3], the pixels' centres [n, 2], and K."""
    scenes.write_ngp(folder, count=2, size=SIZE, stretch=1.1, **keys)
    cameras = AutoDataParserConfig(data=folder, eval_mode="all").setup().get_dataparser_outputs().cameras
    rows, columns = torch.meshgrid(torch.arange(SIZE[1]), torch.arange(SIZE[0]), indexing="ij")
    indices = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
    directions = CachedRayGenerator(cameras)(indices).directions
    theirs = cameras.generate_rays(0, coords=indices[:, 1:].float() + 0.5).directions
    torch.testing.assert_close(directions, theirs, rtol=0, atol=2e-6)
    local = (directions @ cameras.camera_to_worlds[0, :, :3]).double().numpy() * (1.0, -1.0, -1.0)
    lens = scenes.intrinsics(SIZE, 1.1)
    matrix = np.array([[lens["fl_x"], 0, lens["cx"]], [0, lens["fl_y"], lens["cy"]], [0, 0, 1]])
    return local, indices[:, [2, 1]].double().numpy() + 0.5, matrix


def worst(folder: Path, coefficients: tuple[float, ...], fisheye: bool, **keys: Any) -> float:
    """How many pixels OpenCV's projection of the rays is off the pixels that they are of, at most."""
    local, pixels, matrix = rays_of(folder, **keys)
    zero, given = np.zeros(3), np.array(coefficients)
    if fisheye:
        back = cv2.fisheye.projectPoints(local[:, None], zero, zero, matrix, given)[0]
    else:
        back = cv2.projectPoints(local, zero, zero, matrix, given)[0]
    return float(np.abs(back[:, 0] - pixels).max())


LENSES: dict[str, tuple[dict[str, Any], tuple[float, ...], bool]] = {
    "list of 4": ({"distortion_params": [K1, K2, P1, P2]}, (K1, K2, P1, P2), False),
    "list of 5": ({"distortion_params": [K1, K2, P1, P2, K3]}, (K1, K2, P1, P2, K3), False),
    "list of 6": ({"distortion_params": [K1, K2, K3, 0, P1, P2]}, (K1, K2, P1, P2, K3), False),
    "list of 8": ({"distortion_params": list(RATIONAL)}, RATIONAL, False),
    "list of 8, no denominator": ({"distortion_params": [K1, K2, P1, P2, K3, 0, 0, 0]}, (K1, K2, P1, P2, K3), False),
    "list of 8, k4 alone": ({"distortion_params": [K1, 0, 0, 0, 0, 0.07, 0, 0]}, (K1, 0, 0, 0, 0, 0.07, 0, 0), False),
    "list of 12": ({"distortion_params": [*RATIONAL, *PRISM]}, (*RATIONAL, *PRISM), False),
    "list of 14": ({"distortion_params": [*RATIONAL, *PRISM, 0, 0]}, (*RATIONAL, *PRISM), False),
    "list in a list": ({"distortion_params": [[K1, K2, P1, P2, K3]]}, (K1, K2, P1, P2, K3), False),
    "list of text": ({"distortion_params": [str(K1), str(K2), str(P1), str(P2)]}, (K1, K2, P1, P2), False),
    "names": (names("k1 k2 p1 p2 k3", (K1, K2, P1, P2, K3)), (K1, K2, P1, P2, K3), False),
    "names of eight": (names("k1 k2 p1 p2 k3 k4 k5 k6", RATIONAL), RATIONAL, False),
    "names of a prism": (names("k1 k2 s1 s2 s3 s4", (K1, K2, *PRISM)), (K1, K2, 0, 0, 0, 0, 0, 0, *PRISM), False),
    "FULL_OPENCV": (
        {**names("k1 k2 p1 p2 k3 k4", RATIONAL[:6]), "k5": 0.0, "k6": 0.0, "camera_model": "FULL_OPENCV"},
        (*RATIONAL[:6], 0, 0),
        False,
    ),
    "ROS": ({**names("k1 k4", (K1, 0.07)), "distortion_model": "rational_polynomial"}, (K1, 0, 0, 0, 0, 0.07, 0, 0), False),
    "fisheye, list of 4": ({"distortion_params": list(FISHEYE), "camera_model": "OPENCV_FISHEYE"}, FISHEYE, True),
    "fisheye, list of 6": ({"distortion_params": [*FISHEYE, 0, 0], "camera_model": "OPENCV_FISHEYE"}, FISHEYE, True),
    "fisheye, instant-ngp": ({**names("k1 k2 k3 k4", FISHEYE), "is_fisheye": True}, FISHEYE, True),
    "fisheye, k5 of zero": ({**names("k1 k2 k3 k4", FISHEYE), "k5": 0.0, "is_fisheye": True}, FISHEYE, True),
    "fisheye, Kalibr": ({**names("k1 k2 k3 k4", FISHEYE), "distortion_model": "equidistant"}, FISHEYE, True),
    "fisheye, COLMAP": ({"k1": 0.03, "camera_model": "SIMPLE_RADIAL_FISHEYE"}, (0.03, 0, 0, 0), True),
}


@pytest.mark.parametrize("kind", LENSES)
def test_rays_come_back_to_their_pixels(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, coefficients, fisheye = LENSES[kind]
    fitted = any(coefficients[5:]) and not fisheye
    assert worst(tmp_path, coefficients, fisheye, **keys) < (MOST_ERROR if fitted else 2e-3)
    assert ("is computed by six numbers, right to 0.05 pixels" in capsys.readouterr().out) == fitted
    # the coefficients matter by more than what is allowed above
    assert worst(tmp_path / "without", coefficients, fisheye) > 0.3


@pytest.mark.parametrize("keys", [{"k4": 0.05}, {"distortion_params": [0.1, 0.0, 0.0, 0.05, 0.0, 0.0]}])
def test_k4_alone_is_nerfstudios(keys: dict[str, Any], tmp_path: Path) -> None:
    """nerfstudio's Metashape and RealityCapture converters write it so, as the coefficient of r^8."""
    local, pixels, matrix = rays_of(tmp_path, k1=0.1, **keys)
    plane = local[:, :2] / local[:, 2:]
    r2 = (plane**2).sum(-1, keepdims=True)
    back = plane * (1 + 0.1 * r2 + 0.05 * r2**4) * (matrix[0, 0], matrix[1, 1]) + matrix[:2, 2]
    np.testing.assert_allclose(back, pixels, atol=2e-3)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{f"{n} numbers": ({"distortion_params": [0.01] * n}, f"distortion_params has {n} numbers") for n in (1, 3, 7, 9, 14)},
    "empty": ({"distortion_params": []}, "distortion_params has 0 numbers"),
    "5 of a fisheye": ({"distortion_params": [0.01] * 5, "is_fisheye": True}, r"has 5 numbers; give 4 \(k1, k2, k3, k4\) or 6"),
    "8 of a fisheye": ({"distortion_params": [0.01] * 8, "is_fisheye": True}, "has 8 numbers"),
    "text": ({"distortion_params": ["a", 1, 2, 3]}, "distortion_params is not made of numbers"),
    "NaN": ({"distortion_params": [float("nan"), 1, 2, 3]}, "distortion_params has NaN"),
    "k1 of text": ({"k1": "none"}, "k1 is 'none', not a number"),
    "k4 of two meanings": (names("k4 k5 k6", (0.1, 0, 0)), 'take k5 and k6 out if it is nerfstudio.s, or give .*"FULL_OPENCV"'),
    "fisheye with k5": ({"k1": 0.1, "k5": 0.01, "is_fisheye": True}, "a fisheye lens with k5 is not computed; undistort"),
    "fisheye with a prism": ({"s1": 0.1, "is_fisheye": True}, "a fisheye lens with s1 is not computed; undistort"),
    "denominator of zero": (names("k4 k5", (-9.0, 0.1)), r"is not one that six numbers .* can follow .*; undistort"),
    "strong": (
        names("k1 k2 k3 k4 k5 k6", (0.5, -2.7, 3.6, 0.4, -2.6, 6.5)),
        r"is missed by [\d.]+ pixels by the six numbers .*undistort",
    ),
    "strong prism": (names("s1 s3", (0.05, 0.05)), r"is missed by [\d.]+ pixels by the six numbers .*undistort"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_mean_two_things_or_is_more_than_six_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    keys, words = REFUSED[kind]
    scenes.write_ngp(tmp_path, count=2, size=SIZE, **keys)
    with pytest.raises(UserError, match=words) as caught:
        AutoDataParserConfig(data=tmp_path, eval_mode="all").setup().get_dataparser_outputs()
    assert str(tmp_path / "transforms.json") in str(caught.value)


def test_a_frames_coefficients_go_before_a_list_of_the_file(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=3, distortion_params=[0.1, 0, 0, 0], k2=0.5)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    meta["frames"][1] |= {"k1": 0.2, "k2": 0.0}
    meta["frames"][2]["distortion_params"] = [0.3, 0, 0, 0]
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    found = AutoDataParserConfig(data=tmp_path, eval_mode="all").setup().get_dataparser_outputs().cameras.distortion_params
    assert found is not None
    torch.testing.assert_close(found[:, :2], torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]]))


@pytest.mark.parametrize("coefficients", [(*RATIONAL, *PRISM), (*RATIONAL[:6], 0, 0, 0, 0, 0, 0)])
def test_the_fits_error_is_the_worst_that_opencv_sees(coefficients: tuple[float, ...]) -> None:
    six, error = fit_six(coefficients, (100.0, 110.0, 52.0, 39.0), SIZE)
    assert 0.0 < error <= MOST_ERROR
    assert not np.allclose(six[:2], coefficients[:2], atol=1e-3)  # no lens of the numerator alone
    plane = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
    theirs = cv2.projectPoints(np.c_[plane, np.ones(50)], np.zeros(3), np.zeros(3), np.eye(3), np.array(coefficients))[0]
    np.testing.assert_allclose(opencv_distort(plane, coefficients), theirs[:, 0], atol=1e-12)
