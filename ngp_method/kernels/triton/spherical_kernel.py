"""Spherical harmonics of degree 4: one pass, 12 bytes read and 16 values written a direction."""

from __future__ import annotations

import triton
import triton.language as tl

from .. import spherical
from . import aot
from .hash_cells import block_of, rounded
from .hash_kernels import variant

C0: tl.constexpr = tl.constexpr(spherical.C0)
C1: tl.constexpr = tl.constexpr(spherical.C1)
C2_XY: tl.constexpr = tl.constexpr(spherical.C2_XY)
C2_ZZ: tl.constexpr = tl.constexpr(spherical.C2_ZZ)
C2_XX: tl.constexpr = tl.constexpr(spherical.C2_XX)
C3_33: tl.constexpr = tl.constexpr(spherical.C3_33)
C3_XYZ: tl.constexpr = tl.constexpr(spherical.C3_XYZ)
C3_1: tl.constexpr = tl.constexpr(spherical.C3_1)
C3_0: tl.constexpr = tl.constexpr(spherical.C3_0)
C3_2: tl.constexpr = tl.constexpr(spherical.C3_2)

BLOCK = block_of(256)
"""Directions of a program: two a thread."""


@triton.jit
def put(row, band, value, out_c, live):  # type: ignore[no-untyped-def]
    """Store one harmonic of all directions."""
    tl.store(row + tl.full([], band, tl.int64) * out_c, rounded(value, row.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=["n", "d_n", "d_c", "out_n", "out_c"])
def spherical_kernel(d, out, n, d_n, d_c, out_n, out_c, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """d float32 [n, 3], strides (d_n, d_c) -> out [n, 16], strides (out_n, out_c); see ..spherical for the forms."""
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = sample < n
    at = d + sample.to(tl.int64) * d_n
    x = tl.load(at, mask=live, other=0.0)
    y = tl.load(at + d_c, mask=live, other=0.0)
    z = tl.load(at + 2 * d_c, mask=live, other=0.0)
    xx = x * x
    yy = y * y
    zz = z * z
    row = out + sample.to(tl.int64) * out_n
    # Constants stand on the right: in the interpreter a constant times a tensor is no tensor.
    put(row, 0, tl.zeros_like(x) + C0, out_c, live)
    put(row, 1, y * -C1, out_c, live)
    put(row, 2, z * C1, out_c, live)
    put(row, 3, x * -C1, out_c, live)
    put(row, 4, x * y * C2_XY, out_c, live)
    put(row, 5, y * z * -C2_XY, out_c, live)
    put(row, 6, (3.0 * zz - 1.0) * C2_ZZ, out_c, live)
    put(row, 7, x * z * -C2_XY, out_c, live)
    put(row, 8, (xx - yy) * C2_XX, out_c, live)
    put(row, 9, y * (yy - 3.0 * xx) * C3_33, out_c, live)
    put(row, 10, x * y * z * C3_XYZ, out_c, live)
    put(row, 11, y * (1.0 - 5.0 * zz) * C3_1, out_c, live)
    put(row, 12, z * (5.0 * zz - 3.0) * C3_0, out_c, live)
    put(row, 13, x * (1.0 - 5.0 * zz) * C3_1, out_c, live)
    put(row, 14, z * (xx - yy) * C3_2, out_c, live)
    put(row, 15, x * (3.0 * yy - xx) * C3_33, out_c, live)


def variants() -> list[aot.Variant]:
    """In every dtype."""
    whole = dict.fromkeys(("n", "d_n", "d_c", "out_n", "out_c"), "i32")
    constants = {"BLOCK": BLOCK}
    kinds = {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32"}
    return [
        variant(f"spherical/{name}", spherical_kernel, {"d": "*fp32", "out": kind, **whole}, constants, ("d", "out"))
        for name, kind in kinds.items()
    ]
