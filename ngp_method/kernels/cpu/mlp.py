"""Small perceptrons as a torch operation on the fused float32 kernels (see :mod:`.mlp_fused`): any processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import mlp_composed
from ..adjoint import laid_out
from ..layout import MLPLayout
from . import buffers, encode, mlp_fused, pool
from .mlp_fused_tiles import Tile

CHUNK = 8192
"""Samples per chunk of :func:`fixed_chunks`."""

SUMMED = 2048
"""Samples whose gradients of the weights are summed by one thread: small enough to keep many threads busy."""


def fixed_chunks(n: int, chunk: int = CHUNK) -> list[tuple[int, int]]:
    """Chunks of one size whatever the number of threads: sums over chunks then do not depend on it."""
    return [(begin, min(begin + chunk, n)) for begin in range(0, n, chunk)]


def differentiable_gradients(
    up: Tensor, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout
) -> tuple[Tensor, list[Tensor | None]]:
    """Gradients of the weights and of each part (features in any layout, and in that layout), themselves differentiable.

    Args:
        up: gradient of the outputs [N, rows].
    """
    dense = [encode.dense(part) for part in parts]
    d_weights, found = mlp_composed.gradients(up, dense, weights, layout, torch.float32)
    d_parts: list[Tensor | None] = [laid_out(d, (part.ndim, part.dtype)) for d, part in zip(found, parts)]
    return d_weights, d_parts


class Perceptron(torch.autograd.Function):
    """(weights, layout, rows, tile or None, *parts) -> [N, rows]; parts are [N, C_i] float32."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, layout: MLPLayout, rows: int, tile: Tile | None, *parts: Tensor) -> Tensor:
        """All layers of a block of samples before the next block; hidden layers are not kept."""
        n = parts[0].shape[0]
        inputs = [buffers.tensor_to_rows(part) for part in parts]
        wanted = ctx.needs_input_grad[4:]
        plan = mlp_fused.prepare(weights.detach().numpy(), layout, [p.shape[1] for p in parts], rows, wanted, tile)
        out = torch.empty(rows, buffers.padded(n))
        sources, target = mlp_fused.addresses([part.numpy() for part in inputs]), out.numpy()
        ranges = pool.chunks(out.shape[1], mlp_fused.STRIDE, per_thread=4)
        pool.run(lambda c: mlp_fused.forward(sources, plan, target, *ranges[c]), len(ranges))
        ctx.save_for_backward(weights, *parts, *inputs)
        ctx.plan, ctx.n = plan, n
        return buffers.rows_to_tensor(out, n)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Hidden layers are computed again, block by block, on the way back: cheaper than to store and load them.

        A gradient that is to be differentiated in turn is composed of torch's products.
        """
        weights, *kept = ctx.saved_tensors
        count, plan = len(kept) // 2, ctx.plan
        if torch.is_grad_enabled():
            d_weights, d_parts = differentiable_gradients(grad_outputs[0], kept[:count], weights, plan.layout)
            return d_weights, None, None, None, *d_parts
        inputs = kept[count:]
        upstream = buffers.gradient_to_rows(grad_outputs[0])
        asked = [torch.empty_like(part) if wanted else None for part, wanted in zip(inputs, ctx.needs_input_grad[4:])]
        ranges = fixed_chunks(upstream.shape[1], SUMMED)
        partial = np.zeros((len(ranges), plan.layout.n_params), np.float32)
        sources, d_out = mlp_fused.addresses([part.numpy() for part in inputs]), upstream.numpy()
        targets = mlp_fused.addresses([part.numpy() for part in asked if part is not None])
        pool.run(lambda c: mlp_fused.backward(sources, plan, d_out, targets, partial[c], *ranges[c]), len(ranges))
        d_parts = [None if part is None else buffers.rows_to_tensor(part, ctx.n) for part in asked]
        return torch.from_numpy(mlp_fused.in_order(partial.sum(0), plan.layout)), None, None, None, *d_parts


def perceptron(
    parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None, tile: Tile | None = None
) -> Tensor:
    """The operation ``mlp`` of the interface on float32 features."""
    result = Perceptron.apply(weights, layout, rows or layout.n_output_dims, tile, *parts)
    assert isinstance(result, Tensor)
    return result
