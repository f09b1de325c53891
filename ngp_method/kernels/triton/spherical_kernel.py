"""Spherical harmonics of degree 4: one pass, 12 bytes read and 16 values written a direction; and the way back."""

from __future__ import annotations

import triton
import triton.language as tl

from .. import spherical
from . import aot
from .hash_cells import OPTIONS, block_of, coordinates, rounded

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


# Constants stand on the right: in the interpreter a constant times a tensor is no tensor.


@triton.jit
def band_0(x):  # type: ignore[no-untyped-def]
    """The first spherical harmonic, a constant; the others follow, of unit directions (x, y, z). See ..spherical for the forms.

    A function for each band, as all 16 values of two directions at once would be many to hold until they are stored.
    """
    return tl.zeros_like(x) + C0


@triton.jit
def band_1(x, y, z):  # type: ignore[no-untyped-def]
    """Numbers 1 to 3."""
    return y * -C1, z * C1, x * -C1


@triton.jit
def band_2(x, y, z):  # type: ignore[no-untyped-def]
    """Numbers 4 to 8."""
    return x * y * C2_XY, y * z * -C2_XY, (3.0 * (z * z) - 1.0) * C2_ZZ, x * z * -C2_XY, (x * x - y * y) * C2_XX


@triton.jit
def band_3(x, y, z):  # type: ignore[no-untyped-def]
    """Numbers 9 to 15."""
    xx = x * x
    yy = y * y
    zz = z * z
    h9, h10, h11 = y * (yy - 3.0 * xx) * C3_33, x * y * z * C3_XYZ, y * (1.0 - 5.0 * zz) * C3_1
    h13, h14, h15 = x * (1.0 - 5.0 * zz) * C3_1, z * (xx - yy) * C3_2, x * (3.0 * yy - xx) * C3_33
    return h9, h10, h11, z * (5.0 * zz - 3.0) * C3_0, h13, h14, h15


@triton.jit
def put(row, band, value, out_c, live):  # type: ignore[no-untyped-def]
    """Store one harmonic of all directions."""
    tl.store(row + tl.full([], band, tl.int64) * out_c, rounded(value, row.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=["n", "d_n", "d_c", "out_n", "out_c"])
def spherical_kernel(d, out, n, d_n, d_c, out_n, out_c, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """d float32 [n, 3], strides (d_n, d_c) -> out [n, 16], strides (out_n, out_c); see ..spherical for the forms."""
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = sample < n
    x, y, z = coordinates(d, sample, d_n, d_c, live, 3)
    row = out + sample.to(tl.int64) * out_n
    put(row, 0, band_0(x), out_c, live)
    h1, h2, h3 = band_1(x, y, z)
    put(row, 1, h1, out_c, live)
    put(row, 2, h2, out_c, live)
    put(row, 3, h3, out_c, live)
    h4, h5, h6, h7, h8 = band_2(x, y, z)
    put(row, 4, h4, out_c, live)
    put(row, 5, h5, out_c, live)
    put(row, 6, h6, out_c, live)
    put(row, 7, h7, out_c, live)
    put(row, 8, h8, out_c, live)
    h9, h10, h11, h12, h13, h14, h15 = band_3(x, y, z)
    put(row, 9, h9, out_c, live)
    put(row, 10, h10, out_c, live)
    put(row, 11, h11, out_c, live)
    put(row, 12, h12, out_c, live)
    put(row, 13, h13, out_c, live)
    put(row, 14, h14, out_c, live)
    put(row, 15, h15, out_c, live)


@triton.jit
def taken(row, band, up_c, live):  # type: ignore[no-untyped-def]
    """Load the gradient of one harmonic of all directions, float32."""
    return tl.load(row + tl.full([], band, tl.int64) * up_c, mask=live, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["n", "d_n", "d_c", "up_n", "up_c", "out_n", "out_c"])
def gradient_kernel(d, up, out, n, d_n, d_c, up_n, up_c, out_n, out_c, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Gradient of the harmonics up [n, 16] -> that of the directions, out float32 [n, 3], all of any strides.

    Term by term as ``direction_gradient`` of ..spherical has it, a harmonic at a time.
    """
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = sample < n
    x, y, z = coordinates(d, sample, d_n, d_c, live, 3)
    row = up + sample.to(tl.int64) * up_n
    g = taken(row, 4, up_c, live) * C2_XY
    d_x = y * g - taken(row, 3, up_c, live) * C1
    d_y = x * g - taken(row, 1, up_c, live) * C1
    d_z = taken(row, 2, up_c, live) * C1
    g = taken(row, 5, up_c, live) * C2_XY
    d_y -= z * g
    d_z -= y * g
    d_z += z * taken(row, 6, up_c, live) * (C2_ZZ * 6.0)
    g = taken(row, 7, up_c, live) * C2_XY
    d_x -= z * g
    d_z -= x * g
    g = taken(row, 8, up_c, live) * (C2_XX * 2.0)
    d_x += x * g
    d_y -= y * g
    across = (y * y - x * x) * 3.0
    g = taken(row, 9, up_c, live) * C3_33
    d_x -= x * y * g * 6.0
    d_y += across * g
    g = taken(row, 10, up_c, live) * C3_XYZ
    d_x += y * z * g
    d_y += x * z * g
    d_z += x * y * g
    thin = 1.0 - z * z * 5.0
    g = taken(row, 11, up_c, live) * C3_1
    d_y += thin * g
    d_z -= y * z * g * 10.0
    d_z += (z * z * 15.0 - 3.0) * taken(row, 12, up_c, live) * C3_0
    g = taken(row, 13, up_c, live) * C3_1
    d_x += thin * g
    d_z -= x * z * g * 10.0
    g = taken(row, 14, up_c, live) * C3_2
    d_x += x * z * g * 2.0
    d_y -= y * z * g * 2.0
    d_z += (x * x - y * y) * g
    g = taken(row, 15, up_c, live) * C3_33
    d_x += across * g
    d_y += x * y * g * 6.0
    to = out + sample.to(tl.int64) * out_n
    put(to, 0, d_x, out_c, live)
    put(to, 1, d_y, out_c, live)
    put(to, 2, d_z, out_c, live)


def variants() -> list[aot.Variant]:
    """In every dtype."""
    whole = dict.fromkeys(("n", "d_n", "d_c", "out_n", "out_c"), "i32")
    back = {"d": "*fp32", "out": "*fp32", **whole, **dict.fromkeys(("up_n", "up_c"), "i32")}
    kinds, sizes = {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32"}, {"BLOCK": BLOCK, **OPTIONS}
    found = [
        aot.variant(f"spherical/{name}", spherical_kernel, {"d": "*fp32", "out": kind, **whole}, sizes)
        for name, kind in kinds.items()
    ]
    # float16 harmonics have float32 gradients.
    return found + [
        aot.variant(f"spherical_gradient/{name}", gradient_kernel, {**back, "up": kinds[name]}, sizes)
        for name in ("bfloat16", "float32")
    ]
