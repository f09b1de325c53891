"""Reads ``transforms.json`` as instant-ngp, NeRF's Blender scenes and nerfstudio write it: frames -> views.

The keys are instant-ngp's (``nerf_loader.cu``) and nerfstudio's (its ``Nerfstudio`` parser). What a name, a matrix and a lens
mean is found in :mod:`~ngp_method.data.paths`, :mod:`~ngp_method.data.frames` and :mod:`~ngp_method.data.lenses`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngp_method.data.capture import NgpFrame
from ngp_method.data.frames import matrix_of, read_poses, say_unread
from ngp_method.data.lenses import read_lens, states_size
from ngp_method.data.masks import find_dynamic_mask, say_masks
from ngp_method.data.messages import say_once
from ngp_method.data.paths import find_files
from ngp_method.data.values import Json, number, numbers
from ngp_method.data.views import View
from ngp_method.errors import fail
from ngp_method.kernels.scene import MAX_AABB_SCALE
from ngp_method.pictures.opening import Header, read_header

NGP_KEYS = ("aabb_scale", "scale", "offset", "aabb")
"""Keys that instant-ngp alone reads: they say where the unit cube lies."""

NERF_SCALE = 0.33
"""instant-ngp's default scale of positions (nerf_loader.h)."""

NERF_OFFSET = 0.5
"""instant-ngp's default offset, on each axis."""


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
    for index, frame in enumerate(frames):
        if not isinstance(frame.get("file_path"), str) or not frame["file_path"]:
            fail(f"{path}: frame {index} has no file_path; mend or remove that frame.")
    names = [frame["file_path"] for frame in frames]
    images = find_files(path, names, "file_path")
    listed = [(frame, image) for frame, image in zip(frames, images) if image is not None]
    if not listed:
        fail(
            f"None of the {len(frames)} frames listed in {path} has an image, the first would be "
            f"{path.parent / names[0]}; put the images there or mend file_path."
        )
    if len(listed) < len(frames):
        missing = len(frames) - len(listed)
        say_once(f"{missing} of {len(frames)} frames listed in {path} have no image; {use} the other {len(listed)}.")
    listed = _each_once(path, listed)
    poses = read_poses(path, [frame for frame, _ in listed])
    headers = [read_header(image) for _, image in listed]
    masks = _beside(path, listed, "mask_path", True)
    depths = _beside(path, listed, "depth_file_path", False)
    views = [
        dataclasses.replace(_view(path, meta, frame, image, header, pose), mask=mask, depth=depth)
        for (frame, image), header, pose, mask, depth in zip(listed, headers, poses, masks, depths, strict=True)
    ]
    _say_not_turned(path, views, [states_size({**meta, **frame}) for frame, _ in listed], headers)
    say_masks(path, views)
    say_unread(path, meta, [frame for frame, _ in listed])
    return views


def _each_once(path: Path, listed: list[tuple[Json, Path]]) -> list[tuple[Json, Path]]:
    """Frames without those that say of the same image the same again.

    Raises:
        UserError: an image with two poses.
    """
    first: dict[Path, Json] = {}
    kept = []
    for frame, image in listed:
        before = first.setdefault(image, frame)
        if before is frame:
            kept.append((frame, image))
        elif matrix_of(before) != matrix_of(frame):
            fail(f"{path} lists {image.name} twice, with different transform_matrix; remove one of the two frames.")
    if len(kept) < len(listed):
        say_once(f"{len(listed) - len(kept)} of {len(listed)} frames listed in {path} are of an image listed before; left out.")
    return kept


def _view(path: Path, meta: Json, frame: Json, image: Path, header: Header, pose: NDArray[np.float64]) -> View:
    where = f'{path}: frame "{frame["file_path"]}"'
    lens = read_lens(meta, frame, image, header, str(path), where)
    return View(
        image=image,
        listed=frame["file_path"],
        pose=pose,
        lens=lens,
        hidden=find_dynamic_mask(image),
    )


def _say_not_turned(path: Path, views: Sequence[View], stated: Sequence[bool], headers: Sequence[Header]) -> None:
    """Counts the pictures that EXIF asks to be turned, that are used as they are stored, and of which no size tells why."""
    left = [
        view.image.name
        for view, told, header in zip(views, stated, headers, strict=True)
        if header.orientation != 1 and view.lens.size == header.size and not (told and header.size != header.turned)
    ]
    if left:
        say_once(
            f"{len(left)} of {len(views)} images listed in {path} ask by EXIF to be turned, as {left[0]}; they are used as "
            "they are stored, as instant-ngp and nerfstudio read them. If the poses are for turned images, turn the files "
            "(ImageMagick: mogrify -auto-orient)."
        )


def _beside(path: Path, listed: Sequence[tuple[Json, Path]], key: str, needed: bool) -> list[Path | None]:
    """The files that frames name beside their image; None for a frame that names none.

    Raises:
        UserError: one that is needed and named, and is not there.
    """
    named = [(i, str(frame[key])) for i, (frame, _) in enumerate(listed) if frame.get(key)]
    files = find_files(path, [name for _, name in named], key, [image for _, image in listed], needed)
    out: list[Path | None] = [None] * len(listed)
    for (i, name), file in zip(named, files):
        if file is None and needed:
            where = f'{path}: frame "{listed[i][0]["file_path"]}"'
            fail(f"{where} has {key} {name}, which is not there; put the file there or take the key out.")
        out[i] = file
    return out


def read_ngp_frame(path: Path, meta: Json) -> NgpFrame:
    """instant-ngp's mapping of positions: ``scale``, ``offset`` (a number or three), ``aabb_scale``, or ``aabb``.

    Raises:
        UserError: a value that is none, or an ``aabb_scale`` that is no power of two up to 128.
    """
    where = str(path)
    scale = number(meta, "scale", where, NERF_SCALE)
    raw = meta.get("offset", NERF_OFFSET)
    offset = np.broadcast_to(np.asarray(numbers(raw, "offset", where)), (3,)) if np.size(raw) in (1, 3) else None
    if offset is None:
        fail(f"{where}: offset has {np.size(raw)} numbers; give one or three.")
    if "aabb" in meta:
        box = numbers(meta["aabb"], "aabb", where)
        if box.shape != (2, 3):
            fail(f"{where}: aabb is no pair of corners; write [[x, y, z], [x, y, z]].")
        edge = float(np.abs(box[1] - box[0]).max())
        if edge == 0.0:
            fail(f"{where}: the two corners of aabb are one point; give the box that holds the scene.")
        scale = 1.0 / edge
        offset = 0.5 - 0.5 * (box[0] + box[1]) * scale
    if scale <= 0.0:
        fail(f"{where}: scale is {scale:g}; give a number above zero (instant-ngp's own is {NERF_SCALE}).")
    aabb_scale = number(meta, "aabb_scale", where, 1.0)
    size = power_of_two(aabb_scale, f"{where}: aabb_scale")
    stated = frozenset(key for key in NGP_KEYS if key in meta)
    return NgpFrame(scale, (float(offset[0]), float(offset[1]), float(offset[2])), size, stated)


def power_of_two(value: float, name: str) -> int:
    """A scene size as instant-ngp takes it.

    Raises:
        UserError: no power of two from 1 to 128.
    """
    whole = int(value) if math.isfinite(value) else 0
    if whole != value or not 1 <= whole <= MAX_AABB_SCALE or whole & (whole - 1):
        fail(f"{name} is {value:g}; give a power of two from 1 to {MAX_AABB_SCALE}.")
    return whole
