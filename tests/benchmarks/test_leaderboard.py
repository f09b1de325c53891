"""When a curve passes a mark."""

from __future__ import annotations

import pytest
from leaderboard import passes

CURVE = [{"seconds": 4.0, "psnr": 20.0}, {"seconds": 8.0, "psnr": 28.0}, {"seconds": 12.0, "psnr": 32.0}]


@pytest.mark.parametrize(("mark", "expected"), [(30.0, 10.0), (28.0, 8.0), (24.0, 6.0), (15.0, 4.0), (33.0, None)])
def test_between_two_looks_by_a_straight_line(mark: float, expected: float | None) -> None:
    assert passes(CURVE, mark) == expected
