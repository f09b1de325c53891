"""The trained vector: the one type of everything that is learned."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels import AdamSettings, AdamState, Kernels


@dataclass(frozen=True)
class DueAverage:
    """A running average to be brought up to date with the next value: average += weight * (value - average)."""

    average: Tensor
    weight: float


class TrainedVector(nn.Parameter):
    """A flat float32 vector [P] in tiny-cuda-nn's order, and what its training needs beside the value.

    Copies of it in lower precision are the kernel set's own (:mod:`..kernels.derived`); the running average is a buffer of the
    module that owns the vector, so that it is saved and moved with it.

    Attributes:
        kernels: the kernel set that takes the optimiser's step and the average's; set by the network that uses the vector.
        grad_in_place: whether an optimiser keeps one buffer of gradients, which kernels add to (``kernels/gradients.py``).
        due: the average that the next step is to bring up to date, or None.
    """

    kernels: Kernels
    grad_in_place: bool = False
    due: DueAverage | None = None

    def __new__(cls, value: Tensor, requires_grad: bool = True) -> TrainedVector:
        """As torch has it, which copies parameters through this call."""
        return super().__new__(cls, value, requires_grad)

    def keep_gradient(self) -> None:
        """Have one buffer of gradients, zero at first, for as long as it is trained."""
        if self.grad is None:
            self.grad = torch.zeros_like(self, requires_grad=False)
        self.grad_in_place = True

    def adam_step(self, state: AdamState, settings: AdamSettings) -> None:
        """One step, which clears the gradient; an average that is due takes its own in the same pass over the memory."""
        assert self.grad is not None
        due, self.due = self.due, None
        average, weight = (None, 0.0) if due is None else (due.average, due.weight)
        self.kernels.adam_step(self, self.grad, state, settings, average, weight)

    def take_average(self) -> None:
        """The average's step, if the optimiser has left it to be done."""
        if self.due is not None:
            self.kernels.average(self.due.average, self, self.due.weight)
            self.due = None

    def __deepcopy__(self, memo: dict[int, object]) -> TrainedVector:
        """Torch's, and the kernel set goes along."""
        made: TrainedVector = super().__deepcopy__(memo)
        if "kernels" in self.__dict__:
            made.kernels = copy.deepcopy(self.kernels, memo)
        return made
