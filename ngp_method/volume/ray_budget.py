"""How many rays a training step gets, so that their samples fill a budget."""

from __future__ import annotations

from typing import Any

FIRST_SAMPLES_PER_RAY = 256
"""Samples expected of a ray while the occupancy grid is still full."""

RAY_MULTIPLE = 32
"""Rays come in multiples of this."""

MARCHED_WEIGHT = 0.25
"""Cost of a sample that is marched and found to lie behind the opaque, as a share of one that is trained on."""

MAX_GROWTH = 2.0
"""Most growth of the number of rays in one step: an odd batch (nearly all rays empty) must not cause a huge one."""


def most_marched(samples: int) -> int:
    """Most samples that a step with such a budget marches once the number of rays has settled, twice over."""
    return int(2 * samples / MARCHED_WEIGHT)


class RayBudget:
    """Adapts the number of rays, as instant-ngp does (testbed_nerf.cu, rays_per_batch).

    Args:
        samples: that a step should be trained on.
        max_rays: most rays of a step.

    Attributes:
        rays: of the next step.
        hold: by what share the number of rays may be off before it changes (0: every step has a number of its own).
    """

    def __init__(self, samples: int, max_rays: int) -> None:
        self.samples, self.max_rays = samples, max_rays
        self.hold = 0.0
        self.rays = self._round(samples / FIRST_SAMPLES_PER_RAY)

    def begin(self, rays: int) -> None:
        """Rays of the first step, where a full occupancy grid is not what to expect; rounded down to a multiple of 32."""
        self.rays = self._round(rays)

    def adapt(self, rays: float, marched: float, kept: float) -> int:
        """Rays of the next step, after one with so many rays, samples marched, and samples trained on."""
        cost = max(kept, MARCHED_WEIGHT * marched, 1.0) / max(1, rays)
        wanted = self._round(min(self.samples / cost, MAX_GROWTH * self.rays))
        if abs(wanted - self.rays) > self.hold * self.rays:
            self.rays = wanted
        return self.rays

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on, for a checkpoint."""
        return {"rays": self.rays}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self.rays = self._round(int(state["rays"]))

    def _round(self, rays: float) -> int:
        return int(min(max(rays // RAY_MULTIPLE, 1) * RAY_MULTIPLE, self.max_rays))
