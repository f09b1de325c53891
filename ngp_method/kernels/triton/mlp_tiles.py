"""What the perceptron kernels are made of: device functions on tiles of samples.

Tiles are sample-major, [BLOCK, C] with a sample to a row: a layer is ``h @ trans(W)``. The sums of a matrix product then lie
in registers as the left operand of the next product wants them (NVIDIA's mma and wgmma), so that a chain of layers goes
through no shared memory: on sm_80 and sm_90 the conversion between two layers compiles to no instruction but the rounding.
Feature-major, ``W @ h``, the sums would be right operands: Ampere wants those in other registers, Hopper in shared memory,
and each layer would be written there and read back (256 bytes a sample and layer of 64). Memory is feature-major all the same,
samples side by side; its one transposition happens on the way of the inputs to the first product (ldmatrix does it).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .hash_cells import INTERPRETED, rounded


@triton.jit
def cast(tile, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """``tile`` in DTYPE, to the nearest."""
    if tile.dtype == DTYPE:
        return tile
    else:
        return rounded(tile.to(tl.float32), DTYPE)


@triton.jit
def product(a, b, sums):  # type: ignore[no-untyped-def]
    """sums + a @ b, in float32."""
    if INTERPRETED:  # its matrix product takes bfloat16 for integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision="ieee")


@triton.jit
def matrix(  # type: ignore[no-untyped-def]
    start, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """float32 [ROWS, COLUMNS] at ``start``, rows STRIDE apart -> tile [R, C] in DTYPE, zero beyond."""
    r = tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    if ROWS == R and COLUMNS == C:
        tile = tl.load(start + r * STRIDE + c)
    else:
        tile = tl.load(start + r * STRIDE + c, mask=(r < ROWS) & (c < COLUMNS), other=0.0)
    return cast(tile, DTYPE)


@triton.jit
def first_matrix(  # type: ignore[no-untyped-def]
    weights, C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The first matrix's columns of up to three parts -> three tiles; without a second or third part the first again."""
    w0 = matrix(weights, INPUTS, WIDTH, C0, W, P0, DTYPE)
    w1 = w0
    w2 = w0
    if C1 > 0:
        w1 = matrix(weights + C0, INPUTS, WIDTH, C1, W, P1, DTYPE)
    if C2 > 0:
        w2 = matrix(weights + C0 + C1, INPUTS, WIDTH, C2, W, P2, DTYPE)
    return w0, w1, w2


