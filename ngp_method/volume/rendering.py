"""Rendering without gradients: rays are marched a few samples at a time, and those that are done are dropped.

A ray ends where its transmittance falls under ``T_MIN`` or where it leaves the box; the rays left over are compacted and get
more samples a round, so that each round evaluates about as many samples as the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..kernels import Gathered, Kernels
from ..kernels.gathering import nothing_gathered
from ..kernels.samples import PackedSamples
from .occupancy import OccupancyGrid
from .rays import Rays

T_MIN = 1e-4
"""Transmittance from which what lies behind no longer shows (instant-ngp testbed_nerf.cu)."""

RAYS_AT_A_TIME = {"cpu": 1 << 15, "other": 1 << 18}
"""Rays that a caller should hand over at a time, by device, however many it has (nerfstudio's exporter asks for all at once). A
round takes the host as long for few rays as for many; 2^18 rays of 12 samples are half a gigabyte at first."""

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

    @property
    def footprints(self) -> bool:
        """Whether samples are as wide as their pixels; points otherwise."""
        ...

    def footprints_of(self, radii: Tensor | None, samples: PackedSamples) -> Tensor | None:
        """Footprints [N] of samples of rays whose own at distance 1 are [R]; None where samples are points."""
        ...

    def shade(
        self, positions: Tensor, rays_d: Tensor, samples: PackedSamples, footprints: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Points [N, 3] in [0, 1] of samples of the rays [R, 3] -> densities per world unit [N], rgbs [N, 3]."""
        ...

    def normals(self, positions: Tensor, footprints: Tensor | None = None) -> Tensor:
        """Points [N, 3] in [0, 1] -> unit normals [N, 3] in world axes, pointing to lower density."""
        ...


@dataclass
class Rendered:
    """What rays have gathered (see :class:`~..kernels.Gathered`), and the weighted sum of unit normals if asked for."""

    gathered: Gathered
    normals: Tensor | None


@torch.no_grad()
def render_rays(
    shader: Shader,
    kernels: Kernels,
    grid: OccupancyGrid,
    rays: Rays,
    with_normals: bool = False,
) -> Rendered:
    """Render rays.

    Args:
        shader: the field.
        kernels: what marches and composites.
        grid: occupied cells.
        rays: R rays, cut to the scene box.
        with_normals: also render normals (about doubles the cost of the samples near a surface).
    """
    gathered = nothing_gathered(rays.n_rays, rays.o.device)
    normals = torch.zeros_like(gathered.rgbs) if with_normals else None
    alive = torch.nonzero(rays.t_min < rays.t_max)[:, 0]
    t, quota, radii = rays.t_min.clone(), FIRST_SAMPLES, rays.footprint if shader.footprints else None
    first = max(1, alive.numel())
    while alive.numel():
        o, d = rays.o[alive], rays.d[alive]
        samples, resume = grid.march(o, d, t[alive], rays.t_max[alive], max_samples=quota)
        positions = kernels.points(o, d, samples, grid.geometry)
        footprints = shader.footprints_of(None if radii is None else radii[alive], samples)
        sigmas, rgbs = shader.shade(positions, d, samples, footprints)
        weights, goes_on = kernels.accumulate(
            gathered, alive, sigmas, rgbs, samples, resume, t, rays.t_max, least=T_MIN, median=MEDIAN
        )
        if normals is not None:
            _add_normals(normals, shader, positions, footprints, weights, alive[samples.ray_indices.long()])
        alive = alive[goes_on]
        quota = min(MOST_SAMPLES, max(quota, FIRST_SAMPLES * first // max(1, alive.numel())))
    return Rendered(gathered, normals)


def _add_normals(
    normals: Tensor, shader: Shader, positions: Tensor, footprints: Tensor | None, weights: Tensor, rays: Tensor
) -> None:
    """Add the normals of one round's samples, where they weigh anything, to those of their rays."""
    heavy = torch.nonzero(weights > NORMAL_WEIGHT)[:, 0]
    found = shader.normals(positions[heavy], None if footprints is None else footprints[heavy])
    normals.index_add_(0, rays[heavy], weights[heavy, None] * found)
