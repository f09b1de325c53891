"""The operation ``density_head`` in one launch each way, where torch needs two and six."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import density_head
from . import packing_kernels
from .aot import Variant
from .packing_kernels import PLAIN, variant
from .runs import empty_runs

CLAMP: tl.constexpr = tl.constexpr(density_head.CLAMP)


@triton.jit(do_not_specialize=PLAIN)
def densities(raw, sigmas, n, per_raw, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """exp(raw) * scale, of first outputs that lie ``per_raw`` apart."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(sigmas + i, tl.exp(tl.load(raw + i * per_raw, mask=i < n, other=0.0)) * scale, mask=i < n)


@triton.jit(do_not_specialize=PLAIN)
def with_slopes(  # type: ignore[no-untyped-def]
    raw, d_sigmas, d_raw, out, n, columns, per_raw, per_sigma, per_d, per_channel, room, scale, BLOCK: tl.constexpr
):
    """d_raw [n, columns], strides (per_d, per_channel), in rows out [columns, room]; to its first column are added the
    densities' gradients times exp(clamp(raw)) * scale.
    """
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = i < n
    value = tl.minimum(tl.maximum(tl.load(raw + i * per_raw, mask=real, other=0.0), 0.0 - CLAMP), CLAMP)
    slope = tl.load(d_sigmas + i * per_sigma, mask=real, other=0.0) * scale * tl.exp(value)
    tl.store(out + i, tl.load(d_raw + i * per_d, mask=real, other=0.0) + slope, mask=real)
    for column in range(1, columns):
        tl.store(out + column * room + i, tl.load(d_raw + column * per_channel + i * per_d, mask=real, other=0.0), mask=real)


def sigmas_of(raw: Tensor, unit: float) -> Tensor:
    """See :func:`..density_head.sigmas_of`."""
    raw = raw.detach()
    found = raw.new_empty(raw.shape[0])
    if raw.shape[0]:
        grid, sizes = packing_kernels.launch(raw.shape[0])
        densities[grid](raw, found, raw.shape[0], raw.stride(0), 1.0 / unit, **sizes)
    return found


def with_slope(d_raw: Tensor, d_sigma: Tensor, raw: Tensor, unit: float) -> Tensor:
    """See :func:`..density_head.with_slope`."""
    n, columns = raw.shape
    out = empty_runs(n, columns, torch.float32, raw.device)
    if n:
        grid, sizes = packing_kernels.launch(n)
        strides = (raw.stride(0), d_sigma.stride(0), *d_raw.stride(), out.stride(1))
        with_slopes[grid](raw.detach(), d_sigma, d_raw, out, n, columns, *strides, 1.0 / unit, **sizes)
    return out


def variants() -> list[Variant]:
    """As outputs of the perceptrons lie, and their gradients."""
    types = {"*fp32": "raw sigmas d_sigmas d_raw out", "i32": "n columns per_channel room", "fp32": "scale"}
    beside = {"per_raw": 1, "per_sigma": 1, "per_d": 1, **packing_kernels.SIZES}
    return [variant("density_head", densities, types, beside), variant("density_head_backward", with_slopes, types, beside)]
