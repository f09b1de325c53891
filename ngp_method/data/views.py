"""View: one image with its camera, whatever file listed it; and views -> nerfstudio ``Cameras``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from numpy.typing import NDArray
from torch import Tensor

from ngp_method.errors import fail

POSE_TOLERANCE = 1e-2
"""How far a rotation may be from orthonormal: COLMAP's text files and many converters keep few digits."""


@dataclass(frozen=True)
class Lens:
    """The lens of an image, in pixels of the image as it is used.

    Attributes:
        width, height: of the image, turned as EXIF asks for where the file's w and h say so.
        fx, fy, cx, cy: in its pixels.
        distortion: k1, k2, k3, k4, p1, p2 as nerfstudio orders them.
        camera_type: nerfstudio's lens model.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    camera_type: CameraType = CameraType.PERSPECTIVE

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def resized(self, size: tuple[int, int]) -> Lens:
        """That of the image made another size as a whole; intrinsics follow the true ratio on each axis."""
        sx, sy = size[0] / self.width, size[1] / self.height
        fx, fy, cx, cy = self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy
        return replace(self, width=size[0], height=size[1], fx=fx, fy=fy, cx=cx, cy=cy)


@dataclass
class View:
    """One image and the camera that took it.

    Attributes:
        image: the image file, which exists.
        listed: the name the scene's file gives it, for messages and splits.
        pose: camera to world [3, 4] float64, OpenGL axes (x right, y up, looking along -z), unit of the file.
        lens: of the camera.
        mask: a file that is black where the image is not to be used (nerfstudio), if any.
        hidden: a file that is black where the image *is* to be used (instant-ngp's dynamic_mask_NAME.png), if any.
        depth: a file with depths, if any.
        scale: how many times smaller than the picture as it was taken it is, a power of two (multi-scale Blender scenes).
        weight: what a pixel of it counts in training, beside those of the others (mip-NeRF's lossmult).
    """

    image: Path
    listed: str
    pose: NDArray[np.float64]
    lens: Lens
    mask: Path | None = None
    hidden: Path | None = None
    depth: Path | None = None
    scale: int = 1
    weight: float = 1.0


def same_shape(found: tuple[int, int], stated: tuple[int, int]) -> bool:
    """Whether one factor makes a size [width, height] the other, to a pixel on each axis.

    Writers of smaller copies round a size down, up or to the nearest.
    """
    low = max((f - 1) / s for f, s in zip(found, stated, strict=True))
    high = min((f + 1) / s for f, s in zip(found, stated, strict=True))
    return low <= high


def check_pose(matrix: Any, where: str) -> NDArray[np.float64]:
    """A camera-to-world matrix as [3, 4] float64, with a uniform scale taken out of its rotation.

    Args:
        matrix: 4x4 or 3x4 nested lists.
        where: names file and frame in the message.

    Raises:
        UserError: not 4x4 or 3x4, not finite, or not a rotation times one positive number.
    """
    mend = "mend or remove that frame."
    try:
        pose = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        fail(f"{where} has a transform_matrix that is no matrix of numbers; {mend}")
    if pose.shape not in ((4, 4), (3, 4)):
        fail(f"{where} has a transform_matrix of shape {list(pose.shape)}, not [4, 4] or [3, 4]; {mend}")
    if not np.isfinite(pose).all():
        fail(f"{where} has a transform_matrix with NaN or infinity in it; {mend}")
    if pose.shape == (4, 4) and not np.allclose(pose[3], (0.0, 0.0, 0.0, 1.0), atol=POSE_TOLERANCE):
        by_columns = np.allclose(pose[:, 3], (0.0, 0.0, 0.0, 1.0), atol=POSE_TOLERANCE)
        hint = " (its last column is, as in a matrix by columns: transpose it)" if by_columns else ""
        fail(f"{where} has a transform_matrix whose last row is not 0 0 0 1{hint}; {mend}")
    rotation = pose[:3, :3]
    det = float(np.linalg.det(rotation))
    if det < 0.0:
        fail(
            f"{where} has a transform_matrix that is no camera pose (its 3x3 block is mirrored: a left-handed frame). A "
            "camera's axes are x right, y up, z backwards: negate the column of the one axis that your exporter points the "
            "other way (y where it points down, z where it points ahead), or the row of the axis of the world that it mirrors; "
            f"or {mend}"
        )
    if det == 0.0:
        fail(f"{where} has a transform_matrix that is no camera pose (its 3x3 block is singular); {mend}")
    scale = det ** (1.0 / 3.0)
    if not turns(rotation):
        fail(f"{where} has a transform_matrix that is no camera pose (its 3x3 block is not a rotation); {mend}")
    out: NDArray[np.float64] = pose[:3].copy()
    if abs(scale - 1.0) > POSE_TOLERANCE:
        out[:, :3] /= scale
    return out


def turns(block: NDArray[np.float64]) -> bool:
    """Whether a 3x3 block is a rotation, mirrored or not, times a number."""
    scale = abs(float(np.linalg.det(block))) ** (1.0 / 3.0)
    return bool(scale > 0.0 and np.abs(block.T @ block / scale**2 - np.eye(3)).max() <= 2.0 * POSE_TOLERANCE)


def check_focal(value: float, where: str) -> float:
    """A focal length in pixels.

    Raises:
        UserError: zero, negative or not finite.
    """
    if not (math.isfinite(value) and value > 0.0):
        fail(f"{where} has a focal length of {value:g}; give fl_x and fl_y in pixels, above zero.")
    return value


def scaled_size(lens: Lens, factor: float) -> tuple[int, int]:
    """Width and height of a lens's image made smaller by ``factor``; rounded down as nerfstudio does, at least 1."""
    return max(1, int(lens.width / factor)), max(1, int(lens.height / factor))


def to_cameras(views: Sequence[View], poses: Tensor, factor: float, metadata: dict[str, Any] | None = None) -> Cameras:
    """nerfstudio cameras of images made smaller by ``factor``.

    Intrinsics follow the true ratio of sizes, which differs between the axes where the size does not divide evenly.

    Args:
        views: N views.
        poses: camera to world in the world frame, [N, 3, 4] float32.
        factor: 1 for the images as they are on disk.
        metadata: kept on the cameras.
    """
    lenses = [view.lens.resized(scaled_size(view.lens, factor)) for view in views]
    rows = [(lens.fx, lens.fy, lens.cx, lens.cy, *lens.size) for lens in lenses]
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    fx, fy, cx, cy = table[:, :4].float().split(1, dim=-1)
    distortion = torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32).reshape(-1, 6)
    return Cameras(
        camera_to_worlds=poses,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=table[:, 4:5].long(),
        height=table[:, 5:6].long(),
        # None spares nerfstudio ten Newton steps a ray wherever it makes rays itself
        distortion_params=distortion if bool((distortion != 0).any()) else None,
        camera_type=torch.tensor([[lens.camera_type.value] for lens in lenses], dtype=torch.int64).reshape(-1, 1),
        metadata=metadata,
    )
