"""One camera as the occupancy grid asks of it: which points it sees, and which balls and boxes it cannot see anything of.

Points are [P, 3], and lie in memory coordinate by coordinate: torch goes through each in whole vectors then. :mod:`.border` has
the same for one point at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .lens import FISHEYE, PERSPECTIVE, distort, onto_plane

MARGIN = 0.02
"""A point this far outside the picture (in picture sizes) counts as seen: the border's pixels see past its middle."""

RINGS = 64
"""Rings around the axis by which a lens's curvature is known."""

SLACK = 1e-6
"""By which a picture counts as larger in float64 (in its sizes), so that nothing is missing that float32 would see."""


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


@dataclass(frozen=True)
class Camera:
    """One camera's numbers, on the processor.

    Attributes:
        kind: PERSPECTIVE, FISHEYE or another.
        pose: [3, 4] camera to world.
        k: [6] distortion.
        reach: how far from the axis the undistorted picture lies at most, in the plane of the lens (tangent or angle).
        sides: how far right, left, down and up of the axis it lies at most, with the margin.
        bends: [RINGS] how much the lens curves its plane at most within so many rings of ``reach / RINGS``; None where it does
            not distort.
    """

    kind: int
    pose: Tensor
    fx: float
    fy: float
    cx: float
    cy: float
    width: float
    height: float
    k: Tensor
    reach: float
    sides: tuple[float, float, float, float]
    bends: Tensor | None

    @classmethod
    def of(cls, cameras: Lens, index: int) -> Camera:
        """Of nerfstudio's cameras."""
        names = ("fx", "fy", "cx", "cy", "width", "height")
        fx, fy, cx, cy, width, height = (float(getattr(cameras, name).reshape(-1)[index]) for name in names)
        k = torch.zeros(6)
        if cameras.distortion_params is not None:
            k = cameras.distortion_params.reshape(-1, 6)[index].cpu().float()
        # The undistorted picture reaches at most this far from the axis; beyond it the lens polynomial may fold back.
        far = max(((u - cx) / fx) ** 2 + ((v - cy) / fy) ** 2 for u in (0.0, width) for v in (0.0, height)) ** 0.5
        pose = cameras.camera_to_worlds.reshape(-1, 3, 4)[index].cpu().float()
        kind = int(cameras.camera_type.reshape(-1)[index])
        numbers = (fx, fy, cx, cy, width, height)
        return cls(kind, pose, *numbers, k, 1.5 * far, *_extent(numbers, tuple(k.tolist()), 1.5 * far))

    def arrays(self, near: float) -> tuple[Any, ...]:
        """What :func:`.border.look` wants to know of it."""
        wide, high = self.width / self.fx, self.height / self.fy
        margin = MARGIN + SLACK
        left, top = -margin * wide - self.cx / self.fx, -margin * high - self.cy / self.fy
        frame = np.array([left, left + (1 + 2 * margin) * wide, top, top + (1 + 2 * margin) * high])
        bends = np.zeros(0) if self.bends is None else self.bends.double().numpy()
        return self.pose.double().numpy(), self.kind, near, self.reach, self.sides, self.k.double().numpy(), bends, frame

    def local(self, points: Tensor) -> Tensor:
        """World points [P, 3] in the camera's axes."""
        return (self.pose[:, :3].t() @ (points - self.pose[:, 3]).t()).t()


@lru_cache(maxsize=64)
def _extent(
    numbers: tuple[float, ...], k: tuple[float, ...], reach: float, count: int = 129
) -> tuple[tuple[float, float, float, float], Tensor | None]:
    """A camera's ``sides``: how far its picture lies from the axis before distortion; and ``bends``. On a grid, rounded up.

    Args:
        numbers: fx, fy, cx, cy, width, height.
    """
    fx, fy, cx, cy, width, height = numbers
    if not any(k):
        across = ((1 + MARGIN) * width - cx) / fx, (cx + MARGIN * width) / fx
        return (*across, ((1 + MARGIN) * height - cy) / fy, (cy + MARGIN * height) / fy), None
    axis = torch.linspace(-reach, reach, count)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    u, v = distort(x, y, torch.tensor(k))
    wide, high = (MARGIN + 0.02) * width, (MARGIN + 0.02) * height  # what falls between two points of the grid
    inside = (u * fx + cx > -wide) & (u * fx + cx < width + wide) & (v * fy + cy > -high) & (v * fy + cy < height + high)
    inside &= x * x + y * y <= 2 * reach * reach
    if not inside.any():
        return (reach, reach, reach, reach), torch.full((RINGS,), math.inf)
    step = 2 * reach / (count - 1)
    sides = [float(side) + step for side in (x[inside].max(), -x[inside].min(), y[inside].max(), -y[inside].min())]
    ring = ((x * x + y * y).sqrt() * (RINGS / reach)).long().clamp(max=RINGS - 1).flatten()
    curvature = torch.maximum(*(_curvature(part, step) for part in (u, v))).flatten()
    bends = torch.zeros(RINGS).scatter_reduce(0, ring, curvature, "amax").cummax(0).values
    return (sides[0], sides[1], sides[2], sides[3]), 1.1 * torch.cat([bends[2:], bends[-1:], bends[-1:]])


