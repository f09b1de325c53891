"""Which cells of the occupancy grid an update looks at, in plain torch: any device, any kernel set without its own.

Random numbers come from an integer hash of (seed, number), so that every kernel set draws the same cells and points.
"""

from __future__ import annotations

import torch
from torch import Tensor

UINT32 = 0xFFFFFFFF

MIX = ((16, 0x7FEB352D), (15, 0x846CA68B))
"""Shifts and factors of the 32-bit integer hash 'lowbias32' (Chris Wellons, hash-prospector); a last shift by 16 ends it."""

SEED_STRIDE = 0x9E3779B9
"""2^32 divided by the golden ratio: seeds lie far from each other."""

TURN_STRIDE = 1_000_003
"""Cells taken in turn lie this far apart: a prime, so that every cell is met once before any is met twice."""

TRIES = 10
"""Cells tried until an occupied one is found (instant-ngp testbed_nerf.cu, generate_grid_samples_nerf_nonuniform)."""

FRACTION = 2.0**-24
"""A hash's upper 24 bits times this are uniform in [0, 1), exact in float32."""


def mix(numbers: Tensor, seed: int) -> Tensor:
    """Integers [M] (int64) -> uniform 32-bit numbers (int64) that depend on both."""
    x = (numbers + seed * SEED_STRIDE) & UINT32
    for shift, factor in MIX:
        x = ((x ^ (x >> shift)) * factor) & UINT32
    return x ^ (x >> 16)


def draw_cells(values: Tensor, occupied: Tensor, n_turn: int, n_occupied: int, first: int, seed: int) -> Tensor:
    """The operation ``draw_cells`` (see the interface)."""
    total, device = values.shape[0], values.device
    turn = (torch.arange(first, first + n_turn, device=device) * TURN_STRIDE) % total
    bits = occupied.reshape(-1)
    numbers = torch.arange(n_occupied, device=device) * TRIES
    drawn = mix(numbers, seed) * total >> 32
    for attempt in range(1, TRIES):
        again = mix(numbers + attempt, seed) * total >> 32
        drawn = torch.where(bits[drawn], drawn, again)
    cells = torch.cat([turn, drawn])
    return cells[values[cells] >= 0]


def cell_points(cells: Tensor, resolution: int, cascades: int, seed: int) -> Tensor:
    """The operation ``cell_points`` (see the interface)."""
    numbers = 3 * torch.arange(cells.shape[0], device=cells.device)
    level, within = cells // resolution**3, cells % resolution**3
    corner = [within // resolution**2, (within // resolution) % resolution, within % resolution]
    scale = torch.exp2((level - (cascades - 1)).float())
    points = torch.empty(3, cells.shape[0], device=cells.device)
    for axis in range(3):
        jitter = (mix(numbers + axis, seed) >> 8).float() * FRACTION
        points[axis] = ((corner[axis] + jitter) * (1.0 / resolution) - 0.5) * scale + 0.5
    return points.t()


def raise_cells(values: Tensor, cells: Tensor, found: Tensor, decay: float) -> None:
    """The operation ``raise_cells`` (see the interface)."""
    unseen = values < 0
    kept = values[unseen]
    values.mul_(decay).masked_scatter_(unseen, kept)
    values.scatter_reduce_(0, cells, found, "amax")
