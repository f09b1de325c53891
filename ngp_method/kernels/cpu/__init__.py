"""The kernel set for processors: numba for what is irregular, matrix products for what is not."""

from __future__ import annotations

from .kernels import CpuKernels

__all__ = ["CpuKernels"]
