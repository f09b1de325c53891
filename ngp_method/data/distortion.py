"""A lens's coefficients as writers order them -> nerfstudio's six: k1, k2, k3, k4 (radial, r^2 to r^8), p1, p2 (tangential).

Two conventions meet in the names. nerfstudio's k4 is the coefficient of r^8 (Metashape's too); OpenCV's k4, k5, k6 are those
of a denominator (``calib3d``: "rational model"), and its lists go k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 with s1 to s4
a thin prism. A rational or thin-prism lens is taken where six numbers give the same picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras import camera_utils
from nerfstudio.cameras.cameras import CameraType
from numpy.typing import NDArray

from ngp_method.data.messages import say_once
from ngp_method.data.values import Json, number, numbers
from ngp_method.errors import fail

Six = tuple[float, float, float, float, float, float]
Array = NDArray[np.float64]

UNDISTORT = "undistort the images first, e.g. with COLMAP's image_undistorter or OpenCV's undistort"

MOST_ERROR = 0.05
"""Pixels by which six numbers may miss a lens of more, anywhere in the picture."""

GRID = 33
"""Points along each edge of the picture where that is looked at."""

OPENCV = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4")
"""Coefficients in the order of OpenCV's lists."""


def six_numbers(
    source: Json, kind: CameraType, pinhole: tuple[float, ...], size: tuple[int, int], file: str, where: str
) -> Six:
    """nerfstudio's six distortion parameters.

    Args:
        source: keys of a frame and of its file.
        kind: the lens model.
        pinhole: fx, fy, cx, cy in pixels of a picture of ``size``.
        size: width and height.
        file: names the file in messages.
        where: names file and frame.

    Raises:
        UserError: a list of another length, coefficients that may mean two things, or a lens that six numbers do not give.
    """
    fisheye = kind == CameraType.FISHEYE
    rational = _names_rational(source)
    values = {key: number(source, key, where, 0.0) for key in OPENCV}
    if source.get("distortion_params") is not None:
        listed = numbers(source["distortion_params"], "distortion_params", where).reshape(-1)
        names = _names_of(listed, fisheye, where)
        values = {**dict.fromkeys(OPENCV, 0.0), **{name: float(v) for name, v in zip(names, listed)}}
        rational = rational or len(listed) >= 8
    elif not rational and not fisheye:
        rational = _says_rational(source, values, where)
    rest = [key for key in ("k5", "k6", "s1", "s2", "s3", "s4") if values[key] != 0.0]
    if fisheye and rest:
        fail(f"{where}: a fisheye lens with {', '.join(rest)} is not computed; {UNDISTORT}.")
    if not rest and not (rational and values["k4"] != 0.0):
        return (values["k1"], values["k2"], values["k3"], values["k4"], values["p1"], values["p2"])
    six, error = fit_six(tuple(values[key] for key in OPENCV), pinhole, size)
    if error > MOST_ERROR:
        fail(
            f"{where}: its lens of OpenCV's rational or thin-prism model (k4 to k6, s1 to s4) is {missed_by(error)}; "
            f"{UNDISTORT}."
        )
    say_fitted(file)
    return six


def missed_by(error: float) -> str:
    """How far six numbers are from a lens, for a sentence.

    Args:
        error: pixels, as :func:`fit_six` gives it.
    """
    if not np.isfinite(error):
        return "not one that six numbers (k1 to k4, p1, p2) can follow over the whole picture"
    pixels = f"{error:.0f}" if error >= 10.0 else f"{error:.2g}"
    return f"missed by {pixels} pixels by the six numbers that are computed with (k1 to k4, p1, p2)"


def say_fitted(file: str) -> None:
    """Says once of a file that :func:`fit_six` stands for its lens."""
    say_once(
        f"{file}: OpenCV's rational or thin-prism lens is computed by six numbers, right to {MOST_ERROR} pixels everywhere."
    )


def _names_rational(source: Json) -> bool:
    """Whether the lens is OpenCV's rational one by name: COLMAP's, or that of ROS."""
    names = str(source.get("camera_model", "")).upper(), str(source.get("distortion_model", "")).lower()
    return names[0] == "FULL_OPENCV" or names[1] == "rational_polynomial"


