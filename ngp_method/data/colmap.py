"""Reads a COLMAP model (text or binary) and its images: views in nerfstudio's axes, and the sparse points.

The file formats are read by nerfstudio's own ``colmap_parsing_utils``; axes, image order and split lists are those of
its ``colmap`` parser, so that both give the same cameras. Nothing is written, and no question is asked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE
from nerfstudio.data.utils import colmap_parsing_utils as model_files
from nerfstudio.process_data.colmap_utils import parse_colmap_camera_params
from numpy.typing import NDArray

from ngp_method.data.capture import Capture
from ngp_method.data.messages import say_once
from ngp_method.data.views import View, check_focal, check_pose, reason_of
from ngp_method.errors import fail

MODEL_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse")
IMAGE_FOLDERS = ("images", "input", "rgb", ".")

WORLD_TO_NERFSTUDIO = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
"""COLMAP's guess of gravity is +y; nerfstudio's worlds have z up (its colmap parser does the same)."""


def find_model(folder: Path) -> Path | None:
    """The folder with ``cameras.bin`` or ``cameras.txt``, or None."""
    for name in MODEL_FOLDERS:
        for suffix in (".bin", ".txt"):
            if (folder / name / f"cameras{suffix}").is_file() and (folder / name / f"images{suffix}").is_file():
                return folder / name
    return None


def read_colmap(folder: Path, model: Path) -> Capture:
    """Everything a COLMAP folder says.

    Args:
        folder: holds the images (``images/``, ``input/``, ``rgb/`` or the folder itself).
        model: holds cameras, images and points3D as ``.bin`` or ``.txt``.

    Raises:
        UserError: a broken model, a lens model nerfstudio has not, or no image.
    """
    text = (model / "cameras.txt").is_file()
    suffix = ".txt" if text else ".bin"
    images_file = model / f"images{suffix}"
    read = model_files
    cameras = _read(model / f"cameras{suffix}", read.read_cameras_text if text else read.read_cameras_binary)
    images = _read(images_file, read.read_images_text if text else read.read_images_binary)
    listed = [images[key] for key in sorted(images)]
    if not listed:
        fail(f"{images_file} lists no images; run COLMAP's mapper again.")
    root = _image_root(folder, [image.name for image in listed])
    views = []
    for image in listed:
        path = root / image.name
        if path.is_file():
            if image.camera_id not in cameras:
                fail(f'{images_file}: image "{image.name}" names camera {image.camera_id}, which the model has not.')
            views.append(_view(path, image, cameras[image.camera_id], images_file))
    if not views:
        fail(
            f"None of the {len(listed)} images listed in {images_file} is there, the first would be "
            f"{folder / IMAGE_FOLDERS[0] / listed[0].name}; put the images there."
        )
    if len(views) < len(listed):
        say_once(
            f"{len(listed) - len(views)} of {len(listed)} frames listed in {images_file} have no image; "
            f"training on the other {len(views)}."
        )
    return Capture(
        kind="colmap",
        file=model,
        views=views,
        splits=_split_lists(folder, views),
        points=_points(model),
        applied_transform=WORLD_TO_NERFSTUDIO,
    )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """A model file's content; kept while the file stays as it is, for each split asks for it anew."""
    try:
        state = path.stat()
        return _read_once(path, reader, state.st_mtime_ns, state.st_size)
    except (struct.error, ValueError, KeyError, IndexError, OSError, UnicodeDecodeError, StopIteration) as error:
        fail(f"{path} cannot be read as part of a COLMAP model ({reason_of(error, path)}); export the model anew.")


@lru_cache(maxsize=3)
def _read_once(path: Path, reader: Callable[[Path], Any], mtime: int, size: int) -> Any:
    return reader(path)


def _image_root(folder: Path, names: Sequence[str]) -> Path:
    """The folder in which most of the images are."""
    counts = {name: sum((folder / name / image).is_file() for image in names) for name in IMAGE_FOLDERS}
    return folder / max(IMAGE_FOLDERS, key=lambda name: counts[name])


def _view(path: Path, image: Any, camera: Any, images_file: Path) -> View:
    where = f'{images_file}: image "{image.name}"'
    try:
        lens = parse_colmap_camera_params(camera)
    except NotImplementedError:
        fail(f"{where}: COLMAP's lens model {camera.model} is not supported; undistort the images with COLMAP first.")
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = model_files.qvec2rotmat(np.asarray(image.qvec))
    world_to_camera[:3, 3] = image.tvec
    if not np.isfinite(world_to_camera).all() or abs(np.linalg.det(world_to_camera)) < 1e-6:
        fail(f"{where} has a pose that is none (NaN or a quaternion of zeros); remove that image from the model.")
    pose = np.linalg.inv(world_to_camera)
    pose[:3, 1:3] *= -1.0  # OpenCV's camera axes -> OpenGL's
    pose[:3] = WORLD_TO_NERFSTUDIO @ pose
    return View(
        image=path,
        listed=image.name,
        pose=check_pose(pose, where),
        width=int(lens["w"]),
        height=int(lens["h"]),
        fx=check_focal(lens["fl_x"], where),
        fy=check_focal(lens["fl_y"], where),
        cx=float(lens["cx"]),
        cy=float(lens["cy"]),
        distortion=tuple(float(lens.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2")),
        camera_type=CAMERA_MODEL_TO_TYPE[lens["camera_model"]],
    )


def _points(model: Path) -> NDArray[np.float64] | None:
    """Sparse points in nerfstudio's axes, [M, 3], or None where the model has none."""
    for suffix, reader in ((".bin", model_files.read_points3D_binary), (".txt", model_files.read_points3D_text)):
        path = model / f"points3D{suffix}"
        if path.is_file():
            points = _read(path, reader)
            if points:
                xyz = np.array([point.xyz for point in points.values()], dtype=np.float64)
                return np.asarray(xyz @ WORLD_TO_NERFSTUDIO[:, :3].T)
    return None


def _split_lists(folder: Path, views: Sequence[View]) -> Mapping[str, Sequence[int]]:
    """``train_list.txt`` and its fellows: one image name a line, as nerfstudio's colmap parser reads them."""
    splits = {}
    for split, name in (("train", "train"), ("val", "val"), ("val", "validation"), ("test", "test")):
        path = folder / f"{name}_list.txt"
        if path.is_file():
            wanted = set(path.read_text(encoding="utf-8").split("\n"))
            splits[split] = [i for i, view in enumerate(views) if view.listed in wanted]
    return splits
