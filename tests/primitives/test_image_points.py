"""Points of a batch: one in each cell, at the centres of pixels."""

from __future__ import annotations

import pytest
import torch

from ngp_method.primitives.image.points import draw_points, strata


@pytest.mark.parametrize("drawing", ["stratified", "random"])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (5600, 5600), (3, 1000), (20_000, 700)])
@pytest.mark.parametrize("n", [0, 1, 31, 1000, 4099])
def test_points_are_centres_of_pixels(n: int, size: tuple[int, int], drawing: str) -> None:
    width, height = size
    points = draw_points(n, width, height, torch.Generator().manual_seed(3), drawing)  # type: ignore[arg-type]
    assert points.positions.shape == (n, 2)
    assert points.positions.dtype == torch.float32
    for index, size_of_axis, axis in ((points.columns, width, 0), (points.rows, height, 1)):
        assert index.dtype == torch.int64
        assert bool(((index >= 0) & (index < size_of_axis)).all())
        expected = ((index.double() + 0.5) / size_of_axis).float()
        torch.testing.assert_close(points.positions[:, axis], expected, rtol=3e-7, atol=0)


@pytest.mark.parametrize("size", [(5600, 5600), (8000, 2000), (1000, 9000)])
@pytest.mark.parametrize("n", [1024, 4099, 1 << 16])
def test_every_stratum_has_its_point(n: int, size: tuple[int, int]) -> None:
    width, height = size
    across, down = strata(n, width, height)
    assert n - across < across * down <= n
    assert (width / across) / (height / down) == pytest.approx(1.0, abs=0.1)  # cells are about square in pixels
    points = draw_points(n, width, height, torch.Generator().manual_seed(1))
    cell = torch.arange(across * down)
    column, row = cell % across, cell // across
    # The pixel that holds the drawn point, which lay in the cell: its borders may cut through the pixel.
    assert bool((points.columns[: across * down] >= (column * width) // across).all())
    assert bool((points.columns[: across * down] <= ((column + 1) * width) // across).all())
    assert bool((points.rows[: across * down] >= (row * height) // down).all())
    assert bool((points.rows[: across * down] <= ((row + 1) * height) // down).all())


def test_every_pixel_is_as_likely() -> None:
    counts = torch.zeros(12 * 7)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        points = draw_points(1000, 12, 7, generator)
        counts += torch.bincount(points.rows * 12 + points.columns, minlength=84)
    expected = 300_000 / 84
    assert float((counts / expected - 1).abs().max()) < 0.05


def test_a_generator_makes_the_same_points() -> None:
    first, second = (draw_points(1000, 640, 480, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.positions, second.positions)
    assert not torch.equal(first.positions, draw_points(1000, 640, 480, torch.Generator().manual_seed(6)).positions)
