"""Which cells of the occupancy grid any training camera sees: every lattice point through the real lens model.

instant-ngp projects the corners of each cell with its lens (testbed_nerf.cu, mark_untrained_density_grid). Here each lattice
point is projected once instead of once for each of the eight cells it belongs to, and no longer than until one camera sees
it; a cell is seen if any of its corners is. Points go in blocks of 8^3: one whose corners a camera sees is seen whole, for
what a picture shows is convex (a lens that bends its border makes a few more points count as seen, which costs nothing but
samples); one that no camera's picture reaches is not looked into. Only what lies on the borders of pictures is projected
point by point.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
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


BLOCK, PART = 8, 4
"""Edges of a block and of an eighth of it, in lattice points."""

RINGS = 64
"""Rings around the axis by which a lens's curvature is known."""


@torch.no_grad()
def seen_cells(cameras: Lens, geometry: SceneGeometry, resolution: int = GRID_RESOLUTION) -> Tensor:
    """Cells of every cascade with a corner in some camera's picture, [K, G, G, G] bool."""
    center, n_cameras = torch.tensor(geometry.center), cameras.camera_to_worlds.reshape(-1, 3, 4).shape[0]
    # Cameras far apart in the list tend to look from far apart: most points are settled by the first few.
    order = torch.randperm(n_cameras, generator=torch.Generator().manual_seed(0)).tolist()
    views = [_Camera.of(cameras, index) for index in order]

    @torch.no_grad()
    def of_cascade(level: int) -> Tensor:
        edge = geometry.unit_size * 2**level
        seen = _seen_points(views, center - 0.5 * edge, edge / resolution, resolution + 1, geometry.near)
        for axis in range(3):
            seen = seen.narrow(axis, 0, resolution) | seen.narrow(axis, 1, resolution)
        return seen

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # torch itself may have been set to one
        return torch.stack(list(threads.map(of_cascade, range(geometry.cascades))))


