"""Which pixels a batch asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Drawing = Literal["stratified", "random"]


@dataclass(frozen=True)
class Points:
    """Pixels and where their centres lie.

    Attributes:
        positions: [N, 2] float32 in (0, 1): x = (column + 0.5) / width, then y = (row + 0.5) / height. Both axes are
            stretched to [0, 1] whatever the aspect, as instant-ngp has it.
        rows: [N] int64.
        columns: [N] int64.
    """

    positions: Tensor
    rows: Tensor
    columns: Tensor


def strata(n: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the lattice for n points: at most n cells, about as square in pixels as they can be."""
    across = min(n, max(1, round((n * width / height) ** 0.5)))
    return across, n // across


def draw_points(
    n: int,
    width: int,
    height: int,
    generator: torch.Generator | None = None,
    drawing: Drawing = "stratified",
    device: torch.device | str = "cpu",
) -> Points:
    """n points of a picture, each moved to the centre of the pixel it fell into.

    Stratified: one in each cell of a lattice over the whole picture, as instant-ngp draws them (src/testbed_image.cu,
    where the lattice is a square power of two); the few that are left over, n less the lattice's cells, lie anywhere.

    Args:
        n: points; 0 is legal.
        width, height: of the picture.
        generator: of random numbers on ``device``; default: torch's own.
        drawing: stratified, or random: each anywhere.
        device: where the points are made.
    """
    u = torch.rand((2, n), generator=generator, device=device)
    if drawing == "stratified" and n:
        across, down = strata(n, width, height)
        cells = u[:, : across * down].view(2, down, across)  # a view: u itself is moved
        cells[0] += torch.arange(across, device=device)
        cells[0] *= 1.0 / across
        cells[1] += torch.arange(down, device=device)[:, None]
        cells[1] *= 1.0 / down
    # A point that rounding moved to the far border is in the last pixel.
    columns, rows = u[0].mul_(width).long().clamp_(max=width - 1), u[1].mul_(height).long().clamp_(max=height - 1)
    positions = torch.empty((n, 2), device=device)
    torch.add(columns, 0.5, out=positions[:, 0]).mul_(1.0 / width)
    torch.add(rows, 0.5, out=positions[:, 1]).mul_(1.0 / height)
    return Points(positions, rows, columns)
