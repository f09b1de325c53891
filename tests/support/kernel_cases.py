"""What the kernel tests share: the sets under test, memory full of NaN, and how results are compared."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import KERNEL_SETS, Kernels, load_kernels

from . import tolerances as tol
from .kernel_guard import ELSEWHERE

SETS = [name for name in KERNEL_SETS if name != "reference" and name not in ELSEWHERE]
"""Every kernel set but the judge: a set that is added to the table is under test at once (those made of another vendor's
package in a file of their own, with a stand-in)."""

SIZES = (0, 1, 31, 1000, 4099)


@cache
def kernels_of(name: str) -> Kernels:
    """The kernel set, built once."""
    return load_kernels(name)


def low_precision(name: str) -> bool:
    """Whether the set computes in bfloat16 on this machine."""
    return bool(getattr(kernels_of(name), "low_precision", False))


def readable(name: str, table: Tensor) -> Tensor:
    """The table rounded to what the set can read of it exactly: to float16 if it computes in float32 from a float16 copy.

    Whatever it computes from that must be as exact as float32 is. (Low-precision sets are compared by their whole error.)
    """
    half = getattr(kernels_of(name), "reads_half", False) and not low_precision(name)
    return table.half().to(table.dtype) if half else table


def generator(*seed: int) -> torch.Generator:
    """Random numbers that depend on the case alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def array(tensor: Tensor) -> np.ndarray:
    """Any tensor as float64 numpy."""
    return tensor.detach().double().numpy()


class NanNumpy:
    """numpy for a module without compiled functions, where fresh memory holds NaN (integers: a large odd number)."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def empty(shape: Any, dtype: Any = np.float64, **rest: Any) -> np.ndarray:
        """Filled instead of empty."""
        kind = np.dtype(dtype)
        return np.full(shape, np.nan if kind.kind == "f" else np.iinfo(kind).max // 3, kind, **rest)


def _fill(tensor: Tensor) -> Tensor:
    if tensor.dtype.is_floating_point:
        return tensor.fill_(float("nan"))
    # Two NaN in bfloat16 where words hold pairs of them, and an index far out of range.
    return tensor if tensor.dtype == torch.bool else tensor.fill_(torch.iinfo(tensor.dtype).max)


def _filled(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: _fill(make(*args, **kwargs))


def host_modules() -> list[ModuleType]:
    """The kernel modules that run as plain Python: compiled ones must see the real numpy while numba compiles them."""
    package = importlib.import_module("ngp_method.kernels.cpu")
    found = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return [m for m in found if hasattr(m, "np") and not any(hasattr(v, "py_func") for v in vars(m).values())]


@pytest.fixture
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kernel does not write is NaN, so that a value that was never computed cannot look like one."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, _filled(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", _filled(torch.Tensor.new_empty))
    for module in host_modules():
        monkeypatch.setattr(module, "np", NanNumpy())


def assert_near(got: Tensor, truth: Tensor, bound: float | np.ndarray, what: str) -> None:
    """|got - truth| <= bound everywhere; NaN fails."""
    assert got.shape == truth.shape, f"{what}: shape {list(got.shape)}, not {list(truth.shape)}"
    error = np.abs(array(got) - array(truth))
    good = error <= bound
    assert good.all(), (
        f"{what}: {int((~good).sum())} of {good.size} are off, worst by {np.nanmax(error):.3g} "
        f"(NaN: {int(np.isnan(error).sum())}), allowed {np.max(bound):.3g}"
    )


def assert_no_worse(got: Tensor, plain: Tensor, truth: Tensor, what: str) -> None:
    """Error of a low-precision kernel against that of plain torch in the same precision (see tolerances)."""
    assert got.shape == truth.shape, f"{what}: shape {list(got.shape)}, not {list(truth.shape)}"
    mine, theirs = array(got) - array(truth), array(plain) - array(truth)
    assert np.isfinite(mine).all(), f"{what}: {int((~np.isfinite(mine)).sum())} values are not finite"
    if not mine.size:
        return
    floor = tol.LOW_PRECISION_FLOOR * float(np.abs(array(truth)).max())
    for kind, multiple, size in (
        ("root mean square", tol.LOW_PRECISION_RMS, tol.rms),
        ("largest", tol.LOW_PRECISION_MAX, lambda e: float(np.abs(e).max())),
    ):
        assert size(mine) <= multiple * size(theirs) + floor, (
            f"{what}: {kind} error {size(mine):.3g}, plain torch in the same precision has {size(theirs):.3g}"
        )


def two_thread_results(name: str, results: Callable[[Kernels], Iterator[Tensor]]) -> None:
    """The same numbers, bit for bit, from one thread, from two, and from two again; the set's threads are put back
    after."""
    pool = importlib.import_module("ngp_method.kernels.cpu.pool")
    before = pool.use_threads()
    kernels = kernels_of(name)
    try:
        found = []
        for threads in (1, 2, 2):
            assert pool.use_threads(threads) == threads
            found.append([tensor.clone() for tensor in results(kernels)])
    finally:
        pool.use_threads(before)
    for number, values in enumerate(zip(*found)):
        for other, what in ((values[1], "two threads"), (values[2], "two threads, again")):
            unequal = int((other != values[0]).sum())
            assert not unequal, f"result {number}: {unequal} of {other.numel()} numbers differ between one thread and {what}"