def _curvature(part: Tensor, step: float) -> Tensor:
    """The largest second derivative in any direction of a function on a grid, at each of its points (a matrix's norm)."""
    first = torch.gradient(part, spacing=step)
    second = [torch.gradient(slope, spacing=step) for slope in first]
    return torch.linalg.matrix_norm(torch.stack([torch.stack(row, -1) for row in second], -1), ord=2)


def reaches(camera: Camera, middles: Tensor, radius: float, near: float) -> Tensor:
    """Whether a camera may see anything of spheres, [P] bool: never False where it does."""
    local = camera.local(middles)
    depth = -local[:, 2]
    if camera.kind == FISHEYE:
        away = torch.linalg.norm(local, dim=-1)
        angle = torch.atan2(torch.linalg.norm(local[:, :2], dim=-1), depth)
        return (away <= radius) | (angle - torch.asin((radius / away).clamp(max=1.0)) < min(camera.reach, 3.1))
    if camera.kind != PERSPECTIVE:
        return torch.ones(len(middles), dtype=torch.bool)
    right, left, down, up = camera.sides
    may = depth > near - radius
    for across, side in ((local[:, 0], right), (-local[:, 0], left), (-local[:, 1], down), (local[:, 1], up)):
        may &= across - side * depth <= radius * (1 + side * side) ** 0.5
    return may


def misses(camera: Camera, corners: Tensor) -> Tensor:
    """Whether nothing between eight corners each [8 P, 3] in the camera's axes is in its picture, [P] bool; False in doubt.

    What lies between the corners lies between them in the plane of the lens, as a mean of theirs with weights. Distortion takes
    it from the mean of where they go by no more than half of its greatest curvature times the weighted mean of the squares of
    their distances, which is at most a quarter of the squares of the extents (Popoviciu's bound of a variance): where all eight
    are outside of one side of the picture by more than that, all of it is.
    """
    outside = torch.zeros(len(corners) // 8, dtype=torch.bool)
    if camera.kind != PERSPECTIVE:
        return outside
    x, y = onto_plane(corners, False)
    u, v = distort(x, y, camera.k)
    known, bent = all_of_eight(corners[:, 2] < -1e-6), torch.zeros(())
    if camera.bends is not None:
        (low_x, high_x), (low_y, high_y) = x.view(-1, 8).aminmax(dim=-1), y.view(-1, 8).aminmax(dim=-1)
        ring = (x * x + y * y).view(-1, 8).amax(-1).sqrt() * (RINGS / camera.reach)
        known &= ring < RINGS
        bent = camera.bends[torch.where(known, ring, 0.0).long()]  # a corner in the camera itself is nowhere
        bent = 0.125 * bent * ((high_x - low_x).square() + (high_y - low_y).square())
    for values, middle, size in (
        (u, camera.cx / camera.fx, camera.width / camera.fx),
        (v, camera.cy / camera.fy, camera.height / camera.fy),
    ):
        low, high = values.view(-1, 8).aminmax(dim=-1)
        outside |= (low - bent > (1 + MARGIN) * size - middle) | (high + bent < -MARGIN * size - middle)
    return outside & known


def in_picture(camera: Camera, local: Tensor, near: float) -> Tensor:
    """Whether a camera sees points [P, 3] in its own axes, [P] bool."""
    if camera.kind not in (PERSPECTIVE, FISHEYE):  # any other lens is taken to see everything
        return torch.ones(local.shape[0], dtype=torch.bool)
    depth = -local[:, 2]
    ahead = depth > max(near, 1e-6)
    if camera.kind == PERSPECTIVE:
        # Cheap first: most points are settled by the cone around the axis.
        ahead &= local[:, 0].square() + local[:, 1].square() < (camera.reach * depth).square()
    else:
        ahead = torch.atan2(torch.linalg.norm(local[:, :2], dim=-1), depth) < min(camera.reach, 3.1)
    index = torch.nonzero(ahead)[:, 0]
    u, v = distort(*onto_plane(some_of(local, index), camera.kind == FISHEYE), camera.k)
    right, down = camera.width / camera.fx, camera.height / camera.fy
    left, top = camera.cx / camera.fx, camera.cy / camera.fy
    inside = (u > -MARGIN * right - left) & (u < (1 + MARGIN) * right - left)
    inside &= (v > -MARGIN * down - top) & (v < (1 + MARGIN) * down - top)
    ahead[index] = inside
    return ahead


def some_of(points: Tensor, index: Tensor) -> Tensor:
    """Those of the points, [P, 3]."""
    return points.t().index_select(1, index).t()


def sums(points: Tensor, offsets: Tensor) -> Tensor:
    """Each point with each offset, [P, 3] and [Q, 3] -> [P Q, 3]."""
    return (points.t()[:, :, None] + offsets.t()[:, None, :]).reshape(3, -1).t()


def all_of_eight(flags: Tensor) -> Tensor:
    """Whether all of each eight bool are set, [..., 8 P] or in all so many -> [P]: eight bytes at a time."""
    return flags.reshape(-1, 8).view(torch.int64)[:, 0] == 0x0101010101010101
