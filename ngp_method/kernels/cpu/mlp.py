"""Small perceptrons on the CPU as float32 matrix products: any processor, chunk by chunk so that activations stay in cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..layout import MLPLayout
from . import buffers, pool

CHUNK = 8192
"""Samples per chunk: 64 neurons * 8192 * 4 bytes = 2 MB, what one core's second-level cache holds."""


def _matrices(weights: Tensor, layout: MLPLayout) -> list[Tensor]:
    flat = weights.detach()
    return [flat[o : o + rows * cols].view(rows, cols) for o, (rows, cols) in zip(layout.offsets, layout.shapes)]


def fixed_chunks(n: int) -> list[tuple[int, int]]:
    """Chunks of one size whatever the number of threads: sums over chunks then do not depend on it."""
    return [(begin, min(begin + CHUNK, n)) for begin in range(0, n, CHUNK)]


class Perceptron(torch.autograd.Function):
    """(weights, layout, rows, *parts) -> [N, rows]; parts are [N, C_i] float32."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, layout: MLPLayout, rows: int, *parts: Tensor) -> Tensor:
        """One product per layer and chunk; the first layer's matrix is cut by columns, so that parts are never joined."""
        n = parts[0].shape[0]
        size = buffers.padded(n)
        inputs = [buffers.tensor_to_rows(part) for part in parts]
        matrices = _matrices(weights, layout)
        keep = any(ctx.needs_input_grad)
        hidden = [torch.empty(layout.n_neurons, size) for _ in range(layout.n_hidden_layers if keep else 0)]
        out = torch.empty(rows, size)
        ranges = fixed_chunks(size)

        def task(chunk: int) -> None:
            begin, end = ranges[chunk]
            column, h = 0, None
            for part in inputs:
                width = part.shape[0]
                product = matrices[0][:, column : column + width] @ part[:, begin:end]
                h = product if h is None else h.add_(product)
                column += width
            assert h is not None
            for index, matrix in enumerate(matrices[1:]):
                h.relu_()
                if keep:
                    hidden[index][:, begin:end] = h
                last = index == len(matrices) - 2
                h = (matrix[:rows] if last else matrix) @ h
            out[:, begin:end] = h

        pool.run(task, len(ranges))
        ctx.save_for_backward(weights, *inputs, *hidden)
        ctx.layout, ctx.n, ctx.rows, ctx.n_parts = layout, n, rows, len(parts)
        return buffers.rows_to_tensor(out, n)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights and of every part."""
        weights, *saved = ctx.saved_tensors
        layout: MLPLayout = ctx.layout
        inputs, hidden = saved[: ctx.n_parts], saved[ctx.n_parts :]
        upstream = buffers.gradient_to_rows(grad_outputs[0])
        matrices = _matrices(weights, layout)
        d_inputs = [torch.empty_like(part) for part in inputs]
        ranges = fixed_chunks(upstream.shape[1])
        partial = torch.zeros(len(ranges), layout.n_params)

        def task(chunk: int) -> None:
            begin, end = ranges[chunk]
            d_matrices = _matrices(partial[chunk], layout)
            g = upstream[:, begin:end]
            for index in reversed(range(1, len(matrices))):
                below = hidden[index - 1][:, begin:end]
                torch.mm(g, below.t(), out=d_matrices[index][: g.shape[0]])
                g = (matrices[index][: g.shape[0]].t() @ g).mul_(below > 0)
            column = 0
            for part, d_part in zip(inputs, d_inputs):
                width = part.shape[0]
                d_matrices[0][:, column : column + width] = g @ part[:, begin:end].t()
                torch.mm(matrices[0][:, column : column + width].t(), g, out=d_part[:, begin:end])
                column += width

        pool.run(task, len(ranges))
        d_parts = [buffers.rows_to_tensor(d, ctx.n) for d in d_inputs]
        return partial.sum(0), None, None, *d_parts


def perceptron(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None) -> Tensor:
    """The operation ``mlp`` of the interface on float32 features."""
    result = Perceptron.apply(weights, layout, rows or layout.n_output_dims, *parts)
    assert isinstance(result, Tensor)
    return result
