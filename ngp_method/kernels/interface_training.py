"""The operations that training alone asks of a kernel set: losses, the optimiser, the upkeep of the occupancy grid.

Conventions are those of :mod:`.interface`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .adam import AdamSettings, AdamState
from .losses import ColorLoss
from .samples import PackedSamples


class TrainingKernels(Protocol):
    """A part of :class:`~.interface.Kernels`."""

    def color_loss(
        self, rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
    ) -> ColorLoss:
        """Loss of rays against their pixels, both over one background.

        Args:
            rgbs: [R, 3] premultiplied colours; gradient supported.
            opacities: [R]; gradient supported.
            pixels: [R, 3], or [R, 4] with straight alpha, in [0, 1].
            background: [R, 3] or [3]; gradient supported.
            room: [R] bool, rays that count; None: all. The others have no error, and are counted in the mean.
            loss: one of :data:`~.losses.LOSSES`.
        """
        ...

    def room(self, samples: PackedSamples, resume: Tensor, t_max: Tensor) -> tuple[Tensor, Tensor]:
        """Which rays a ``march`` of a given capacity had room for, without waiting for the device.

        Args:
            samples, resume: what ``march`` returned.
            t_max: [R] as it was given.
        Returns:
            [R] bool, the rays before the first that found no room; [2] int32, the number of samples and of such rays.
        """
        ...

    def prepare(self, table: Tensor | None, occupied: Tensor) -> None:
        """Bring up to date what the set keeps of a table and of an occupancy grid, as their operations would do.

        A captured CUDA graph reads what is kept where it lay, and does not see that it is out of date.
        """
        ...

    def adam_step(
        self,
        param: Tensor,
        grad: Tensor,
        state: AdamState,
        settings: AdamSettings,
        average: Tensor | None = None,
        weight: float = 0.0,
    ) -> None:
        """One step of Adam in place, as tiny-cuda-nn has it; clears ``grad``.

        A parameter whose gradient is exactly zero keeps its value, moments and step count. A running average, if one is given,
        takes its step too, with the new parameters and for every one of them: average += weight * (param - average).

        Args:
            param: [P] values, P a multiple of 16.
            grad: [P] gradient.
            state: moments and step counts.
            settings: hyper-parameters.
            average: [P] running average of the values, or None.
            weight: of the new values in the average.
        """
        ...

    def average(self, average: Tensor, value: Tensor, weight: float) -> None:
        """average += weight * (value - average), in place."""
        ...

    def draw_cells(self, values: Tensor, occupied: Tensor, n_turn: int, n_occupied: int, first: int, seed: int) -> Tensor:
        """Cells of the occupancy grid to be looked at: some in turn, some drawn among the occupied ones.

        Args:
            values: [K * G^3] value of each cell, negative where no camera sees it.
            occupied: [K, G, G, G] bool.
            n_turn: cells taken in turn: numbers first .. first + n_turn - 1 of a walk that meets each cell once a round.
            n_occupied: cells drawn; one that is not occupied is drawn again, up to ten times in all.
            first: where the walk goes on.
            seed: of the draw; other numbers each time.
        Returns:
            [M] int64, those of them that are seen; a cell may come twice.
        """
        ...

    def cell_points(self, cells: Tensor, resolution: int, cascades: int, seed: int) -> Tensor:
        """A random point of each cell [M], in [0, 1] over the scene box: [M, 3]."""
        ...

    def raise_cells(self, values: Tensor, cells: Tensor, found: Tensor, decay: float) -> None:
        """values = max(decay * values, found) in place for the cells [M], decay * values for the others; negative ones stay.

        A cell that comes several times takes the greatest of what was found.
        """
        ...
