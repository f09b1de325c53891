"""Which gradients a backward pass has a use for, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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


def _marked(upstream: Tensor | None) -> Tensor | None:
    """A gradient that needs one itself; None where nothing flows in."""
    return None if upstream is None else upstream.detach().requires_grad_()


def first_order_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass without a derivative of its own: to ask for one raises, where it would be zero in silence.

    torch's ``once_differentiable`` marks its results only if the upstream gradient needs a gradient, which that of a sum,
    as in ``autograd.grad(density.sum(), positions, create_graph=True)``, does not.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def marked(ctx: Any, *upstream: Tensor | None) -> Any:
        return once(ctx, *map(_marked, upstream) if torch.is_grad_enabled() else upstream)

    return marked
