"""Which cells an update of the occupancy grid looks at, where in them, and what becomes of the values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from support import tolerances as tol
from support.kernel_cases import SETS, assert_near, generator, kernels_of, nan_memory  # noqa: F401 - a fixture

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", ["reference", *SETS])]

G, CASCADES = 16, 3
TOTAL = CASCADES * G**3


def grid(seed: int, share: float = 0.3, unseen: float = 0.2) -> tuple[Tensor, Tensor]:
    """Values [K * G^3], some of them -1, and the bits [K, G, G, G] of the greatest of them."""
    random = generator(seed)
    values = torch.rand(TOTAL, generator=random)
    bits = values > 1 - share
    hidden = torch.rand(TOTAL, generator=random) < unseen
    return values.masked_fill(hidden, -1.0), (bits & ~hidden).view(CASCADES, G, G, G)


@pytest.mark.parametrize("first", [0, 5, TOTAL - 7])
def test_a_round_meets_every_seen_cell_once(kernel_set: str, first: int) -> None:
    kernels, (values, bits) = kernels_of(kernel_set), grid(1)
    cells = kernels.draw_cells(values, bits, TOTAL, 0, first, 3)
    assert cells.dtype == torch.int64
    assert torch.equal(cells.sort().values, torch.nonzero(values >= 0)[:, 0])
    parts = [kernels.draw_cells(values, bits, n, 0, at, 3) for n, at in ((1000, first), (TOTAL - 1000, (first + 1000) % TOTAL))]
    assert torch.equal(torch.cat(parts).sort().values, cells.sort().values)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_the_drawn_are_occupied_as_often_as_ten_tries_make_them(kernel_set: str, share: float) -> None:
    kernels, (values, bits) = kernels_of(kernel_set), grid(2, share, unseen=0.0)
    draws = 4099
    cells = kernels.draw_cells(values, bits, 0, draws, 0, 11)
    assert cells.numel() == draws
    expected = 1 - (1 - float(bits.float().mean())) ** 10
    spread = (expected * (1 - expected) / draws) ** 0.5
    assert abs(float(bits.flatten()[cells].float().mean()) - expected) <= tol.STANDARD_ERRORS * spread
    if share == 1.0:  # every cell is occupied: none is favoured
        thirds = torch.bincount(cells * 3 // TOTAL, minlength=3).double() / draws
        assert ((thirds - 1 / 3).abs() < tol.STANDARD_ERRORS * (2 / 9 / draws) ** 0.5).all()


@pytest.mark.parametrize(("n_turn", "n_occupied"), [(0, 0), (1, 0), (0, 1), (31, 1000), (4099, 31)])
def test_the_same_cells_and_points_as_the_reference(kernel_set: str, n_turn: int, n_occupied: int) -> None:
    kernels, reference, (values, bits) = kernels_of(kernel_set), kernels_of("reference"), grid(3)
    cells = kernels.draw_cells(values, bits, n_turn, n_occupied, 77, 5)
    assert torch.equal(cells, reference.draw_cells(values, bits, n_turn, n_occupied, 77, 5))
    assert (values[cells] >= 0).all()
    assert not torch.equal(cells, kernels.draw_cells(values, bits, n_turn, n_occupied, 77, 6)) or n_occupied < 2
    points = kernels.cell_points(cells, G, CASCADES, 9)
    assert_near(points, reference.cell_points(cells, G, CASCADES, 9), tol.POINT_32, "points")


def test_points_lie_in_their_cells_and_fill_them(kernel_set: str) -> None:
    points = kernels_of(kernel_set).cell_points(torch.arange(TOTAL), G, CASCADES, 1).double()
    level = torch.arange(TOTAL) // G**3
    unit = (points - 0.5) * 2.0 ** (CASCADES - 1 - level)[:, None] + 0.5
    within = unit * G - torch.stack(
        [torch.arange(TOTAL) // G**2 % G, torch.arange(TOTAL) // G % G, torch.arange(TOTAL) % G], -1
    )
    assert (within > -1e-4).all()
    assert (within < 1 + 1e-4).all()
    assert ((within.mean(0) - 0.5).abs() < tol.STANDARD_ERRORS * (1 / 12 / TOTAL) ** 0.5).all()
    correlation = torch.corrcoef(within.t()) - torch.eye(3)
    assert correlation.abs().max() < tol.STANDARD_ERRORS / TOTAL**0.5


def test_values_fade_and_are_raised(kernel_set: str) -> None:
    kernels, (values, bits) = kernels_of(kernel_set), grid(4)
    cells = kernels.draw_cells(values, bits, 500, 500, 0, 1)
    cells = torch.cat([cells, cells[:100]])  # some twice, with other values
    found = torch.rand(cells.shape[0], generator=generator(5))
    expected = torch.where(values < 0, values, values * 0.9)
    for cell, value in zip(cells.tolist(), found.tolist()):
        expected[cell] = max(float(expected[cell]), value)
    kernels.raise_cells(values, cells, found, 0.9)
    assert_near(values, expected, tol.ROUNDOFF32, "values")
    assert ((values < 0) == (values == -1)).all()


def test_nothing_found_only_fades(kernel_set: str) -> None:
    kernels: Kernels = kernels_of(kernel_set)
    values, _ = grid(6)
    expected = torch.where(values < 0, values, values * 0.5)
    kernels.raise_cells(values, torch.zeros(0, dtype=torch.int64), torch.zeros(0), 0.5)
    assert torch.equal(values, expected)
