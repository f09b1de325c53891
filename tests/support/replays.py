"""A training step done again in place of a CUDA graph's replay, where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ngp_method.volume.step import Fixed


class Again:
    """Records what is to be done again, for a replay that writes where the first one wrote.

    Args:
        gradients: of the parameters; what recording adds to them is taken back, as a capture does nothing.
    """

    def __init__(self, gradients: Callable[[], list[Tensor]]) -> None:
        self.gradients, self.recorded = gradients, 0

    def stream(self) -> AbstractContextManager[None]:
        """There is only one."""
        return nullcontext()

    def __call__(self, run: Callable[[], Fixed]) -> tuple[Callable[[], None], Fixed]:
        """See :class:`~ngp_method.volume.captured.Record`."""
        gradients, state = self.gradients(), torch.get_rng_state()
        before = [grad.clone() for grad in gradients]
        result = run()
        torch.set_rng_state(state)
        for grad, old in zip(gradients, before):
            grad.copy_(old)
        self.recorded += 1

        def replay() -> None:
            again = run()
            result.mse.copy_(again.mse)
            result.numbers.copy_(again.numbers)
            for name, loss in again.losses.items():
                result.losses[name].copy_(loss)

        return replay, result
