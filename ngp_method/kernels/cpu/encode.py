"""The hash encoding as a torch operation on the CPU kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..gradients import kept_buffer, wanted
from ..layout import HashGridLayout
from . import buffers, hashgrid, pool


def copy_half(target: Tensor, source: Tensor) -> None:
    """Write a float16 copy, all threads together."""
    ranges = pool.chunks(source.shape[0], 16, at_least=1 << 18)
    pool.run(lambda c: target[slice(*ranges[c])].copy_(source[slice(*ranges[c])]), len(ranges))


def _forward(x: Tensor, table: Tensor, layout: HashGridLayout, paired: bool) -> Tensor:
    """Positions rows and a float16 or float32 table -> float32 rows, or int32 pairs of bfloat16 (of float16 tables only)."""
    half, n, features = table.dtype == torch.float16, x.shape[1], layout.n_features_per_level
    per_entry = features // 2 if half else features
    out_rows = features // 2 if paired else features
    out = torch.empty(layout.n_levels * out_rows, n, dtype=torch.int32 if paired else torch.float32)
    xs, target, source = x.numpy(), buffers.words(out), buffers.words(table.view(torch.int32))
    shift = per_entry.bit_length() - 1
    ranges = pool.chunks(n, hashgrid.BLOCK)

    def task(chunk: int) -> None:
        for index, level in enumerate(layout.levels):
            part = source[level.offset * per_entry : (level.offset + level.entries) * per_entry]
            of_level = (level.scale, level.resolution, level.entries, level.dense, shift, index * out_rows)
            if half:
                hashgrid.encode_half(xs, part, target, *of_level, paired, *ranges[chunk])
            else:
                hashgrid.encode_float(xs, part, target, *of_level, *ranges[chunk])

    pool.run(task, len(ranges))
    return out


def _table_gradient(x: Tensor, upstream: Tensor, grad: Tensor, layout: HashGridLayout, n: int) -> None:
    """Add to the table's gradient: one level and two of its features to a task, dearest levels first."""
    features = layout.n_features_per_level
    paired = upstream.dtype == torch.int32
    kernel = hashgrid.scatter_pairs if paired else hashgrid.scatter
    rows = buffers.words(upstream) if paired else upstream.numpy()
    xs, target = x.numpy(), grad.numpy()
    tasks = [(index, column) for index in reversed(range(layout.n_levels)) for column in range(0, features, 2)]

    def task(number: int) -> None:
        index, column = tasks[number]
        level = layout.levels[index]
        part = target[level.offset * features : (level.offset + level.entries) * features]
        row = index * features + column
        kernel(
            xs, rows, part, level.scale, level.resolution, level.entries, level.dense, features, column,
            row // 2 if paired else row, n,
        )  # fmt: skip

    pool.run(task, len(tasks))


def _position_gradient(x: Tensor, upstream: Tensor, table: Tensor, layout: HashGridLayout, n: int) -> Tensor:
    features = layout.n_features_per_level
    if upstream.dtype == torch.int32:
        upstream = buffers.tensor_to_rows(dense(buffers.pairs_to_tensor(upstream, n)))
    xs, rows, source, out = x.numpy(), upstream.numpy(), table.detach().numpy(), torch.zeros_like(x)
    ranges = pool.chunks(n, 1)

    def task(chunk: int) -> None:
        for index, level in enumerate(layout.levels):
            part = source[level.offset * features : (level.offset + level.entries) * features]
            hashgrid.position_gradient(
                xs, part, rows, out.numpy(), level.scale, level.resolution, level.entries, level.dense, features,
                index * features, *ranges[chunk],
            )  # fmt: skip

    pool.run(task, len(ranges))
    return buffers.rows_to_tensor(out, n)


def dense(features: Tensor) -> Tensor:
    """Features in any layout -> [N, C] float32."""
    if features.ndim == 3:
        return features.permute(1, 0, 2).reshape(features.shape[1], 2 * features.shape[0]).float()
    return features


class HashEncode(torch.autograd.Function):
    """(positions, table, float16 table or None, whether in pairs, layout, features or None) -> features."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, table: Tensor, half: Tensor | None, paired: bool, layout: HashGridLayout,
        features: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Encode, or take over features that were encoded before."""
        n = positions.shape[0]
        x = buffers.tensor_to_rows(positions)
        ctx.save_for_backward(x, table)
        ctx.layout, ctx.n = layout, n
        if features is not None:
            return features.view_as(features)
        out = _forward(x, table.detach() if half is None else half, layout, paired)
        return buffers.pairs_to_tensor(out, n) if paired else buffers.rows_to_tensor(out, n)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of positions and table."""
        (grad,) = grad_outputs
        x, table = ctx.saved_tensors
        upstream = buffers.tensor_to_pairs(grad) if grad.ndim == 3 else buffers.tensor_to_rows(grad)
        d_positions = d_table = None
        if wanted(ctx, 1):
            kept = kept_buffer(table)
            target = torch.zeros_like(table) if kept is None else kept
            _table_gradient(x, upstream, target, ctx.layout, ctx.n)
            d_table = target if kept is None else None
        if wanted(ctx, 0):
            d_positions = _position_gradient(x, upstream, table, ctx.layout, ctx.n)
        return d_positions, d_table, None, None, None, None
