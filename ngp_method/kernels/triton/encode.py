"""The encodings as torch operations on the Triton kernels."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..gradients import first_order_only, kept_buffer, wanted
from ..layout import HashGridLayout
from ..spherical import SH_DIM
from . import spherical_kernel
from .hash_cells import OPTIONS
from .hash_launch import add_table_gradient, encode, position_gradient
from .runs import empty_runs


def _table_gradient(
    grad: Tensor, x: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None, direction: Tensor | None = None
) -> Tensor | None:
    """The table's gradient, or None where it went to ``table.grad`` itself."""
    kept = kept_buffer(table)
    target = torch.zeros_like(table) if kept is None else kept
    add_table_gradient(target, grad.detach(), x.detach(), layout, footprints, direction)
    return target if kept is None else None


class HashEncode(torch.autograd.Function):
    """(positions, table, float16 table or None, layout, dtype, footprints or None, features or None) -> features."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, table: Tensor, half: Tensor | None, layout: HashGridLayout, dtype: torch.dtype,
        footprints: Tensor | None, features: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Encode, or take over features that were encoded before."""
        ctx.save_for_backward(positions, table)
        ctx.half, ctx.layout, ctx.footprints = half, layout, footprints
        if features is not None:
            return features.view_as(features) if features.dtype == dtype else features.to(dtype)
        return encode(positions, table.detach() if half is None else half, layout, dtype, footprints)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of positions and table, themselves differentiable."""
        grad = grad_outputs[0][:, : ctx.layout.n_output_dims]  # the others' do not depend on either
        positions, table = ctx.saved_tensors
        d_positions = d_table = None
        if wanted(ctx, 0):
            d_positions = PositionGradient.apply(grad, positions, table, ctx.half, ctx.layout, ctx.footprints)
        if wanted(ctx, 1):
            if torch.is_grad_enabled() and kept_buffer(table) is None:
                d_table = TableGradient.apply(grad, positions, table, ctx.layout, ctx.footprints)
            else:
                d_table = _table_gradient(grad, positions, table, ctx.layout, ctx.footprints)
        return d_positions, d_table, None, None, None, None, None


class PositionGradient(torch.autograd.Function):
    """(gradient of features, positions, table, float16 table or None, layout, footprints or None) -> gradient of positions
    [N, n_dims]."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, positions: Tensor, table: Tensor, half: Tensor | None, layout: HashGridLayout,
        footprints: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """From the table that the features were read from."""
        ctx.save_for_backward(grad, positions, table)
        ctx.half, ctx.layout, ctx.footprints = half, layout, footprints
        return position_gradient(grad, positions, table.detach() if half is None else half, layout, footprints)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Linear in the first argument: its gradient is the features' derivative along this one; so are the others'."""
        (direction,) = grad_outputs
        grad, positions, table = ctx.saved_tensors
        source = table if ctx.half is None else ctx.half
        d_grad = d_positions = d_table = None
        if wanted(ctx, 0):
            d_grad = encode(positions, source, ctx.layout, grad.dtype, ctx.footprints, direction)
        if wanted(ctx, 1):
            d_positions = position_gradient(grad, positions, source, ctx.layout, ctx.footprints, direction)
        if wanted(ctx, 2):
            d_table = _table_gradient(grad, positions, table, ctx.layout, ctx.footprints, direction)
        return d_grad, d_positions, d_table, None, None, None


class TableGradient(torch.autograd.Function):
    """(gradient of features, positions, table, layout, footprints or None) -> gradient of the table [n_params], linear in the
    first."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None
    ) -> Tensor:
        """Into a new tensor."""
        ctx.save_for_backward(grad, positions)
        ctx.layout, ctx.footprints = layout, footprints
        target = torch.zeros_like(table)
        add_table_gradient(target, grad, positions, layout, footprints)
        return target

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The upstream gradient takes the table's place."""
        (upstream,) = grad_outputs
        grad, positions = ctx.saved_tensors
        upstream, given = upstream.contiguous(), (ctx.layout, ctx.footprints)
        d_grad = None
        if wanted(ctx, 0):
            d_grad = encode(positions, upstream, ctx.layout, grad.dtype, ctx.footprints)[:, : ctx.layout.n_output_dims]
        d_positions = position_gradient(grad, positions, upstream, *given) if wanted(ctx, 1) else None
        return d_grad, d_positions, None, None, None


