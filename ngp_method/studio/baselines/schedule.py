"""The learning rate of NeRF and mip-NeRF: from one number to another, evenly in its logarithm, within the run's own length."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer

from ...errors import fail
from ..schedulers import FactorLR


@dataclass
class LogLinearConfig(SchedulerConfig):
    """The rate falls by the same factor in equal parts of the run; at its start it may rise from a small one.

    mip-NeRF's code (``learning_rate_decay``): 5e-4 to 5e-6 over 1,000,000 steps, and over the first 2,500 a factor that rises
    from 0.01 to 1 along a quarter of a sine. As shares of the run these are the same there, and fit any run.
    """

    _target: type = field(default_factory=lambda: LogLinear)
    """target class to instantiate"""
    final_scale: float = 0.01
    """The rate at the end of the run, as a multiple of the initial rate; above 0."""
    warmup: float = 0.0025
    """Share of the run over which the rate rises to its whole; 0: none."""
    warmup_scale: float = 0.01
    """What it rises from, as a multiple."""
    max_steps: Optional[int] = None
    """Length of the run in steps; without it the trainer says how far the run is."""


class LogLinear(Scheduler):
    """See :class:`LogLinearConfig`."""

    config: LogLinearConfig

    def factor(self, steps: int, progress: float) -> float:
        """Factor of the learning rate after ``steps`` steps, at ``progress`` of the run."""
        c = self.config
        risen = math.sin(0.5 * math.pi * min(progress / c.warmup, 1.0)) if c.warmup > 0 else 1.0
        return (c.warmup_scale + (1.0 - c.warmup_scale) * risen) * math.exp(math.log(c.final_scale) * progress)

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> FactorLR:
        """A scheduler of ``optimizer``; ``lr_init`` is what its groups already hold."""
        c = self.config
        if not (0.0 < c.final_scale <= 1.0 and 0.0 <= c.warmup <= 1.0 and 0.0 <= c.warmup_scale <= 1.0):
            fail(
                f"--optimizers.networks.scheduler: final-scale {c.final_scale} must lie in (0, 1], warmup {c.warmup} and "
                f"warmup-scale {c.warmup_scale} in [0, 1]."
            )
        return FactorLR(optimizer, self.factor, c.max_steps)
