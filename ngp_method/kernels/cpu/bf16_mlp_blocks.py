"""What the perceptrons of :mod:`.bf16_mlp` do with activations besides multiplying them, on groups of 32 samples in the cache.

Everything is given by address (int64; see :mod:`.bf16_pairs`). Layouts, all made of 1 KiB tiles:

- activations: for each 16 samples, ``width`` rounded up to 32 features: 16 vectors of pairs of features, one word a sample;
- weights: for each 16 rows, all columns in tiles of 16 rows by 32 bfloat16;
- sums: float32, 16 rows of 16 samples.
"""

from __future__ import annotations

import numpy as np

from .amx import TILE_BYTES
from .bf16_pairs import (
    ROW,
    expect_load,
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
from .simd import LANES, spread_f, spread_u
from .tiles import jit

BLOCK = 32
"""Samples of a group."""

SUMS_BYTES = 5 * TILE_BYTES
"""What ``sums`` takes: four float32 tiles, and one of zeros that tiles begin with."""

RELU, MASKED, ROWS, PAIRS = 0, 1, 2, 3
"""What becomes of a layer's sums."""


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
        silence(target, n_k, groups, valid)


@jit
def turn_round(pairs, width, groups, target):  # type: ignore[no-untyped-def]
    """Activations -> right operands that contract over samples: tiles [group, 16 features]."""
    n_k, n_tiles = deep(width), width // LANES
    for g in range(groups):
        for i in range(n_tiles):
            first = pairs + 2 * g * n_k * TILE_BYTES + i * 8 * ROW
            samples_by_features(target + (g * n_tiles + i) * TILE_BYTES, first, first + n_k * TILE_BYTES)


@jit
def left_operands(pairs, n_k, groups, i, target):  # type: ignore[no-untyped-def]
    """Activations 16 i to 16 i + 15 -> left operands, one tile a group."""
    for g in range(groups):
        first = pairs + 2 * g * n_k * TILE_BYTES + i * 8 * ROW
        features_by_samples(target + g * TILE_BYTES, first, first + n_k * TILE_BYTES)


@jit
def put_layer(how, done, target, stride, width, n_k_out, g, r, c):  # type: ignore[no-untyped-def]
    """What a layer makes of one tile of sums: rows 16 r ... of samples 32 g + 16 c ... (see ``layer``)."""
    if how <= MASKED:
        to = target + ((2 * g + c) * n_k_out + r // 2) * TILE_BYTES + (r % 2) * 8 * ROW
        if how == RELU:
            _put_relu(done, to)
        else:
            _put_masked(done, to)
        if 16 * (r + 1) >= width and r % 2 == 0:
            blank(to + 8 * ROW, 8)
    else:
        to, count = target + (2 * g + c) * ROW, min(LANES, width - LANES * r)
        if how == PAIRS:
            _put_pairs(done, to + 8 * r * stride, stride, count)
        else:
            _put_rows(done, to + LANES * r * stride, stride, count)
