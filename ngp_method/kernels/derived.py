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
    the tensor lies elsewhere. Changes through ``.data`` or numpy are not counted: whoever writes so says so with
    ``torch.autograd.graph.increment_version``, and with :meth:`keep` where it has changed what was made of the tensor too.
    Nothing is kept of a tensor that is gone, nor of one of inference mode, whose changes torch does not count.

    Args:
        make: (tensor, what was made of it before if its shape was the same, else None) -> what is made of it. To be made in
            place of the former, so that a captured CUDA graph sees the change.
    """

    def __init__(self, make: Callable[[Tensor, T | None], T]) -> None:
        self._make = make
        self._held = WeakTensorKeyDictionary()

    def of(self, source: Tensor) -> T:
        """What belongs to the tensor as it is now."""
        if source.is_inference():
            return self._make(source, None)
        state = _state(source)
        known, made = self._held.get(source, (None, None))
        if known != state:
            made = self._make(source, made if known is not None and known[2] == source.shape else None)
            self._held[source] = (state, made)
        assert made is not None
        return made

    def keep(self, source: Tensor) -> None:
        """What was made of the tensor has been changed with it, and is up to date."""
        _, made = self._held[source]
        self._held[source] = (_state(source), made)

    def current(self, source: Tensor) -> T | None:
        """The same if it was made already and is up to date."""
        if source.is_inference():
            return None
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


def changed(param: Tensor, copies: Derived[Tensor] | None) -> None:
    """A kernel has written a parameter, and the copies of it if any are given: torch learns of it.

    A backward pass that still needs the former values raises then, as after any change in place, where it would go wrong.
    """
    torch.autograd.graph.increment_version(param)
    if copies is not None:
        copies.keep(param)
