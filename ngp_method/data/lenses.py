"""The lens of a frame: focal lengths, principal point and distortion in pixels of the picture as it is on disk.

Where a field of view and a focal length are both given, instant-ngp's order holds: ``x_fov`` (degrees), ``fl_x`` (pixels),
``camera_angle_x`` (radians); an axis that has none takes the other's. A frame's own key goes before the file's, and a
matrix (``K`` and its other names) stands in where its level of the file has no such key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, CameraType

from ngp_method.data.distortion import OPENCV, UNDISTORT, six_numbers
from ngp_method.data.messages import say_once
from ngp_method.data.values import Json, number, numbers
from ngp_method.data.views import Lens, check_focal, same_shape
from ngp_method.errors import fail
from ngp_method.pictures.opening import Header

UNREAD_LENSES = ("ftheta_p0", "latlong", "equirectangular")
"""instant-ngp's keys of lenses that are not computed here."""

MATRIX_KEYS = ("K", "intrinsics", "camera_intrinsics", "intrinsic_matrix", "camera_matrix")
"""Names that writers give the 3x3 matrix of focal lengths and principal point."""

SIZE_KEYS = (("w", "h"), ("width", "height"))
"""instant-ngp's and nerfstudio's keys of the size in pixels, and those that others write."""

MODELS: Mapping[str, CameraType] = {
    **{name: kind for name, kind in CAMERA_MODEL_TO_TYPE.items() if name != "FISHEYE624"},
    "FULL_OPENCV": CameraType.PERSPECTIVE,
    "SIMPLE_RADIAL_FISHEYE": CameraType.FISHEYE,
    "RADIAL_FISHEYE": CameraType.FISHEYE,
}
"""nerfstudio's names of ``camera_model`` but the one whose twelve numbers are not kept here, and three of COLMAP's more."""

DISTORTION_MODELS: Mapping[str, CameraType] = {
    "plumb_bob": CameraType.PERSPECTIVE,
    "radtan": CameraType.PERSPECTIVE,
    "rational_polynomial": CameraType.PERSPECTIVE,
    "equidistant": CameraType.FISHEYE,
}
"""Names of ``distortion_model`` in ROS's and Kalibr's files; read where there is no ``camera_model``."""

FAR_FROM_MIDDLE = 0.3
"""Share of the picture's size by which a principal point off its middle is spoken of."""

SKEWS = ("skew", "b1", "b2")
"""Keys of pixels that are no rectangles (Metashape's b1 and b2 are in pixels)."""