def hash_encode(
    positions: Tensor,
    table: Tensor,
    half: Tensor | None,
    layout: HashGridLayout,
    dtype: torch.dtype,
    footprints: Tensor | None = None,
    features: Tensor | None = None,
) -> Tensor:
    """Multiresolution hash encoding, twice differentiable (see the interface).

    Args:
        positions: [N, n_dims] float32 in [0, 1], any strides.
        table: [n_params] float32.
        half: float16 copy of the table to read instead; gradients go to ``table``. Also for bfloat16 features: float16 has the
            better mantissa, and entries are far from its limits.
        layout: levels and sizes.
        dtype: of the features. In float16 their gradients would underflow (loss scaling is not ours to demand), and a gradient
            has its tensor's type: float16 features are returned as float32 where a gradient is wanted, as float16 elsewhere.
            bfloat16 and float32 features always have their type.
        footprints: [N] of the samples, or None (see the interface).
        features: what was returned before for just these: not computed again.
    Returns:
        [N, C] in runs, strides (1, N rounded up to 16).
    """
    if layout.n_features_per_level == 1:
        raise ValueError("The triton kernels need 2, 4 or 8 features per level; use --pipeline.model.kernels reference.")
    if torch.is_grad_enabled() and (positions.requires_grad or table.requires_grad):
        wide = torch.float32 if dtype == torch.float16 else dtype
        result = HashEncode.apply(positions, table, half, layout, wide, footprints, features)
        assert isinstance(result, Tensor)
        return result
    if features is not None:
        return features
    return encode(positions, table if half is None else half, layout, dtype, footprints)


class DirectionGradient(torch.autograd.Function):
    """(directions, their harmonics) -> the harmonics, with a gradient to the directions."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, harmonics: Tensor) -> Tensor:
        ctx.save_for_backward(directions)
        return harmonics.view_as(harmonics)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """See :func:`spherical_kernel.gradient_kernel`."""
        ((up,), (directions,)), block = (grad_outputs, ctx.saved_tensors), spherical_kernel.BLOCK
        n = directions.shape[0]
        out = empty_runs(n, 3, torch.float32, directions.device)
        if n:
            spherical_kernel.gradient_kernel[(triton.cdiv(n, block),)](
                directions, up, out, n, *directions.stride(), *up.stride(), *out.stride(), BLOCK=block, **OPTIONS
            )
        return out, None


def _harmonics(directions: Tensor, dtype: torch.dtype) -> Tensor:
    n = directions.shape[0]
    out = empty_runs(n, SH_DIM, dtype, directions.device)
    if n:
        d, block = directions.detach(), spherical_kernel.BLOCK
        spherical_kernel.spherical_kernel[(triton.cdiv(n, block),)](
            d, out, n, *d.stride(), *out.stride(), BLOCK=block, **OPTIONS
        )
    return out


def with_direction_gradient(directions: Tensor, harmonics: Tensor) -> Tensor:
    """Harmonics of directions, which may come from anywhere, with the polynomials' gradient to the directions."""
    found = DirectionGradient.apply(directions, harmonics)
    assert isinstance(found, Tensor)
    return found


def sh_encode(directions: Tensor, dtype: torch.dtype) -> Tensor:
    """Spherical harmonics of degree 4: [N, 3] float32, any strides -> [N, 16] in ``dtype``, in runs.

    float16 becomes float32 where a gradient is wanted, as in :func:`hash_encode`.
    """
    if torch.is_grad_enabled() and directions.requires_grad:
        wide = torch.float32 if dtype == torch.float16 else dtype
        return with_direction_gradient(directions, _harmonics(directions, wide))
    return _harmonics(directions, dtype)
