"""Gradients of the weights in :mod:`.mlp_amx`: products over samples (layouts: :mod:`.mlp_amx_kernels`)."""

from __future__ import annotations

import numpy as np

from .amx import TILE_BYTES
from .bf16_pairs import ROW, features_by_samples, load_floats, pair_bf16, samples_by_features, store_at
from .mlp_amx_kernels import BLOCK, blank, deep, put_sums, silence
from .simd import LANES, spread_f
from .tiles import jit, tile_dot, tile_load


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
def _left(pairs, n_k, groups, i, target):  # type: ignore[no-untyped-def]
    """Activations 16 i to 16 i + 15 -> left operands, one tile a group."""
    for g in range(groups):
        first = pairs + 2 * g * n_k * TILE_BYTES + i * 8 * ROW
        features_by_samples(target + g * TILE_BYTES, first, first + n_k * TILE_BYTES)


@jit
def accumulate(pairs, width, right, n_right, groups, left, totals):  # type: ignore[no-untyped-def]
    """totals (float32 16 x 16 tiles [width / 16, n_right]) += activations times right operands, over all samples.

    ``left``: scratch of 2 * groups tiles: left operands are made one turn of rows ahead, so that they have reached the cache.
    Turns as in :func:`.mlp_amx_kernels.layer`: 16 rows by 32 columns each.
    """
    n_k, before, two_before, odd = deep(width), totals, False, False
    _left(pairs, n_k, groups, 0, left)
    for i in range(width // LANES):
        a = left + (i % 2) * groups * TILE_BYTES
        if i + 1 < width // LANES:
            _left(pairs, n_k, groups, i + 1, left + ((i + 1) % 2) * groups * TILE_BYTES)
        for j in range(0, n_right, 2):
            at, b, two = totals + (i * n_right + j) * TILE_BYTES, right + j * TILE_BYTES, j + 1 < n_right
            if odd:
                tile_load(2, at, 64)
                if two:
                    tile_load(3, at + TILE_BYTES, 64)
            else:
                tile_load(0, at, 64)
                if two:
                    tile_load(1, at + TILE_BYTES, 64)
            for g in range(groups):
                _accumulate(odd, two, a + g * TILE_BYTES, b + g * n_right * TILE_BYTES)
            if i + j > 0:
                _put_totals(not odd, two_before, before)
            before, two_before, odd = at, two, not odd
    _put_totals(not odd, two_before, before)


@jit
def _accumulate(odd, two, left, right):  # type: ignore[no-untyped-def]
    """Tiles 0 and 1, or 2 and 3 in odd turns, += one left operand times one or two right ones."""
    tile_load(6, right, 64)
    if two:
        tile_load(7, right + TILE_BYTES, 64)
    if odd:
        tile_load(5, left, 64)
        tile_dot(2, 5, 6)
        if two:
            tile_dot(3, 5, 7)
    else:
        tile_load(4, left, 64)
        tile_dot(0, 4, 6)
        if two:
            tile_dot(1, 4, 7)


@jit
def _put_totals(odd, two, target):  # type: ignore[no-untyped-def]
    """One or two tiles to memory."""
    put_sums(odd, 0, target, ROW)
    if two:
        put_sums(odd, 1, target + TILE_BYTES, ROW)
