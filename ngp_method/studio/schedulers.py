"""Learning-rate decay whose state is plain numbers, and which can follow a run's progress instead of its step count.

nerfstudio's exponential and cosine schedulers put numpy scalars into the checkpoint. torch >= 2.6 loads with
``weights_only=True`` and refuses them, so that resume, ``ns-eval``, ``ns-render``, ``ns-export`` and ``ns-viewer`` all
fail. The schedulers here return Python floats and save Python numbers; :func:`allow_numpy_scalars` makes the
checkpoints of those who choose a nerfstudio scheduler load as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import numpy as np
import torch
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..fields.adam import DECAY_EVERY, FIRST_DECAY, GAMMA, step_decay


def allow_numpy_scalars() -> None:
    """Lets ``torch.load(weights_only=True)`` read float64 scalars, as nerfstudio's own schedulers save them.

    The scalar's constructor is known to torch under the name its pickle carries, which numpy 2 changed: both are given.
    """
    scalar: Any = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [
            (scalar, "numpy.core.multiarray.scalar"),
            (scalar, "numpy._core.multiarray.scalar"),
            np.dtype,
            type(np.dtype("float64")),
        ]
    )


# Every nerfstudio command imports the method's config and with it this module, before it loads a checkpoint.
allow_numpy_scalars()


class FactorLR(LRScheduler):
    """Sets each group's rate to its initial rate times a factor of the steps done and of the run's progress.

    Args:
        optimizer: its groups' ``lr`` at this moment are the initial rates.
        factor: (steps done, progress in [0, 1]) -> factor of the learning rate.
        max_steps: length of the run, which gives the progress where nobody calls :meth:`follow`; None if unknown.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int, float], float], max_steps: Optional[int] = None) -> None:
        self.factor = factor
        self.max_steps = max_steps
        self._source: Optional[Callable[[], float]] = None
        self.progress = 0.0
        super().__init__(optimizer)

    def follow(self, source: Callable[[], float]) -> None:
        """Takes the progress from ``source()`` from now on, unless the length of the run was given by hand."""
        if self.max_steps is None:
            self._source = source

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate of each group for the next step."""
        steps = int(self.last_epoch)
        if self.max_steps is not None:
            self.progress = steps / self.max_steps
        elif self._source is not None:
            self.progress = float(self._source())
        self.progress = min(max(self.progress, 0.0), 1.0)
        factor = float(self.factor(steps, self.progress))
        return [float(base) * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers only: what the factor is belongs to the config."""
        return {
            "last_epoch": int(self.last_epoch),
            "_step_count": int(self._step_count),
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "_last_lr": [float(lr) for lr in self._last_lr],
            "progress": float(self.progress),
        }


@dataclass
class StepDecayConfig(SchedulerConfig):
    """Instant-NGP's decay: the rate is multiplied by ``gamma`` at ``start`` and every ``every`` after it.

    tiny-cuda-nn ``optimizers/exponential_decay.h``; the defaults are those of instant-ngp ``configs/nerf/base.json``.
    """

    _target: type = field(default_factory=lambda: StepDecay)
    """target class to instantiate"""
    gamma: float = GAMMA
    """What the rate is multiplied by at each decay."""
    start: float = FIRST_DECAY
    """The first decay: a step, or with `unit run` a share of the run (0 to 1)."""
    every: float = DECAY_EVERY
    """From one decay to the next: steps, or with `unit run` a share of the run."""
    unit: Literal["steps", "run"] = "steps"
    """What start and every are counted in."""
    max_steps: Optional[int] = None
    """Length of the run in steps; without it the trainer says how far the run is."""


class StepDecay(Scheduler):
    """See :class:`StepDecayConfig`."""

    config: StepDecayConfig

    def factor(self, steps: int, progress: float) -> float:
        """Factor of the learning rate after ``steps`` steps, at ``progress`` of the run."""
        c = self.config
        return step_decay(steps if c.unit == "steps" else progress, c.gamma, c.start, c.every)

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> FactorLR:
        """A scheduler of ``optimizer``; ``lr_init`` is what its groups already hold."""
        c = self.config
        if c.every <= 0:
            raise ValueError(f"The learning rate decays every {c.every} {c.unit}: give --...scheduler.every above 0.")
        return FactorLR(optimizer, self.factor, c.max_steps)


@dataclass
class AnnealConfig(SchedulerConfig):
    """Full rate up to a share of the run, then a smooth fall to ``final_scale`` at its end.

    How far the run is comes from the trainer, in steps and, where it has a time budget, in seconds: so the decay bites
    within a budget too. Without a budget it depends on the step alone.
    """

    _target: type = field(default_factory=lambda: Anneal)
    """target class to instantiate"""
    start_fraction: float = 0.3
    """Share of the run after which the rate begins to fall."""
    final_scale: float = 0.03
    """The rate at the end of the run, as a multiple of the initial rate; above 0."""
    shape: Literal["exponential", "cosine"] = "exponential"
    """exponential: the rate falls by the same factor in equal times; cosine: slowly at both ends."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from a tenth to the whole at the beginning."""
    max_steps: Optional[int] = None
    """Length of the run in steps; without it the trainer says how far the run is."""


class Anneal(Scheduler):
    """See :class:`AnnealConfig`."""

    config: AnnealConfig

    def factor(self, steps: int, progress: float) -> float:
        """Factor of the learning rate after ``steps`` steps, at ``progress`` of the run."""
        c = self.config
        warmup = 1.0 if steps >= c.warmup_steps else 0.1 + 0.9 * steps / c.warmup_steps
        if progress <= c.start_fraction:
            return warmup
        t = min((progress - c.start_fraction) / (1.0 - c.start_fraction), 1.0)
        if c.shape == "cosine":
            return warmup * (c.final_scale + (1.0 - c.final_scale) * 0.5 * (1.0 + math.cos(math.pi * t)))
        return warmup * math.exp(math.log(c.final_scale) * t)

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> FactorLR:
        """A scheduler of ``optimizer``; ``lr_init`` is what its groups already hold."""
        c = self.config
        if not (0.0 < c.final_scale <= 1.0 and 0.0 <= c.start_fraction <= 1.0):
            raise ValueError(
                f"Learning-rate decay from {c.start_fraction} of the run to {c.final_scale} of the rate: "
                "start_fraction must lie in [0, 1] and final_scale in (0, 1]."
            )
        return FactorLR(optimizer, self.factor, c.max_steps)
