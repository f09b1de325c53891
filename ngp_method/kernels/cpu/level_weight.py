"""The weight of a level for footprints, sixteen samples at a time: :func:`..footprints.level_weights` in numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..footprints import ERF_TERMS, HALF_CELL, LEAST_CELLS
from .simd import maximum_f, spread_f

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
    return one - one / (square * square)
