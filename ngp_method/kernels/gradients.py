"""Which gradients a backward pass has a use for, and where they go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def wanted(ctx: Any, index: int) -> bool:
    """Whether this backward pass has a use for the gradient of a tensor argument (the first ones, none of them None).

    ``needs_input_grad`` does not tell: it is true of a trained table also in ``torch.autograd.grad(density, positions)``,
    which must not add to ``table.grad``.
    """
    if not ctx.needs_input_grad[index]:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(ctx.next_functions[index][0]))
    except RuntimeError:  # torch refuses to say so of a leaf that autograd.grad was asked for: then it is wanted
        return True


def kept_buffer(param: Tensor) -> Tensor | None:
    """The gradient to add to, where an optimiser keeps one buffer and says so: that saves two passes over a table."""
    return param.grad if getattr(param, "grad_in_place", False) else None
