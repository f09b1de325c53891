"""COLMAP's model files, binary and text: where they lie in a scene's folder, and what they say.

Cameras and images are read here, as nerfstudio 1.1.5's reader knows neither the lens models after THIN_PRISM_FISHEYE nor names
with blanks in them, and keeps every feature point of every image. The sparse points are read by nerfstudio. ``rigs`` and
``frames``, which COLMAP writes beside them since 3.12, are not needed: ``images`` still holds each image's own pose.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.utils import colmap_parsing_utils as model_files
from numpy.typing import NDArray

from ngp_method.data.messages import say_once
from ngp_method.errors import fail
from ngp_method.pictures.opening import reason_of

LENSES: dict[int, tuple[str, int]] = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
"""COLMAP's lens models by their number in binary files: name, how many parameters (src/colmap/sensor/models.h)."""

BASES = (".", "colmap", "dense", "dense/*", "colmap/dense", "colmap/dense/*")
"""Folders that hold images and a model, in the data's: a workspace, nerfstudio's, and what ``image_undistorter`` writes."""

_BROKEN = (struct.error, ValueError, KeyError, IndexError, OSError, UnicodeDecodeError, StopIteration, OverflowError)


@dataclass(frozen=True)
class Camera:
    """A lens: its number in the model, its kind by COLMAP's name, pixels of its pictures, parameters in COLMAP's order."""

    id: int
    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    """A picture's pose, world to camera in OpenCV's axes: quaternion w, x, y, z and translation; and its name."""

    id: int
    qvec: tuple[float, ...]
    tvec: tuple[float, ...]
    camera_id: int
    name: str


def suffix_of(folder: Path) -> str | None:
    """``.bin`` or ``.txt``, whichever a folder holds a model in; the first where both are there, as COLMAP has it."""
    whole = (s for s in (".bin", ".txt") if all((folder / f"{name}{s}").is_file() for name in ("cameras", "images")))
    return next(whole, None)


def find_models(data: Path) -> list[Path]:
    """The folder of every COLMAP model in the places where COLMAP and nerfstudio put them; the usual place first."""
    found = []
    for base in _bases(data):
        sparse = base / "sparse"
        inside = sorted((p for p in sparse.iterdir() if p.is_dir()), key=_numbered) if sparse.is_dir() else []
        found += [folder for folder in (*inside, sparse, base) if suffix_of(folder) is not None]
    return list(dict.fromkeys(found))


def homes_of(data: Path, folder: Path) -> list[Path]:
    """The folders that a model's folders of images lie in; beside undistorted models only undistorted images count."""
    base = folder.parent.parent if folder.parent.name == "sparse" else folder.parent if folder.name == "sparse" else folder
    undistorted = base.is_relative_to(data) and "dense" in base.relative_to(data).parts
    return [base] if undistorted or base == data else [base, data]


def _bases(data: Path) -> list[Path]:
    return [base for pattern in BASES for base in (sorted(data.glob(pattern)) if "*" in pattern else [data / pattern])]


def _numbered(folder: Path) -> tuple[int, str]:
    return (int(folder.name), "") if folder.name.isdecimal() else (1 << 30, folder.name)


def half_a_model(data: Path) -> str | None:
    """The sentence for a folder that holds one of a model's two files only; None where there is none."""
    for folder in (inner for base in _bases(data) for inner in (base / "sparse" / "0", base / "sparse", base)):
        for suffix in (".bin", ".txt"):
            for one, other in (("cameras", "images"), ("images", "cameras")):
                if (folder / f"{one}{suffix}").is_file():
                    return (
                        f"{folder} has {one}{suffix} and no {other}{suffix}, half of a COLMAP model; put the other file there."
                    )
    return None


def read_cameras(folder: Path) -> dict[int, Camera]:
    """The lenses of a model by their number.

    Raises:
        UserError: a broken file, or a lens model that is not in :data:`LENSES`.
    """
    suffix = suffix_of(folder)
    if suffix == ".bin" and (folder / "cameras.txt").is_file() and (folder / "images.txt").is_file():
        say_once(
            f"{folder} holds its model as .bin and as .txt files; the .bin files are read, as COLMAP does, not the others."
        )
    cameras: dict[int, Camera] = read_file(folder / f"cameras{suffix}", _cameras_text if suffix == ".txt" else _cameras_binary)
    counts = dict(LENSES.values())
    for camera in cameras.values():
        if camera.model not in counts:
            fail(unknown_lens(folder / f"cameras{suffix}", camera.id, camera.model))
        if len(camera.params) != counts[camera.model]:
            fail(
                f"{folder / f'cameras{suffix}'}: camera {camera.id} has {len(camera.params)} numbers where {camera.model} has "
                f"{counts[camera.model]}; export the model anew."
            )
    return cameras


