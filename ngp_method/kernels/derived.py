"""What is made of a tensor and kept until the tensor changes: float16 copies of tables, packed occupancy grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


class Derived(Generic[T]):
    """Something made of tensors, once for each of their states.

    Torch counts every in-place change of a tensor; what was made of it is made anew when that count has moved on, or when
    the tensor lies elsewhere. A kernel that changes the tensor and what was made of it together does not count. Nothing is
    kept of a tensor that is gone.

    Args:
        make: (tensor, what was made of it before if its shape was the same, else None) -> what is made of it. To be made in
            place of the former, so that a captured CUDA graph sees the change.
    """

    def __init__(self, make: Callable[[Tensor, T | None], T]) -> None:
        self._make = make
        self._held = WeakTensorKeyDictionary()

    def of(self, source: Tensor) -> T:
        """What belongs to the tensor as it is now."""
        state = _state(source)
        known, made = self._held.get(source, (None, None))
        if known != state:
            made = self._make(source, made if known is not None and known[2] == source.shape else None)
            self._held[source] = (state, made)
        assert made is not None
        return made

    def current(self, source: Tensor) -> T | None:
        """The same if it was made already and is up to date."""
        known, made = self._held.get(source, (None, None))
        return made if known == _state(source) else None


def _state(source: Tensor) -> tuple[int, int, torch.Size]:
    return source._version, source.data_ptr(), source.shape


def half_copies(copy: Callable[[Tensor, Tensor], object] = Tensor.copy_) -> Derived[Tensor]:
    """float16 copies of float32 tensors; ``copy(target, source)`` writes one."""

    def make(source: Tensor, former: Tensor | None) -> Tensor:
        half = torch.empty(source.shape, dtype=torch.float16, device=source.device) if former is None else former
        copy(half, source.detach())
        return half

    return Derived(make)
