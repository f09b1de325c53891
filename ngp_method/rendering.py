"""Rendering without gradients: rays are marched a few samples at a time, and those that are done are dropped.

A ray ends where its transmittance falls under ``T_MIN`` or where it leaves the box; the rays left over are compacted and get
more samples a round, so that each round evaluates about as many samples as the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .kernels import Kernels
from .occupancy import OccupancyGrid
from .samples import PackedSamples

T_MIN = 1e-4
"""Transmittance from which what lies behind no longer shows (instant-ngp testbed_nerf.cu)."""

FIRST_SAMPLES = 12
"""Samples of each ray in the first round: enough for most rays to reach and cross the first surface."""

MOST_SAMPLES = 128
"""Most samples of one ray in one round."""

MEDIAN = 0.5
"""The median depth lies where the accumulated weight passes this."""

NORMAL_WEIGHT = 0.01
"""Samples of less weight leave the normal as it is: 99 % of it is made by the others, and each costs a gradient."""


class Shader(Protocol):
    """The field, as rendering sees it (all without gradients)."""

    def shade(self, positions: Tensor, rays_d: Tensor, samples: PackedSamples) -> tuple[Tensor, Tensor]:
        """Points [N, 3] in [0, 1] of samples of the rays [R, 3] -> densities per world unit [N], rgbs [N, 3]."""
        ...

    def normals(self, positions: Tensor) -> Tensor:
        """Points [N, 3] in [0, 1] -> unit normals [N, 3] in world axes, pointing to lower density."""
        ...


@dataclass
class Rendered:
    """Per ray: premultiplied colour, opacity, expected and median depth (world units along the unit direction), normal.

    ``depths`` is the sum of weight * distance, not divided by the opacity; ``median_depths`` is 0 where the ray never
    becomes half opaque; ``normals`` is the weighted sum of unit normals, None if not asked for. ``n_samples`` counts the
    points evaluated.
    """

    rgbs: Tensor
    opacities: Tensor
    depths: Tensor
    median_depths: Tensor
    normals: Tensor | None
    n_samples: Tensor


@torch.no_grad()
def render_rays(
    shader: Shader,
    kernels: Kernels,
    grid: OccupancyGrid,
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    with_normals: bool = False,
) -> Rendered:
    """Render rays.

    Args:
        shader: the field.
        kernels: what marches and composites.
        grid: occupied cells.
        rays_o: [R, 3] world units.
        rays_d: [R, 3] unit vectors.
        t_min, t_max: [R] interval of each ray, already cut to the scene box.
        with_normals: also render normals (about doubles the cost of the samples near a surface).
    """
    n_rays, device = rays_o.shape[0], rays_o.device
    out = Rendered(
        rgbs=torch.zeros(n_rays, 3, device=device),
        opacities=torch.zeros(n_rays, device=device),
        depths=torch.zeros(n_rays, device=device),
        median_depths=torch.zeros(n_rays, device=device),
        normals=torch.zeros(n_rays, 3, device=device) if with_normals else None,
        n_samples=torch.zeros(n_rays, device=device),
    )
    alive = torch.nonzero(t_min < t_max)[:, 0]
    t, quota = t_min.clone(), FIRST_SAMPLES
    first = max(1, alive.numel())
    while alive.numel():
        o, d = rays_o[alive], rays_d[alive]
        samples, resume = grid.march(o, d, t[alive], t_max[alive], max_samples=quota)
        if samples.n_samples:
            _accumulate(out, shader, kernels, grid, samples, o, d, alive, with_normals)
        t[alive] = resume
        alive = alive[(resume < t_max[alive]) & (1.0 - out.opacities[alive] > T_MIN)]
        quota = min(MOST_SAMPLES, max(quota, FIRST_SAMPLES * first // max(1, alive.numel())))
    return out


def _accumulate(
    out: Rendered, shader: Shader, kernels: Kernels, grid: OccupancyGrid, samples: PackedSamples,
    o: Tensor, d: Tensor, alive: Tensor, with_normals: bool,
) -> None:  # fmt: skip
    """Add one round's samples behind what the rays have gathered so far."""
    positions = kernels.points(o, d, samples, grid.geometry)
    rays = samples.ray_indices.long()
    sigmas, rgbs = shader.shade(positions, d, samples)
    found = kernels.composite(sigmas, rgbs, samples)
    before = 1.0 - out.opacities[alive]
    out.rgbs[alive] += before[:, None] * found.rgbs
    out.depths[alive] += before * found.depths
    out.n_samples[alive] += samples.packed_info[:, 1].to(before.dtype)
    opacities = out.opacities[alive] + before * found.opacities
    crossing = (opacities >= MEDIAN) & (out.opacities[alive] < MEDIAN)
    if bool(crossing.any()):
        out.median_depths[alive] += _median(samples, found.weights * before[rays], 1.0 - before, crossing)
    if with_normals and out.normals is not None:
        heavy = torch.nonzero(found.weights * before[rays] > NORMAL_WEIGHT)[:, 0]
        normals = shader.normals(positions[heavy])
        weights = (found.weights * before[rays])[heavy]
        out.normals.index_add_(0, alive[rays[heavy]], weights[:, None] * normals)
    out.opacities[alive] = opacities


def _median(samples: PackedSamples, weights: Tensor, opacities: Tensor, crossing: Tensor) -> Tensor:
    """Middle of the sample in which each crossing ray's accumulated weight passes one half, [R]; 0 for the others."""
    rays = samples.ray_indices.long()
    total = torch.cumsum(weights.double(), 0)
    start = (total - weights)[samples.packed_info[:, 0].long().clamp(max=max(0, weights.shape[0] - 1))]
    gathered = total - start[rays] + opacities[rays]
    there = (gathered >= MEDIAN) & (gathered - weights < MEDIAN) & crossing[rays]
    middles = 0.5 * (samples.t_starts + samples.t_ends)
    found = torch.zeros(samples.n_rays, device=weights.device)
    # Rounding could mark two neighbours of one ray: the nearer one is taken.
    index = torch.nonzero(there)[:, 0].flip(0)
    found[rays[index]] = middles[index]
    return found


def intersect_box(rays_o: Tensor, rays_d: Tensor, aabb: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Interval [near, far] of each ray cut to a box: [R], [R]; empty (t_min >= t_max) where the box is missed.

    Args:
        rays_o, rays_d: [R, 3].
        aabb: [2, 3] world units.
        near, far: [R] or scalars.
    """
    # A zero component: the slab is either everything or nothing; a tiny one gives the same answer without 0 / 0.
    safe = torch.where(rays_d.abs() < 1e-12, torch.full_like(rays_d, 1e-12), rays_d)
    low, high = (aabb[0] - rays_o) / safe, (aabb[1] - rays_o) / safe
    t_min = torch.maximum(torch.minimum(low, high).amax(-1), near)
    t_max = torch.minimum(torch.maximum(low, high).amin(-1), far)
    return t_min, t_max
