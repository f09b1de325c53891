"""Small perceptrons as a torch operation: fused Triton kernels, and torch's matrix products where those do not serve.

The gradient of the weights is summed over programs by atomic additions in float32: its last bits may differ from run to run, as
those of the hash table's gradient do. (Partial sums in memory and a second kernel would fix the order: 8 MB written and read a
step on an H100, and a launch.) Gradients of parts are the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import mlp_composed
from ..gradients import kept_buffer, wanted
from ..layout import MLPLayout
from . import mlp_launch
from .device import interpreted


@lru_cache(maxsize=32)
def fused(device: torch.device, layout: MLPLayout, dtype: torch.dtype, backward: bool) -> bool:
    """Whether the device's matrix units and registers serve the kernels (see :mod:`..mlp_composed`)."""
    if interpreted():
        return True
    if not torch.version.hip:
        return dtype == torch.float32 or torch.cuda.get_device_capability(device) >= (8, 0)
    wide = layout.n_neurons > 64
    if torch.cuda.get_device_properties(device).gcnArchName.startswith("gfx1"):
        return not (backward or wide)
    return not (backward and wide)


class Perceptron(torch.autograd.Function):
    """(weights, *parts, (layout, rows, dtype)) -> [N, rows] float32; parts are [N, C_i] float, any strides."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *rest: Any) -> Tensor:
        """Nothing but the inputs is kept for the way back."""
        *parts, (layout, rows, dtype) = rest
        ctx.save_for_backward(weights, *parts)
        ctx.layout, ctx.dtype = layout, dtype
        takes = mlp_launch.takes(layout, dtype, [part.shape[1] for part in parts], rows)
        ctx.fused = takes and fused(weights.device, layout, dtype, backward=True)
        compute = mlp_launch if takes and fused(weights.device, layout, dtype, backward=False) else mlp_composed
        return compute.forward(parts, weights.contiguous(), layout, dtype, rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of weights and parts; as differentiable operations if they are to be differentiated in turn."""
        (up,) = grad_outputs
        weights, *parts = ctx.saved_tensors
        for_weights, *for_parts = [wanted(ctx, index) for index in range(1 + len(parts))]
        kept = kept_buffer(weights) if for_weights else None
        if torch.is_grad_enabled() or not ctx.fused:
            dtype = torch.float32 if torch.is_grad_enabled() else ctx.dtype
            d_weights, d_parts = mlp_composed.gradients(up, parts, weights.contiguous(), ctx.layout, dtype)
            if kept is not None:
                kept.add_(d_weights.detach())
            result = [d if need else None for d, need in zip(d_parts, for_parts)]
            return (d_weights if for_weights and kept is None else None, *result, None)
        target = kept if kept is not None or not for_weights else torch.zeros_like(weights)
        found = mlp_launch.backward(up, parts, weights.contiguous(), ctx.layout, ctx.dtype, for_parts, target)
        return (target if kept is None else None, *found, None)


def perceptron(
    parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, dtype: torch.dtype, rows: int | None = None
) -> Tensor:
    """The operation ``mlp`` of the interface, computed in ``dtype``.

    Args:
        parts: features [N, C_i], any float type and strides; fastest in runs (see runs.py).
        weights: [n_params] float32.
        layout: widths.
        dtype: of hidden activations and of the matrices' copies that multiply them; sums are float32.
        rows: outputs wanted, the first ones; default all.
    Returns:
        [N, rows] float32, samples side by side.
    """
    result = Perceptron.apply(weights, *parts, (layout, rows or layout.n_output_dims, dtype))
    assert isinstance(result, Tensor)
    return result
