"""Hash-grid kernels: one level, a range of samples, sixteen samples at a time.

Forward is bound by cache misses: 128 look-ups a sample at 16 levels. Hence the levels are walked one after the other (one
level's table is all that must stay in the cache), the table is read as float16 unless all is to be exact float32 (half the
bytes, and two features a look-up), and the look-ups of sixteen samples are in flight at once. Backward gives each level to one
thread, so that no addition needs to be atomic and the sum does not depend on the number of threads.

A position outside [0, 1] counts as the nearest inside, NaN as 0 (:func:`.simd.unit`).

Rows: arrays of features are level-major, one row per feature or pair of features, samples along the row, padded to
``BLOCK``. A *word* is 32 bits of the table: one float32, or two float16.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..layout import PRIMES
from .level_weight import level_weight
from .simd import (
    as_float,
    high_bf16,
    high_half,
    low_bf16,
    low_half,
    pair_bf16,
    spread_f,
    spread_u,
    to_float,
    truncate,
    unit,
    wrap,
)
from .simd_memory import add_pair, gather, load, store

BLOCK = 32
"""Rows are padded to a multiple of this many samples."""

CORNER_BLOCK = 256
"""Samples whose corners are computed before their gradients are scattered: 8 * 256 indices and weights stay in L1."""

P1 = np.uint32(PRIMES[1])
P2 = np.uint32(PRIMES[2])
ONE = np.float32(1.0)
HALF = np.float32(0.5)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corners(px, py, pz, resolution, entries, dense):  # type: ignore[no-untyped-def]
    """Lattice positions of sixteen samples -> entry of each of the 8 corners (x fastest) and the fractions."""
    u1 = spread_u(np.uint32(1))
    ix, iy, iz = truncate(px), truncate(py), truncate(pz)
    fx, fy, fz = px - to_float(ix), py - to_float(iy), pz - to_float(iz)
    jx = ix + u1
    if dense:
        size = spread_u(np.uint32(entries))
        r1 = spread_u(np.uint32(resolution))
        r2 = spread_u(np.uint32(resolution * resolution))
        y0, z0 = iy * r1, iz * r2
        y1, z1 = y0 + r1, z0 + r2
        a, b, c, d = y0 + z0, y1 + z0, y0 + z1, y1 + z1
        # A corner past the last lattice point wraps round, as tiny-cuda-nn's modulo has it.
        i0, i1 = wrap(ix + a, size), wrap(jx + a, size)
        i2, i3 = wrap(ix + b, size), wrap(jx + b, size)
        i4, i5 = wrap(ix + c, size), wrap(jx + c, size)
        i6, i7 = wrap(ix + d, size), wrap(jx + d, size)
    else:
        mask = spread_u(np.uint32(entries - 1))
        p1, p2 = spread_u(P1), spread_u(P2)
        y0, z0 = iy * p1, iz * p2
        y1, z1 = y0 + p1, z0 + p2
        a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
        i0, i1 = (ix ^ a) & mask, (jx ^ a) & mask
        i2, i3 = (ix ^ b) & mask, (jx ^ b) & mask
        i4, i5 = (ix ^ c) & mask, (jx ^ c) & mask
        i6, i7 = (ix ^ d) & mask, (jx ^ d) & mask
    return i0, i1, i2, i3, i4, i5, i6, i7, fx, fy, fz


@njit(nogil=True, cache=True, error_model="numpy")
def encode_half(  # type: ignore[no-untyped-def]
    x, footprints, weighted, table, out, scale, resolution, entries, dense, shift, row, paired, begin, end
):
    """One level from a float16 table to pairs of bfloat16, or to float32.

    Args:
        x: float32 [3, n] positions; n, begin and end are multiples of 16.
        footprints, weighted: float32 [n], read if ``weighted``: see :func:`..footprints.level_weights`.
        table: uint32 words of this level.
        out: uint32 [rows, n]; written from row ``row`` on.
        scale, resolution, entries, dense: the level.
        shift: log2 of the words per entry.
        row: first row written.
        paired: a row of two bfloat16 a sample per word; else two rows that hold the bits of a float32.
        begin, end: range of samples.
    """
    x0, x1, x2 = x[0], x[1], x[2]
    s, half, one = spread_f(np.float32(scale)), spread_f(HALF), spread_f(ONE)
    by = spread_u(np.uint32(shift))
    for i in range(begin, end, 16):
        i0, i1, i2, i3, i4, i5, i6, i7, fx, fy, fz = _corners(
            unit(load(x0, i)) * s + half,
            unit(load(x1, i)) * s + half,
            unit(load(x2, i)) * s + half,
            resolution,
            entries,
            dense,
        )
        gx, gy, gz = one - fx, one - fy, one - fz
        w0, w1, w2, w3 = gy * gz, fy * gz, gy * fz, fy * fz
        of_level = one
        if weighted:
            of_level = level_weight(load(footprints, i), scale)
        for word in range(1 << shift):
            q = spread_u(np.uint32(word))
            a, b = gather(table, (i0 << by) + q), gather(table, (i1 << by) + q)
            v = w0 * (gx * low_half(a) + fx * low_half(b))
            u = w0 * (gx * high_half(a) + fx * high_half(b))
            a, b = gather(table, (i2 << by) + q), gather(table, (i3 << by) + q)
            v = v + w1 * (gx * low_half(a) + fx * low_half(b))
            u = u + w1 * (gx * high_half(a) + fx * high_half(b))
            a, b = gather(table, (i4 << by) + q), gather(table, (i5 << by) + q)
            v = v + w2 * (gx * low_half(a) + fx * low_half(b))
            u = u + w2 * (gx * high_half(a) + fx * high_half(b))
            a, b = gather(table, (i6 << by) + q), gather(table, (i7 << by) + q)
            v = v + w3 * (gx * low_half(a) + fx * low_half(b))
            u = u + w3 * (gx * high_half(a) + fx * high_half(b))
            v, u = v * of_level, u * of_level
            if paired:
                store(out[row + word], i, pair_bf16(v, u))
            else:
                store(out[row + 2 * word], i, v)
                store(out[row + 2 * word + 1], i, u)


@njit(nogil=True, cache=True, error_model="numpy")
def encode_float(  # type: ignore[no-untyped-def]
    x, footprints, weighted, table, out, scale, resolution, entries, dense, shift, row, begin, end
):
    """The same from a float32 table (one word per feature) to float32: 2^shift rows."""
    x0, x1, x2 = x[0], x[1], x[2]
    s, half, one = spread_f(np.float32(scale)), spread_f(HALF), spread_f(ONE)
    by = spread_u(np.uint32(shift))
    for i in range(begin, end, 16):
        i0, i1, i2, i3, i4, i5, i6, i7, fx, fy, fz = _corners(
            unit(load(x0, i)) * s + half,
            unit(load(x1, i)) * s + half,
            unit(load(x2, i)) * s + half,
            resolution,
            entries,
            dense,
        )
        gx, gy, gz = one - fx, one - fy, one - fz
        w0, w1, w2, w3 = gy * gz, fy * gz, gy * fz, fy * fz
        of_level = one
        if weighted:
            of_level = level_weight(load(footprints, i), scale)
        for word in range(1 << shift):
            q = spread_u(np.uint32(word))
            a, b = as_float(gather(table, (i0 << by) + q)), as_float(gather(table, (i1 << by) + q))
            v = w0 * (gx * a + fx * b)
            a, b = as_float(gather(table, (i2 << by) + q)), as_float(gather(table, (i3 << by) + q))
            v = v + w1 * (gx * a + fx * b)
            a, b = as_float(gather(table, (i4 << by) + q)), as_float(gather(table, (i5 << by) + q))
            v = v + w2 * (gx * a + fx * b)
            a, b = as_float(gather(table, (i6 << by) + q)), as_float(gather(table, (i7 << by) + q))
            v = v + w3 * (gx * a + fx * b)
            store(out[row + word], i, v * of_level)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corner_weights(  # type: ignore[no-untyped-def]
    x0, x1, x2, footprints, weighted, i, k, scale, resolution, entries, dense, index, weight
):
    """Entries and weights of the 8 corners of samples i .. i + 15 into slots k of the block's buffers."""
    one, s, half, n = spread_f(ONE), spread_f(np.float32(scale)), spread_f(HALF), CORNER_BLOCK
    i0, i1, i2, i3, i4, i5, i6, i7, fx, fy, fz = _corners(
        unit(load(x0, i)) * s + half,
        unit(load(x1, i)) * s + half,
        unit(load(x2, i)) * s + half,
        resolution,
        entries,
        dense,
    )
    store(index, k, i0)
    store(index, n + k, i1)
    store(index, 2 * n + k, i2)
    store(index, 3 * n + k, i3)
    store(index, 4 * n + k, i4)
    store(index, 5 * n + k, i5)
    store(index, 6 * n + k, i6)
    store(index, 7 * n + k, i7)
    gx, gy, gz = one - fx, one - fy, one - fz
    if weighted:
        of_level = level_weight(load(footprints, i), scale)
        gz, fz = gz * of_level, fz * of_level
    w = gy * gz
    store(weight, k, w * gx)
    store(weight, n + k, w * fx)
    w = fy * gz
    store(weight, 2 * n + k, w * gx)
    store(weight, 3 * n + k, w * fx)
    w = gy * fz
    store(weight, 4 * n + k, w * gx)
    store(weight, 5 * n + k, w * fx)
    w = fy * fz
    store(weight, 6 * n + k, w * gx)
    store(weight, 7 * n + k, w * fx)


