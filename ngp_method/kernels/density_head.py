"""The operation ``density_head``: one node, so that both gradients of the density MLP's outputs meet in one buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CLAMP = 15.0
"""The density's gradient uses exp(clamp(raw, -CLAMP, CLAMP)) (instant-ngp nerf_device.cuh, network_to_density_derivative)."""


def sigmas_of(raw: Tensor, unit: float) -> Tensor:
    """Outputs [N, C] -> densities [N] per world unit."""
    return torch.exp(raw[:, 0]) / unit


def slope_of(d_sigma: Tensor, raw: Tensor, unit: float) -> Tensor:
    """Gradient of the densities [N] -> that of the first output [N]."""
    return d_sigma / unit * torch.exp(raw[:, 0].clamp(-CLAMP, CLAMP))


def with_slope(d_raw: Tensor, d_sigma: Tensor, raw: Tensor, unit: float) -> Tensor:
    """The gradient of the outputs [N, C] with it: a new tensor, as autograd may have given this one to others too."""
    found = d_raw.clone()
    found[:, 0] += slope_of(d_sigma, raw, unit)
    return found


class DensityHead(torch.autograd.Function):
    """(raw [N, C], unit, the two passes) -> (densities [N], raw)."""

    @staticmethod
    def forward(
        ctx: Any,
        raw: Tensor,
        unit: float,
        forward: Callable[[Tensor, float], Tensor] = sigmas_of,
        backward: Callable[[Tensor, Tensor, Tensor, float], Tensor] = with_slope,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(raw)
        ctx.unit, ctx.with_slope = unit, backward
        ctx.set_materialize_grads(False)
        return forward(raw, unit), raw.view_as(raw)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        (raw,) = ctx.saved_tensors
        d_sigma, d_raw = grad_outputs
        if d_sigma is None:
            return d_raw, None, None, None
        if d_raw is None or torch.is_grad_enabled():
            first = torch.nn.functional.pad(slope_of(d_sigma, raw, ctx.unit)[:, None], (0, raw.shape[1] - 1))
            return first if d_raw is None else d_raw + first, None, None, None
        return ctx.with_slope(d_raw, d_sigma, raw, ctx.unit), None, None, None
