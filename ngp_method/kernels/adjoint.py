"""``spread`` and ``sum_runs`` as each other's gradient, over what a kernel set has for the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .samples import PackedSamples

OfRuns = Callable[[Tensor, PackedSamples], Tensor]


@dataclass(frozen=True)
class RunKernels:
    """The two operations of a kernel set, without gradients.

    Attributes:
        copy: features of R rays in any layout -> features of N samples in that layout.
        add: features of N samples in any layout -> sums [R, C] float32; of padding nothing is read.
    """

    copy: OfRuns
    add: OfRuns

    def spread(self, features: Tensor, samples: PackedSamples) -> Tensor:
        """The operation ``spread``."""
        return _with_gradient(_Spread, features, samples, self) if _wanted(features) else self.copy(features, samples)

    def sum_runs(self, values: Tensor, samples: PackedSamples) -> Tensor:
        """The operation ``sum_runs``."""
        return _with_gradient(_SumRuns, values, samples, self) if _wanted(values) else self.add(values, samples)


def _wanted(tensor: Tensor) -> bool:
    return tensor.requires_grad and torch.is_grad_enabled()


def _with_gradient(
    function: type[torch.autograd.Function], given: Tensor, samples: PackedSamples, kernels: RunKernels
) -> Tensor:
    found = function.apply(given, samples, kernels)
    assert isinstance(found, Tensor)
    return found


def laid_out(values: Tensor, like: tuple[int, torch.dtype]) -> Tensor:
    """[M, C] -> the layout (by its number of axes) and type of the features that these are the gradient of."""
    axes, dtype = like
    if axes == 3:
        values = values.reshape(values.shape[0], -1, 2).permute(1, 0, 2)
    return values.to(dtype)


class _Spread(torch.autograd.Function):
    """(features of R rays, samples, kernels) -> features of N samples."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, samples: PackedSamples, kernels: RunKernels) -> Tensor:
        ctx.samples, ctx.kernels, ctx.like = samples, kernels, (features.ndim, features.dtype)
        return kernels.copy(features, samples)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Sums, themselves differentiable."""
        return laid_out(ctx.kernels.sum_runs(grad_outputs[0], ctx.samples), ctx.like), None, None


class _SumRuns(torch.autograd.Function):
    """(values of N samples, samples, kernels) -> sums [R, C] float32."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, samples: PackedSamples, kernels: RunKernels) -> Tensor:
        ctx.samples, ctx.kernels, ctx.like = samples, kernels, (values.ndim, values.dtype)
        return kernels.add(values, samples)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Copies, themselves differentiable; zeros in padding, which had no part in the sums."""
        found = ctx.kernels.spread(grad_outputs[0], ctx.samples)
        return laid_out(torch.where(ctx.samples.real()[:, None], found, 0.0), ctx.like), None, None
