"""Seconds of training of a run through nerfstudio's trainer, and its end when they are over."""

from __future__ import annotations

import time
from typing import Any


class StepClock:
    """Counts steps and their seconds, and stops the run when its training time is over.

    Args:
        trainer: nerfstudio's.
        seconds: of training.
        start: when Python started, by time.monotonic.

    Attributes:
        used: seconds of training so far: iterations with everything that hangs on them, nothing between them.
        first_step_s: from the start of Python to the end of the first step.
    """

    def __init__(self, trainer: Any, seconds: float, start: float) -> None:
        self.trainer, self.seconds, self.start = trainer, seconds, start
        self.steps = 0
        self.used = self._began = self.first_step_s = 0.0
        self._iterate = trainer.train_iteration
        trainer.train_iteration = self.iterate
        # nerfstudio calls this between iterations, when its own clock and ours stand still.
        trainer.eval_iteration = self.between

    def iterate(self, step: int) -> Any:
        """One iteration of the trainer, timed."""
        self._began = time.monotonic()
        found = self._iterate(step)
        if not self.steps:
            self.first_step_s = time.monotonic() - self.start
        self.steps += 1
        self.count(step)
        return found

    def count(self, step: int) -> None:
        """What a step has trained on."""

    def between(self, step: int) -> None:
        """After an iteration and what hangs on it (occupancy grid, averages, learning rates): count its time."""
        self.used += time.monotonic() - self._began
        if self.used >= self.seconds:
            self.trainer.stop_training = True
