"""Kernel sets: one function, one parameter layout, several implementations.

This package imports torch and each set's own compiler alone (plus the packed layout and the scene geometry beside it) and
knows nothing of nerfstudio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch

from .interface import AdamSettings, AdamState, Composited, Kernels

__all__ = ["KERNEL_SETS", "AdamSettings", "AdamState", "Composited", "Kernels", "choose_kernels", "load_kernels"]


def _reference() -> Kernels:
    from .reference import ReferenceKernels

    return cast(Kernels, ReferenceKernels())


def _cpu() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels())


def _cpu_float32() -> Kernels:
    from .cpu import CpuKernels

    return cast(Kernels, CpuKernels(precision="float32"))


KERNEL_SETS: dict[str, Callable[[], Kernels]] = {
    "reference": _reference,
    "cpu": _cpu,
    "cpu-float32": _cpu_float32,
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
    """Resolve ``auto`` for a device: (kernel set, one line that says what was chosen and why)."""
    if name != "auto":
        kernels = load_kernels(name)
        return kernels, f"kernels: {kernels.name} (asked for): {kernels.description}"
    kind = torch.device(device).type
    if kind == "cpu":
        kernels = load_kernels("cpu")
        return kernels, f"kernels: {kernels.name} (auto, training on the processor): {kernels.description}"
    kernels = load_kernels("reference")
    return (
        kernels,
        f"kernels: {kernels.name} (auto, no kernels of our own for device '{kind}' yet): {kernels.description}",
    )