def _seen_points(views: Sequence[_Camera], low: Tensor, cell: float, count: int, near: float) -> Tensor:
    """Which points of a lattice some camera sees, [count, count, count] bool.

    Args:
        views: the cameras.
        low: [3] world position of the first point.
        cell: distance of neighbouring points.
        count: points along an edge; the blocks reach beyond them.
    """
    blocks = -(-count // BLOCK)
    whole = torch.zeros(blocks, blocks, blocks, dtype=torch.bool)
    corners = low + BLOCK * cell * _lattice(blocks + 1)
    for camera in views:
        seen = _in_picture(camera, camera.local(corners), near).view(blocks + 1, blocks + 1, blocks + 1)
        for axis in range(3):
            seen = seen.narrow(axis, 0, blocks) & seen.narrow(axis, 1, blocks)
        whole |= seen
    points = _border_points(views, low, cell, whole, near)
    # Block by block, part by part -> point by point.
    ordered = points.view(*[blocks] * 3, 2, 2, 2, PART, PART, PART).permute(0, 3, 6, 1, 4, 7, 2, 5, 8)
    return ordered.reshape(*[blocks * BLOCK] * 3)[:count, :count, :count]


def _border_points(views: Sequence[_Camera], low: Tensor, cell: float, whole: Tensor, near: float) -> Tensor:
    """Which points of blocks some camera sees, [M^3 * 8, 64] bool: eight parts a block, the points of each.

    Args:
        views, low, cell, near: as in :func:`_seen_points`.
        whole: [M, M, M] bool, blocks that are known to be seen whole.
    """
    blocks = low + BLOCK * cell * _lattice(len(whole))
    parts = (blocks[:, None] + PART * cell * _lattice(2)).reshape(-1, 3)
    inner, corners = cell * _lattice(PART), cell * (PART - 1) * _lattice(2)
    points = whole.reshape(-1, 1).expand(-1, 8).reshape(-1, 1).repeat(1, PART**3)
    opened, rest = ~points[:, 0], torch.nonzero(~whole.flatten())[:, 0]
    (block_middle, block_radius), (part_middle, part_radius) = _balls(blocks, BLOCK, cell), _balls(parts, PART, cell)
    for camera in views:
        near_it = rest[_reaches(camera, block_middle[rest], block_radius, near)]
        some = (8 * near_it[:, None] + torch.arange(8)).flatten()
        some = some[opened[some]]
        some = some[_reaches(camera, part_middle[some], part_radius, near)]
        if not some.numel():
            continue
        first, turn = camera.local(parts[some]), camera.pose[:, :3]
        eight = first[:, None] + corners @ turn
        all_of = _in_picture(camera, eight.reshape(-1, 3), near).view(-1, 8).all(-1)
        points[some[all_of]] = True
        on_border = ~all_of & ~_misses(camera, eight)
        border, first = some[on_border], first[on_border]
        part, point = torch.nonzero(~points[border]).unbind(-1)
        hit = _in_picture(camera, first.index_select(0, part) + (inner @ turn).index_select(0, point), near)
        points[border[part[hit]], point[hit]] = True
        opened[some] = ~points[some].all(-1)
        rest = rest[opened.view(-1, 8)[rest].any(-1)]
    return points


def _balls(first: Tensor, edge: int, cell: float) -> tuple[Tensor, float]:
    """Middles [P, 3] and radius of balls around blocks with so many points along an edge, whose first points are given."""
    return first + 0.5 * (edge - 1) * cell, 0.5 * 3**0.5 * (edge - 1) * cell


def _lattice(count: int) -> Tensor:
    """Integer points from 0, z fastest, [count^3, 3] float32."""
    axis = torch.arange(count, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


@dataclass(frozen=True)
class _Camera:
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
    def of(cls, cameras: Lens, index: int) -> _Camera:
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

    def local(self, points: Tensor) -> Tensor:
        """World points [P, 3] in the camera's axes."""
        return (points - self.pose[:, 3]) @ self.pose[:, :3]


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


def _reaches(camera: _Camera, middles: Tensor, radius: float, near: float) -> Tensor:
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


def _misses(camera: _Camera, corners: Tensor) -> Tensor:
    """Whether nothing between eight corners [P, 8, 3] in the camera's axes is in its picture, [P] bool; False in doubt.

    What lies between the corners lies between them in the plane of the lens, and distortion takes it from there by no more than
    half of its greatest curvature times the square of their distance: where all eight are outside of one side of the picture
    by more than that, all of it is.
    """
    if camera.kind != PERSPECTIVE:
        return torch.zeros(len(corners), dtype=torch.bool)
    x, y = onto_plane(corners.reshape(-1, 3), False)
    u, v = distort(x, y, camera.k)
    outside = torch.zeros(len(corners), dtype=torch.bool)
    known, bent = (corners[..., 2] < -1e-6).all(-1), torch.zeros(())
    if camera.bends is not None:
        (low_x, high_x), (low_y, high_y) = x.view(-1, 8).aminmax(dim=-1), y.view(-1, 8).aminmax(dim=-1)
        ring = (x * x + y * y).view(-1, 8).amax(-1).sqrt() * (RINGS / camera.reach)
        known &= ring < RINGS
        bent = camera.bends[torch.where(known, ring, 0.0).long()]  # a corner in the camera itself is nowhere
        bent = 0.5 * bent * ((high_x - low_x).square() + (high_y - low_y).square())
    for values, middle, size in (
        (u, camera.cx / camera.fx, camera.width / camera.fx),
        (v, camera.cy / camera.fy, camera.height / camera.fy),
    ):
        low, high = values.view(-1, 8).aminmax(dim=-1)
        outside |= (low - bent > (1 + MARGIN) * size - middle) | (high + bent < -MARGIN * size - middle)
    return outside & known


def _in_picture(camera: _Camera, local: Tensor, near: float) -> Tensor:
    """Whether a camera sees points [P, 3] in its own axes, [P] bool."""
    if camera.kind not in (PERSPECTIVE, FISHEYE):  # any other lens is taken to see everything
        return torch.ones(local.shape[0], dtype=torch.bool)
    depth = -local[:, 2]
    ahead = depth > max(near, 1e-6)
    if camera.kind == PERSPECTIVE:
        # Cheap first: most points are settled by the cone around the axis.
        ahead &= local[:, :2].square().sum(-1) < (camera.reach * depth).square()
    else:
        ahead = torch.atan2(torch.linalg.norm(local[:, :2], dim=-1), depth) < min(camera.reach, 3.1)
    u, v = distort(*onto_plane(local[ahead], camera.kind == FISHEYE), camera.k)
    u, v = u * camera.fx + camera.cx, v * camera.fy + camera.cy
    width, height = camera.width, camera.height
    inside = (u > -MARGIN * width) & (u < (1 + MARGIN) * width) & (v > -MARGIN * height) & (v < (1 + MARGIN) * height)
    result = torch.zeros(local.shape[0], dtype=torch.bool)
    result[ahead] = inside
    return result