def _names_of(listed: Array, fisheye: bool, where: str) -> tuple[str, ...]:
    """What the numbers of a list are, by how many there are."""
    count = len(listed)
    if count == 14 and not listed[12:].any():
        count = 12  # OpenCV's tilt of the sensor, which is none
    if count == 6:
        return ("k1", "k2", "k3", "k4", "p1", "p2")
    if count == 4 and fisheye:
        return ("k1", "k2", "k3", "k4")
    if count in (4, 5, 8, 12) and not fisheye:
        return OPENCV[:count]
    lists = "4 (k1, k2, k3, k4) or 6" if fisheye else "4, 5, 8 or 12 (OpenCV's k1, k2, p1, p2, k3, k4, k5, k6, s1 to s4) or 6"
    return fail(
        f"{where}: distortion_params has {len(listed)} numbers; give {lists} "
        f"(nerfstudio's k1, k2, k3, k4, p1, p2), or {UNDISTORT}."
    )


def _says_rational(source: Json, values: dict[str, float], where: str) -> bool:
    """Whether k4 belongs to a denominator, which k5 and k6 beside it tell."""
    if values["k5"] != 0.0 or values["k6"] != 0.0:
        return True
    if values["k4"] != 0.0 and ("k5" in source or "k6" in source):
        fail(
            f"{where}: k4 is OpenCV's denominator or nerfstudio's term of r^8, and k5 and k6 of zero do not tell; take k5 and "
            "k6 out if it is nerfstudio's, or give camera_model \"FULL_OPENCV\" if it is OpenCV's."
        )
    return False


@lru_cache(maxsize=64)
def fit_six(coefficients: tuple[float, ...], pinhole: tuple[float, ...], size: tuple[int, int]) -> tuple[Six, float]:
    """The six numbers whose picture is nearest to that of a rational, thin-prism lens.

    Args:
        coefficients: OpenCV's twelve, k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4.
        pinhole: fx, fy, cx, cy in pixels.
        size: width and height of the picture.

    Returns:
        nerfstudio's six, and how many pixels the rays of nerfstudio's undistortion are off at most; infinite where a part of
        the picture has no ray at all.
    """
    if not any(coefficients[5:]):
        k1, k2, p1, p2, k3 = coefficients[:5]
        return (k1, k2, k3, 0.0, p1, p2), 0.0
    import cv2  # slow to import, and few scenes have such a lens

    fx, fy, cx, cy = pinhole
    u, v = np.meshgrid(np.linspace(0.0, size[0], GRID), np.linspace(0.0, size[1], GRID))
    seen = np.stack([(u.ravel() - cx) / fx, (v.ravel() - cy) / fy], axis=-1)
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-12)
    straight: Any = cv2.undistortPointsIter(
        seen[:, None], np.eye(3), np.array(coefficients), np.eye(3), np.eye(3), criteria=ends
    )[:, 0]
    scale = np.array([fx, fy])
    with np.errstate(all="ignore"):
        missed = np.abs(opencv_distort(straight, coefficients) - seen) * scale
    none: Six = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if not np.isfinite(missed).all() or missed.max() > 0.1 * MOST_ERROR:
        return none, float("inf")
    terms = _terms(straight) * scale[:, None, None]
    wanted = ((seen - straight) * scale).T
    found = np.linalg.lstsq(terms.reshape(-1, 6), wanted.reshape(-1), rcond=None)[0]
    six: Six = (found[0].item(), found[1].item(), found[2].item(), found[3].item(), found[4].item(), found[5].item())
    rays = camera_utils.radial_and_tangential_undistort(torch.from_numpy(seen), torch.from_numpy(found)).numpy()
    error = np.abs(rays - straight) * scale
    return six, float(error.max()) if np.isfinite(error).all() else float("inf")


def opencv_distort(straight: Array, coefficients: tuple[float, ...]) -> Array:
    """OpenCV's formula of twelve coefficients, [N, 2] -> [N, 2], in the plane of focal length 1."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients
    x, y = straight.T
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2 * r2,
            y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) + s3 * r2 + s4 * r2 * r2,
        ],
        axis=-1,
    )


def _terms(straight: Array) -> Array:
    """What each of the six numbers adds to x and to y, [2, N, 6]."""
    x, y = straight.T
    r2 = x * x + y * y
    powers = np.stack([r2, r2**2, r2**3, r2**4], axis=-1)
    across = np.concatenate([x[:, None] * powers, np.stack([2 * x * y, r2 + 2 * x * x], axis=-1)], axis=-1)
    down = np.concatenate([y[:, None] * powers, np.stack([r2 + 2 * y * y, 2 * x * y], axis=-1)], axis=-1)
    return np.stack([across, down])
