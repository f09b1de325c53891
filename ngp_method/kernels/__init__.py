"""Kernel sets: one function, one parameter layout, several implementations.

Operations on arrays belong here: what every set computes (``interface``), on which layout of parameters and samples
(``layout``, ``samples``, ``scene``), and the sets themselves. This package imports torch and each set's own compiler alone,
and nothing of the rooms above.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

import torch

from .adam import AdamSettings, AdamState
from .interface import Composited, Gathered, Kernels

__all__ = ["KERNEL_SETS", "AdamSettings", "AdamState", "Composited", "Gathered", "Kernels", "choose_kernels", "load_kernels"]


def _reference() -> Kernels:
    from .reference import ReferenceKernels

    return cast(Kernels, ReferenceKernels())


def _cpu() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels())


def _cpu_bfloat16() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels(precision="bfloat16"))


def _cpu_mixed() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels(precision="mixed"))


def _cpu_float32() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels(precision="float32"))


def _import(module: str) -> Any:
    """A module of this package that needs Triton.

    Raises:
        ImportError: one sentence, where the package triton is missing.
    """
    try:
        return importlib.import_module(module, __name__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "triton":
            raise
        raise ImportError(
            "The triton and tcnn kernels need the package triton, which comes with torch on Linux and is not installed here: "
            "pip install triton, or use --pipeline.model.kernels reference."
        ) from error


def _triton() -> Kernels:
    return cast(Kernels, _import(".triton").TritonKernels())


def _triton_float32() -> Kernels:
    return cast(Kernels, _import(".triton").TritonKernels("float32"))


def _tcnn() -> Kernels:
    return cast(Kernels, _import(".tcnn").TcnnKernels())


KERNEL_SETS: dict[str, Callable[[], Kernels]] = {
    "reference": _reference,
    "cpu": _cpu,
    "cpu-bfloat16": _cpu_bfloat16,
    "cpu-mixed": _cpu_mixed,
    "cpu-float32": _cpu_float32,
    "triton": _triton,
    "triton-float32": _triton_float32,
    "tcnn": _tcnn,
}
"""Every kernel set by name. A name works or raises: nothing stands in silently for anything."""


def load_kernels(name: str) -> Kernels:
    """The kernel set of that name.

    Raises:
        ValueError: no such name.
        ImportError: what the set is made of is not installed.
    """
    try:
        build = KERNEL_SETS[name]
    except KeyError:
        raise ValueError(f"There is no kernel set '{name}'; choose one of: {', '.join(KERNEL_SETS)}.") from None
    return build()


def choose_kernels(name: str, device: torch.device | str) -> tuple[Kernels, str]:
    """Resolve ``auto`` for a device: (kernel set, one line that says what was chosen and why).

    Raises:
        ValueError: no such name.
        ImportError: what the set is made of is missing, or ``auto`` met a GPU that Triton does not compile for: plain torch
            would run there, but tens of times slower, so it is taken only by its name.
    """
    if name != "auto":
        kernels = load_kernels(name)
        return kernels, f"kernels: {kernels.name} (asked for): {kernels.description}"
    kind = torch.device(device).type
    if kind == "cpu":
        kernels = load_kernels("cpu")
        return kernels, f"kernels: {kernels.name} (auto, training on the processor): {kernels.description}"
    if kind == "cuda":  # ROCm's devices go by this name too
        kernels = load_kernels("triton")
        from .triton.device import complaint  # of this device, where the set looked at the current one

        refusal = complaint(device)
        if refusal:
            raise ImportError(refusal)
        return kernels, f"kernels: {kernels.name} (auto, Triton compiles for this GPU): {kernels.description}"
    kernels = load_kernels("reference")
    return (
        kernels,
        f"kernels: {kernels.name} (auto, no kernels of our own for device '{kind}' yet): {kernels.description}",
    )
