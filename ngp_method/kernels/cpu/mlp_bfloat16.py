"""Small perceptrons as a torch operation in bfloat16: bfloat16 activations, float32 sums (see :mod:`.bf16_mlp`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..layout import MLPLayout
from . import bf16_mlp, buffers, encode, pool
from .mlp import differentiable_gradients, fixed_chunks
from .simd import pair_bf16
from .simd_memory import load, store


@njit(nogil=True, cache=True, error_model="numpy")
def pack(rows, pairs, begin, end):  # type: ignore[no-untyped-def]
    """float32 [C, n_padded] -> uint32 pairs [C / 2, n_padded], samples begin .. end - 1 (multiples of 16)."""
    for p in range(pairs.shape[0]):
        low, high, out = rows[2 * p], rows[2 * p + 1], pairs[p]
        for i in range(begin, end, 16):
            store(out, i, pair_bf16(load(low, i), load(high, i)))


def _gather_input(parts: Sequence[Tensor], layout: MLPLayout) -> Tensor:
    """All parts as one int32 [padded_input / 2, n_padded]: the memory itself where there is but one, in pairs already."""
    n = parts[0].shape[1] if parts[0].ndim == 3 else parts[0].shape[0]
    if len(parts) == 1 and parts[0].ndim == 3 and 2 * parts[0].shape[0] == layout.padded_input:
        return buffers.tensor_to_pairs(parts[0])
    x = torch.empty(layout.padded_input // 2, buffers.padded(n), dtype=torch.int32)
    row = 0
    for part in parts:
        if part.ndim == 3:
            x[row : row + part.shape[0]] = buffers.tensor_to_pairs(part)
            row += part.shape[0]
        else:
            if part.shape[1] % 2:
                part = torch.nn.functional.pad(part.detach(), (0, 1))
            source = buffers.tensor_to_rows(part)
            count = source.shape[0] // 2
            target = buffers.words(x[row : row + count])
            ranges = pool.chunks(x.shape[1], buffers.BLOCK)
            pool.run(_packing(source.numpy(), target, ranges), len(ranges))
            row += count
    x[row:] = 0
    return x


def _packing(rows: np.ndarray, pairs: np.ndarray, ranges: list[tuple[int, int]]) -> Any:
    return lambda chunk: pack(rows, pairs, *ranges[chunk])


class TilePerceptron(torch.autograd.Function):
    """(weights, layout, rows, *parts) -> [N, rows] float32; parts are features in any layout."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, layout: MLPLayout, rows: int, *parts: Tensor) -> Tensor:
        """All layers of a block of samples before the next block; hidden layers are not kept."""
        n = parts[0].shape[1] if parts[0].ndim == 3 else parts[0].shape[0]
        x = _gather_input(parts, layout)
        plan = bf16_mlp.prepare(weights.detach().numpy(), layout)
        out = torch.empty(rows, x.shape[1])
        source, target, ranges = buffers.words(x), out.numpy(), pool.chunks(x.shape[1], bf16_mlp.BLOCK)
        pool.run(lambda c: bf16_mlp.forward(source, plan, target, *ranges[c]), len(ranges))
        ctx.save_for_backward(x, weights, *parts)
        ctx.layout, ctx.n, ctx.plan = layout, n, plan
        ctx.shapes = [part.shape for part in parts]
        return buffers.rows_to_tensor(out, n)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Hidden layers are computed again, block by block, on the way back: cheaper than to store and load them.

        A gradient that is to be differentiated in turn is composed of torch's products.
        """
        x, weights, *parts = ctx.saved_tensors
        if torch.is_grad_enabled():
            d_weights, d_parts = differentiable_gradients(grad_outputs[0], parts, weights, ctx.layout)
            return d_weights, None, None, *d_parts
        upstream = buffers.gradient_to_rows(grad_outputs[0])
        wanted = any(ctx.needs_input_grad[3:])
        # A lone part in pairs gets its gradient in pairs, as its encoding takes it.
        paired = len(ctx.shapes) == 1 and len(ctx.shapes[0]) == 3 and 2 * ctx.shapes[0][0] == ctx.layout.padded_input
        rows = ctx.layout.padded_input // 2 if paired else ctx.layout.padded_input
        dx = torch.empty(rows, x.shape[1], dtype=torch.int32 if paired else torch.float32) if wanted else None
        ranges = fixed_chunks(x.shape[1])
        partial = np.zeros((len(ranges), ctx.layout.n_params), np.float32)
        source, d_out, d_x = buffers.words(x), upstream.numpy(), None
        if dx is not None:
            d_x = buffers.words(dx) if paired else dx.numpy()
        pool.run(lambda c: bf16_mlp.backward(source, ctx.plan, d_out, d_x, partial[c], *ranges[c]), len(ranges))
        return torch.from_numpy(partial.sum(0)), None, None, *_split(ctx, dx)


def _split(ctx: Any, dx: Tensor | None) -> list[Tensor | None]:
    """Rows of the input's gradient -> one gradient per part, in the part's own layout."""
    found: list[Tensor | None] = []
    row = 0
    for shape, wanted in zip(ctx.shapes, ctx.needs_input_grad[3:]):
        width = 2 * shape[0] if len(shape) == 3 else shape[1]
        if dx is None or not wanted:
            found.append(None)
        elif dx.dtype == torch.int32:
            found.append(buffers.pairs_to_tensor(dx, ctx.n))
        elif len(shape) == 2:
            found.append(buffers.rows_to_tensor(dx[row : row + width], ctx.n))
        else:
            pairs = torch.empty(shape[0], dx.shape[1], dtype=torch.int32)
            ranges = pool.chunks(dx.shape[1], buffers.BLOCK)
            pool.run(_packing(dx[row : row + width].numpy(), buffers.words(pairs), ranges), len(ranges))
            found.append(buffers.pairs_to_tensor(pairs, ctx.n))
        row += width + width % 2
    return found


def perceptron(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None) -> Tensor:
    """The operation ``mlp`` of the interface on features in any layout."""
    if any(part.ndim == 2 and part.shape[1] % 2 for part in parts):  # features go in pairs
        joined = torch.cat([encode.dense(part) for part in parts], -1)
        parts = [torch.nn.functional.pad(joined, (0, joined.shape[1] % 2))]
    result = TilePerceptron.apply(weights, layout, rows or layout.n_output_dims, *parts)
    assert isinstance(result, Tensor)
    return result
