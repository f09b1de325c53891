"""Two operations in one kernel, for inference: hash encoding and perceptron, spherical harmonics and perceptron.

A thread has one sample and all of its features, gathered or computed one after the other and joined into the tile of the first
product, which is turned into the product's operand in shared memory. They never reach the device's memory: 128 bytes a sample
saved of the 140 that encoding and density take beside the table's entries, 64 of the 140 that harmonics and colour take.

What is lost is the order of the levels: the encoding's own kernel goes through them one after the other, so that one level's
entries are wanted from the L2 cache at a time. Where the whole table does not fit there, this is dearer than what is saved.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .hash_cells import coordinates, level_numbers, level_weight, scale_feature
from .hash_kernels import interpolated
from .mlp_tiles import cast, first_layer, first_matrix, hidden, later_matrices, part, product, put_runs
from .spherical_kernel import band_0, band_1, band_2, band_3

PLAIN = ["n", "x_n", "x_c", "raw_n", "raw_c", "d_n", "d_c"]
"""Integers that Triton shall not specialise on (see mlp_kernels.py)."""


@triton.jit
def level_features(  # type: ignore[no-untyped-def]
    x, y, z, footprint, table, levels, level, F: tl.constexpr, DIMS: tl.constexpr, WEIGHTED: tl.constexpr
):
    """Features of positions [BLOCK] in one level, weighed by footprints [BLOCK] if WEIGHTED -> float32 [BLOCK, F]."""
    scale, resolution, entries, offset, dense = level_numbers(levels, level)
    f = tl.arange(0, F)
    sums = interpolated(x, y, z, x, y, z, table + offset * F, f, scale, resolution, entries, dense, F, DIMS, False)
    if WEIGHTED:
        sums = sums * level_weight(footprint, scale)[:, None]
    return sums


@triton.jit
def levels_2(  # type: ignore[no-untyped-def]
    x, y, z, footprint, table, levels, level, STEP: tl.constexpr, F: tl.constexpr, DIMS: tl.constexpr, WEIGHTED: tl.constexpr
):
    """``level`` and ``level + STEP``, joined along a new last axis. (Three functions, as Triton 3.2 has neither lists nor
    recursion.)"""
    return tl.join(
        level_features(x, y, z, footprint, table, levels, level, F, DIMS, WEIGHTED),
        level_features(x, y, z, footprint, table, levels, level + STEP, F, DIMS, WEIGHTED),
    )


@triton.jit
def levels_4(  # type: ignore[no-untyped-def]
    x, y, z, footprint, table, levels, level, STEP: tl.constexpr, F: tl.constexpr, DIMS: tl.constexpr, WEIGHTED: tl.constexpr
):
    """Levels ``level``, + STEP, + 2 STEP, + 3 STEP; the last axis is the lowest bit of their order."""
    return tl.join(
        levels_2(x, y, z, footprint, table, levels, level, 2 * STEP, F, DIMS, WEIGHTED),
        levels_2(x, y, z, footprint, table, levels, level + STEP, 2 * STEP, F, DIMS, WEIGHTED),
    )


@triton.jit
def sixteen_features(  # type: ignore[no-untyped-def]
    x, y, z, footprint, table, levels, level,
    F: tl.constexpr, DIMS: tl.constexpr, WEIGHTED: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Features of positions [BLOCK] in 16 / F levels from ``level`` on -> tile [BLOCK, 16], level-minor (f * 16 / F + l)."""
    if F == 8:
        tile = levels_2(x, y, z, footprint, table, levels, level, 1, F, DIMS, WEIGHTED)
    elif F == 4:
        tile = levels_4(x, y, z, footprint, table, levels, level, 1, F, DIMS, WEIGHTED)
    else:
        tile = tl.join(
            levels_4(x, y, z, footprint, table, levels, level, 2, F, DIMS, WEIGHTED),
            levels_4(x, y, z, footprint, table, levels, level + 1, 2, F, DIMS, WEIGHTED),
        )
    # Rounded after the reshape, not before: what comes straight from a reshape, Triton (3.9, sm_100) wants to reshape in shared
    # memory, and the compiler aborts.
    return cast(tl.reshape(tile, [BLOCK, 16]), DTYPE)


@triton.jit
def four(a, b, c, d):  # type: ignore[no-untyped-def]
    """Values number k, k + 4, k + 8, k + 12 of a sample, joined: the new axes are the two highest bits of their order."""
    return tl.join(tl.join(a, c), tl.join(b, d))


