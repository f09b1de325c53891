"""Pixels drawn by weight: those of some images more often than those of others, which is what weighing their loss comes to."""

from __future__ import annotations

import torch
from torch import Tensor


class WeightedRuns:
    """Runs of neighbouring pixels, each with a weight that its pixels share.

    mip-NeRF draws all pixels alike and weighs the loss of each (lossmult); drawing them in proportion to their weight has the
    same mean and less noise, as no batch has a few pixels that outweigh the rest.

    Args:
        starts, stops: first pixel of each run among all, and the one behind its last, [K] int64.
        weights: [K] above 0.
        device: where pixels are drawn.
    """

    def __init__(self, starts: Tensor, stops: Tensor, weights: Tensor, device: torch.device | str = "cpu") -> None:
        counts = stops - starts
        mass = counts.double() * weights.double()
        self._ends = mass.cumsum(0).to(device)
        self._begins = (self._ends - mass.to(device)).to(device)
        self._starts, self._counts = starts.to(device), counts.to(device)
        self._weights = weights.double().to(device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` pixels by their place among all, [count] int64; each is independent of the others."""
        at = torch.rand(count, generator=generator, device=self._ends.device, dtype=torch.float64) * self._ends[-1]
        run = torch.searchsorted(self._ends, at, right=True).clamp(max=len(self._ends) - 1)
        within = ((at - self._begins[run]) / self._weights[run]).long()
        return self._starts[run] + torch.minimum(within.clamp(min=0), self._counts[run] - 1)
