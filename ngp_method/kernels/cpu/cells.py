"""The occupancy grid's updates: cells drawn, points in them, values faded and raised.

The hash of :mod:`..cells`, number for number; in torch these passes over millions of cells cost twice the field itself.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..cells import FRACTION, MIX, SEED_STRIDE, TRIES, TURN_STRIDE, UINT32
from . import buffers, pool

SHIFT_1, SHIFT_2 = np.uint64(MIX[0][0]), np.uint64(MIX[1][0])
FACTOR_1, FACTOR_2 = np.uint64(MIX[0][1]), np.uint64(MIX[1][1])
SHIFT_3, MASK, STRIDE = np.uint64(16), np.uint64(UINT32), np.uint64(SEED_STRIDE)
TO_UNIT = np.float32(FRACTION)


@njit(nogil=True, cache=True, inline="always")
def _mix(number, seed):  # type: ignore[no-untyped-def]
    x = (np.uint64(number) + seed * STRIDE) & MASK
    x = ((x ^ (x >> SHIFT_1)) * FACTOR_1) & MASK
    x = ((x ^ (x >> SHIFT_2)) * FACTOR_2) & MASK
    return x ^ (x >> SHIFT_3)


@njit(nogil=True, cache=True)
def _take_turn(values, out, first, begin, end):  # type: ignore[no-untyped-def]
    """Cells number first + begin .. first + end - 1 of the turn that are seen -> out[begin:], and how many."""
    total, count = values.shape[0], begin
    cell = (first + begin) * TURN_STRIDE % total
    step = TURN_STRIDE % total
    for _ in range(begin, end):
        if values[cell] >= 0:
            out[count] = cell
            count += 1
        cell += step
        if cell >= total:
            cell -= total
    return count - begin


@njit(nogil=True, cache=True)
def _draw_occupied(values, bits, out, seed, begin, end):  # type: ignore[no-untyped-def]
    """Draws number begin .. end - 1 among the occupied cells -> out[begin:], and how many of them are seen."""
    total, count = np.uint64(values.shape[0]), begin
    for number in range(begin, end):
        cell = _mix(number * TRIES, seed) * total >> np.uint64(32)
        attempt = 1
        while attempt < TRIES and not bits[cell]:
            cell = _mix(number * TRIES + attempt, seed) * total >> np.uint64(32)
            attempt += 1
        if values[cell] >= 0:
            out[count] = cell
            count += 1
    return count - begin


@njit(nogil=True, cache=True, error_model="numpy")
def _points(cells, resolution, cascades, seed, out, begin, end):  # type: ignore[no-untyped-def]
    one, half, inverse = np.float32(1.0), np.float32(0.5), np.float32(1.0 / resolution)
    square, cube = resolution * resolution, resolution * resolution * resolution
    for i in range(begin, end):
        cell = cells[i]
        level, rest = cell // cube, cell % cube
        scale = one / np.float32(1 << (cascades - 1 - level))
        x, y, z = rest // square, rest // resolution % resolution, rest % resolution
        for axis, corner in enumerate((x, y, z)):
            jitter = np.float32(_mix(3 * i + axis, seed) >> np.uint64(8)) * TO_UNIT
            out[axis, i] = ((np.float32(corner) + jitter) * inverse - half) * scale + half


@njit(nogil=True, cache=True, error_model="numpy")
def _raise(values, cells, found, decay, begin, end):  # type: ignore[no-untyped-def]
    """Cells begin .. end - 1 fade and take the greatest of what was found in them."""
    for i in range(begin, end):
        if values[i] >= 0:
            values[i] *= decay
    for j in range(cells.shape[0]):
        cell = cells[j]
        if begin <= cell < end and found[j] > values[cell]:
            values[cell] = found[j]


def draw_cells(values: Tensor, occupied: Tensor, n_turn: int, n_occupied: int, first: int, seed: int) -> Tensor:
    """The operation ``draw_cells``."""
    out = torch.empty(n_turn + n_occupied, dtype=torch.int64)
    cells, source = out.numpy(), values.numpy()
    bits = occupied.reshape(-1).view(torch.uint8).numpy()
    jobs = [(0, *part) for part in pool.chunks(n_turn, 1)] + [(1, *part) for part in pool.chunks(n_occupied, 1)]
    kept = [0] * len(jobs)

    def task(number: int) -> None:
        kind, begin, end = jobs[number]
        if kind:
            kept[number] = _draw_occupied(source, bits, cells[n_turn:], np.uint64(seed), begin, end)
        else:
            kept[number] = _take_turn(source, cells, first, begin, end)

    pool.run(task, len(jobs))
    starts = [kind * n_turn + begin for kind, begin, _ in jobs]
    return torch.cat([out[:0], *(out[start : start + count] for start, count in zip(starts, kept))])


def cell_points(cells: Tensor, resolution: int, cascades: int, seed: int) -> Tensor:
    """The operation ``cell_points``: [M, 3], in memory rows [3, m_padded]."""
    n = cells.shape[0]
    out = torch.empty(3, buffers.padded(n))
    out[:, n:] = 0
    ranges = pool.chunks(n, buffers.BLOCK)
    args = (cells.numpy(), resolution, cascades, np.uint64(seed), out.numpy())
    pool.run(lambda c: _points(*args, *ranges[c]), len(ranges))
    return buffers.rows_to_tensor(out, n)


def raise_cells(values: Tensor, cells: Tensor, found: Tensor, decay: float) -> None:
    """The operation ``raise_cells``: each thread has cells of its own, so that the result depends on no timing."""
    ranges = pool.chunks(values.shape[0], 1)
    args = (values.numpy(), cells.numpy(), found.numpy(), np.float32(decay))
    pool.run(lambda c: _raise(*args, *ranges[c]), len(ranges))
