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
    features_by_samples,
    lanes_below,
    load_floats,
    load_pairs,
    mask_pairs,
    pair_bf16,
    relu_pairs,
    samples_by_features,
    store_at,
)
from ngp_method.kernels.cpu.simd import LANES, spread_f, spread_u

BLOCK = 32
"""Samples of a group."""

SUMS_BYTES = 5 * TILE_BYTES
"""What ``sums`` takes."""

_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def deep(width):  # type: ignore[no-untyped-def]
    """Tiles of 32 features that hold ``width``."""
    return (width + 31) // 32


@_jit
def _multiply(weights, n_k, first, second, rows, sums):  # type: ignore[no-untyped-def]
    """Tiles 0 to 3 = ``rows`` (16 or 32) rows of the weights times 32 samples of activations.

    Order of the tiles: rows 0 to 15 of samples 0 to 15, of samples 16 to 31, then rows 16 to 31 of both.
    """
    zero = sums + 4 * TILE_BYTES
    tile_load(0, zero, 64)
    tile_load(1, zero, 64)
    if rows > LANES:
        tile_load(2, zero, 64)
        tile_load(3, zero, 64)
    for k in range(n_k):
        tile_load(6, first + k * TILE_BYTES, 64)
        tile_load(7, second + k * TILE_BYTES, 64)
        tile_load(4, weights + k * TILE_BYTES, 64)
        tile_dot(0, 4, 6)
        tile_dot(1, 4, 7)
        if rows > LANES:
            tile_load(5, weights + (n_k + k) * TILE_BYTES, 64)
            tile_dot(2, 5, 6)
            tile_dot(3, 5, 7)


