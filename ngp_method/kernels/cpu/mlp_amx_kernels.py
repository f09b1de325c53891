"""The layers of :mod:`.mlp_amx`, on groups of 32 samples whose activations stay in the cache.

Everything is given by address (int64; see :mod:`.bf16_pairs`). Layouts, all made of 1 KiB tiles:

- activations: for each 16 samples, ``width`` rounded up to 32 features: 16 vectors of pairs of features, one word a sample;
- weights: for each 16 rows, all columns in tiles of 16 rows by 32 bfloat16;
- ``sums``: scratch of four float32 tiles, then one tile of zeros (loading it is faster than ``tilezero``, which waits for what
  the tile was used for last).
"""

from __future__ import annotations

import numpy as np

from .amx import TILE_BYTES
from .bf16_pairs import (
    ROW,
    expect_load,
    expect_store,
    lanes_below,
    load_floats,
    load_pairs,
    mask_pairs,
    pair_bf16,
    pair_quickly,
    relu_pairs,
    store_at,
)
from .simd import LANES, spread_u
from .tiles import jit, tile_dot, tile_load, tile_store

BLOCK = 32
"""Samples of a group."""

SUMS_BYTES = 5 * TILE_BYTES
"""What ``sums`` takes."""

RELU, MASKED, ROWS, PAIRS = 0, 1, 2, 3
"""What :func:`layer` makes of its sums."""


@jit
def deep(width):  # type: ignore[no-untyped-def]
    """Tiles of 32 features that hold ``width``."""
    return (width + 31) // 32


@jit
def blank(target, rows):  # type: ignore[no-untyped-def]
    """Zero so many vectors."""
    for row in range(rows):
        store_at(target + row * ROW, spread_u(np.uint32(0)))


