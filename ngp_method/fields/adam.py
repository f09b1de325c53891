"""Adam as instant-ngp has it, behind torch's interface.

Source: tiny-cuda-nn ``adam.h`` (a parameter whose gradient is exactly zero is skipped, moments and step count too) and
instant-ngp ``configs/nerf/base.json`` (lr 1e-2, betas 0.9 and 0.99, eps 1e-15, L2 1e-6 on the matrices only).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..kernels import AdamSettings, AdamState, load_kernels
from .trained import TrainedVector

LEARNING_RATE = 1e-2
"""instant-ngp configs/nerf/base.json, of table and matrices."""

L2_REG = 1e-6
"""L2 on the matrices, none on the table (base.json)."""

GAMMA, FIRST_DECAY, DECAY_EVERY = 0.33, 20_000, 10_000
"""base.json: after so many steps, and again after so many more, the rate is multiplied by gamma."""


def step_decay(now: float, gamma: float = GAMMA, start: float = FIRST_DECAY, every: float = DECAY_EVERY) -> float:
    """Factor of the learning rate (tiny-cuda-nn ``exponential_decay.h``); ``now``, ``start`` and ``every`` in one unit."""
    if now < start:
        return 1.0
    # A share such as 0.5 + 3 * 0.1 misses its own decay by a rounding error otherwise.
    return gamma ** (1 + math.floor((now - start) / every + 1e-9))


class NgpAdam(torch.optim.Optimizer):
    """Adam that skips parameters without gradient; the kernel set of a :class:`~.trained.TrainedVector` does the work.

    Plain torch serves any other parameter.
    Gradients live in one buffer per parameter that the step itself clears: ``zero_grad`` has nothing to do but after a step
    that was skipped (by a gradient scaler that found infinity, by an exception).
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = LEARNING_RATE,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._reference = load_kernels("reference")
        self._cleared = not any(param.grad is not None for group in self.param_groups for param in group["params"])
        self._keep_gradients()

    def _keep_gradients(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if isinstance(param, TrainedVector):
                    param.keep_gradient()
                elif param.grad is None:
                    param.grad = torch.zeros_like(param)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Makes missing buffers, and clears what no step has: what it held would be in every gradient from then on."""
        self._keep_gradients()
        if not self._cleared:
            for group in self.param_groups:
                for param in group["params"]:
                    param.grad.zero_()
        self._cleared = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on every parameter."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            settings = AdamSettings(float(group["lr"]), beta1, beta2, group["eps"], group["weight_decay"])
            for param in group["params"]:
                if isinstance(param, TrainedVector):
                    param.adam_step(self._state_of(param), settings)
                else:
                    self._reference.adam_step(param, param.grad, self._state_of(param), settings)
        self._cleared = True
        return loss

    def _state_of(self, param: torch.nn.Parameter) -> AdamState:
        state: dict[str, Any] = self.state[param]
        if not state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(param), torch.zeros_like(param)
            state["steps"] = torch.zeros(param.shape, dtype=torch.int16, device=param.device)
        return AdamState(state["exp_avg"], state["exp_avg_sq"], state["steps"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch casts loaded state to the parameter's type; step counts are integers again afterwards."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["steps"] = state["steps"].to(torch.int16)
