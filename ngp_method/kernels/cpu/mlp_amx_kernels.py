"""The layers of :mod:`ngp_method.kernels.cpu.mlp_amx`, on groups of 32 samples whose activations stay in the cache.

Everything is given by address (int64; see :mod:`ngp_method.kernels.cpu.bf16_pairs`). Layouts, all made of 1 KiB tiles:

- activations: for each 16 samples, ``width`` rounded up to 32 features: 16 vectors of pairs of features, one word a sample;
- weights: for each 16 rows, all columns in tiles of 16 rows by 32 bfloat16;
- ``sums``: scratch of four float32 tiles, then one tile of zeros (loading zeros is faster than ``tilezero``, which waits for
  what the tile was used for last).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ngp_method.kernels.cpu.amx import TILE_BYTES, tile_dot, tile_load, tile_store
from ngp_method.kernels.cpu.bf16_pairs import (
    ROW,
    expect_store,
    features_by_samples,
    lanes_below,
    load_floats,
    load_pairs,
    mask_pairs,
    pair_bf16,
    pair_quickly,
    relu_pairs,
    samples_by_features,
    store_at,
)
from ngp_method.kernels.cpu.simd import LANES, spread_f, spread_u

BLOCK = 32
"""Samples of a group."""

SUMS_BYTES = 5 * TILE_BYTES
"""What ``sums`` takes."""

RELU, MASKED, ROWS, PAIRS = 0, 1, 2, 3
"""What :func:`layer` makes of its sums."""

_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def deep(width):  # type: ignore[no-untyped-def]
    """Tiles of 32 features that hold ``width``."""
    return (width + 31) // 32


@_jit
def _even(weights, n_k, first, second, fresh, zero):  # type: ignore[no-untyped-def]
    """Tiles 0 and 1 = 16 rows of the weights times 2 x 16 samples, whose tiles are in 6 and 7 already unless ``fresh``."""
    tile_load(0, zero, 64)
    tile_load(1, zero, 64)
    for k in range(n_k):
        tile_load(4, weights + k * TILE_BYTES, 64)
        if fresh:
            tile_load(6, first + k * TILE_BYTES, 64)
            tile_load(7, second + k * TILE_BYTES, 64)
        tile_dot(0, 4, 6)
        tile_dot(1, 4, 7)


@_jit
def _odd(weights, n_k, first, second, fresh, zero):  # type: ignore[no-untyped-def]
    """The same in tiles 2 and 3: while these are under way, 0 and 1 are written to memory, and the other way round."""
    tile_load(2, zero, 64)
    tile_load(3, zero, 64)
    for k in range(n_k):
        tile_load(5, weights + k * TILE_BYTES, 64)
        if fresh:
            tile_load(6, first + k * TILE_BYTES, 64)
            tile_load(7, second + k * TILE_BYTES, 64)
        tile_dot(2, 5, 6)
        tile_dot(3, 5, 7)


@_jit
def blank(target, rows):  # type: ignore[no-untyped-def]
    for row in range(rows):
        store_at(target + row * ROW, spread_u(np.uint32(0)))


@_jit
def _silence(target, n_k, groups, valid):  # type: ignore[no-untyped-def]
    """Zero the samples from ``valid`` on: what lies there in the caller's arrays may be anything, also not a number."""
    for c in range(valid // LANES, 2 * groups):
        kept = lanes_below(valid - c * LANES)
        for row in range(n_k * LANES):
            at = target + c * n_k * TILE_BYTES + row * ROW
            store_at(at, load_pairs(at) & kept)


@_jit
def expect_rows(out, stride, rows, groups):  # type: ignore[no-untyped-def]
    """Fetch rows of 32 samples a group for writing."""
    for row in range(rows):
        for c in range(2 * groups):
            expect_store(out + row * stride + c * ROW)


@_jit
def copy_in(x, stride, width, groups, valid, target):  # type: ignore[no-untyped-def]
    """Pairs [width / 2, samples] -> activations, zero from sample ``valid`` on."""
    n_k = deep(width)
    for c in range(2 * groups):
        to = target + c * n_k * TILE_BYTES
        for p in range(width // 2):
            store_at(to + p * ROW, load_pairs(x + p * stride + c * ROW))
        blank(to + (width // 2) * ROW, n_k * LANES - width // 2)
    if valid < BLOCK * groups:
        _silence(target, n_k, groups, valid)


@_jit
def _put_relu(sums, target, step):  # type: ignore[no-untyped-def]
    """ReLU of two float32 tiles as 8 rows of pairs each, ``step`` bytes apart."""
    for c in range(2):
        for p in range(8):
            row = sums + c * TILE_BYTES + 2 * p * ROW
            pair = pair_quickly(load_floats(row), load_floats(row + ROW))
            store_at(target + c * step + p * ROW, relu_pairs(pair))


@_jit
def _put_masked(sums, active, target, step):  # type: ignore[no-untyped-def]
    """The same of what lies where ``active`` is positive, zero elsewhere."""
    for c in range(2):
        for p in range(8):
            row, offset = sums + c * TILE_BYTES + 2 * p * ROW, c * step + p * ROW
            pair = pair_quickly(load_floats(row), load_floats(row + ROW))
            store_at(target + offset, mask_pairs(pair, load_pairs(active + offset)))


@_jit
def _put_pairs(sums, target, stride, count):  # type: ignore[no-untyped-def]
    """The first rows of two float32 tiles as rows of pairs, ``stride`` bytes apart, side by side."""
    for p in range(count // 2):
        for c in range(2):
            row = sums + c * TILE_BYTES + 2 * p * ROW
            store_at(target + p * stride + c * ROW, pair_bf16(load_floats(row), load_floats(row + ROW)))


@_jit
def _put_rows(sums, target, stride, count):  # type: ignore[no-untyped-def]
    """The first rows of two float32 tiles as rows, ``stride`` bytes apart, side by side."""
    for row in range(count):
        for c in range(2):
            store_at(target + row * stride + c * ROW, load_floats(sums + c * TILE_BYTES + row * ROW))


@_jit
def layer(weights, width_in, groups, source, how, width, active, target, stride, sums):  # type: ignore[no-untyped-def]
    """The first ``width`` rows of W source.

    ``how``: RELU or MASKED (zero where ``active`` is not positive), written as activations; ROWS (float32) or PAIRS, written
    as rows ``stride`` bytes apart.

    Sixteen rows of 32 samples at a time, in three steps that the processor does side by side: multiply, write the float32
    tiles to memory, round them from there. Finer or coarser turns, and it does one after the other.
    """
    n_k, n_k_out, n_rows = deep(width_in), deep(width), (width + LANES - 1) // LANES
    total, step = groups * n_rows, n_k_out * TILE_BYTES
    g, r, g1, r1, g2, r2 = 0, 0, 0, 0, 0, 0  # group and row of tiles of this turn, of the turn before, of that before
    for turn in range(total + 2):
        half = sums + (turn % 2) * 2 * TILE_BYTES
        if turn < total:
            at, first = weights + r * n_k * TILE_BYTES, source + 2 * g * n_k * TILE_BYTES
            fresh = n_k > 1 or r == 0
            if turn % 2 == 0:
                _even(at, n_k, first, first + n_k * TILE_BYTES, fresh, sums + 4 * TILE_BYTES)
            else:
                _odd(at, n_k, first, first + n_k * TILE_BYTES, fresh, sums + 4 * TILE_BYTES)
        if turn > 1:
            place = (2 * g2 * n_k_out + r2 // 2) * TILE_BYTES + (r2 % 2) * 8 * ROW
            count = min(LANES, width - LANES * r2)
            if how == RELU:
                _put_relu(half, target + place, step)
            elif how == MASKED:
                _put_masked(half, active + place, target + place, step)
            elif how == PAIRS:
                _put_pairs(half, target + 8 * r2 * stride + 2 * g2 * ROW, stride, count)
            elif count < LANES:
                _put_rows(half, target + LANES * r2 * stride + 2 * g2 * ROW, stride, count)
            if how <= MASKED and r2 == n_rows - 1 and r2 % 2 == 0:
                blank(target + place + 8 * ROW, 8)
                blank(target + place + 8 * ROW + step, 8)
        if 0 < turn <= total:
            to, apart, gap = sums + 2 * TILE_BYTES - (half - sums), TILE_BYTES, ROW
            if how == ROWS and LANES * (r1 + 1) <= width:
                to, apart, gap = target + LANES * r1 * stride + 2 * g1 * ROW, ROW, stride
            if turn % 2 == 0:
                tile_store(2, to, gap)
                tile_store(3, to + apart, gap)
            else:
                tile_store(0, to, gap)
                tile_store(1, to + apart, gap)
        g2, r2, g1, r1 = g1, r1, g, r
        r += 1
        if r == n_rows:
            g, r = g + 1, 0


@_jit
def gradient_in(d_out, stride, d_rows, width, groups, valid, target):  # type: ignore[no-untyped-def]
    """float32 [d_rows, samples] -> activations, zero from row d_rows and sample ``valid`` on."""
    n_k = deep(width)
    zero = spread_f(np.float32(0.0))
    for c in range(2 * groups):
        to = target + c * n_k * TILE_BYTES
        for p in range((d_rows + 1) // 2):
            at = d_out + 2 * p * stride + c * ROW
            odd = load_floats(at + stride) if 2 * p + 1 < d_rows else zero
            store_at(to + p * ROW, pair_bf16(load_floats(at), odd))
        done = (d_rows + 1) // 2
        blank(to + done * ROW, n_k * LANES - done)
    if valid < BLOCK * groups:
        _silence(target, n_k, groups, valid)


@_jit
def regroup(pairs, width, groups, target, right):  # type: ignore[no-untyped-def]
    """Tiles of pairs -> operands that contract over samples, [group][16 features]: left or right."""
    n_k, n_tiles = deep(width), width // LANES
    for g in range(groups):
        for i in range(n_tiles):
            first = pairs + 2 * g * n_k * TILE_BYTES + i * 8 * ROW
            to = target + (g * n_tiles + i) * TILE_BYTES
            if right:
                samples_by_features(to, first, first + n_k * TILE_BYTES)
            else:
                features_by_samples(to, first, first + n_k * TILE_BYTES)


@_jit
def accumulate(left, n_left, right, n_right, groups, totals):  # type: ignore[no-untyped-def]
    """totals (float32 16 x 16 tiles [n_left, n_right]) += left right; tiles 0, 1 and 2, 3 take turns as in :func:`layer`."""
    before, two_before, turn = totals, False, 0
    for i in range(n_left):
        for j in range(0, n_right, 2):
            at, two = totals + (i * n_right + j) * TILE_BYTES, j + 1 < n_right
            a, b = left + i * TILE_BYTES, right + j * TILE_BYTES
            if turn % 2 == 0:
                tile_load(0, at, 64)
                if two:
                    tile_load(1, at + TILE_BYTES, 64)
                for g in range(groups):
                    tile_load(4, a + g * n_left * TILE_BYTES, 64)
                    tile_load(6, b + g * n_right * TILE_BYTES, 64)
                    tile_dot(0, 4, 6)
                    if two:
                        tile_load(7, b + (g * n_right + 1) * TILE_BYTES, 64)
                        tile_dot(1, 4, 7)
                if turn > 0:
                    tile_store(2, before, 64)
                    if two_before:
                        tile_store(3, before + TILE_BYTES, 64)
            else:
                tile_load(2, at, 64)
                if two:
                    tile_load(3, at + TILE_BYTES, 64)
                for g in range(groups):
                    tile_load(5, a + g * n_left * TILE_BYTES, 64)
                    tile_load(6, b + g * n_right * TILE_BYTES, 64)
                    tile_dot(2, 5, 6)
                    if two:
                        tile_load(7, b + (g * n_right + 1) * TILE_BYTES, 64)
                        tile_dot(3, 5, 7)
                tile_store(0, before, 64)
                if two_before:
                    tile_store(1, before + TILE_BYTES, 64)
            before, two_before, turn = at, two, turn + 1
    if turn % 2 == 1:
        tile_store(0, before, 64)
        if two_before:
            tile_store(1, before + TILE_BYTES, 64)
    else:
        tile_store(2, before, 64)
        if two_before:
            tile_store(3, before + TILE_BYTES, 64)