@jit
def silence(target, n_k, groups, valid):  # type: ignore[no-untyped-def]
    """Zero the samples from ``valid`` on: what lies there in the caller's arrays may be anything, also not a number."""
    for c in range(valid // LANES, 2 * groups):
        kept = lanes_below(valid - c * LANES)
        for row in range(n_k * LANES):
            at = target + c * n_k * TILE_BYTES + row * ROW
            store_at(at, load_pairs(at) & kept)


@jit
def expect_rows(rows_at, stride, rows, groups, write):  # type: ignore[no-untyped-def]
    """Fetch rows of 32 samples a group. Dozens of rows at once are more than the processor foresees by itself."""
    for row in range(rows):
        for c in range(2 * groups):
            at = rows_at + row * stride + c * ROW
            if write:
                expect_store(at)
            else:
                expect_load(at)


@jit
def copy_in(x, stride, width, groups, valid, target):  # type: ignore[no-untyped-def]
    """Pairs [width / 2, samples] -> activations, zero from sample ``valid`` on."""
    n_k = deep(width)
    for c in range(2 * groups):
        to = target + c * n_k * TILE_BYTES
        for p in range(width // 2):
            store_at(to + p * ROW, load_pairs(x + p * stride + c * ROW))
        blank(to + (width // 2) * ROW, n_k * LANES - width // 2)
    if valid < BLOCK * groups:
        silence(target, n_k, groups, valid)


@jit
def _start(odd, zero):  # type: ignore[no-untyped-def]
    """Tiles 0 and 1 = 0, or 2 and 3 in odd turns."""
    if odd:
        tile_load(2, zero, 64)
        tile_load(3, zero, 64)
    else:
        tile_load(0, zero, 64)
        tile_load(1, zero, 64)


@jit
def _multiply(odd, weights, first, second, fresh):  # type: ignore[no-untyped-def]
    """Add 16 rows of 32 weights times 2 x 16 samples, whose tiles are in 6 and 7 already unless ``fresh``."""
    if fresh:
        tile_load(6, first, 64)
        tile_load(7, second, 64)
    if odd:
        tile_load(5, weights, 64)
        tile_dot(2, 5, 6)
        tile_dot(3, 5, 7)
    else:
        tile_load(4, weights, 64)
        tile_dot(0, 4, 6)
        tile_dot(1, 4, 7)


@jit
def put_sums(odd, column, target, stride):  # type: ignore[no-untyped-def]
    """One of the two tiles to memory."""
    if odd:
        if column == 0:
            tile_store(2, target, stride)
        else:
            tile_store(3, target, stride)
    elif column == 0:
        tile_store(0, target, stride)
    else:
        tile_store(1, target, stride)


@jit
def _put_relu(sums, target):  # type: ignore[no-untyped-def]
    """ReLU of a float32 tile as 8 vectors of pairs."""
    for p in range(8):
        row = sums + 2 * p * ROW
        pair = pair_quickly(load_floats(row), load_floats(row + ROW))
        store_at(target + p * ROW, relu_pairs(pair))


@jit
def _put_masked(sums, target):  # type: ignore[no-untyped-def]
    """The same of what stands where the target is positive, zero elsewhere."""
    for p in range(8):
        row, to = sums + 2 * p * ROW, target + p * ROW
        pair = pair_quickly(load_floats(row), load_floats(row + ROW))
        store_at(to, mask_pairs(pair, load_pairs(to)))


@jit
def _put_pairs(sums, target, stride, count):  # type: ignore[no-untyped-def]
    """The first rows of a float32 tile as rows of pairs, ``stride`` bytes apart."""
    for p in range(count // 2):
        row = sums + 2 * p * ROW
        store_at(target + p * stride, pair_bf16(load_floats(row), load_floats(row + ROW)))


@jit
def _put_rows(sums, target, stride, count):  # type: ignore[no-untyped-def]
    """The first rows of a float32 tile as rows, ``stride`` bytes apart."""
    for row in range(count):
        store_at(target + row * stride, load_floats(sums + row * ROW))


@jit
def layer(weights, width_in, groups, source, how, width, target, stride, sums):  # type: ignore[no-untyped-def]
    """The first ``width`` rows of W source.

    ``how``: RELU, written as activations; MASKED, written over activations where they are positive (elsewhere zero); ROWS
    (float32) or PAIRS, written as rows ``stride`` bytes apart.

    Sixteen rows of 32 samples a turn. Each turn multiplies, rounds what the turn before last multiplied and writes to memory
    what the last one did, all in small portions: the processor looks ahead a few hundred instructions, and only what lies as
    near as that runs side by side.
    """
    n_k, n_k_out, n_rows = deep(width_in), deep(width), (width + LANES - 1) // LANES
    total, zero = groups * n_rows, sums + 4 * TILE_BYTES
    g, r, g1, r1, g2, r2 = 0, 0, 0, 0, 0, 0  # group and row of tiles of this turn, of the last one, of the one before
    for turn in range(total + 2):
        odd = turn % 2 == 1
        ours, other = (sums + 2 * TILE_BYTES, sums) if odd else (sums, sums + 2 * TILE_BYTES)
        at, first = weights + r * n_k * TILE_BYTES, source + 2 * g * n_k * TILE_BYTES
        if turn < total:
            _start(odd, zero)
        for c in range(2):
            if turn < total:
                for k in range((n_k + 1) // 2 * c, n_k if c else (n_k + 1) // 2):
                    b = first + k * TILE_BYTES
                    _multiply(odd, at + k * TILE_BYTES, b, b + n_k * TILE_BYTES, n_k > 1 or r == 0)
            if turn > 1:
                done = ours + c * TILE_BYTES
                if how <= MASKED:
                    to = target + ((2 * g2 + c) * n_k_out + r2 // 2) * TILE_BYTES + (r2 % 2) * 8 * ROW
                    if how == RELU:
                        _put_relu(done, to)
                    else:
                        _put_masked(done, to)
                    if r2 == n_rows - 1 and r2 % 2 == 0:
                        blank(to + 8 * ROW, 8)
                else:
                    to, count = target + (2 * g2 + c) * ROW, min(LANES, width - LANES * r2)
                    if how == PAIRS:
                        _put_pairs(done, to + 8 * r2 * stride, stride, count)
                    elif count < LANES:
                        _put_rows(done, to + LANES * r2 * stride, stride, count)
            if 0 < turn <= total:
                if how == ROWS and LANES * (r1 + 1) <= width:
                    put_sums(not odd, c, target + LANES * r1 * stride + (2 * g1 + c) * ROW, stride)
                else:
                    put_sums(not odd, c, other + c * TILE_BYTES, ROW)
        g2, r2, g1, r1 = g1, r1, g, r
        r += 1
        if r == n_rows:
            g, r = g + 1, 0
