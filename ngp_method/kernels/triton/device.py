"""What a device can do: whether Triton runs there at all, and in which precision the fields are computed."""

from __future__ import annotations

import os

import torch

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

LEAST_CAPABILITY = (7, 5)
"""Oldest NVIDIA chips that Triton's matrix products are compiled for (Turing)."""

BFLOAT16_CAPABILITY = (8, 0)
"""Chips from which matrix units take bfloat16 (Ampere)."""


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the processor (set before this package is imported)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def complaint(device: torch.device | str | None = None) -> str | None:
    """Why Triton kernels cannot run on a device, as one sentence; None where they can."""
    if interpreted():
        return None
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"The triton kernels need the package triton, which cannot be imported here ({error}): pip install triton."
    if not torch.cuda.is_available():
        return "The triton kernels need a CUDA or ROCm device, and torch sees none; use --pipeline.model.kernels cpu."
    if torch.version.hip:
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return (
            f"The triton kernels need compute capability {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]}, and {name} has "
            f"{capability[0]}.{capability[1]}; use --pipeline.model.kernels reference."
        )
    return None


def precision_of(name: str) -> torch.dtype:
    """The dtype of features and hidden layers; ``auto`` is bfloat16 where the matrix units take it, else float16."""
    if name != "auto":
        return PRECISIONS[name]
    if interpreted() or torch.version.hip or torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY:
        return torch.bfloat16
    return torch.float16
