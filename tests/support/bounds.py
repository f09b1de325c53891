"""Whether Triton's kernels stay within the tensors they are given, in the interpreter: a memory checker without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from triton.runtime import interpreter


def _within(ranges: np.ndarray, address: np.ndarray, size: int) -> np.ndarray:
    """Whether ``size`` bytes from each address lie in one of the ranges [K, 2], sorted."""
    place = np.searchsorted(ranges[:, 0], address, side="right") - 1
    return (place >= 0) & (address + size <= ranges[np.maximum(place, 0), 1])


@contextmanager
def checked() -> Iterator[list[str]]:
    """Raises at the first access outside of the storage of the launch's tensors; yields what was launched."""
    executor, builder = interpreter.GridExecutor, type(interpreter.interpreter_builder)
    launched: list[str] = []
    ranges = [np.zeros((0, 2), np.uint64)]
    before = {name: getattr(builder, name) for name in ("create_masked_load", "create_masked_store", "create_atomic_rmw")}
    init, call = executor._init_args_hst, executor.__call__

    def began(self: Any, args: Any, kwargs: Any) -> Any:
        found = init(self, args, kwargs)
        tensors = [one for one in (*found[0], *found[1].values()) if isinstance(one, torch.Tensor)]
        held = {(s.data_ptr(), s.data_ptr() + s.nbytes()) for s in (t.untyped_storage() for t in tensors) if s.nbytes()}
        ranges[0] = np.array(sorted(held), np.uint64).reshape(-1, 2)
        launched.append(self.fn.__name__)
        return found

    def guarded(name: str, mask_at: int) -> Any:
        def access(self: Any, *args: Any) -> Any:
            pointer = args[1 if name == "create_atomic_rmw" else 0]
            mask = np.broadcast_to(args[mask_at].data, pointer.data.shape).astype(bool)
            address = pointer.data[mask].astype(np.uint64)
            size = np.uint64(pointer.get_element_ty().primitive_bitwidth // 8)
            good = _within(ranges[0], address, size)
            if not good.all():
                where = np.flatnonzero(mask.reshape(-1))[~good][:5]
                count = int((~good).sum())
                raise AssertionError(f"{launched[-1]}: {name} at {count} addresses outside, lanes {where.tolist()}")
            return before[name](self, *args)

        return access

    masks = {"create_masked_load": 1, "create_masked_store": 2, "create_atomic_rmw": 3}
    executor._init_args_hst = began
    for name, at in masks.items():
        setattr(builder, name, guarded(name, at))
    try:
        yield launched
    finally:
        executor._init_args_hst, executor.__call__ = init, call
        for name, plain in before.items():
            setattr(builder, name, plain)
