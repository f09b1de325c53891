"""The operation ``density_head`` in one launch each way, where torch needs two and five."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .. import density_head
from . import packing_kernels
from .aot import Variant
from .packing_kernels import PLAIN, variant

CLAMP: tl.constexpr = tl.constexpr(density_head.CLAMP)


@triton.jit(do_not_specialize=PLAIN)
def densities(raw, sigmas, n, per_raw, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """exp(raw) * scale, of first outputs that lie ``per_raw`` apart."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(sigmas + i, tl.exp(tl.load(raw + i * per_raw, mask=i < n, other=0.0)) * scale, mask=i < n)


@triton.jit(do_not_specialize=PLAIN)
def add_slopes(raw, d_sigmas, d_raw, n, per_raw, per_sigma, per_d, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Adds to d_raw the densities' gradients times exp(clamp(raw)) * scale."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.minimum(tl.maximum(tl.load(raw + i * per_raw, mask=i < n, other=0.0), 0.0 - CLAMP), CLAMP)
    slope = tl.load(d_sigmas + i * per_sigma, mask=i < n, other=0.0) * scale * tl.exp(value)
    tl.store(d_raw + i * per_d, tl.load(d_raw + i * per_d, mask=i < n, other=0.0) + slope, mask=i < n)


def sigmas_of(raw: Tensor, unit: float) -> Tensor:
    """See :func:`..density_head.sigmas_of`."""
    raw = raw.detach()
    found = raw.new_empty(raw.shape[0])
    if raw.shape[0]:
        grid, sizes = packing_kernels.launch(raw.shape[0])
        densities[grid](raw, found, raw.shape[0], raw.stride(0), 1.0 / unit, **sizes)
    return found


def add_slope(d_raw: Tensor, d_sigma: Tensor, raw: Tensor, unit: float) -> None:
    """See :func:`..density_head.add_slope`."""
    if raw.shape[0]:
        grid, sizes = packing_kernels.launch(raw.shape[0])
        strides = (raw.stride(0), d_sigma.stride(0), d_raw.stride(0))
        add_slopes[grid](raw.detach(), d_sigma, d_raw, raw.shape[0], *strides, 1.0 / unit, **sizes)


def variants() -> list[Variant]:
    """As outputs of the perceptrons lie, sample beside sample."""
    types = {"*fp32": "raw sigmas d_sigmas d_raw", "i32": "n", "fp32": "scale"}
    beside = {"per_raw": 1, "per_sigma": 1, "per_d": 1, **packing_kernels.SIZES}
    return [variant("density_head", densities, types, beside), variant("density_head_backward", add_slopes, types, beside)]
