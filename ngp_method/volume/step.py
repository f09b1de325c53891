"""One training step of a radiance field, all of it but the batch and the optimisers.

nerfstudio's trainer and the benchmark of GPUs both go through this: ``before``, rays and pixels in, losses out, their backward
pass and the optimisers, ``after``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..fields.shading import Shading
from ..kernels.losses import ColorLoss
from .footprints import ProbeFootprints
from .occupancy import OccupancyGrid
from .parts.part import Parts
from .ray_budget import RayBudget, most_marched
from .rays import Rays
from .tracing import Slots, Traced, Tracer


@dataclass(frozen=True)
class StepSettings:
    """What a step is trained with; instant-ngp's where that says anything.

    Attributes:
        loss: one of :data:`~..kernels.losses.LOSSES`.
        sample_budget: samples of a step, to which the number of rays is adapted (instant-ngp's target batch size, 2^18).
        max_rays: most rays of a step.
        average_decay: decay, per step, of the running average of the weights that is rendered; 0: of the weights themselves.
        average_interval: steps between two updates of it, with decay^interval: each is a pass over the whole table.
    """

    loss: str = "huber"
    sample_budget: int = 1 << 18
    max_rays: int = 1 << 18
    average_decay: float = 0.95
    average_interval: int = 4


@dataclass
class Predicted:
    """What a step makes of its rays.

    Attributes:
        traced: what they have gathered, and where.
        rgbs: [R, 3] premultiplied colours, as the parts leave them.
        background: [R, 3] what lies behind.
    """

    traced: Traced
    rgbs: Tensor
    background: Tensor


@dataclass
class Compared:
    """What a step's rays and their pixels come to.

    Attributes:
        losses: by name.
        mse: mean squared error of the colours.
    """

    losses: dict[str, Tensor]
    mse: Tensor

    def backward(self) -> None:
        """Adds the gradients of the sum of the losses, and lets go of the way they came."""
        reduce(torch.add, self.losses.values()).backward()
        self.losses = {name: loss.detach() for name, loss in self.losses.items()}


@dataclass
class Fixed(Compared):
    """The same of a step in buffers of a given size.

    Attributes:
        numbers: see :meth:`~.tracing.Tracer.fixed`.
    """

    numbers: Tensor


class Step:
    """See the module's first lines.

    Args:
        field: network and scene.
        grid: occupied cells.
        parts: optional ideas, and the background.
        settings: see :class:`StepSettings`.
        probes: footprints of what the grid asks the density at; None: points.

    Attributes:
        budget: how many rays the next batch is to have.
        counts: of the last batch: ``rays``, samples ``marched``, and samples ``kept`` before the transmittance ran out.
    """

    def __init__(
        self, field: Shading, grid: OccupancyGrid, parts: Parts, settings: StepSettings, probes: ProbeFootprints | None = None
    ) -> None:
        self.field, self.grid, self.parts, self.settings, self.probes = field, grid, parts, settings, probes
        self.tracer = Tracer(field.network, grid, most_slots=most_marched(settings.sample_budget))
        self.budget = RayBudget(settings.sample_budget, settings.max_rays)
        self.counts = {"rays": 0, "marched": 0, "kept": 0}

    def before(self, step: int) -> None:
        """Before training step ``step``, counted from 0: whether the optimisers' steps are to bring the average up to date."""
        interval = max(1, self.settings.average_interval)
        if step % interval == 0:
            self.field.network.begin_average(self.settings.average_decay**interval)
        self.parts.before(step)

    def __call__(self, rays: Rays, pixels: Tensor) -> dict[str, Tensor]:
        """Losses of a batch, by name: their sum is to be differentiated.

        Args:
            rays: R rays, cut to the scene box.
            pixels: [R, 3] or, with straight alpha, [R, 4] in [0, 1].
        """
        return self.compared(rays, pixels).losses

    def compared(self, rays: Rays, pixels: Tensor) -> Compared:
        """The same, with the error of the colours."""
        predicted = self.predict(rays)
        compared = self.compare(predicted, pixels)
        return Compared(self.losses(predicted, compared), compared.mse.detach())

    def predict(self, rays: Rays) -> Predicted:
        """Colours of rays and what is behind them; the next batch gets as many rays as fill the budget."""
        traced = self.tracer(self.parts.rays(rays))
        self.counts = {"rays": rays.n_rays, "marched": traced.marched, "kept": traced.kept}
        self.budget.adapt(**self.counts)
        return self._predicted(traced)

    def fixed(self, rays: Rays, pixels: Tensor, slots: Slots) -> Fixed:
        """The same in buffers of a given size, and without asking the host for anything: what a CUDA graph can hold.

        ``counts`` and ``budget`` stay as they are: :mod:`.captured` sees to them when the numbers have come.
        """
        traced, numbers = self.tracer.fixed(self.parts.rays(rays), slots)
        predicted = self._predicted(traced)
        compared = self.compare(predicted, pixels)
        return Fixed(self.losses(predicted, compared), compared.mse.detach(), numbers)

    def _predicted(self, traced: Traced) -> Predicted:
        return Predicted(traced, self.parts.colors(traced.found.rgbs, traced.rays), self.parts.background(traced.rays))

    def compare(self, predicted: Predicted, pixels: Tensor) -> ColorLoss:
        """Rays against their pixels, both over one background."""
        traced = predicted.traced
        return self.field.kernels.color_loss(
            predicted.rgbs, traced.found.opacities, pixels, predicted.background, traced.room, self.settings.loss
        )

    def losses(self, predicted: Predicted, compared: ColorLoss) -> dict[str, Tensor]:
        """The loss on colours, ``rgb_loss``, and those of the parts."""
        return {"rgb_loss": compared.loss, **self.parts.losses(predicted.traced)}

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on beside parameters, buffers and optimisers: plain numbers, for a checkpoint."""
        return {"budget": self.budget.run_state(), "tracer": self.tracer.run_state(), "grid": self.grid.run_state()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self.budget.load_run_state(state["budget"])
        self.tracer.load_run_state(state["tracer"])
        self.grid.load_run_state(state["grid"])

    def _probed(self, positions: Tensor) -> Tensor:
        """Densities that the grid asks for."""
        return self.field.density_in_unit(positions, None if self.probes is None else self.probes(positions))

    @torch.no_grad()
    def after(self, step: int) -> None:
        """After the optimisers' steps: the average, and the occupancy grid when its time has come."""
        self.field.network.finish_average()
        if self.grid.count_and_update(step, self.counts["kept"], self._probed):
            self.tracer.grid_changed()
        self.parts.after(step)