_LENS_KEYS = re.compile(r"k\d+|p\d+|s\d|tau_?[xy]|dist(ortion)?(_?coeff\w*|_model)?|D")
_READ = {"k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "s1", "s2", "s3", "s4"}


def read_lens(meta: Json, frame: Json, image: Path, header: Header, file: str, where: str) -> Lens:
    """The lens of one frame.

    Args:
        meta: the file's own keys.
        frame: the frame's.
        image: its picture.
        header: that picture's.
        file: names the file in messages.
        where: names file and frame.

    Raises:
        UserError: no focal length, a size that is not the picture's, or a lens that cannot be computed.
    """
    meta, frame = _with_matrix(meta, file), _with_matrix(frame, where)
    both = _merged(meta, frame)
    stated = _size(both, where)
    width, height = stated if stated is not None else _size_by_middle(both, header, file, where)
    focal = _focal(frame, width, height, where) or _focal(meta, width, height, file)
    if focal is None:
        fail(f"{where} has no focal length; give fl_x and fl_y, x_fov or camera_angle_x there or for the whole file.")
    cx, cy = number(both, "cx", where, 0.5 * width), number(both, "cy", where, 0.5 * height)
    kind = _camera_type(both, where)
    _look_for_unread(both, file, where)
    pinhole = (*focal, cx, cy)
    distortion = six_numbers(both, kind, pinhole, (width, height), file, where)
    size = (width, height) if stated is None else _size_on_disk(stated, header, image, where)
    if size != (width, height):
        say_once(
            f"Images listed in {file} are of another size than w and h; the lens is scaled to it, of {image.name} from "
            f"{width}x{height} to {size[0]}x{size[1]}.",
            about=f"{file}: scaled lenses",
        )
    return Lens(width, height, *focal, cx, cy, distortion, kind).resized(size)


def _merged(meta: Json, frame: Json) -> Json:
    """The file's keys and over them the frame's, whose coefficients go before a list of the file's."""
    both = {**{k: v for k, v in meta.items() if k != "frames"}, **frame}
    if "distortion_params" not in frame and any(key in frame for key in OPENCV):
        both.pop("distortion_params", None)
    return both


def _size_by_middle(source: Json, header: Header, file: str, where: str) -> tuple[int, int]:
    """The size of a picture whose file states none: as stored, or as EXIF turns it where cx, cy are in the middle of that."""

    def off(size: tuple[int, int]) -> float:
        center = [number(source, key, where, 0.5 * pixels) for key, pixels in zip(("cx", "cy"), size)]
        return max(abs(c / pixels - 0.5) for c, pixels in zip(center, size))

    size = header.size
    if 2.0 * off(header.turned) < off(size):
        size = header.turned
        say_once(f"Images listed in {file} are turned as EXIF asks: cx and cy lie in the middle of the turned ones.")
    if off(size) > FAR_FROM_MIDDLE:
        say_once(
            f"{file}: cx and cy ({source.get('cx')}, {source.get('cy')}) are far from the middle of an image of {size[0]}x"
            f"{size[1]}; if images were made smaller after their poses were found, give w and h of the size that they had.",
            about=f"{file}: principal points off the middle",
        )
    return size


def _size_on_disk(stated: tuple[int, int], header: Header, image: Path, where: str) -> tuple[int, int]:
    """The picture's size, as stored or as EXIF turns it, whichever the stated size is that of, or a multiple of."""
    for size in (header.size, header.turned):
        if size == stated:
            return size
    for size in (header.size, header.turned):
        if same_shape(size, stated):
            return size
    return fail(
        f"{image} is {header.size[0]}x{header.size[1]} pixels, and {where} says {stated[0]}x{stated[1]}, which is another "
        "shape; put the image of that size there or mend w and h."
    )


def _size(source: Json, where: str) -> tuple[int, int] | None:
    """Width and height if both are given."""
    if not states_size(source):
        return None
    names = next(pair for pair in SIZE_KEYS if all(key in source for key in pair))
    width, height = (round(number(source, key, where, 0.0)) for key in names)
    if width < 1 or height < 1:
        fail(f"{where}: the image size is {width} x {height}; give {names[0]} and {names[1]} in pixels, or leave both out.")
    return width, height


def _focal(source: Json, width: int, height: int, where: str) -> tuple[float, float] | None:
    """Focal lengths in pixels from one level of the file, or None where it names none."""

    def axis(name: str, pixels: int) -> float | None:
        if f"{name}_fov" in source:
            fov = math.radians(number(source, f"{name}_fov", where, 0.0))
        elif f"fl_{name}" in source:
            return check_focal(number(source, f"fl_{name}", where, 0.0), where)
        elif f"camera_angle_{name}" in source:
            fov = number(source, f"camera_angle_{name}", where, 0.0)
        else:
            return None
        if not 0.0 < fov < math.pi:
            fail(f"{where}: a field of view of {math.degrees(fov):g} degrees is none; give one between 0 and 180.")
        return 0.5 * pixels / math.tan(0.5 * fov)

    fx, fy = axis("x", width), axis("y", height)
    if fx is None and fy is None:
        return None
    return cast(tuple[float, float], (fx if fx is not None else fy, fy if fy is not None else fx))


def _with_matrix(source: Json, where: str) -> Json:
    """A level of the file with fl_x, fl_y, cx and cy out of its matrix, where it has no focal length but a matrix."""
    if (
        any(f"{name}{axis}" in source for name in ("fl_", "camera_angle_") for axis in "xy")
        or "x_fov" in source
        or "y_fov" in source
    ):
        return source
    for key in MATRIX_KEYS:
        if source.get(key) is not None:
            return {**_four_of(source[key], key, where), **source}
    return source


def _four_of(value: Any, key: str, where: str) -> dict[str, float]:
    """fl_x, fl_y, cx, cy of a 3x3 matrix, nested or flat, by rows or columns; of fx, fy, cx, cy as a list or an object."""
    if isinstance(value, Mapping):
        return _named_four(value, key, where)
    matrix = numbers(value, key, where)
    if matrix.size == 4:
        fx, fy, cx, cy = (float(v) for v in matrix.reshape(-1))
        skew = 0.0
    else:
        if matrix.size == 9:
            matrix = matrix.reshape(3, 3)
        elif matrix.shape not in ((3, 4), (4, 4)):
            fail(f"{where}: {key} has shape {list(matrix.shape)}; give a 3x3 matrix, or fl_x, fl_y, cx and cy.")
        if not matrix[:2, 2].any() and matrix[2, :2].any():
            matrix = matrix.T  # by columns, as ARKit and Record3D write it
        fx, fy, cx, cy, skew = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2), (0, 1)))
    check_focal(min(fx, fy), where)
    if max(cx, cy) <= 1.0 < 8.0 * max(fx, fy):
        fail(f"{where}: {key} is in parts of the image, not in pixels; give fl_x, fl_y, cx and cy in pixels.")
    if abs(skew) > 1e-4 * fx:
        fail(f"{where}: {key} has a skew of {skew:g}, which is not computed; {UNDISTORT}.")
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}


