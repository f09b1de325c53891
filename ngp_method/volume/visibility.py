"""Which cells of the occupancy grid any training camera sees: every lattice point through the real lens model.

instant-ngp projects the corners of each cell with its lens (testbed_nerf.cu, mark_untrained_density_grid). Here each lattice
point is projected once instead of once for each of the eight cells it belongs to, and no longer than until one camera sees
it; a cell is seen if any of its corners is. Points go in blocks of 8^3: one whose corners a camera sees is seen whole, for
what a picture shows is convex (a lens that bends its border makes a few more points count as seen, which costs nothing but
samples); one that no camera's picture reaches is not looked into. Only what lies on the borders of pictures is projected
point by point.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..kernels.scene import GRID_RESOLUTION, SceneGeometry
from .camera import Camera, Lens, all_of_eight, in_picture, misses, reaches, some_of, sums
from .lens import FISHEYE, PERSPECTIVE

try:
    from . import border
except ImportError:  # torch alone (benchmarks/gpu.py): the loop in torch finds the same points
    border = None  # type: ignore[assignment]

BLOCK, PART = 8, 4
"""Edges of a block and of an eighth of it, in lattice points."""


@torch.no_grad()
def seen_cells(cameras: Lens, geometry: SceneGeometry, resolution: int = GRID_RESOLUTION) -> Tensor:
    """Cells of every cascade with a corner in some camera's picture, [K, G, G, G] bool."""
    center, n_cameras = torch.tensor(geometry.center), cameras.camera_to_worlds.reshape(-1, 3, 4).shape[0]
    # Cameras far apart in the list tend to look from far apart: most points are settled by the first few.
    order = torch.randperm(n_cameras, generator=torch.Generator().manual_seed(0)).tolist()
    views = [Camera.of(cameras, index) for index in order]

    @torch.no_grad()
    def of_cascade(level: int) -> Tensor:
        edge = geometry.unit_size * 2**level
        seen = _seen_points(views, center - 0.5 * edge, edge / resolution, resolution + 1, geometry.near)
        for axis in range(3):
            seen = seen.narrow(axis, 0, resolution) | seen.narrow(axis, 1, resolution)
        return seen

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # torch itself may have been set to one
        return torch.stack(list(threads.map(of_cascade, range(geometry.cascades))))


def _seen_points(views: Sequence[Camera], low: Tensor, cell: float, count: int, near: float) -> Tensor:
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
        seen = in_picture(camera, camera.local(corners), near).view(blocks + 1, blocks + 1, blocks + 1)
        for axis in range(3):
            seen = seen.narrow(axis, 0, blocks) & seen.narrow(axis, 1, blocks)
        whole |= seen
    look = _border_points if border is None else _border_points_compiled
    points = look(views, low, cell, whole, near)
    # Block by block, part by part -> point by point.
    ordered = points.view(*[blocks] * 3, 2, 2, 2, PART, PART, PART).permute(0, 3, 6, 1, 4, 7, 2, 5, 8)
    return ordered.reshape(*[blocks * BLOCK] * 3)[:count, :count, :count]


def _border_points(views: Sequence[Camera], low: Tensor, cell: float, whole: Tensor, near: float) -> Tensor:
    """Which points of blocks some camera sees, [M^3 * 8, 64] bool: eight parts a block, the points of each.

    Args:
        views, low, cell, near: as in :func:`_seen_points`.
        whole: [M, M, M] bool, blocks that are known to be seen whole.
    """
    blocks = low + BLOCK * cell * _lattice(len(whole))
    parts = sums(blocks, PART * cell * _lattice(2))
    inner, corners = cell * _lattice(PART), cell * (PART - 1) * _lattice(2)
    points = whole.reshape(-1, 1).expand(-1, 8).reshape(-1, 1).repeat(1, PART**3)
    opened, rest = ~points[:, 0], torch.nonzero(~whole.flatten())[:, 0]
    (block_middle, block_radius), (part_middle, part_radius) = _balls(blocks, BLOCK, cell), _balls(parts, PART, cell)
    for camera in views:
        turn = camera.pose[:, :3]
        near_it = rest[reaches(camera, some_of(block_middle, rest), block_radius, near)]
        some = (8 * near_it[:, None] + torch.arange(8)).flatten()
        some = some[opened[some]]
        some = some[reaches(camera, some_of(part_middle, some), part_radius, near)]
        if not some.numel():
            continue
        first = camera.local(some_of(parts, some))
        eight = sums(first, corners @ turn)
        all_of = all_of_eight(in_picture(camera, eight, near))
        points[some[all_of]] = True
        on_border = ~all_of & ~misses(camera, eight)
        border = some[on_border]
        points[border] |= in_picture(camera, sums(first[on_border], inner @ turn), near).view(-1, PART**3)
        opened[some] = ~all_of_eight(all_of_eight(points[some]))
        rest = rest[opened.view(-1, 8)[rest].any(-1)]
    return points


def _border_points_compiled(views: Sequence[Camera], low: Tensor, cell: float, whole: Tensor, near: float) -> Tensor:
    """The same as :func:`_border_points`, by :func:`.border.look`."""
    blocks = (low.double() + BLOCK * cell * _lattice(len(whole)).double()).contiguous().numpy()
    seen = whole.reshape(-1, 1, 1).expand(-1, 8, PART**3).contiguous()
    opened, rest = (~seen[:, :, 0]).numpy(), torch.nonzero(~whole.flatten())[:, 0].numpy()
    offsets = [cell * step * _lattice(count).double() for step, count in ((PART, 2), (1, PART), (PART - 1, 2))]
    half_block, half_part = 0.5 * (BLOCK - 1) * cell, 0.5 * (PART - 1) * cell
    balls, count = np.array([half_block, 3**0.5 * half_block, half_part, 3**0.5 * half_part]), len(rest)
    for camera in views:
        if camera.kind not in (PERSPECTIVE, FISHEYE):  # any other lens is taken to see everything
            return torch.ones_like(seen).view(-1, PART**3)
        turned = [(some @ camera.pose[:, :3].double()).contiguous().numpy() for some in offsets]
        count = border.look(blocks, *turned, balls, rest[:count], opened, seen.numpy(), *camera.arrays(near))
    return seen.view(-1, PART**3)


def _balls(first: Tensor, edge: int, cell: float) -> tuple[Tensor, float]:
    """Middles [P, 3] and radius of balls around blocks with so many points along an edge, whose first points are given."""
    return first + 0.5 * (edge - 1) * cell, 0.5 * 3**0.5 * (edge - 1) * cell


def _lattice(count: int) -> Tensor:
    """Integer points from 0, z fastest, [count^3, 3] float32."""
    axis = torch.arange(count, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1).t()
