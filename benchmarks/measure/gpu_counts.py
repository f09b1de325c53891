"""How many kernels a stretch of code launches, and how often the host waits in it, counted without a GPU as well.

Triton's launches are counted where they are made, in the interpreter too. Torch's are the operations that reach its dispatcher
and compute something: views and allocations do not count, an operation of several kernels (a prefix sum) counts once. A wait is
an operation that hands a number to the host, or whose result's size only the device knows.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.runtime.jit import KernelInterface

WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operations of torch that wait for the device."""


@dataclass
class Counts:
    """What was counted, by name."""

    triton: Counter[str] = field(default_factory=Counter)
    torch: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    @property
    def launches(self) -> int:
        """Kernels launched, those of torch included."""
        return self.triton.total() + self.torch.total()

    def record(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "launches": self.launches,
            "triton": dict(self.triton.most_common()),
            "torch": dict(self.torch.most_common()),
            "waits": dict(self.waits.most_common()),
        }


def _computes(op: Any) -> bool:
    """Whether an operation launches a kernel."""
    name = op._schema.name.split("::")[-1]
    if name.startswith(("empty", "new_empty", "sym_", "resize", "_record_function")):
        return False
    returned = op._schema.returns
    views = [value for value in returned if value.alias_info is not None and not value.alias_info.is_write]
    return not (returned and len(views) == len(returned))


class _Mode(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op._schema.name.split("::")[-1]
        if name in WAITS:
            self.counts.waits[name] += 1
        if _computes(op):
            self.counts.torch[name] += 1
        return op(*args, **(kwargs or {}))


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts what happens within it, on this thread and in backward passes of it."""
    counts, interface = Counts(), KernelInterface
    before = interface.__getitem__

    def getitem(kernel: Any, grid: Any) -> Callable[..., Any]:
        launch = before(kernel, grid)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts.triton[kernel.fn.__name__] += 1
            with _disable_current_modes():  # the interpreter computes with torch as well
                return launch(*args, **kwargs)

        return counted

    interface.__getitem__ = getitem  # type: ignore[method-assign]
    try:
        with _Mode(counts):
            yield counts
    finally:
        interface.__getitem__ = before  # type: ignore[method-assign]


def synchronisations(run: Callable[[], object]) -> int | None:
    """How often CUDA itself says that the host has waited in it; None without CUDA."""
    if not torch.cuda.is_available():
        return None
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)
