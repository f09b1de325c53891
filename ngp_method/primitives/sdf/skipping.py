"""Steps through empty space on the processor: what :func:`.tracing.skip_in_torch` does, a ray at a time instead of a step at a
time, as most rays need a few steps and some need hundreds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ...kernels.cpu import pool

Floats = npt.NDArray[np.float32]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _skip(values, n, margin, o, d, at, end, begin, stop):  # type: ignore[no-untyped-def]
    """Moves ``at`` of rays begin .. stop - 1 on until their cell bounds the distance no longer, or to ``end``.

    Args:
        values: [n^3] distances of the cells' middles. margin: kept clear.
        o, d: [R, 3]; at, end: [R].
    """
    for r in range(begin, stop):
        t = at[r]
        for _ in range(4 * n):
            if t >= end[r]:
                t = end[r]
                break
            squared, index = np.float32(0.0), 0
            for axis in range(3):
                p = (o[r, axis] + t * d[r, axis]) * n
                cell = min(max(int(p), 0), n - 1)
                off = p - (np.float32(cell) + np.float32(0.5))
                squared += off * off
                index = index * n + cell
            ahead = values[index] - np.float32(math.sqrt(squared)) / n - margin
            if ahead <= np.float32(0.0):
                break
            t += ahead + np.float32(0.5) * margin
        at[r] = t


def skip(values: Floats, resolution: int, margin: float, o: Floats, d: Floats, at: Floats, end: Floats) -> None:
    """Moves rays on, in place, on all threads.

    Args:
        values: float32 [resolution^3]. margin: in edges of the cube.
        o, d: float32 [R, 3]; at, end: float32 [R], contiguous.
    """
    arrays: tuple[Any, ...] = values, resolution, np.float32(margin), o, d, at, end
    ranges = pool.chunks(len(at), 64)
    pool.run(lambda c: _skip(*arrays, *ranges[c]), len(ranges))
