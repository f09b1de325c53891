"""The hash encoding as a torch operation on the CPU kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adjoint import laid_out
from ..footprints import scale_levels, weighed, wide_output_dims
from ..gradients import first_order_only, kept_buffer, wanted
from ..layout import HashGridLayout
from . import buffers, hashgrid, hashgrid_planar, hashgrid_slopes, pool
from .level_weight import write_scale

KERNELS: dict[int, Any] = {2: hashgrid_planar, 3: hashgrid}
"""Values and the table's gradient, by the dimensions of positions."""


def copy_half(target: Tensor, source: Tensor) -> None:
    """Write a float16 copy, all threads together."""
    ranges = pool.chunks(source.shape[0], 16, at_least=1 << 18)
    pool.run(lambda c: target[slice(*ranges[c])].copy_(source[slice(*ranges[c])]), len(ranges))


def _wide(x: Tensor, footprints: Tensor | None) -> tuple[Any, Any, bool]:
    """Positions rows, footprints [N] padded as these are, and whether there are any: as the kernels take them."""
    if footprints is None:
        return x.numpy(), x[0].numpy(), False
    return x.numpy(), buffers.tensor_to_rows(footprints[:, None])[0].numpy(), True


def _forward(x: Tensor, table: Tensor, layout: HashGridLayout, paired: bool, footprints: Tensor | None = None) -> Tensor:
    """Positions rows and a float16 or float32 table -> float32 rows, or int32 pairs of bfloat16 (of float16 tables only)."""
    half, n, features = table.dtype == torch.float16, x.shape[1], layout.n_features_per_level
    per_entry = features // 2 if half else features
    out_rows, width = features // 2 if paired else features, layout.n_output_dims
    total = width if footprints is None else wide_output_dims(layout)
    out = torch.empty(total // 2 if paired else total, n, dtype=torch.int32 if paired else torch.float32)
    given, target, source = _wide(x, footprints), buffers.words(out), buffers.words(table.view(torch.int32))
    shift, kernels = per_entry.bit_length() - 1, KERNELS[layout.n_dims]
    ranges = pool.chunks(n, hashgrid.BLOCK)

    def task(chunk: int) -> None:
        for index, level in enumerate(layout.levels):
            part = source[level.offset * per_entry : (level.offset + level.entries) * per_entry]
            of_level = (level.scale, level.resolution, level.entries, level.dense, shift, index * out_rows)
            if half:
                kernels.encode_half(*given, part, target, *of_level, paired, *ranges[chunk])
            else:
                kernels.encode_float(*given, part, target, *of_level, *ranges[chunk])
        if footprints is not None:
            write_scale(given[1], target, scales, layout.n_levels * out_rows, paired, *ranges[chunk])

    scales = np.array([layout.levels[index].scale for index in scale_levels(layout)], np.float32)
    pool.run(task, len(ranges))
    return out


def _table_gradient(
    x: Tensor, upstream: Tensor, grad: Tensor, layout: HashGridLayout, n: int, footprints: Tensor | None = None
) -> None:
    """Add to the table's gradient: one level and two of its features to a task, dearest levels first."""
    features = layout.n_features_per_level
    paired = upstream.dtype == torch.int32
    kernel = KERNELS[layout.n_dims].scatter_pairs if paired else KERNELS[layout.n_dims].scatter
    rows = buffers.words(upstream) if paired else upstream.numpy()
    given, target = _wide(x, footprints), grad.numpy()
    tasks = [(index, column) for index in reversed(range(layout.n_levels)) for column in range(0, features, 2)]

    def task(number: int) -> None:
        index, column = tasks[number]
        level = layout.levels[index]
        part = target[level.offset * features : (level.offset + level.entries) * features]
        row = index * features + column
        kernel(
            *given, rows, part, level.scale, level.resolution, level.entries, level.dense, features, column,
            row // 2 if paired else row, n,
        )  # fmt: skip

    pool.run(task, len(tasks))


def _position_gradient(
    x: Tensor, upstream: Tensor, table: Tensor, layout: HashGridLayout, n: int, along: Tensor | None = None
) -> Tensor:
    """[N, D], from upstream rows or pairs; its derivative along the directions ``along``, rows [D, n_padded], if given."""
    features = layout.n_features_per_level
    rows, source, out = _rows(upstream, n).numpy(), table.detach().numpy(), torch.zeros_like(x)
    sides = (x.numpy(), x.numpy() if along is None else along.numpy(), along is not None)
    ranges = pool.chunks(n, 1)

    def task(chunk: int) -> None:
        for index, level in enumerate(layout.levels):
            part = source[level.offset * features : (level.offset + level.entries) * features]
            hashgrid_slopes.position_gradient(
                *sides, part, rows, out.numpy(), level.scale, level.resolution, level.entries, level.dense, features,
                index * features, *ranges[chunk],
            )  # fmt: skip

    pool.run(task, len(ranges))
    return buffers.rows_to_tensor(out, n)


def _features_along(x: Tensor, along: Tensor, table: Tensor, layout: HashGridLayout, n: int) -> Tensor:
    """Derivative of the features along directions, float32 [N, C]; both given as rows [D, n_padded]."""
    features, source = layout.n_features_per_level, table.detach().numpy()
    out = torch.zeros(layout.n_output_dims, x.shape[1])
    ranges = pool.chunks(n, 1)

    def task(chunk: int) -> None:
        for index, level in enumerate(layout.levels):
            part = source[level.offset * features : (level.offset + level.entries) * features]
            hashgrid_slopes.encode_along(
                x.numpy(), along.numpy(), part, out.numpy(), level.scale, level.resolution, level.entries, level.dense,
                features, index * features, *ranges[chunk],
            )  # fmt: skip

    pool.run(task, len(ranges))
    return buffers.rows_to_tensor(out, n)


def _table_gradient_along(x: Tensor, along: Tensor, upstream: Tensor, grad: Tensor, layout: HashGridLayout, n: int) -> None:
    """Add to the table's gradient that of the features' derivative along directions: a level to a task."""
    features, rows, target = layout.n_features_per_level, _rows(upstream, n).numpy(), grad.numpy()

    def task(number: int) -> None:
        index = layout.n_levels - 1 - number
        level = layout.levels[index]
        part = target[level.offset * features : (level.offset + level.entries) * features]
        hashgrid_slopes.scatter_along(
            x.numpy(), along.numpy(), rows, part, level.scale, level.resolution, level.entries, level.dense, features,
            index * features, n,
        )  # fmt: skip

    pool.run(task, layout.n_levels)


def _rows(upstream: Tensor, n: int) -> Tensor:
    """Rows or pairs -> float32 rows."""
    if upstream.dtype == torch.int32:
        return buffers.tensor_to_rows(dense(buffers.pairs_to_tensor(upstream, n)))
    return upstream


def _upstream(grad: Tensor) -> Tensor:
    """Gradient of features in any layout -> rows or pairs."""
    return buffers.tensor_to_pairs(grad) if grad.ndim == 3 else buffers.tensor_to_rows(grad)


def dense(features: Tensor) -> Tensor:
    """Features in any layout -> [N, C] float32."""
    if features.ndim == 3:
        return features.permute(1, 0, 2).reshape(features.shape[1], 2 * features.shape[0]).float()
    return features


def _weighed(grad: Tensor, footprints: Tensor | None, layout: HashGridLayout) -> Tensor:
    """Gradient of the features of footprints -> of those of points."""
    return grad if footprints is None else weighed(dense(grad)[:, : layout.n_output_dims], footprints, layout)


class HashEncode(torch.autograd.Function):
    """(positions, table, float16 table or None, whether in pairs, layout, footprints or None, features or None) -> features."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, table: Tensor, half: Tensor | None, paired: bool, layout: HashGridLayout,
        footprints: Tensor | None, features: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Encode, or take over features that were encoded before."""
        n = positions.shape[0]
        x = buffers.tensor_to_rows(positions)
        ctx.save_for_backward(positions, x, table)
        ctx.layout, ctx.n, ctx.footprints = layout, n, footprints
        if features is not None:
            return features.view_as(features)
        out = _forward(x, table.detach() if half is None else half, layout, paired, footprints)
        return buffers.pairs_to_tensor(out, n) if paired else buffers.rows_to_tensor(out, n)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of positions and table, themselves differentiable where that is asked for."""
        (grad,) = grad_outputs
        positions, x, table = ctx.saved_tensors
        d_positions = d_table = None
        if wanted(ctx, 1):
            kept = kept_buffer(table)
            if torch.is_grad_enabled() and kept is None:
                d_table = TableGradient.apply(_weighed(grad, ctx.footprints, ctx.layout), positions, table, ctx.layout)
            else:
                target = torch.zeros_like(table) if kept is None else kept
                _table_gradient(x, _upstream(grad), target, ctx.layout, ctx.n, ctx.footprints)
                d_table = target if kept is None else None
        if wanted(ctx, 0):
            d_positions = PositionGradient.apply(_weighed(grad, ctx.footprints, ctx.layout), positions, table, ctx.layout)
        return d_positions, d_table, None, None, None, None, None


class PositionGradient(torch.autograd.Function):
    """(gradient of features, positions, table, layout) -> gradient of positions [N, D]."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, positions: Tensor, table: Tensor, layout: HashGridLayout) -> Tensor:
        """From the float32 table, whatever the features were read from."""
        ctx.save_for_backward(grad, positions, table)
        ctx.layout = layout
        return _position_gradient(buffers.tensor_to_rows(positions), _upstream(grad), table, layout, positions.shape[0])

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Linear in the first argument: its gradient is the features' derivative along this one; so are the others'."""
        grad, positions, table = ctx.saved_tensors
        n, x, along = positions.shape[0], buffers.tensor_to_rows(positions), buffers.tensor_to_rows(grad_outputs[0])
        d_grad = d_positions = d_table = None
        if wanted(ctx, 0):
            d_grad = laid_out(_features_along(x, along, table, ctx.layout, n), (grad.ndim, grad.dtype))
        if wanted(ctx, 1):
            d_positions = _position_gradient(x, _upstream(grad), table, ctx.layout, n, along)
        if wanted(ctx, 2):
            kept = kept_buffer(table)
            target = torch.zeros_like(table) if kept is None else kept
            _table_gradient_along(x, along, _upstream(grad), target, ctx.layout, n)
            d_table = target if kept is None else None
        return d_grad, d_positions, d_table, None


class TableGradient(torch.autograd.Function):
    """(gradient of features, positions, table, layout) -> gradient of the table [n_params], linear in the first."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, positions: Tensor, table: Tensor, layout: HashGridLayout) -> Tensor:
        """Into a new tensor."""
        ctx.save_for_backward(grad, positions)
        ctx.layout = layout
        target = torch.zeros_like(table)
        _table_gradient(buffers.tensor_to_rows(positions), _upstream(grad), target, layout, positions.shape[0])
        return target

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The upstream gradient takes the table's place."""
        grad, positions = ctx.saved_tensors
        table, n, x = grad_outputs[0].contiguous(), positions.shape[0], buffers.tensor_to_rows(positions)
        d_grad = d_positions = None
        if wanted(ctx, 0):
            found = buffers.rows_to_tensor(_forward(x, table, ctx.layout, False), n)
            d_grad = laid_out(found, (grad.ndim, grad.dtype))
        if wanted(ctx, 1):
            d_positions = _position_gradient(x, _upstream(grad), table, ctx.layout, n)
        return d_grad, d_positions, None, None