def _named_four(value: Json, key: str, where: str) -> dict[str, float]:
    """fl_x, fl_y and, where it has them, cx and cy of an object."""
    out = {}
    for ours, names in (("fl_x", ("fl_x", "fx", "f")), ("fl_y", ("fl_y", "fy", "f")), ("cx", ("cx",)), ("cy", ("cy",))):
        name = next((name for name in names if value.get(name) is not None), None)
        if name is not None:
            out[ours] = number(value, name, f"{where}: {key}", 0.0)
    if "fl_x" not in out or "fl_y" not in out:
        fail(f"{where}: {key} has no fx and fy; give them there, or fl_x, fl_y, cx and cy.")
    return out


def states_size(source: Json) -> bool:
    """Whether both width and height are given."""
    return any(all(key in source for key in pair) for pair in SIZE_KEYS)


def _camera_type(source: Json, where: str) -> CameraType:
    for key in UNREAD_LENSES:
        if source.get(key):
            fail(f"{where}: the lens model of {key} is not supported; convert the images to perspective first.")
    model = source.get("camera_model")
    if model is not None:
        known = MODELS.get(str(model).upper())
        if known is None:
            fail(f"{where}: camera_model {model!r} is not computed; {UNDISTORT}, or give one of {', '.join(MODELS)}.")
        return known
    if source.get("is_fisheye", False):
        return CameraType.FISHEYE
    return DISTORTION_MODELS.get(str(source.get("distortion_model", "")).lower(), CameraType.PERSPECTIVE)


def _look_for_unread(source: Json, file: str, where: str) -> None:
    """Refuses a skew, and says which further keys of a lens are not read."""
    for key in SKEWS:
        if source.get(key) is not None and number(source, key, where, 0.0) != 0.0:
            fail(f"{where}: the skew of {key} is not computed; {UNDISTORT}.")
    read = _READ | ({"distortion_model"} if str(source.get("distortion_model", "")).lower() in DISTORTION_MODELS else set())
    unread = sorted(key for key in source if _LENS_KEYS.fullmatch(key) and key not in read and _says_something(source[key]))
    if unread:
        say_once(
            f"{file}: {', '.join(unread)} of the lens are not used; what is read is distortion_params, or k1 to k6, p1, p2 and "
            "s1 to s4."
        )


def _says_something(value: Any) -> bool:
    """Whether a key of a lens holds anything but zeros."""
    return bool(np.any(value)) if isinstance(value, (int, float, list)) else bool(value)