@triton.jit
def later_matrices(  # type: ignore[no-untyped-def]
    inner, WIDTH: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """(The first two matrices between hidden layers, the last matrix); the last again in place of those that there are not.

    Args:
        inner: where the first matrix ends.
    """
    if HIDDEN > 1:
        m1 = matrix(inner, WIDTH, WIDTH, WIDTH, W, W, DTYPE)
    if HIDDEN > 2:
        m2 = matrix(inner + WIDTH * WIDTH, WIDTH, WIDTH, WIDTH, W, W, DTYPE)
    w_out = matrix(inner + (HIDDEN - 1) * WIDTH * WIDTH, WIDTH, ROWS, WIDTH, OUT, W, DTYPE)
    # In place of what there is not only now: with the last matrix loaded first, more is spilled on gfx942.
    if HIDDEN <= 1:
        m1 = w_out
    if HIDDEN <= 2:
        m2 = w_out
    return m1, m2, w_out


@triton.jit
def add_matrix(  # type: ignore[no-untyped-def]
    start, tile, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, R: tl.constexpr, C: tl.constexpr
):
    """Add a tile to float32 [ROWS, COLUMNS] at ``start``, together with all other programs."""
    r = tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    if ROWS == R and COLUMNS == C:
        tl.atomic_add(start + r * STRIDE + c, tile, sem="relaxed")
    else:
        tl.atomic_add(start + r * STRIDE + c, tile, mask=(r < ROWS) & (c < COLUMNS), sem="relaxed")


@triton.jit
def part(  # type: ignore[no-untyped-def]
    start, per_sample, per_feature, first, n, COUNT: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr,
    RUNS: tl.constexpr,
):  # fmt: skip
    """Features of samples first .. first + BLOCK - 1 -> tile [BLOCK, C], zero beyond COUNT features.

    RUNS: see runs.py; what lies beyond ``n`` is anything. Else strides are any, and beyond ``n`` lies zero.
    """
    s = tl.arange(0, BLOCK)[:, None]
    c = tl.arange(0, C)[None, :]
    if RUNS:
        # 128 features of 2^23 samples are 2^30 numbers: 32 bits do. Divided and multiplied, it is seen to be a multiple of 16.
        at = start + first + (s + c * (per_feature // 16 * 16))
        wanted = first + s < (n + 15) // 16 * 16
    else:
        # Where the tile begins may be 2^31 numbers away; within a tile 32 bits do, rows being shorter than 2^20.
        at = start + tl.full([], first, tl.int64) * per_sample + (s * per_sample + c * per_feature)
        wanted = first + s < n
    if COUNT == C:
        return tl.load(at, mask=wanted, other=0.0)
    else:
        return tl.load(at, mask=wanted & (c < COUNT), other=0.0)


@triton.jit
def before(tile, first, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The tile [BLOCK, C] with zero from sample ``n`` on."""
    return tl.where(first + tl.arange(0, BLOCK)[:, None] < n, tile, 0.0)


@triton.jit
def put_runs(start, tile, first, n, COUNT: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store a tile [BLOCK, C] in runs (see runs.py)."""
    s = tl.arange(0, BLOCK)[:, None]
    c = tl.arange(0, C)[None, :]
    room = (n + 15) // 16 * 16
    tile = cast(tile, start.dtype.element_ty)
    tl.store(start + first + (s + c * room), tile, mask=(first + s < room) & (c < COUNT))


@triton.jit
def relu(sums, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """max(sums, 0) in DTYPE; not-a-number stays so."""
    return cast(tl.maximum(sums, 0.0, propagate_nan=tl.PropagateNan.ALL), DTYPE)


@triton.jit
def positive(h):  # type: ignore[no-untyped-def]
    """Where activations are above zero."""
    if INTERPRETED:  # bfloat16 is compared as integers there
        h = h.to(tl.float32)
    return h > 0.0


@triton.jit
def first_layer(  # type: ignore[no-untyped-def]
    a0, a1, a2, w0, w1, w2, C1: tl.constexpr, C2: tl.constexpr, BLOCK: tl.constexpr, W: tl.constexpr
):
    """Up to three parts times their columns of the first matrix -> sums [BLOCK, W]."""
    sums = product(a0, tl.trans(w0), tl.zeros([BLOCK, W], tl.float32))
    if C1 > 0:
        sums = product(a1, tl.trans(w1), sums)
    if C2 > 0:
        sums = product(a2, tl.trans(w2), sums)
    return sums


@triton.jit
def inner_matrix(  # type: ignore[no-untyped-def]
    start, m1, m2, K: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr, DTYPE: tl.constexpr
):
    """Matrix K of those between hidden layers, the first being 1; the first two are there already."""
    if K == 1:
        return m1
    elif K == 2:
        return m2
    else:
        return matrix(start + (K - 1) * WIDTH * WIDTH, WIDTH, WIDTH, WIDTH, W, W, DTYPE)


@triton.jit
def hidden(  # type: ignore[no-untyped-def]
    sums, start, m1, m2, LAYER: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, W: tl.constexpr, DTYPE: tl.constexpr
):
    """Sums of the first layer -> activations of hidden layer LAYER, the first being 1."""
    h = relu(sums, DTYPE)
    for k in tl.static_range(1, LAYER):
        w = inner_matrix(start, m1, m2, k, WIDTH, W, DTYPE)
        h = relu(product(h, tl.trans(w), tl.zeros([BLOCK, W], tl.float32)), DTYPE)
    return h


@triton.jit
def power_of_two(top):  # type: ignore[no-untyped-def]
    """A scalar float32 -> (the power of two that brings it to 8 .. 16, its inverse).

    float16 reaches from 2^-24 to 2^16: what is smaller than the largest by 2^17 still has all its digits, and products with
    matrices may make the largest 4,096 times as large. Zero, infinity and not-a-number stay what they are.
    """
    exponent = tl.maximum(top.to(tl.int32, bitcast=True) >> 23, 8)
    return ((257 - exponent) << 23).to(tl.float32, bitcast=True), ((exponent - 3) << 23).to(tl.float32, bitcast=True)


@triton.jit
def add_product(sums, a, b, inverse, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """sums + a @ b * inverse: a factor that belongs to this tile of samples alone, and is 1 but in float16."""
    if DTYPE == tl.float16:  # noqa: SIM300 - a constexpr compares from the left
        return sums + product(a, b, tl.zeros_like(sums)) * inverse
    else:
        return product(a, b, sums)
