"""Triton kernels: NVIDIA and AMD GPUs, compiled at first use by the Triton that comes with torch; no toolkit needed."""

from __future__ import annotations

from .kernels import TritonKernels

__all__ = ["TritonKernels"]
