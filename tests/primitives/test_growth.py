"""Batches grow with the step's number alone."""

from __future__ import annotations

import pytest

from ngp_method.primitives.growth import BatchGrowth


def test_a_batch_doubles_until_it_is_full() -> None:
    growth = BatchGrowth(100, 350, 10)
    assert [growth.size(step) for step in (0, 9, 10, 19, 20, 1000, 10**12)] == [100, 100, 200, 200, 350, 350, 350]


@pytest.mark.parametrize("numbers", [(0, 10, 1), (20, 10, 1), (10, 20, 0)])
def test_sizes_that_cannot_be_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="A batch grows"):
        BatchGrowth(*numbers)
