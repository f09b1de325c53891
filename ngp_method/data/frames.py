"""The matrices of a file's frames, nested or flat, by rows or by columns; and what frames say that is not used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngp_method.data.decoding import is_picture
from ngp_method.data.messages import say_once
from ngp_method.data.values import Json
from ngp_method.data.views import POSE_TOLERANCE, View, check_pose
from ngp_method.errors import fail


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
        matrix = frame.get("transform_matrix", frame.get("transform_matrix_start"))
        if matrix is None:
            fail(f"{where} has no transform_matrix; mend or remove that frame.")
        matrices.append(_square(matrix))
    if _by_columns(matrices):
        say_once(f"{path} has its matrices by columns (the position is the last row); they are transposed.")
        matrices = [np.asarray(matrix).T for matrix in matrices]
    return [check_pose(matrix, where) for matrix, where in zip(matrices, wheres)]


def _square(matrix: Any) -> Any:
    """A flat list of 16 or 12 numbers as rows of four; anything else as it is."""
    try:
        array = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        return matrix  # check_pose has the sentence for it
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
    moving = sum(f.get("transform_matrix_end") not in (None, f.get("transform_matrix_start")) for f in frames)
    if moving:
        say_once(
            f"{moving} of {total} frames listed in {path} move while exposed (transform_matrix_end); the first pose is used."
        )
    rolling = sum(_any_number({**meta, **f}.get("rolling_shutter")) for f in frames)
    if rolling:
        say_once(f"{rolling} of {total} frames listed in {path} have a rolling_shutter; all rows are taken as exposed at once.")
    for key in sorted({key for f in frames for key in f if "depth" in key and ("path" in key or "file" in key)}):
        count = sum(bool(f.get(key)) for f in frames)
        say_once(f"{count} of {total} frames listed in {path} have {key}; instant-hash does not train on depth.")


def _any_number(value: Any) -> bool:
    try:
        return bool(np.any(np.asarray(0.0 if value is None else value, dtype=np.float64)))
    except (TypeError, ValueError):
        return True


def say_unplaced(views: Sequence[View]) -> None:
    """Counts in one line for each folder the pictures in it that no file gives a pose.

    Args:
        views: all views of a scene.
    """
    known = {file for view in views for file in (view.image, view.mask, view.hidden, view.depth) if file is not None}
    stems = {(view.image.parent, view.image.stem) for view in views}
    for folder in sorted({view.image.parent for view in views}):
        extra = [
            file
            for file in sorted(folder.iterdir())
            if is_picture(file)
            and file not in known
            and not file.name.startswith(("dynamic_mask_", "."))
            # NAME.HEIC beside NAME.jpg, NAME.alpha.png beside NAME.png
            and (folder, file.stem) not in stems
            and (folder, Path(file.stem).stem) not in stems
        ]
        if extra:
            say_once(f"{len(extra)} pictures in {folder} have no pose and are not used, as {extra[0].name}.")
