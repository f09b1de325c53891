"""The weight of a level for footprints, sixteen samples at a time: :mod:`..footprints` in numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..footprints import ERF_TERMS, HALF_CELL, LEAST_CELLS
from .simd import as_words, maximum_f, pair_bf16, spread_f, spread_u
from .simd_memory import load, store

ONE = np.float32(1.0)
A1, A2, A3, A4 = (np.float32(term) for term in ERF_TERMS)
HALF, LEAST = np.float32(HALF_CELL), np.float32(LEAST_CELLS)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def level_weight(footprint, scale):  # type: ignore[no-untyped-def]
    """Footprints of sixteen samples, and lattice cells along the unit cube's edge -> weights."""
    one = spread_f(ONE)
    x = spread_f(HALF) / maximum_f(footprint * spread_f(np.float32(scale)), spread_f(LEAST))
    root = one + x * (spread_f(A1) + x * (spread_f(A2) + x * (spread_f(A3) + x * spread_f(A4))))
    square = root * root
    share = one - one / (square * square)
    return share * share


@njit(nogil=True, cache=True, error_model="numpy")
def write_scale(footprints, out, scales, row, paired, begin, end):  # type: ignore[no-untyped-def]
    """Features of the samples' width, and zeros in the rows behind them.

    Args:
        footprints: float32 [n].
        out: uint32 [rows, n], pairs of bfloat16 or the bits of float32; written from row ``row`` on.
        scales: float32 [an even number], of the levels whose weights are features.
        begin, end: range of samples, multiples of 16.
    """
    one, two = spread_f(ONE), spread_f(np.float32(2.0))
    for i in range(begin, end, 16):
        wide, at = load(footprints, i), row
        for number in range(0, scales.shape[0], 2):
            v = two * level_weight(wide, scales[number]) - one
            u = two * level_weight(wide, scales[number + 1]) - one
            if paired:
                store(out[at], i, pair_bf16(v, u))
                at += 1
            else:
                store(out[at], i, as_words(v))
                store(out[at + 1], i, as_words(u))
                at += 2
        for rest in range(at, out.shape[0]):
            store(out[rest], i, spread_u(np.uint32(0)))
