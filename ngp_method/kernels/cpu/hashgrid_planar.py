"""Hash-grid kernels of two dimensions: those of :mod:`.hashgrid` with four corners a cell instead of eight.

Arguments are the same but for x, which is float32 [2, n]. A grid of two dimensions has entries and a hash of its own
(layout.py), half the look-ups, and half the sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .hashgrid import CORNER_BLOCK, HALF, ONE, P1
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

CORNERS = 4


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corners(px, py, resolution, entries, dense):  # type: ignore[no-untyped-def]
    """Lattice positions of sixteen samples -> entry of each of the 4 corners (x fastest) and the fractions."""
    ix, iy = truncate(px), truncate(py)
    fx, fy = px - to_float(ix), py - to_float(iy)
    jx = ix + spread_u(np.uint32(1))
    if dense:
        size, row = spread_u(np.uint32(entries)), spread_u(np.uint32(resolution))
        a = iy * row
        b = a + row
        # A corner past the last lattice point wraps round, as tiny-cuda-nn's modulo has it.
        i0, i1 = wrap(ix + a, size), wrap(jx + a, size)
        i2, i3 = wrap(ix + b, size), wrap(jx + b, size)
    else:
        mask, prime = spread_u(np.uint32(entries - 1)), spread_u(P1)
        a = iy * prime
        b = a + prime
        i0, i1 = (ix ^ a) & mask, (jx ^ a) & mask
        i2, i3 = (ix ^ b) & mask, (jx ^ b) & mask
    return i0, i1, i2, i3, fx, fy


@njit(nogil=True, cache=True, error_model="numpy")
def encode_half(  # type: ignore[no-untyped-def]
    x, footprints, weighted, table, out, scale, resolution, entries, dense, shift, row, paired, begin, end
):
    """See :func:`.hashgrid.encode_half`."""
    x0, x1 = x[0], x[1]
    s, half, one = spread_f(np.float32(scale)), spread_f(HALF), spread_f(ONE)
    by = spread_u(np.uint32(shift))
    for i in range(begin, end, 16):
        i0, i1, i2, i3, fx, fy = _corners(
            unit(load(x0, i)) * s + half, unit(load(x1, i)) * s + half, resolution, entries, dense
        )
        gx, gy = one - fx, one - fy
        of_level = one
        if weighted:
            of_level = level_weight(load(footprints, i), scale)
        for word in range(1 << shift):
            q = spread_u(np.uint32(word))
            a, b = gather(table, (i0 << by) + q), gather(table, (i1 << by) + q)
            v = gy * (gx * low_half(a) + fx * low_half(b))
            u = gy * (gx * high_half(a) + fx * high_half(b))
            a, b = gather(table, (i2 << by) + q), gather(table, (i3 << by) + q)
            v = v + fy * (gx * low_half(a) + fx * low_half(b))
            u = u + fy * (gx * high_half(a) + fx * high_half(b))
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
    """See :func:`.hashgrid.encode_float`."""
    x0, x1 = x[0], x[1]
    s, half, one = spread_f(np.float32(scale)), spread_f(HALF), spread_f(ONE)
    by = spread_u(np.uint32(shift))
    for i in range(begin, end, 16):
        i0, i1, i2, i3, fx, fy = _corners(
            unit(load(x0, i)) * s + half, unit(load(x1, i)) * s + half, resolution, entries, dense
        )
        gx, gy = one - fx, one - fy
        of_level = one
        if weighted:
            of_level = level_weight(load(footprints, i), scale)
        for word in range(1 << shift):
            q = spread_u(np.uint32(word))
            a, b = as_float(gather(table, (i0 << by) + q)), as_float(gather(table, (i1 << by) + q))
            v = gy * (gx * a + fx * b)
            a, b = as_float(gather(table, (i2 << by) + q)), as_float(gather(table, (i3 << by) + q))
            v = v + fy * (gx * a + fx * b)
            store(out[row + word], i, v * of_level)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corner_weights(  # type: ignore[no-untyped-def]
    x0, x1, footprints, weighted, i, k, scale, resolution, entries, dense, index, weight
):
    """Entries and weights of the 4 corners of samples i .. i + 15 into slots k of the block's buffers."""
    one, s, half, n = spread_f(ONE), spread_f(np.float32(scale)), spread_f(HALF), CORNER_BLOCK
    i0, i1, i2, i3, fx, fy = _corners(unit(load(x0, i)) * s + half, unit(load(x1, i)) * s + half, resolution, entries, dense)
    store(index, k, i0)
    store(index, n + k, i1)
    store(index, 2 * n + k, i2)
    store(index, 3 * n + k, i3)
    gx, gy = one - fx, one - fy
    if weighted:
        of_level = level_weight(load(footprints, i), scale)
        gy, fy = gy * of_level, fy * of_level
    store(weight, k, gy * gx)
    store(weight, n + k, gy * fx)
    store(weight, 2 * n + k, fy * gx)
    store(weight, 3 * n + k, fy * fx)


@njit(nogil=True, cache=True, error_model="numpy")
def _scatter_block(count, first, second, index, weight, grad, features, column):  # type: ignore[no-untyped-def]
    """Add weight * gradient of each of a block's samples to its 4 corners; zero gradients touch nothing."""
    for k in range(count):
        a, b = first[k], second[k]
        if a != 0 or b != 0:
            for corner in range(CORNERS):
                j = corner * CORNER_BLOCK + k
                w = weight[j]
                add_pair(grad, np.int64(index[j]) * features + column, w * a, w * b)


@njit(nogil=True, cache=True, error_model="numpy")
def scatter(  # type: ignore[no-untyped-def]
    x, footprints, weighted, rows, grad, scale, resolution, entries, dense, features, column, row, n
):
    """See :func:`.hashgrid.scatter`."""
    index = np.empty(CORNERS * CORNER_BLOCK, np.uint32)
    weight = np.empty(CORNERS * CORNER_BLOCK, np.float32)
    x0, x1 = x[0], x[1]
    for block in range(0, n, CORNER_BLOCK):
        count = min(CORNER_BLOCK, n - block)
        for k in range(0, count, 16):
            _corner_weights(x0, x1, footprints, weighted, block + k, k, scale, resolution, entries, dense, index, weight)
        first, second = rows[row, block : block + count], rows[row + 1, block : block + count]
        _scatter_block(count, first, second, index, weight, grad, features, column)


@njit(nogil=True, cache=True, error_model="numpy")
def scatter_pairs(  # type: ignore[no-untyped-def]
    x, footprints, weighted, rows, grad, scale, resolution, entries, dense, features, column, row, n
):
    """See :func:`.hashgrid.scatter_pairs`."""
    index = np.empty(CORNERS * CORNER_BLOCK, np.uint32)
    weight = np.empty(CORNERS * CORNER_BLOCK, np.float32)
    first = np.empty(CORNER_BLOCK, np.float32)
    second = np.empty(CORNER_BLOCK, np.float32)
    x0, x1, pairs = x[0], x[1], rows[row]
    for block in range(0, n, CORNER_BLOCK):
        count = min(CORNER_BLOCK, n - block)
        for k in range(0, count, 16):
            _corner_weights(x0, x1, footprints, weighted, block + k, k, scale, resolution, entries, dense, index, weight)
            words = load(pairs, block + k)
            store(first, k, low_bf16(words))
            store(second, k, high_bf16(words))
        _scatter_block(count, first, second, index, weight, grad, features, column)
