"""The occupancy grid: nerfacc's ``OccGridEstimator``, made to run everywhere and mended.

What differs from nerfacc 0.5.2 (its buffers and save format are kept):

* marching goes through our kernels (nerfacc's are CUDA only), with instant-ngp's step law and at most 1,024 samples a ray;
* the value of a cell is density * finest step; an update takes max(decayed, new) for *all* cells, so that a thin thing once
  seen is not forgotten by the luck of the draw, and cells drawn twice are not last-write-wins;
* coarser cascades also take the greatest of the finer cells they cover;
* cells that no camera sees, tested at all corners through the real lens model, are marked -1 and stay empty;
* an update evaluates no more cells than a stated share of the samples trained on since the last one, so that a processor
  can bear it. Updates are rarer than instant-ngp's therefore; the decay here follows the training steps between them, so that
  a cell fades as much in a thousand steps as it does there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nerfacc.estimators.occ_grid import OccGridEstimator
from torch import Tensor

from ..kernels import Kernels
from ..kernels.samples import PackedSamples
from ..kernels.scene import GRID_RESOLUTION, MIN_STEP, SceneGeometry

DECAY = 0.95
"""Per DECAY_STEPS training steps (instant-ngp testbed.h, nerf.training.density_grid_decay)."""

DECAY_STEPS = 16
"""Steps between two updates in instant-ngp, once they have become rare (testbed.cu, clamp(step / 16, 1, 16))."""

THRESHOLD = 0.01
"""Optical thickness of one finest step from which a cell is occupied (nerf_device.cuh, NERF_MIN_OPTICAL_THICKNESS)."""

UNSEEN = -1.0
"""Value of a cell that no camera sees."""

FIRST_UPDATE = 8
"""Steps before the first update: the field has begun to tell empty from full."""

UPDATE_SHARE = 0.4
"""Cells evaluated per sample trained on, unless told otherwise: what keeps updates cheap on a processor."""

CHUNK = {"cpu": 1 << 17, "other": 1 << 20}
"""Cells evaluated at a time, by device: bounds the memory of an update; on a processor it also stays in the caches."""

DensityFn = Callable[[Tensor], Tensor]
"""Positions [N, 3] in [0, 1] over the scene box -> densities [N] per edge of the unit cube."""


class OccupancyGrid(OccGridEstimator):
    """Which cells of the cascades hold anything.

    Args:
        geometry: unit cube and cascades.
        kernels: what marches.
        resolution: cells along an edge of a cascade.
        update_share: cells evaluated per sample trained on.
        update_interval: most steps between updates (the interval grows as step / 16, instant-ngp testbed.cu).
    """

    def __init__(
        self,
        geometry: SceneGeometry,
        kernels: Kernels,
        resolution: int = GRID_RESOLUTION,
        update_share: float = UPDATE_SHARE,
        update_interval: int = 16,
    ) -> None:
        super().__init__(geometry.unit_aabb.flatten(), resolution=resolution, levels=geometry.cascades)
        self.geometry = geometry
        self.kernels = kernels
        self.update_share = update_share
        self.update_interval = update_interval
        # The first look at the whole grid is on credit: until then every cell is marched through, at ten times the cost.
        self._credit = float(self.cells_per_lvl * self.levels)
        self._cursor = 0
        self._since = 0
        self.binaries.fill_(True)

    @property
    def edge(self) -> int:
        """Cells along an edge of a cascade."""
        return int(self.resolution[0])

    def march(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        t_min: Tensor,
        t_max: Tensor,
        jitter: Tensor | None = None,
        max_samples: int | None = None,
        capacity: int | None = None,
    ) -> tuple[PackedSamples, Tensor]:
        """Samples in occupied cells; see :meth:`..kernels.interface.Kernels.march`."""
        return self.kernels.march(rays_o, rays_d, t_min, t_max, self.binaries, self.geometry, jitter, max_samples, capacity)

    def sampling(self, *args: object, **kwargs: object) -> tuple[Tensor, Tensor, Tensor]:
        """nerfacc's entry point needs CUDA; use :meth:`march`."""
        raise NotImplementedError("Use OccupancyGrid.march: nerfacc's own sampling needs its CUDA extension.")

    def occupied_at(self, positions: Tensor) -> Tensor:
        """World positions [N, 3] -> whether their (finest containing) cell is occupied, [N] bool."""
        from ..kernels.reference import look_up

        step = torch.full(positions.shape[:1], self.geometry.min_step, device=positions.device)
        return look_up(positions, step, self.binaries, self.geometry)

    @torch.no_grad()
    def count_and_update(self, step: int, n_samples: int, density: DensityFn) -> bool:
        """Call once a training step; updates the grid when its time has come.

        Args:
            step: training step, from 0.
            n_samples: samples trained on in this step; they pay for the cells evaluated.
            density: the field.
        Returns:
            Whether there was an update.
        """
        self._credit += n_samples * self.update_share
        self._since += 1
        wanted = FIRST_UPDATE if step < FIRST_UPDATE else min(max(step // 16, 1), self.update_interval)
        cells = self.cells_per_lvl * self.levels
        warm = step < 256
        due = self._since >= wanted and self._credit >= (0.25 if warm else 0.125) * cells
        if not due:
            return False
        # The whole grid while the field takes shape, then half of it, as instant-ngp.
        self.update(min(int(self._credit), cells if warm else cells // 2), density, 1.0 if warm else 0.5, self._since)
        self._credit, self._since = 0.0, 0
        return True

    @torch.no_grad()
    def update(self, n_cells: int, density: DensityFn, uniform: float = 1.0, steps: int = DECAY_STEPS) -> None:
        """Let all cells fade, and evaluate some.

        Args:
            n_cells: cells to evaluate.
            density: the field.
            uniform: share of them taken in turn over the whole grid; the rest is drawn among the occupied ones.
            steps: training steps since the last update.
        """
        turn, seed = int(n_cells * uniform), int(torch.randint(1 << 31, ()))
        cells = self.kernels.draw_cells(self.occs, self.binaries, turn, n_cells - turn, self._cursor, seed)
        self._cursor = (self._cursor + turn) % self.occs.shape[0]
        found = torch.empty(cells.shape[0], device=self.occs.device)
        chunk = CHUNK["cpu" if cells.device.type == "cpu" else "other"]
        for number, begin in enumerate(range(0, cells.shape[0], chunk)):
            part = cells[begin : begin + chunk]
            points = self.kernels.cell_points(part, self.edge, self.levels, seed + 1 + number)
            found[begin : begin + chunk] = density(points) * MIN_STEP
        self.kernels.raise_cells(self.occs, cells, found, DECAY ** (steps / DECAY_STEPS))
        self.refresh()

    def run_state(self) -> dict[str, Any]:
        """What the next update depends on beside the buffers, for a checkpoint."""
        return {"cursor": self._cursor, "credit": self._credit, "since": self._since}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self._cursor = int(state["cursor"]) % self.occs.shape[0]
        self._credit, self._since = float(state["credit"]), int(state["since"])

    @torch.no_grad()
    def refresh(self) -> None:
        """Bits from values: over min(0.01, mean of the innermost cascade), or over a finer cell that is."""
        values = self.occs.view(self.levels, self.edge, self.edge, self.edge)
        threshold = values[0].clamp(min=0).mean().clamp(max=THRESHOLD)  # a tensor: no wait for the device
        bits = values > threshold
        q = self.edge // 4
        for level in range(1, self.levels):
            bits[level, q : 3 * q, q : 3 * q, q : 3 * q] |= _halve(bits[level - 1])
        self.binaries.copy_(bits)

    @torch.no_grad()
    def mark_unseen(self, seen: Tensor) -> None:
        """Cells that no camera sees are never occupied: ``seen`` is [K, G, G, G] bool, on any device."""
        seen = seen.to(self.occs.device)
        flat = seen.reshape(-1)
        self.occs.copy_(torch.where(flat, self.occs.clamp(min=0.0), UNSEEN))
        self.binaries.copy_(self.binaries & seen)


def _halve(bits: Tensor) -> Tensor:
    """bool [G, G, G] -> [G / 2, G / 2, G / 2]: whether any of eight neighbours is set."""
    bits = bits[0::2] | bits[1::2]
    bits = bits[:, 0::2] | bits[:, 1::2]
    return bits[:, :, 0::2] | bits[:, :, 1::2]
