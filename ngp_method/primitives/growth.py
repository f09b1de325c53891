"""How many points a training step takes: few at first, when each step still moves everything, more as the run goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchGrowth:
    """A batch that doubles until it has its full size.

    A small batch takes many steps in a second, and the first hundreds of steps gain the most; later the noise of a small batch
    is what is left, and every step also walks the table (:mod:`..fields.adam`), which a large one does less often for a point.

    Attributes:
        first: points of the first step.
        last: points from which on it stays.
        every: steps between two doublings.
    """

    first: int
    last: int
    every: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last or self.every < 1:
            raise ValueError(
                f"A batch grows from at least 1 point to no fewer, every step or more rarely, not from {self.first} to "
                f"{self.last} every {self.every}."
            )

    def size(self, step: int) -> int:
        """Points of training step ``step``, counted from 0: of its number alone, so that a resumed run goes on with it."""
        return min(self.last, self.first << min(step // self.every, 40))
