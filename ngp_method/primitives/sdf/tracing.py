"""Sphere tracing: where rays meet the surface of a learned distance.

Source: Hart 1996; instant-ngp ``testbed_sdf.cu`` (lines 156 to 230 and 823: a step is 0.95 of the distance, a ray ends below
5e-5 of the box or where it leaves it). Rays that are done are taken out after every step, as there. Empty space is skipped by a
lattice of lower bounds instead of an octree of the mesh: it is made of the learned distance alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import skipping

Distance = Callable[[Tensor], Tensor]
"""Positions [N, 3] in [0, 1] -> signed distances [N], negative inside, in edges of the unit cube."""

DISTANCE_SCALE = 0.95
"""Share of the distance that a step goes: a learned distance may be too large (testbed.h, distance_scale)."""

MAXIMUM_DISTANCE = 5e-5
"""Distance at which the surface is reached (testbed.h, maximum_distance); half the side of a ray's pixel where that is more."""

MAXIMUM_STEPS = 256
"""Evaluations after which a ray is given up (10,000 there): one that grazes a surface."""

RESOLUTION = 64
"""Cells of the lattice along an edge: a look-up a step, and 262,144 distances to make it."""


class DistanceBounds:
    """Lower bounds of a distance in the cells of a lattice, for steps through empty space that ask nothing of the network.

    A distance changes by no more than one moves, so that it is at least |d(c)| - |p - c| at a point p of the cell around c.
    Learned ones keep to that roughly: half a cell is kept clear, within which the network itself is asked.

    Args:
        distance: to be bounded.
        device: where it computes.
        resolution: cells along an edge.
    """

    def __init__(self, distance: Distance, device: torch.device, resolution: int = RESOLUTION) -> None:
        axis = (torch.arange(resolution, device=device) + 0.5) / resolution
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        self.resolution = resolution
        self.values = distance(grid).abs().contiguous()
        self.margin = 0.5 / resolution

    def at(self, positions: Tensor) -> Tensor:
        """Positions [N, 3] -> lower bounds [N] of their distance, less the margin; where 0 or less, ask the network."""
        n = self.resolution
        cell = (positions * n).long().clamp(0, n - 1)
        index = (cell[:, 0] * n + cell[:, 1]) * n + cell[:, 2]
        middle = (cell.to(positions.dtype) + 0.5) / n
        return self.values[index] - (positions - middle).norm(dim=-1) - self.margin


@dataclass(frozen=True)
class SurfaceHits:
    """What R rays met.

    Attributes:
        hit: [R] bool.
        t: [R] distance along the ray, in edges of the unit cube; where it left the box if it met nothing.
        steps: [R] int32, evaluations of the network.
        nearest: [R] the least of distance / t on the way, scaled: how nearly it was met (soft shadows).
    """

    hit: Tensor
    t: Tensor
    steps: Tensor
    nearest: Tensor


def cut_to_box(rays_o: Tensor, rays_d: Tensor) -> tuple[Tensor, Tensor]:
    """Rays [R, 3] in units of the cube -> where they enter and leave [0, 1]^3, [R] each; entry before exit if they meet it."""
    tiny = torch.where(rays_d.abs() < 1e-12, torch.full_like(rays_d, 1e-12).copysign(rays_d), rays_d)
    low, high = (0.0 - rays_o) / tiny, (1.0 - rays_o) / tiny
    return torch.minimum(low, high).amax(-1).clamp(min=0.0), torch.maximum(low, high).amin(-1)


@torch.no_grad()
def trace(
    distance: Distance,
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    bounds: DistanceBounds | None = None,
    pixel: Tensor | None = None,
    maximum_steps: int = MAXIMUM_STEPS,
) -> SurfaceHits:
    """Follows rays to the surface.

    Args:
        distance: what is asked.
        rays_o, rays_d: [R, 3] in units of the cube, unit vectors.
        t_min, t_max: [R] where they begin and end, within the cube.
        bounds: of the same distance; None: the network is asked at every step.
        pixel: [R] side of a ray's pixel at distance 1: the surface need not be met more exactly than half of it.
        maximum_steps: steps after which rays are given up.
    """
    n, device = rays_o.shape[0], rays_o.device
    t, hit = t_min.clone(), torch.zeros(n, dtype=torch.bool, device=device)
    steps = torch.zeros(n, dtype=torch.int32, device=device)
    nearest = torch.full((n,), torch.inf, device=device)
    alive = torch.nonzero(t_min < t_max).squeeze(1)
    o, d, end, at = rays_o[alive], rays_d[alive], t_max[alive], t_min[alive].clone()
    width = torch.zeros_like(at) if pixel is None else 0.5 * pixel[alive]
    for _ in range(maximum_steps):
        if not alive.numel():
            break
        if bounds is not None:
            at = skip(bounds, o, d, at, end)
            t[alive] = at
            inside = at < end
            if not bool(inside.all()):
                alive, o, d, end, at, width = (v[inside] for v in (alive, o, d, end, at, width))
                continue
        value = distance(o + at[:, None] * d)
        steps[alive] += 1
        # A learned distance may be too large, and a step too far: then the ray comes back out.
        there = value.abs() < (width * at).clamp(min=MAXIMUM_DISTANCE)
        begins_inside = (value < 0) & (at <= t_min[alive])
        nearest[alive] = torch.minimum(nearest[alive], value.clamp(min=0.0) / (at - t_min[alive]).clamp(min=1e-6))
        there |= begins_inside
        at = torch.where(there, at, torch.maximum(at + DISTANCE_SCALE * value, t_min[alive]))
        t[alive] = torch.minimum(at, end)
        hit[alive] = there
        keep = ~there & (at < end)
        alive, o, d, end, at, width = (v[keep] for v in (alive, o, d, end, at, width))
    return SurfaceHits(hit, torch.where(hit, t, torch.maximum(t, t_min)), steps, nearest)


def skip(bounds: DistanceBounds, o: Tensor, d: Tensor, at: Tensor, end: Tensor) -> Tensor:
    """Goes on through empty space until the network is to be asked or the ray ends: the new [R] t."""
    if at.device.type != "cpu":
        return skip_in_torch(bounds, o, d, at, end)
    moved = at.clone()
    skipping.skip(bounds.values.numpy(), bounds.resolution, bounds.margin, o.numpy(), d.numpy(), moved.numpy(), end.numpy())
    return moved


def skip_in_torch(bounds: DistanceBounds, o: Tensor, d: Tensor, at: Tensor, end: Tensor) -> Tensor:
    """The same in torch's operations, on any device: the definition."""
    at = at.clone()
    going = torch.arange(at.shape[0], device=at.device)
    for _ in range(4 * bounds.resolution):
        ahead = bounds.at(o[going] + at[going, None] * d[going])
        further = ahead > 0
        going, ahead = going[further], ahead[further]
        if not going.numel():
            break
        at[going] = at[going] + ahead + 0.5 * bounds.margin
        going = going[at[going] < end[going]]
    return torch.minimum(at, end)
