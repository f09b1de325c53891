"""Which cells of the occupancy grid any training camera sees: every lattice point through the real lens model.

instant-ngp projects the corners of each cell with its lens (testbed_nerf.cu, mark_untrained_density_grid). Here each lattice
point is projected once instead of once for each of the eight cells it belongs to, and no longer than until one camera sees
it; a cell is seen if any of its corners is.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..kernels.scene import GRID_RESOLUTION, SceneGeometry
from .lens import FISHEYE, PERSPECTIVE, distort, onto_plane

MARGIN = 0.02
"""A point this far outside the picture (in picture sizes) counts as seen: the border's pixels see past its middle."""


class Lens(Protocol):
    """What is needed of nerfstudio's ``Cameras``: one entry per camera."""

    camera_to_worlds: Tensor
    fx: Tensor
    fy: Tensor
    cx: Tensor
    cy: Tensor
    width: Tensor
    height: Tensor
    distortion_params: Tensor | None
    camera_type: Tensor


@torch.no_grad()
def seen_cells(cameras: Lens, geometry: SceneGeometry, resolution: int = GRID_RESOLUTION) -> Tensor:
    """Cells of every cascade with a corner in some camera's picture, [K, G, G, G] bool."""
    axis = torch.arange(resolution + 1, dtype=torch.float32) / resolution - 0.5
    lattice = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    center = torch.tensor(geometry.center)
    found = []
    for level in range(geometry.cascades):
        points = lattice * (geometry.unit_size * 2**level) + center
        corners = _seen_points(cameras, points, geometry.near).view(resolution + 1, resolution + 1, resolution + 1)
        pooled = torch.nn.functional.max_pool3d(corners[None, None].float(), 2, stride=1)[0, 0] > 0
        found.append(pooled)
    return torch.stack(found)


def _seen_points(cameras: Lens, points: Tensor, near: float) -> Tensor:
    """Whether any camera sees each world point, [P] bool."""
    seen = torch.zeros(points.shape[0], dtype=torch.bool)
    left = torch.arange(points.shape[0])
    n_cameras = cameras.camera_to_worlds.reshape(-1, 3, 4).shape[0]
    # Cameras far apart in the list tend to look from far apart: most points are settled by the first few.
    order = torch.randperm(n_cameras, generator=torch.Generator().manual_seed(0))
    for camera in order.tolist():
        if not left.numel():
            break
        hit = _in_picture(cameras, camera, points[left], near)
        seen[left[hit]] = True
        left = left[~hit]
    return seen


def _in_picture(cameras: Lens, index: int, points: Tensor, near: float) -> Tensor:
    kind = int(cameras.camera_type.reshape(-1)[index])
    if kind not in (PERSPECTIVE, FISHEYE):  # any other lens is taken to see everything
        return torch.ones(points.shape[0], dtype=torch.bool)
    pose = cameras.camera_to_worlds.reshape(-1, 3, 4)[index].cpu().float()
    local = (points - pose[:, 3]) @ pose[:, :3]
    depth = -local[:, 2]
    fx, fy, cx, cy, width, height = (
        float(getattr(cameras, name).reshape(-1)[index]) for name in ("fx", "fy", "cx", "cy", "width", "height")
    )
    k = torch.zeros(6)
    if cameras.distortion_params is not None:
        k = cameras.distortion_params.reshape(-1, 6)[index].cpu().float()
    # The undistorted picture reaches at most this far from the axis; beyond it the lens polynomial may fold back.
    reach = 1.5 * max(((u - cx) / fx) ** 2 + ((v - cy) / fy) ** 2 for u in (0.0, width) for v in (0.0, height)) ** 0.5
    ahead = depth > max(near, 1e-6)
    if kind == PERSPECTIVE:
        # Cheap first: most points are settled by the cone around the axis.
        ahead &= local[:, 0] ** 2 + local[:, 1] ** 2 < (reach * depth) ** 2
    else:
        ahead = torch.atan2(torch.linalg.norm(local[:, :2], dim=-1), depth) < min(reach, 3.1)
    u, v = distort(*onto_plane(local[ahead], kind == FISHEYE), k)
    u, v = u * fx + cx, v * fy + cy
    result = torch.zeros(points.shape[0], dtype=torch.bool)
    inside = (u > -MARGIN * width) & (u < (1 + MARGIN) * width) & (v > -MARGIN * height) & (v < (1 + MARGIN) * height)
    result[ahead] = inside
    return result
