"""Adam as instant-ngp has it, behind torch's interface.

Source: tiny-cuda-nn ``adam.h`` (a parameter whose gradient is exactly zero is skipped, moments and step count too) and
instant-ngp ``configs/nerf/base.json`` (lr 1e-2, betas 0.9 and 0.99, eps 1e-15, L2 1e-6 on the matrices only).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..kernels import AdamSettings, AdamState, Kernels, load_kernels


class NgpAdam(torch.optim.Optimizer):
    """Adam that skips parameters without gradient; the kernel set of each parameter does the work.

    A parameter tells its kernel set by an attribute ``kernels`` (the field sets it); plain torch serves those without.
    Gradients live in one buffer per parameter that the step itself clears: ``zero_grad`` has nothing to do.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._reference = load_kernels("reference")
        self._keep_gradients()

    def _keep_gradients(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    param.grad = torch.zeros_like(param)
                param.grad_in_place = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The step clears the gradients; only missing buffers are made here."""
        self._keep_gradients()

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
                kernels: Kernels = getattr(param, "kernels", self._reference)
                # A running average that is due (see RadianceNetwork.begin_average) is updated in the same pass.
                average, weight = getattr(param, "average_due", None) or (None, 0.0)
                kernels.adam_step(param, param.grad, self._state_of(param), settings, average, weight)
                param.average_due = None
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
