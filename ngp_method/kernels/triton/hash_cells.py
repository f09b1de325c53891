"""Device functions that the hash-grid kernels share: a level's numbers, its cells, its entries, the weight of a corner.

A position x in [0, 1] lies at x * scale + 0.5 in a level's lattice. Entries are counted within their level; they fit 31 bits
even when multiplied by 8 features (a level has at most 2^28 entries, see layout.py), where a level begins needs 64.

A grid of two dimensions (DIMS) has no z: its cell and fraction are 0 (:func:`third`), which is what one factor less means for
entries and weights, and the corners with z + 1 are left out where there are none.

Weights are products over the axes of ``1 - fraction`` or ``fraction``. Their derivative along a direction v is the same product
of dual numbers (w, u): u is -scale * v or scale * v. Kernels with DIRECTIONAL compute that derivative in place of the value:
this is all that the second order needs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..footprints import ERF_TERMS, HALF_CELL, LEAST_CELLS, SCALE_FEATURES
from ..layout import PRIMES
from .aot import FUSED
from .device import interpreted

INTERPRETED: tl.constexpr = tl.constexpr(interpreted())
PRIME_Y: tl.constexpr = tl.constexpr(PRIMES[1])
PRIME_Z: tl.constexpr = tl.constexpr(PRIMES[2])

A1: tl.constexpr = tl.constexpr(ERF_TERMS[0])
A2: tl.constexpr = tl.constexpr(ERF_TERMS[1])
A3: tl.constexpr = tl.constexpr(ERF_TERMS[2])
A4: tl.constexpr = tl.constexpr(ERF_TERMS[3])
HALF: tl.constexpr = tl.constexpr(HALF_CELL)
LEAST: tl.constexpr = tl.constexpr(LEAST_CELLS)
FEATURES: tl.constexpr = tl.constexpr(SCALE_FEATURES)

LEVEL_NUMBERS = 8
"""Numbers of a level in the table of levels: bits of the scale, resolution, entries, offset, dense; then padding."""

ROW: tl.constexpr = tl.constexpr(LEVEL_NUMBERS)

STRIDES = ("x_n", "x_c", "v_n", "v_c", "up_n", "up_c", "out_n", "out_c")
PLAIN = ["n", *STRIDES]
"""Integers that Triton shall not specialise on: sizes change from step to step, each new kind would be compiled anew. (Nor
would it pay: a stride known to be 1 makes Triton lay tiles out along the samples and move them through shared memory.)"""

OPTIONS = {"num_warps": 4, "num_stages": 1, **FUSED}
"""How every hash-grid kernel is launched. No stages: without a matrix product there is nothing to prefetch for."""


SHAPES = (("16x2", 2, 3, False), ("8x4", 4, 3, False), ("plane 16x2", 2, 2, False), ("16x2 footprints", 2, 3, True))
"""What the kernels are compiled for ahead of time: name, features of an entry, dimensions, whether samples have footprints."""


def block_of(count: int) -> int:
    """Rows of a program: eight times as many in the interpreter, which takes as long for a small program as for a large one."""
    return 8 * count if interpreted() else count


@triton.jit
def level_numbers(levels, level):  # type: ignore[no-untyped-def]
    """(scale float32, resolution and entries uint32, offset int64, dense bool) of one level; levels int64 [L, ROW]."""
    at = levels + level * ROW
    scale = tl.load(at).to(tl.int32).to(tl.float32, bitcast=True)
    resolution = tl.load(at + 1).to(tl.uint32)
    entries = tl.load(at + 2).to(tl.uint32)
    return scale, resolution, entries, tl.load(at + 3), tl.load(at + 4) != 0


@triton.jit
def coordinates(points, i, per_point, per_axis, live, DIMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows i of [n, DIMS], strides (per_point, per_axis), any of them 2^31 numbers away -> x, y, z; zero where not live."""
    at = points + i.to(tl.int64) * per_point
    x = tl.load(at, mask=live, other=0.0)
    y = tl.load(at + per_axis, mask=live, other=0.0)
    if DIMS == 3:
        z = tl.load(at + 2 * per_axis, mask=live, other=0.0)
    else:
        z = tl.zeros_like(x)
    return x, y, z


@triton.jit
def unit(x):  # type: ignore[no-untyped-def]
    """The nearest in [0, 1], 0 for NaN."""
    return tl.minimum(tl.where(x > 0.0, x, 0.0), 1.0)


