"""Reads ``poses_bounds.npy``, which LLFF's ``imgs2poses.py`` writes beside a folder of pictures.

A row for each picture, in the order that Python sorts their names in: a 3x5 matrix by rows, then the nearest and the farthest
depth of what the picture shows. The matrix has as columns the camera's axes down, right and backwards, its position, and
height, width and focal length in pixels (Fyusion/LLFF, ``llff/poses/pose_utils.py``; NeRF's ``load_llff.py`` turns the axes
round by the columns 1, -0, 2). There is no distortion, and the principal point is the picture's middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ngp_method.data.capture import Capture, natural_key
from ngp_method.data.messages import say_once
from ngp_method.data.paths import spelling
from ngp_method.data.pictures import IMAGE_FOLDERS, copies_in, fit_to_pictures, say_copies
from ngp_method.data.views import Lens, View, check_focal, check_pose, turns
from ngp_method.errors import fail
from ngp_method.pictures.opening import IMAGE_SUFFIXES, is_picture

FILE = "poses_bounds.npy"

AGAIN = "write it anew with LLFF's imgs2poses.py."

_SIZED = re.compile(r"images_(\d+)x(\d+)")
"""Smaller copies as NeRF's loader writes them for a width or a height: images_504x378."""

_FILMS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"})


def find_llff(folder: Path) -> Path | None:
    """The ``poses_bounds.npy`` of a folder, in whatever case a system spelt it; None where there is none."""
    return next((path for path in sorted(folder.iterdir()) if spelling(path.name) == FILE and path.is_file()), None)


def read_llff(file: Path) -> Capture:
    """The views of a ``poses_bounds.npy`` and the pictures beside it; the depths are of no use here and are not read.

    Raises:
        UserError: no array of such rows, a row that is no camera, or another number of pictures than of rows.
    """
    rows = _read_rows(file)
    pictures = _find_pictures(file, len(rows))
    _say_order(file, pictures)
    views = []
    for index, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        if np.isfinite(row[:, :4]).all():  # a picture without a pose has NaN, and is counted with those of other formats
            views.append(_view(row, picture, f"{file}: row {index} ({picture.name})"))
    if not views:
        fail(f"None of the {len(rows)} rows of {file} has a pose (NaN or infinity); {AGAIN}")
    return Capture("llff", file, fit_to_pictures(views, file))


def _read_rows(file: Path) -> NDArray[np.float64]:
    """The matrices of a file, [N, 3, 5] float64."""
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        fail(f"{file} holds no array of numbers as numpy writes it, or is cut short; {AGAIN}")
    if array.shape[1:] == (3, 5):
        array = array.reshape(-1, 15)
    if array.ndim != 2 or array.shape[1] not in (15, 17) or not len(array):
        what = "no heights, widths and focal lengths" if array.shape[1:] in ((12,), (14,), (3, 4)) else "another layout"
        fail(
            f"{file} holds an array of shape {list(array.shape)}, not [N, 17] (3x5 matrix, near and far bound) or [N, 15] "
            f"without the bounds: it has {what}; {AGAIN}"
        )
    rows: NDArray[np.float64] = array[:, :15].astype(np.float64).reshape(-1, 3, 5)
    return rows


def _view(row: NDArray[np.float64], picture: Path, where: str) -> View:
    height, width, focal = row[:, 4]
    if not (np.isfinite((height, width)).all() and height >= 1.0 and width >= 1.0):
        fail(f"{where} says that the picture is {width:g}x{height:g} pixels; {AGAIN}")
    axes = row[:, :3]
    det = float(np.linalg.det(axes))
    if det <= 0.0 or not turns(axes):
        what = "mirrored" if det < 0.0 else "no rotation"
        fail(f"{where} has axes that are {what}; its columns should be down, right, backwards and the position: {AGAIN}")
    size, focal = (round(width), round(height)), check_focal(float(focal), where)
    return View(
        image=picture,
        listed=picture.name,
        pose=check_pose(np.stack([row[:, 1], -row[:, 0], row[:, 2], row[:, 3]], axis=-1), where),
        lens=Lens(size[0], size[1], focal, focal, 0.5 * size[0], 0.5 * size[1]),
    )


def _find_pictures(file: Path, count: int) -> list[Path]:
    """The pictures that the rows are of, in the rows' order: of the first folder that holds as many."""
    home = file.parent
    sized = sorted(path.name for path in home.glob("images_*") if _SIZED.fullmatch(path.name))
    there = {root: files for root in (home / name for name in (*IMAGE_FOLDERS, *copies_in(home), *sized))
             if (files := _pictures_in(root))}  # fmt: skip
    for root, files in there.items():
        for chosen in _choices(files):
            if len(chosen) == count:
                first = next(iter(there))
                if root != first:
                    say_once(f"{first} holds {len(there[first])} pictures and {file} {count} rows; {root} has as many.")
                say_copies(root, [home])
                _say_masks(home)
                return chosen
    for root, files in there.items():
        return fail(
            f"{file} has {count} rows, and {root} holds {len(files)} pictures; put exactly those there that were posed, as "
            "rows belong to pictures by the order of their names."
        )
    films = sorted(path.name for path in home.iterdir() if path.suffix.casefold() in _FILMS)
    if films:
        return fail(
            f"{file} is of {len(films)} films, as {films[0]}, and only pictures are read; write one frame of each to "
            f"{home / 'images'}, as {Path(films[0]).stem}.png."
        )
    return fail(f"{file} has the poses of {count} pictures, and there is none in {home / 'images'}; put them there.")


def _pictures_in(root: Path) -> list[Path]:
    """The pictures of a folder in the order of LLFF; macOS leaves ._NAME.jpg beside NAME.jpg on other systems' disks."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if is_picture(path) and path.is_file() and not path.name.startswith("."))


def _choices(files: Sequence[Path]) -> Iterator[list[Path]]:
    """All pictures of a folder, then those of each kind alone: the camera's originals may lie beside the JPEGs."""
    yield list(files)
    for suffix in dict.fromkeys(map(str.casefold, IMAGE_SUFFIXES)):
        yield [path for path in files if path.suffix.casefold() == suffix]


def _say_order(file: Path, pictures: Sequence[Path]) -> None:
    """Says which order the rows have, where a person would count otherwise."""
    keys = [natural_key(path.name) for path in pictures]
    swapped = next((i for i in range(1, len(keys)) if keys[i] < keys[i - 1]), None)
    if swapped is not None:
        say_once(
            f"Rows of {file} belong to pictures by their names, which LLFF sorts letter by letter: "
            f"{pictures[swapped - 1].name} comes before {pictures[swapped].name}."
        )


def _say_masks(home: Path) -> None:
    """Masks beside LLFF's files are white on what is hidden with one author and on what is seen with another."""
    for folder in sorted(path for path in home.iterdir() if path.is_dir() and spelling(path.name) in ("mask", "masks")):
        if _pictures_in(folder):
            say_once(f"Not used: {folder}; poses_bounds.npy does not say what masks mean, mask_path of a transforms.json does.")