def read_images(folder: Path) -> list[Image]:
    """The images of a model in the order of their numbers, which is nerfstudio's.

    Raises:
        UserError: a broken file.
    """
    suffix = suffix_of(folder)
    images: list[Image] = read_file(folder / f"images{suffix}", _images_text if suffix == ".txt" else _images_binary)
    return images


def read_points(folder: Path) -> NDArray[np.float64] | None:
    """The sparse points in COLMAP's world, [M, 3], or None where the model has none.

    Raises:
        UserError: a broken file.
    """
    for suffix, reader in ((".bin", model_files.read_points3D_binary), (".txt", model_files.read_points3D_text)):
        path = folder / f"points3D{suffix}"
        if path.is_file():
            points = read_file(path, reader)
            if points:
                xyz = np.array([point.xyz for point in points.values()], dtype=np.float64)
                return xyz[np.isfinite(xyz).all(1)]
    return None


def read_file(path: Path, reader: Callable[[Path], Any]) -> Any:
    """A model file's content; kept while the file stays as it is, for each split asks for it anew.

    Raises:
        UserError: a broken file.
    """
    try:
        state = path.stat()
        return _read_once(path, reader, state.st_mtime_ns, state.st_size)
    except _BROKEN as error:
        fail(f"{path} cannot be read as part of a COLMAP model ({reason_of(error, path)}); export the model anew.")


@lru_cache(maxsize=8)
def _read_once(path: Path, reader: Callable[[Path], Any], mtime: int, size: int) -> Any:
    return reader(path)


def unknown_lens(path: Path, number: int, model: object) -> str:
    """The sentence for a lens model that COLMAP's list did not have when this was written."""
    return (
        f"{path}: camera {number} has the lens model {model}, which is not known here; undistort the images first, with "
        "colmap image_undistorter --image_path IMAGES --input_path MODEL --output_path NEW, and give --data NEW."
    )


def _cameras_binary(path: Path) -> dict[int, Camera]:
    raw = path.read_bytes()
    (count,) = struct.unpack_from("<Q", raw)
    at, cameras = 8, {}
    for _ in range(count):
        number, lens, width, height = struct.unpack_from("<IiQQ", raw, at)
        if lens not in LENSES:
            fail(unknown_lens(path, number, f"number {lens}"))  # and what follows cannot be told from the next camera
        name, size = LENSES[lens]
        cameras[number] = Camera(number, name, width, height, struct.unpack_from(f"<{size}d", raw, at + 24))
        at += 24 + 8 * size
    return cameras


def _cameras_text(path: Path) -> dict[int, Camera]:
    cameras = {}
    for line in _lines(path):
        number, model, width, height, *params = line.split()
        cameras[int(number)] = Camera(int(number), model, int(width), int(height), tuple(map(float, params)))
    return cameras


def _images_binary(path: Path) -> list[Image]:
    raw = path.read_bytes()
    (count,) = struct.unpack_from("<Q", raw)
    at, images = 8, []
    for _ in range(count):
        number, *pose, camera = struct.unpack_from("<I7dI", raw, at)
        end = raw.index(b"\0", at + 64)
        name = raw[at + 64 : end].decode("utf-8")
        (points,) = struct.unpack_from("<Q", raw, end + 1)
        at = end + 9 + 24 * points
        if at > len(raw):
            raise ValueError("it ends early")
        images.append(Image(number, tuple(pose[:4]), tuple(pose[4:]), camera, name))
    return sorted(images, key=lambda image: image.id)


def _images_text(path: Path) -> list[Image]:
    """Two lines an image, the second its feature points; files made by hand often leave the second one out."""
    images, second = [], False
    for line in _lines(path, blank=True):
        words = line.split(maxsplit=9)
        if second and (len(words) < 10 or _is_number(words[9].split(maxsplit=1)[0])):
            second = False
        elif words:
            pose = tuple(map(float, words[1:8]))
            images.append(Image(int(words[0]), pose[:4], pose[4:], int(words[8]), words[9].strip()))
            second = True
    return sorted(images, key=lambda image: image.id)


def _lines(path: Path, blank: bool = False) -> Sequence[str]:
    """The lines of a text file without comments and, unless asked for, without those that are blank."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#") and (blank or line.strip())]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