@triton.jit
def sixteen_harmonics(x, y, z, DTYPE: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Unit directions [BLOCK] -> their spherical harmonics, tile [BLOCK, 16]."""
    h1, h2, h3 = band_1(x, y, z)
    h4, h5, h6, h7, h8 = band_2(x, y, z)
    h9, h10, h11, h12, h13, h14, h15 = band_3(x, y, z)
    k0, k1 = four(band_0(x), h4, h8, h12), four(h1, h5, h9, h13)
    k2, k3 = four(h2, h6, h10, h14), four(h3, h7, h11, h15)
    return cast(tl.reshape(tl.join(tl.join(k0, k2), tl.join(k1, k3)), [BLOCK, 16]), DTYPE)


@triton.jit(do_not_specialize=PLAIN)
def encode_mlp_kernel(  # type: ignore[no-untyped-def]
    x, x_n, x_c, footprints, table, levels, weights, out, n, WEIGHTED: tl.constexpr,
    L: tl.constexpr, F: tl.constexpr, DIMS: tl.constexpr, INPUTS: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr,
    HIDDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Positions -> outputs of the perceptron on their features.

    Args:
        x: float32 [n, DIMS], strides (x_n, x_c).
        footprints: float32 [n], side by side, read if WEIGHTED.
        table: [entries of all levels, F], 16-byte aligned. levels: int64 [L, 8], see hash_cells.py.
        weights, out, and the constants: as in :func:`~.mlp_kernels.forward_kernel`. L and L * F are powers of two.
    """
    # Columns of 16 features in the order in which these are joined.
    r = tl.arange(0, W)[:, None]
    c = tl.arange(0, 16)[None, :]
    columns = weights + r * INPUTS + c % (16 // F) * F + c // (16 // F)
    inner = weights + WIDTH * INPUTS
    m1, m2, w_out = later_matrices(inner, WIDTH, W, HIDDEN, ROWS, OUT, DTYPE)
    for first in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        s = first + tl.arange(0, BLOCK)
        x0, x1, x2 = coordinates(x, s, x_n, x_c, s < n, DIMS)
        wide = x0
        if WEIGHTED:
            wide = tl.load(footprints + s, mask=s < n, other=0.0)
        sums = tl.zeros([BLOCK, W], tl.float32)
        for level in range(0, L, 16 // F):
            a = sixteen_features(x0, x1, x2, wide, table, levels, level, F, DIMS, WEIGHTED, DTYPE, BLOCK)
            w = cast(tl.load(columns + level * F, mask=r < WIDTH, other=0.0), DTYPE)
            sums = product(a, tl.trans(w), sums)
        if WEIGHTED:
            # The width's features are one tile behind the levels', in their own order.
            a = cast(scale_feature(wide[:, None], levels, c, L), DTYPE)
            w = cast(tl.load(weights + r * INPUTS + L * F + c, mask=r < WIDTH, other=0.0), DTYPE)
            sums = product(a, tl.trans(w), sums)
        h = hidden(sums, inner, m1, m2, HIDDEN, WIDTH, BLOCK, W, DTYPE)
        put_runs(out, product(h, tl.trans(w_out), tl.zeros([BLOCK, OUT], tl.float32)), first, n, ROWS, OUT, BLOCK)


@triton.jit(do_not_specialize=PLAIN)
def sh_mlp_kernel(  # type: ignore[no-untyped-def]
    raw, raw_n, raw_c, d, d_n, d_c, ray_indices, weights, out, n,
    C: tl.constexpr, P: tl.constexpr, RUNS: tl.constexpr, INPUTS: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr,
    HIDDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Features of samples and directions of rays -> outputs of the perceptron on features and harmonics.

    Args:
        raw: [n, C], strides (raw_n, raw_c); P: a power of two that holds C; RUNS: see :func:`~.mlp_tiles.part`.
        d: float32 [rays, 3], strides (d_n, d_c). ray_indices: int32 [n].
        weights, out, and the other constants: as in :func:`~.mlp_kernels.forward_kernel`.
    """
    inner = weights + WIDTH * INPUTS
    w0, w1, w2 = first_matrix(weights, C, 16, 0, P, 16, 16, INPUTS, WIDTH, W, DTYPE)
    m1, m2, w_out = later_matrices(inner, WIDTH, W, HIDDEN, ROWS, OUT, DTYPE)
    for first in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        s = first + tl.arange(0, BLOCK)
        x, y, z = coordinates(d, tl.load(ray_indices + s, mask=s < n, other=0), d_n, d_c, s < n, 3)
        a0 = cast(part(raw, raw_n, raw_c, first, n, C, P, BLOCK, RUNS), DTYPE)
        a1 = sixteen_harmonics(x, y, z, DTYPE, BLOCK)
        sums = first_layer(a0, a1, a1, w0, w1, w2, 16, 0, BLOCK, W)
        h = hidden(sums, inner, m1, m2, HIDDEN, WIDTH, BLOCK, W, DTYPE)
        put_runs(out, product(h, tl.trans(w_out), tl.zeros([BLOCK, OUT], tl.float32)), first, n, ROWS, OUT, BLOCK)
