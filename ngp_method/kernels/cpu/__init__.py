"""The kernel set for processors: numba kernels of explicit vectors, on threads of their own."""

from __future__ import annotations

from .kernels import CpuKernels

__all__ = ["CpuKernels"]
