"""Reads ``transforms.json`` as instant-ngp, NeRF's Blender scenes and nerfstudio write it: frames -> views.

The keys are instant-ngp's (``nerf_loader.cu``) and nerfstudio's (its ``Nerfstudio`` parser); a frame's own key goes
before the file's. Where a field of view and a focal length are both given, instant-ngp's order holds:
``x_fov`` (degrees), ``fl_x`` (pixels), ``camera_angle_x`` (radians); an axis that has none takes the other's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, CameraType

from ngp_method.data.capture import NgpFrame
from ngp_method.data.messages import say_once
from ngp_method.data.views import View, check_focal, check_pose, image_size
from ngp_method.errors import fail
from ngp_method.kernels.scene import MAX_AABB_SCALE

Json = Mapping[str, Any]

NERF_SCALE = 0.33
"""instant-ngp's default scale of positions (nerf_loader.h)."""

NERF_OFFSET = 0.5
"""instant-ngp's default offset, on each axis."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp", ".bmp", ".tif", ".tiff")
"""Tried in this order where a frame names a file without its ending."""

UNREAD_LENSES = ("ftheta_p0", "latlong", "equirectangular")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: not readable, not JSON (the sentence names line and column), or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        fail(f"{path} is not JSON at line {error.lineno}, column {error.colno} ({error.msg}); mend that line.")
    except UnicodeDecodeError:
        fail(f"{path} is not UTF-8 text; write it anew.")
    except OSError as error:
        fail(f"{path} cannot be read ({error.strerror}); check the file and its permissions.")
    if not isinstance(value, dict):
        fail(f'{path} holds no JSON object; it should begin with {{ and have a list "frames".')
    return value


def find_file(folder: Path, name: str) -> Path | None:
    """The file a frame names, with or without its ending; None if there is none."""
    path = folder / name.replace("\\", "/")
    if path.is_file():
        return path
    for suffix in IMAGE_SUFFIXES:
        candidate = path.with_name(path.name + suffix)
        if candidate.is_file():
            return candidate
    return None


def read_views(path: Path, meta: Json, use: str = "training on") -> list[View]:
    """The views of a file whose images are there; those that are not are counted in one line.

    Args:
        path: the JSON file; frames' paths are relative to its folder.
        meta: its content.
        use: what the remaining views are for, in that line.

    Raises:
        UserError: no frames, none with an image, or a frame that cannot be a camera.
    """
    frames = meta.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        fail(f'{path} lists no frames; it needs a list "frames" of objects with file_path and transform_matrix.')
    found: list[View] = []
    for number, frame in enumerate(frames):
        name = frame.get("file_path")
        if not isinstance(name, str) or not name:
            fail(f"{path}: frame {number} has no file_path; mend or remove that frame.")
        image = find_file(path.parent, name)
        if image is not None:
            found.append(_view(path, meta, frame, name, image))
    if not found:
        fail(
            f"None of the {len(frames)} frames listed in {path} has an image, the first would be "
            f"{path.parent / frames[0]['file_path']}; put the images there or mend file_path."
        )
    if len(found) < len(frames):
        missing = len(frames) - len(found)
        say_once(f"{missing} of {len(frames)} frames listed in {path} have no image; {use} the other {len(found)}.")
    _all_or_none(path, found)
    return found


def _all_or_none(path: Path, views: list[View]) -> None:
    masks = sum(v.mask is not None for v in views)
    if masks not in (0, len(views)):
        fail(f"{path} gives mask_path for {masks} of {len(views)} frames; give it for all or for none.")
    depths = sum(v.depth is not None for v in views)
    if depths not in (0, len(views)):
        fail(f"{path} gives a depth file for {depths} of {len(views)} frames; give it for all or for none.")


def _view(path: Path, meta: Json, frame: Json, name: str, image: Path) -> View:
    where = f'{path}: frame "{name}"'
    matrix = frame.get("transform_matrix", frame.get("transform_matrix_start"))
    if matrix is None:
        fail(f"{where} has no transform_matrix; mend or remove that frame.")
    pose = check_pose(matrix, where)

    both = {**{k: v for k, v in meta.items() if k != "frames"}, **frame}
    size = _size(both, where)
    width, height = size if size is not None else image_size(image)
    focal = _focal(frame, width, height, where) or _focal(meta, width, height, str(path))
    if focal is None:
        fail(f"{where} has no focal length; give fl_x and fl_y, x_fov or camera_angle_x there or for the whole file.")
    return View(
        image=image,
        listed=name,
        pose=pose,
        width=width,
        height=height,
        fx=focal[0],
        fy=focal[1],
        cx=_number(both, "cx", where, 0.5 * width),
        cy=_number(both, "cy", where, 0.5 * height),
        distortion=_distortion(both, where),
        camera_type=_camera_type(both, where),
        mask=_beside(path, frame, "mask_path", where),
        depth=_beside(path, frame, "depth_file_path", where),
    )


def _beside(path: Path, frame: Json, key: str, where: str) -> Path | None:
    if key not in frame:
        return None
    file = find_file(path.parent, str(frame[key]))
    if file is None:
        fail(f"{where} has {key} {frame[key]}, which is not there; put the file there or take the key out.")
    return file


def _number(source: Json, key: str, where: str, default: float) -> float:
    value = source.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(f"{where}: {key} is {value!r}, not a number; mend it.")
    if key in source and not math.isfinite(value) and not key.startswith("fl_"):
        fail(f"{where}: {key} is {value}; give a finite number.")
    return float(value)


def _size(source: Json, where: str) -> tuple[int, int] | None:
    """w and h if both are given."""
    if "w" not in source or "h" not in source:
        return None
    width, height = round(_number(source, "w", where, 0.0)), round(_number(source, "h", where, 0.0))
    if width < 1 or height < 1:
        fail(f"{where}: the image size is {width} x {height}; give w and h in pixels, or leave both out.")
    return width, height


def _focal(source: Json, width: int, height: int, where: str) -> tuple[float, float] | None:
    """Focal lengths in pixels from one level of the file, or None where it names none."""

    def axis(name: str, pixels: int) -> float | None:
        if f"{name}_fov" in source:
            fov = math.radians(_number(source, f"{name}_fov", where, 0.0))
        elif f"fl_{name}" in source:
            return check_focal(_number(source, f"fl_{name}", where, 0.0), where)
        elif f"camera_angle_{name}" in source:
            fov = _number(source, f"camera_angle_{name}", where, 0.0)
        else:
            return None
        if not 0.0 < fov < math.pi:
            fail(f"{where}: a field of view of {math.degrees(fov):g} degrees is none; give one between 0 and 180.")
        return 0.5 * pixels / math.tan(0.5 * fov)

    fx, fy = axis("x", width), axis("y", height)
    if fx is None and fy is None:
        return None
    return cast(tuple[float, float], (fx if fx is not None else fy, fy if fy is not None else fx))


def _distortion(source: Json, where: str) -> tuple[float, ...]:
    if "distortion_params" in source:
        values = np.asarray(source["distortion_params"], dtype=np.float64).reshape(-1)
        if values.size < 6 or not np.isfinite(values).all():
            fail(f"{where}: distortion_params needs at least six finite numbers: k1, k2, k3, k4, p1, p2.")
        return tuple(float(v) for v in values)
    return tuple(_number(source, key, where, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))


def _camera_type(source: Json, where: str) -> CameraType:
    for key in UNREAD_LENSES:
        if source.get(key):
            fail(f"{where}: the lens model of {key} is not supported; convert the images to perspective first.")
    if "camera_model" in source:
        model = source["camera_model"]
        if model not in CAMERA_MODEL_TO_TYPE:
            fail(f"{where}: camera_model {model!r} is unknown; give one of {', '.join(CAMERA_MODEL_TO_TYPE)}.")
        return CAMERA_MODEL_TO_TYPE[model]
    return CameraType.FISHEYE if source.get("is_fisheye", False) else CameraType.PERSPECTIVE


def read_ngp_frame(path: Path, meta: Json) -> NgpFrame:
    """instant-ngp's mapping of positions: ``scale``, ``offset`` (a number or three), ``aabb_scale``, or ``aabb``.

    Raises:
        UserError: a value that is none, or an ``aabb_scale`` that is no power of two up to 128.
    """
    where = str(path)
    scale = _number(meta, "scale", where, NERF_SCALE)
    raw = meta.get("offset", NERF_OFFSET)
    offset = np.broadcast_to(np.asarray(_numbers(raw, "offset", where)), (3,)) if np.size(raw) in (1, 3) else None
    if offset is None:
        fail(f"{where}: offset has {np.size(raw)} numbers; give one or three.")
    if "aabb" in meta:
        box = _numbers(meta["aabb"], "aabb", where)
        if box.shape != (2, 3):
            fail(f"{where}: aabb is no pair of corners; write [[x, y, z], [x, y, z]].")
        scale = 1.0 / max(1e-6, float(np.abs(box[1] - box[0]).max()))
        offset = 0.5 - 0.5 * (box[0] + box[1]) * scale
    if scale <= 0.0:
        fail(f"{where}: scale is {scale:g}; give a number above zero (instant-ngp's own is {NERF_SCALE}).")
    aabb_scale = _number(meta, "aabb_scale", where, 1.0)
    size = power_of_two(aabb_scale, f"{where}: aabb_scale")
    return NgpFrame(scale, (float(offset[0]), float(offset[1]), float(offset[2])), size)


def _numbers(value: Any, key: str, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        fail(f"{where}: {key} is not made of numbers; mend it.")
    if not np.isfinite(array).all():
        fail(f"{where}: {key} has NaN or infinity in it; mend it.")
    return array


def power_of_two(value: float, name: str) -> int:
    """A scene size as instant-ngp takes it.

    Raises:
        UserError: no power of two from 1 to 128.
    """
    whole = int(value) if math.isfinite(value) else 0
    if whole != value or not 1 <= whole <= MAX_AABB_SCALE or whole & (whole - 1):
        fail(f"{name} is {value:g}; give a power of two from 1 to {MAX_AABB_SCALE}.")
    return whole