@njit(nogil=True, cache=True, error_model="numpy")
def _scatter_block(count, first, second, index, weight, grad, features, column):  # type: ignore[no-untyped-def]
    """Add weight * gradient of each of a block's samples to its 8 corners; zero gradients touch nothing."""
    for k in range(count):
        a, b = first[k], second[k]
        if a != 0 or b != 0:
            for corner in range(8):
                j = corner * CORNER_BLOCK + k
                w = weight[j]
                add_pair(grad, np.int64(index[j]) * features + column, w * a, w * b)


@njit(nogil=True, cache=True, error_model="numpy")
def scatter(  # type: ignore[no-untyped-def]
    x, footprints, weighted, rows, grad, scale, resolution, entries, dense, features, column, row, n
):
    """Add the gradient of two features of one level to the table's gradient, from float32 rows.

    Args:
        x: float32 [3, n_padded] positions.
        footprints, weighted: as in :func:`encode_half`.
        rows: float32 [C, n_padded] gradients; rows row and row + 1 are those of features column and column + 1.
        grad: float32 gradient of this level's entries, features of an entry side by side.
        features: features per entry.
        column: first of the two features within an entry.
        n: samples.
    """
    index = np.empty(8 * CORNER_BLOCK, np.uint32)
    weight = np.empty(8 * CORNER_BLOCK, np.float32)
    x0, x1, x2 = x[0], x[1], x[2]
    for block in range(0, n, CORNER_BLOCK):
        count = min(CORNER_BLOCK, n - block)
        for k in range(0, count, 16):
            _corner_weights(x0, x1, x2, footprints, weighted, block + k, k, scale, resolution, entries, dense, index, weight)
        first, second = rows[row, block : block + count], rows[row + 1, block : block + count]
        _scatter_block(count, first, second, index, weight, grad, features, column)


@njit(nogil=True, cache=True, error_model="numpy")
def scatter_pairs(  # type: ignore[no-untyped-def]
    x, footprints, weighted, rows, grad, scale, resolution, entries, dense, features, column, row, n
):
    """:func:`scatter` from one row of bfloat16 pairs (rows: uint32 [C / 2, n_padded])."""
    index = np.empty(8 * CORNER_BLOCK, np.uint32)
    weight = np.empty(8 * CORNER_BLOCK, np.float32)
    first = np.empty(CORNER_BLOCK, np.float32)
    second = np.empty(CORNER_BLOCK, np.float32)
    x0, x1, x2, pairs = x[0], x[1], x[2], rows[row]
    for block in range(0, n, CORNER_BLOCK):
        count = min(CORNER_BLOCK, n - block)
        for k in range(0, count, 16):
            _corner_weights(x0, x1, x2, footprints, weighted, block + k, k, scale, resolution, entries, dense, index, weight)
            words = load(pairs, block + k)
            store(first, k, low_bf16(words))
            store(second, k, high_bf16(words))
        _scatter_block(count, first, second, index, weight, grad, features, column)
