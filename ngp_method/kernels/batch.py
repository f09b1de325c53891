"""What a training batch is made of: pixels picked, their rays looked up, and rays cut to the scene box; in plain torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ROW_FLOATS = 5
"""Numbers of a pixel in a :class:`RayTable`: unit direction in camera axes (3), area of the pixel at distance 1, length of the
direction before it was made a unit vector."""

TINY = 1e-12
"""A component of a direction of less than this is taken for so much: its slab is then everything or nothing, without 0 / 0."""


class PixelTable(NamedTuple):
    """All pixels of V images, one image after the other, row by row.

    Attributes:
        pixels: [P, C] uint8, C = 3, or 4 with straight alpha.
        starts: [V] int64, first pixel of each image.
        widths: [V] int64, pixels of a row.
    """

    pixels: Tensor
    starts: Tensor
    widths: Tensor


class RayTable(NamedTuple):
    """Rays of all pixels of V cameras, in the camera's own axes; cameras with the same lens share their rows.

    Attributes:
        rows: [T, 5] float32, see :data:`ROW_FLOATS`.
        starts: [V] int64, row of each camera's first pixel.
        widths: [V] int64, pixels of a row of the picture.
        rotations: [V, 3, 3] float32, camera axes to the world.
        origins: [V, 3] float32, world units.
    """

    rows: Tensor
    starts: Tensor
    widths: Tensor
    rotations: Tensor
    origins: Tensor


class WorldRays(NamedTuple):
    """n rays in the world.

    Attributes:
        o: [n, 3] origins, world units.
        d: [n, 3] unit vectors.
        area: [n, 1] area of the pixel at distance 1.
        norm: [n, 1] length of the direction before it was made a unit vector: distance for a depth of 1.
    """

    o: Tensor
    d: Tensor
    area: Tensor
    norm: Tensor


def pick_pixels(chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
    """The operation ``pick_pixels`` (see :class:`~.interface_batch.BatchKernels`)."""
    within = chosen - table.starts.index_select(0, views)
    width = table.widths.index_select(0, views)
    row = torch.div(within, width, rounding_mode="floor")
    indices = torch.stack([views, row, within - row * width], dim=-1)
    # index_select takes less than half the time of pixels[chosen]
    return table.pixels.index_select(0, chosen).float().mul_(1.0 / 255.0), indices


def table_rays(indices: Tensor, table: RayTable) -> WorldRays:
    """The operation ``table_rays`` (see :class:`~.interface_batch.BatchKernels`)."""
    camera = indices[:, 0]
    row = table.starts.index_select(0, camera) + indices[:, 1] * table.widths.index_select(0, camera)
    rows = table.rows.index_select(0, row + indices[:, 2])
    return to_world(rows[:, :3], rows[:, 3:4], rows[:, 4:5], camera, table.rotations, table.origins)


def to_world(local: Tensor, area: Tensor, norm: Tensor, camera: Tensor, rotations: Tensor, origins: Tensor) -> WorldRays:
    """Rays in the axes of their cameras -> in the world.

    Args:
        local: [n, 3] unit vectors.
        area, norm: [n, 1], see :class:`WorldRays`.
        camera: [n] int64.
        rotations, origins: [V, 3, 3] and [V, 3], see :class:`RayTable`.
    """
    directions = torch.bmm(rotations.index_select(0, camera), local[:, :, None])[:, :, 0]
    length = torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    return WorldRays(origins.index_select(0, camera), directions / length, area.contiguous(), norm * length)


def intersect_box(
    rays_o: Tensor, rays_d: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float = math.inf
) -> tuple[Tensor, Tensor]:
    """Interval [near, far] of each ray cut to a box: [R], [R]; empty (t_min >= t_max) where the box is missed.

    Args:
        rays_o, rays_d: [R, 3].
        aabb: [2, 3] world units.
        near, far: [R], or numbers.
    """
    safe = torch.where(rays_d.abs() < TINY, TINY, rays_d)
    low, high = (aabb[0] - rays_o) / safe, (aabb[1] - rays_o) / safe
    t_min, t_max = torch.minimum(low, high).amax(-1), torch.maximum(low, high).amin(-1)
    t_min = t_min.clamp(min=near) if isinstance(near, float) else torch.maximum(t_min, near)
    if isinstance(far, float):
        return t_min, t_max if far == math.inf else t_max.clamp(max=far)
    return t_min, torch.minimum(t_max, far)


def enter_box(
    rays_o: Tensor, directions: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """The operation ``enter_box`` (see :class:`~.interface_batch.BatchKernels`)."""
    rays_d = torch.nn.functional.normalize(directions, dim=-1).contiguous()
    return rays_d, *intersect_box(rays_o, rays_d, aabb, near, far)