@_jit
def _put_sums(sums, rows):  # type: ignore[no-untyped-def]
    """Tiles 0 to 3 (or 0 and 1) to memory, one after the other."""
    tile_store(0, sums, 64)
    tile_store(1, sums + TILE_BYTES, 64)
    if rows > LANES:
        tile_store(2, sums + 2 * TILE_BYTES, 64)
        tile_store(3, sums + 3 * TILE_BYTES, 64)


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
def _relu_of(sums, target, rows):  # type: ignore[no-untyped-def]
    """A tile of pairs = ReLU of one or two float32 tiles (rows 0 to 15; rows 16 to 31 two tiles further on)."""
    for half in range(rows // LANES):
        for p in range(8):
            row = sums + 2 * half * TILE_BYTES + 2 * p * ROW
            pair = pair_bf16(load_floats(row), load_floats(row + ROW))
            store_at(target + (half * 8 + p) * ROW, relu_pairs(pair))
    if rows == LANES:
        blank(target + 8 * ROW, 8)


@_jit
def _where_active(sums, active, target, rows):  # type: ignore[no-untyped-def]
    """A tile of pairs = one or two float32 tiles where ``active`` is positive, else zero."""
    for half in range(rows // LANES):
        for p in range(8):
            row = sums + 2 * half * TILE_BYTES + 2 * p * ROW
            pair = pair_bf16(load_floats(row), load_floats(row + ROW))
            offset = (half * 8 + p) * ROW
            store_at(target + offset, mask_pairs(pair, load_pairs(active + offset)))
    if rows == LANES:
        blank(target + 8 * ROW, 8)


@_jit
def layer(weights, width_in, width, groups, source, active, target, sums):  # type: ignore[no-untyped-def]
    """target = W source, all as tiles of pairs; then ReLU, or zero where ``active`` (unless 0) is not positive.

    The tile unit and the vector unit work side by side: sums are rounded while the next products are under way.
    """
    n_k, n_k_out = deep(width_in), deep(width)
    for step in range(groups * n_k_out + 1):
        if step < groups * n_k_out:
            g, r = step // n_k_out, step % n_k_out
            first = source + 2 * g * n_k * TILE_BYTES
            rows = min(32, width - 32 * r)
            _multiply(weights + 2 * r * n_k * TILE_BYTES, n_k, first, first + n_k * TILE_BYTES, rows, sums)
        if step > 0:
            g, r = (step - 1) // n_k_out, (step - 1) % n_k_out
            before = min(32, width - 32 * r)
            for c in range(2):
                to = ((2 * g + c) * n_k_out + r) * TILE_BYTES
                if active != 0:
                    _where_active(sums + c * TILE_BYTES, active + to, target + to, before)
                else:
                    _relu_of(sums + c * TILE_BYTES, target + to, before)
        if step < groups * n_k_out:
            _put_sums(sums, rows)


@_jit
def _put_rows(sums, out, stride, count):  # type: ignore[no-untyped-def]
    """The first rows of the sums of 32 samples, as float32 rows."""
    for row in range(count):
        for c in range(2):
            values = load_floats(sums + (2 * (row // LANES) + c) * TILE_BYTES + (row % LANES) * ROW)
            store_at(out + row * stride + c * ROW, values)


@_jit
def _put_pairs(sums, out, stride, count):  # type: ignore[no-untyped-def]
    """The same as rows of pairs of bfloat16."""
    for p in range(count // 2):
        for c in range(2):
            row = sums + (2 * (p // 8) + c) * TILE_BYTES + (p % 8) * 2 * ROW
            store_at(out + p * stride + c * ROW, pair_bf16(load_floats(row), load_floats(row + ROW)))


@_jit
def last(weights, width_in, width, groups, source, sums, out, stride, out_rows, paired):  # type: ignore[no-untyped-def]
    """The first ``out_rows`` rows of W source: float32 [rows, samples], or ``paired`` bfloat16 [rows / 2, samples]."""
    n_k = deep(width_in)
    for g in range(groups):
        first = source + 2 * g * n_k * TILE_BYTES
        for r in range((min(width, out_rows) + 31) // 32):
            rows, wanted = min(32, width - 32 * r), min(32, out_rows - 32 * r)
            _multiply(weights + 2 * r * n_k * TILE_BYTES, n_k, first, first + n_k * TILE_BYTES, rows, sums)
            to = out + 2 * g * ROW
            if paired:
                _put_sums(sums, rows)
                _put_pairs(sums, to + 16 * r * stride, stride, wanted)
            elif wanted < rows:
                _put_sums(sums, rows)
                _put_rows(sums, to + 32 * r * stride, stride, wanted)
            else:
                to += 32 * r * stride
                tile_store(0, to, stride)
                tile_store(1, to + ROW, stride)
                if rows > LANES:
                    tile_store(2, to + LANES * stride, stride)
                    tile_store(3, to + LANES * stride + ROW, stride)


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
def accumulate(left, n_left, right, n_right, groups, sums):  # type: ignore[no-untyped-def]
    """sums (float32 16 x 16 tiles [n_left, n_right]) += left right."""
    for i in range(0, n_left, 2):
        for j in range(0, n_right, 2):
            two_i, two_j = i + 1 < n_left, j + 1 < n_right
            upper = sums + (i * n_right + j) * TILE_BYTES
            lower = upper + n_right * TILE_BYTES
            tile_load(0, upper, 64)
            if two_j:
                tile_load(1, upper + TILE_BYTES, 64)
            if two_i:
                tile_load(2, lower, 64)
                if two_j:
                    tile_load(3, lower + TILE_BYTES, 64)
            for g in range(groups):
                tile_load(4, left + (g * n_left + i) * TILE_BYTES, 64)
                tile_load(6, right + (g * n_right + j) * TILE_BYTES, 64)
                tile_dot(0, 4, 6)
                if two_j:
                    tile_load(7, right + (g * n_right + j + 1) * TILE_BYTES, 64)
                    tile_dot(1, 4, 7)
                if two_i:
                    tile_load(5, left + (g * n_left + i + 1) * TILE_BYTES, 64)
                    tile_dot(2, 5, 6)
                    if two_j:
                        tile_dot(3, 5, 7)
            tile_store(0, upper, 64)
            if two_j:
                tile_store(1, upper + TILE_BYTES, 64)
            if two_i:
                tile_store(2, lower, 64)
                if two_j:
                    tile_store(3, lower + TILE_BYTES, 64)
