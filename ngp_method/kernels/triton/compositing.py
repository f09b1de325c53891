"""Compositing as torch operations on the Triton kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from ..gradients import first_order_only
from ..interface import Composited, Gathered
from ..samples import PackedSamples
from . import compositing_kernels as kernels
from . import ray_sums
from .marching import flat
from .runs import empty_runs


def visible_counts(sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
    """The operation ``visible_counts``."""
    n_rays, (tile, _) = samples.n_rays, kernels.tile()
    counts = torch.empty(n_rays, dtype=torch.int32, device=samples.packed_info.device)
    if n_rays:
        kernels.visible[(triton.cdiv(n_rays, tile["RAYS"]),)](
            sigmas.detach(), samples.t_starts, samples.t_ends, samples.packed_info, counts, n_rays, sigmas.stride(0),
            -math.log(max(threshold, 1e-38)), **tile,
        )  # fmt: skip
    return counts


def _launch(n_rays: int, n_samples: int) -> tuple[tuple[int], dict[str, Any]]:
    """Grid that reaches all rays and all slots, and sizes."""
    tile, padding = kernels.tile()
    return (max(triton.cdiv(n_rays, tile["RAYS"]), triton.cdiv(n_samples, padding)),), {**tile, "PADDING": padding}


class Composite(torch.autograd.Function):
    """(sigmas, rgbs, samples) -> (rgbs [R, 3], opacities [R], depths [R], weights [N])."""

    @staticmethod
    def forward(ctx: Any, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> tuple[Tensor, ...]:
        """Sums along the rays."""
        n_rays, n, device = samples.n_rays, samples.n_samples, sigmas.device
        sums = tuple(torch.empty(n_rays, *shape, device=device) for shape in ((3,), (), ()))
        weights = torch.empty(n, device=device)
        if n_rays:
            grid, sizes = _launch(n_rays, n)
            kernels.forward[grid](
                sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, *sums, weights, n_rays, n,
                sigmas.stride(0), *rgbs.stride(), **sizes,
            )  # fmt: skip
        ctx.save_for_backward(sigmas, rgbs, *sums, weights)
        ctx.samples = samples
        ctx.set_materialize_grads(False)  # so that weights nobody differentiates cost nothing
        return (*sums, weights)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """See :func:`compositing_kernels.backward`, and :func:`ray_sums.add_weight_gradient` where weights have a gradient."""
        sigmas, rgbs, *sums, weights = ctx.saved_tensors
        samples: PackedSamples = ctx.samples
        n_rays, n = samples.n_rays, samples.n_samples
        d_sigmas, d_rgbs = torch.empty(n, device=sigmas.device), empty_runs(n, 3, torch.float32, sigmas.device)
        d_sums = [torch.zeros_like(total) if d is None else flat(d) for d, total in zip(grad_outputs, sums)]
        if n_rays:
            grid, sizes = _launch(n_rays, n)
            kernels.backward[grid](
                sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, weights, *sums, *d_sums,
                d_sigmas, d_rgbs, n_rays, n, sigmas.stride(0), *rgbs.stride(), d_rgbs.stride(1), **sizes,
            )  # fmt: skip
            if grad_outputs[3] is not None:
                # The gradient is linear in what flows in, so this part of it can be added.
                d_weights, tile = flat(grad_outputs[3]), ray_sums.tile()
                ray_sums.add_weight_gradient[(triton.cdiv(n_rays, tile["RAYS"]),)](
                    sigmas, samples.t_starts, samples.t_ends, samples.packed_info, weights, d_weights, d_sigmas, n_rays,
                    sigmas.stride(0), **tile,
                )  # fmt: skip
        return d_sigmas, d_rgbs, None


def composite(sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
    """The operation ``composite``."""
    return Composited(*Composite.apply(sigmas, rgbs, samples))


def accumulate(
    gathered: Gathered, rays: Tensor, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples,
    resume: Tensor, t: Tensor, t_max: Tensor, least: float, median: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The operation ``accumulate``; padding has weights of zero."""
    n_rays, n, device = samples.n_rays, samples.n_samples, sigmas.device
    weights, alive = torch.empty(n, device=device), torch.empty(n_rays, dtype=torch.uint8, device=device)
    if n_rays:
        grid, sizes = _launch(n_rays, n)
        kernels.accumulate[grid](
            sigmas.detach(), rgbs.detach(), samples.t_starts, samples.t_ends, samples.packed_info, rays, resume, t_max, t,
            gathered.rgbs, gathered.opacities, gathered.depths, gathered.median_depths, gathered.n_samples, weights, alive,
            n_rays, n, sigmas.stride(0), *rgbs.stride(), least, median, **sizes,
        )  # fmt: skip
    return weights, alive.view(torch.bool)
