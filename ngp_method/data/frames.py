"""The matrices of a file's frames, nested or flat, by rows or by columns; and what frames say that is not used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngp_method.data.messages import say_once
from ngp_method.data.values import Json
from ngp_method.data.views import POSE_TOLERANCE, View, check_pose, turns
from ngp_method.errors import fail
from ngp_method.pictures.opening import is_picture


def read_poses(path: Path, frames: Sequence[Json]) -> list[NDArray[np.float64]]:
    """Camera to world of each frame, [3, 4] float64, OpenGL axes.

    Args:
        path: the JSON file, for messages.
        frames: each with ``transform_matrix``, or ``transform_matrix_start`` where the camera moved while it exposed.

    Raises:
        UserError: a frame whose matrix is no camera pose.
    """
    wheres = [f'{path}: frame "{frame["file_path"]}"' for frame in frames]
    matrices = []
    for frame, where in zip(frames, wheres):
        matrix = matrix_of(frame)
        if matrix is None:
            fail(f"{where} has no transform_matrix; mend or remove that frame.")
        matrices.append(_square(matrix))
    if _by_columns(matrices):
        say_once(f"{path} has its matrices by columns (the position is the last row); they are transposed.")
        matrices = [np.asarray(matrix).T for matrix in matrices]
    return [check_pose(matrix, where) for matrix, where in zip(matrices, wheres)]


def matrix_of(frame: Json) -> Any:
    """A frame's matrix as it is written, of the start of the exposure where there is no other; None where it has none."""
    matrix = frame.get("transform_matrix")
    return matrix if matrix is not None else frame.get("transform_matrix_start")


def _square(matrix: Any) -> Any:
    """A flat list of 16 or 12 numbers as rows of four, or [4, 3] where 12 are columns; anything else as it is."""
    try:
        array = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        return matrix  # check_pose has the sentence for it
    if array.shape == (12,) and turns(array.reshape(4, 3)[:3]) and not turns(array.reshape(3, 4)[:, :3]):
        return array.reshape(4, 3)
    return array.reshape(-1, 4) if array.shape in ((16,), (12,)) else array


def _by_columns(matrices: Sequence[Any]) -> bool:
    """Whether all matrices have 0 0 0 1 as their last column, and some a position as their last row."""
    if not all(isinstance(m, np.ndarray) and m.shape in ((4, 4), (4, 3)) and np.isfinite(m).all() for m in matrices):
        return False
    if all(m.shape == (4, 3) for m in matrices):
        return True
    if not all(m.shape == (4, 4) and np.allclose(m[:, 3], (0.0, 0.0, 0.0, 1.0), atol=1e-6) for m in matrices):
        return False
    return any(np.abs(m[3, :3]).max() > POSE_TOLERANCE for m in matrices)


def say_unread(path: Path, meta: Json, frames: Sequence[Json]) -> None:
    """Says in one line each what frames give that no instant-hash method uses.

    Args:
        path: the JSON file, for messages.
        meta: its own keys.
        frames: its frames.
    """
    total = len(frames)
    moving = [f for f in frames if f.get("transform_matrix_end") not in (None, f.get("transform_matrix_start"), matrix_of(f))]
    if moving:
        used = "transform_matrix" if moving[0].get("transform_matrix") is not None else "transform_matrix_start"
        say_once(
            f"{len(moving)} of {total} frames listed in {path} move while they are exposed (transform_matrix_end); "
            f"instant-hash uses {used} alone."
        )
    rolling = sum(_any_number({**meta, **f}.get("rolling_shutter")) for f in frames)
    if rolling:
        say_once(
            f"{rolling} of {total} frames listed in {path} have a rolling_shutter; instant-hash takes all rows as exposed at "
            "once."
        )
    for key in sorted({key for f in frames for key in f if "mask" in key and key != "mask_path"}):
        if count := sum(bool(f.get(key)) for f in frames):
            say_once(f"{count} of {total} frames listed in {path} have {key}, which is not read; masks are those of mask_path.")
    for key in sorted({key for f in frames for key in f if "depth" in key and ("path" in key or "file" in key)}):
        if count := sum(bool(f.get(key)) for f in frames):
            say_once(f"{count} of {total} frames listed in {path} have {key}; instant-hash does not train on depth.")


def _any_number(value: Any) -> bool:
    try:
        return bool(np.any(np.asarray(0.0 if value is None else value, dtype=np.float64)))
    except (TypeError, ValueError):
        return True


def say_unplaced(views: Sequence[View]) -> None:
    """Counts in one line for each folder the pictures in it that no file gives a pose, or that instant-ngp has alpha in.

    Args:
        views: all views of a scene.
    """
    known = {file for view in views for file in (view.image, view.mask, view.hidden, view.depth) if file is not None}
    stems = {(view.image.parent, view.image.stem) for view in views}
    for folder in sorted({view.image.parent for view in views}):
        extra, alphas = [], []
        for file in sorted(folder.iterdir()):
            if not is_picture(file) or file in known or file.name.startswith(("dynamic_mask_", ".")):
                continue
            if Path(file.stem).suffix == ".alpha":
                alphas.append(file)
            elif (folder, file.stem) not in stems:  # NAME.HEIC beside NAME.jpg is the same picture
                extra.append(file)
        if extra:
            say_once(f"{len(extra)} pictures in {folder} have no pose and are not used, as {extra[0].name}.")
        if alphas:
            say_once(
                f"{len(alphas)} pictures in {folder} are instant-ngp's alpha of another picture and are not used, as "
                f"{alphas[0].name}; make it that picture's own alpha channel."
            )
