"""What every network of this package has in common: trained vectors by name, and a running average of each that is rendered.

Source: tiny-cuda-nn ``optimizers/ema.h``; instant-ngp trains radiance fields and distances with an average, pictures without.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import Kernels
from ..kernels.layout import MLPLayout
from .trained import DueAverage, TrainedVector


class Averaged(nn.Module):
    """A network of trained vectors; while it is not training, it computes with their running averages.

    A subclass makes its vectors, names them in :meth:`vectors`, and calls :meth:`keep_averages` at the end of its constructor.
    """

    kernels: Kernels
    average_count: Tensor

    def vectors(self) -> dict[str, TrainedVector]:
        """Everything that is trained, by name."""
        raise NotImplementedError

    def keep_averages(self, kernels: Kernels, averaged: bool = True) -> None:
        """Binds the vectors to the kernels that train them, and makes the averages: buffers, saved and moved with the network.

        Args:
            kernels: what computes.
            averaged: False: there is no average, and the trained vectors are what is rendered.
        """
        self.kernels, self.averaged = kernels, averaged
        for name, vector in self.vectors().items():
            vector.kernels = kernels
            if averaged:
                self.register_buffer(f"average_{name}", vector.detach().clone())
        if averaged:
            self.register_buffer("average_count", torch.zeros((), dtype=torch.int64))
        self._averages: int | None = None
        self.register_load_state_dict_post_hook(lambda module, keys: setattr(module, "_averages", None))

    def current(self) -> dict[str, Tensor]:
        """The vectors to compute with, by name: the trained ones while training, otherwise their averages, if there are any."""
        if self.training or not self.averaged:
            return dict(self.vectors())
        return {name: getattr(self, f"average_{name}") for name in self.vectors()}

    @torch.no_grad()
    def begin_average(self, decay: float) -> None:
        """Before an optimiser's step: leaves with each parameter the average that the step is to bring up to date.

        An optimiser that can (:class:`~.adam.NgpAdam`) does so in the same pass over the table; for any other,
        :meth:`finish_average` does it afterwards. Debiased as it goes: the weight of the newest is (1 - d) / (1 - d^n).
        """
        if not self.averaged:
            return
        if self._averages is None:  # waits for the device, so only once
            self._averages = int(self.average_count)
        self._averages += 1
        self.average_count.fill_(self._averages)
        newest = (1.0 - decay) / (1.0 - decay**self._averages) if decay > 0 else 1.0
        for name, vector in self.vectors().items():
            vector.due = DueAverage(getattr(self, f"average_{name}"), newest)

    @torch.no_grad()
    def finish_average(self) -> None:
        """After the optimisers' steps: the averages that are still due."""
        for vector in self.vectors().values():
            vector.take_average()


def xavier_uniform(layout: MLPLayout) -> Tensor:
    """Flat initial weights: U(-a, a) with a = sqrt(6 / (in + out)) per matrix (tiny-cuda-nn's default)."""
    parts = []
    for rows, columns in layout.shapes:
        bound = (6.0 / (rows + columns)) ** 0.5
        parts.append(torch.empty(rows * columns).uniform_(-bound, bound))
    return torch.cat(parts)