@triton.jit
def inward(x, v):  # type: ignore[no-untyped-def]
    """v where the coordinate lies in [0, 1], else 0: nothing changes with one that lies outside."""
    return tl.where((x >= 0.0) & (x <= 1.0), v, 0.0)


@triton.jit
def lattice(x, scale):  # type: ignore[no-untyped-def]
    """Coordinates along one axis, any number -> (cell uint32, fraction float32)."""
    # Rounded twice, as the reference does it: the product inside an fma cannot be fused with the sum that follows.
    nothing = tl.zeros_like(x)
    at = tl.math.fma(unit(x), nothing + scale, nothing) + 0.5
    cell = tl.floor(at)
    return cell.to(tl.int32).to(tl.uint32), at - cell


@triton.jit
def third(z, scale, DIMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """:func:`lattice` of z where there is one, else cell and fraction 0."""
    if DIMS == 3:
        return lattice(z, scale)
    else:
        return tl.zeros_like(z).to(tl.uint32), tl.zeros_like(z)


@triton.jit
def wrapped(index, entries):  # type: ignore[no-untyped-def]
    """index modulo entries where index < 2 * entries (unsigned: below zero is large); an entry whatever the index was."""
    return tl.minimum(tl.minimum(index, index - entries), entries - 1).to(tl.int32)


@triton.jit
def four_entries(x, y, z, resolution, entries, dense):  # type: ignore[no-untyped-def]
    """Entries int32 of the lattice points (x, y + b, z + c), uint32, for (b, c) = (0, 0), (1, 0), (0, 1), (1, 1)."""
    if dense:
        y0 = x + y * resolution
        y1 = y0 + resolution
        z0 = z * (resolution * resolution)
        z1 = z0 + resolution * resolution
        # A corner past the last lattice point wraps round, as tiny-cuda-nn's modulo has it.
        e0 = wrapped(y0 + z0, entries)
        e1 = wrapped(y1 + z0, entries)
        e2 = wrapped(y0 + z1, entries)
        e3 = wrapped(y1 + z1, entries)
    else:
        mask = entries - 1
        prime_y = tl.full([], PRIME_Y, tl.uint32)
        prime_z = tl.full([], PRIME_Z, tl.uint32)
        y0 = y * prime_y
        y1 = y0 + prime_y
        z0 = z * prime_z
        z1 = z0 + prime_z
        e0 = ((x ^ y0 ^ z0) & mask).to(tl.int32)
        e1 = ((x ^ y1 ^ z0) & mask).to(tl.int32)
        e2 = ((x ^ y0 ^ z1) & mask).to(tl.int32)
        e3 = ((x ^ y1 ^ z1) & mask).to(tl.int32)
    return e0, e1, e2, e3


@triton.jit
def face(wy, uy, wz, uz, DIRECTIONAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Product over two axes, or its derivative along the direction."""
    if DIRECTIONAL:
        return uy * wz + wy * uz
    else:
        return wy * wz


@triton.jit
def weight(wx, ux, wy, uy, wz, uz, DIRECTIONAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Weight of a corner, or its derivative along the direction."""
    if DIRECTIONAL:
        return wx * (uy * wz + wy * uz) + ux * (wy * wz)
    else:
        return wx * wy * wz


@triton.jit
def level_weight(footprint, scale):  # type: ignore[no-untyped-def]
    """Weight of a level for samples of a footprint, float32 of any shape (see :func:`...footprints.level_weights`)."""
    cells = footprint * scale
    x = HALF / tl.where(cells > LEAST, cells, LEAST)
    root = 1.0 + x * (A1 + x * (A2 + x * (A3 + x * A4)))
    square = root * root
    share = 1.0 - 1.0 / (square * square)
    return share * share


@triton.jit
def scale_feature(footprint, levels, number, L: tl.constexpr):  # type: ignore[no-untyped-def]
    """Features ``number`` of the width of samples, of any shape that goes with the footprints'; zero behind the last."""
    level = L - 1 - (2 * number * (L - 1 - L // 2) + 3) // 6
    scale = tl.load(levels + tl.maximum(level, 0) * ROW).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.where(number < FEATURES, 2.0 * level_weight(footprint, scale) - 1.0, 0.0)


@triton.jit
def rounded(x, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """float32 -> DTYPE, to the nearest also in the interpreter, whose conversion to bfloat16 cuts off."""
    if INTERPRETED and tl.bfloat16 == DTYPE:
        bits = x.to(tl.uint32, bitcast=True)
        bits += 0x7FFF + ((bits >> 16) & 1)
        return (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(DTYPE)
