"""Marching as torch operations on the Triton kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from ..gradients import first_order_only
from ..samples import PackedSamples
from ..scene import LEAST_SHARE, MAX_STEPS, SceneGeometry
from . import marching_kernels as kernels
from . import marching_samples, occupancy, packing, packing_kernels, ray_sums
from .runs import empty_runs

MOST_KEPT = 1 << 26
"""Numbers (256 MiB) in which one walk keeps what it finds, 2^16 rays of 1,024 samples; more rays are walked twice. A training
step on an H100 has 35,000 rays."""


def flat(tensor: Tensor) -> Tensor:
    """float32, row-major, without a gradient: the same tensor where it is so already."""
    return tensor.detach().to(torch.float32).contiguous()


def _step_law(geometry: SceneGeometry) -> tuple[float, float, float, float]:
    """cone, min_step, max_step, and the shortest step as a share of t_max; without a cone each step has the least length."""
    cone, least, most = geometry.cone_angle, geometry.min_step, geometry.max_step
    return cone, (least if cone > 0 else min(least, most)), most, LEAST_SHARE


def march(
    rays_o: Tensor, rays_d: Tensor, t_min: Tensor, t_max: Tensor, occupied: Tensor, geometry: SceneGeometry,
    jitter: Tensor | None = None, max_samples: int | None = None, capacity: int | None = None,
) -> tuple[PackedSamples, Tensor]:  # fmt: skip
    """The operation ``march``; slots and padding of a ``capacity``: see :mod:`.packing`."""
    n_rays, limit, grid = rays_o.shape[0], max_samples or MAX_STEPS, occupied.shape[1]
    near, device = flat(t_min), rays_o.device
    if not n_rays:
        nothing = torch.zeros(0, 2, dtype=torch.int32, device=device)
        return packing.empty_samples(nothing, 0), near
    law = _step_law(geometry)
    counts, resume = torch.empty(n_rays, dtype=torch.int32, device=device), torch.empty(n_rays, device=device)
    once = n_rays * limit <= MOST_KEPT
    rows = torch.empty(n_rays * limit if once else 0, device=device)
    shift = near if jitter is None else flat(jitter)
    rays = (flat(rays_o), flat(rays_d), near, flat(t_max), shift, *occupancy.GRIDS.of(occupied))
    numbers = (*map(float, geometry.center), 1.0 / geometry.unit_size, *law, 0.5 * geometry.aabb_scale)
    grown = geometry.unit_size / (grid * law[0]) if law[0] > 0 else 0.0
    sizes = {"GRID": grid, "LOG_EDGE": occupancy.edge_of(grid).bit_length() - 1, **kernels.walk_sizes(law[0] > 0)}

    def walk(what: int, info: Tensor, samples: PackedSamples | None) -> None:
        targets = (rows,) * 3 if samples is None else (samples.t_starts, samples.t_ends, samples.ray_indices)
        kernels.walk[(triton.cdiv(n_rays, sizes["BLOCK"]),)](
            *rays, counts, resume, rows, info, *targets, n_rays, limit, *numbers, grown,
            WHAT=what, CONE=law[0] > 0, MULTI=geometry.cascades > 1, JITTER=jitter is not None, **sizes,
        )  # fmt: skip

    walk(kernels.KEEP.value if once else kernels.COUNT.value, counts, None)
    info, ends = packing.runs(counts, capacity)
    samples = packing.empty_samples(info, int(ends[-1]) if capacity is None else capacity)
    if once:
        _fill(rows, rays[3], limit, samples, law)
    else:
        walk(kernels.FILL.value, info, samples)
    if capacity is not None:
        packing.pad(samples)
        resume = torch.where(ends > capacity, near, resume)
    return samples, resume


def _fill(rows: Tensor, t_max: Tensor, limit: int, samples: PackedSamples, law: tuple[float, float, float, float]) -> None:
    n_rays, tile = samples.n_rays, marching_samples.fill_tile()
    marching_samples.fill[(triton.cdiv(n_rays, tile["RAYS"]),)](
        rows, t_max, samples.packed_info, samples.t_starts, samples.t_ends, samples.ray_indices, n_rays, limit, *law,
        CONE=law[0] > 0, **tile,
    )  # fmt: skip


def _points(rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
    n = samples.n_samples
    out = empty_runs(n, 3, torch.float32, samples.t_starts.device)
    low = np.asarray(geometry.center, np.float32) - np.float32(0.5 * geometry.box_size)
    if n:
        grid, sizes = packing_kernels.launch(n)
        marching_samples.points[grid](
            flat(rays_o), flat(rays_d), flat(samples.t_starts), flat(samples.t_ends), samples.ray_indices, out, n,
            out.stride(1), *map(float, low), 1.0 / geometry.box_size, **sizes,
        )  # fmt: skip
    return out


class Points(torch.autograd.Function):
    """(rays_o, rays_d, samples, geometry) -> points [N, 3] in runs."""

    @staticmethod
    def forward(ctx: Any, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """Keeps the points, which say what was clamped."""
        out = _points(rays_o, rays_d, samples, geometry)
        ctx.save_for_backward(out)
        ctx.samples, ctx.scale = samples, 1.0 / geometry.box_size
        return out

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """See :func:`ray_sums.point_gradients`."""
        ((up,), (at,)), samples, tile = (grad_outputs, ctx.saved_tensors), ctx.samples, ray_sums.tile()
        d_o, d_d = (torch.empty(samples.n_rays, 3, device=up.device) for _ in range(2))
        if samples.n_rays:
            ray_sums.point_gradients[(triton.cdiv(samples.n_rays, tile["RAYS"]), 3)](
                up, at, flat(samples.t_starts), flat(samples.t_ends), samples.packed_info, d_o, d_d, samples.n_rays,
                *up.stride(), at.stride(1), ctx.scale, **tile,
            )  # fmt: skip
        return d_o, d_d, None, None


def points(rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
    """The operation ``points``: [N, 3] in runs (see runs.py)."""
    if torch.is_grad_enabled() and (rays_o.requires_grad or rays_d.requires_grad):
        found = Points.apply(rays_o, rays_d, samples, geometry)
        assert isinstance(found, Tensor)
        return found
    return _points(rays_o, rays_d, samples, geometry)
