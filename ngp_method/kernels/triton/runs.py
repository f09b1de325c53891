"""Features in runs: samples side by side, each feature's on multiples of 16 numbers, with room to the next multiple of 16.

Kernels read and write such features in whole vectors (16 bytes a thread) whatever the number of samples is, and are compiled
once for all numbers. What lies in the room behind the last sample is anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..layout import round_up

RUN = 16
"""Numbers: 16 bytes of any type and more, and what Triton knows of as a multiple."""


def empty_runs(n: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[n, count] in runs, to be written."""
    return torch.empty(count, round_up(n, RUN), dtype=dtype, device=device)[:, :n].t()


def in_runs(features: Tensor) -> bool:
    """Whether features [N, C] of any origin lie like that."""
    n, count = features.shape
    if features.stride(0) != 1 or features.stride(1) % RUN or features.data_ptr() % 16:
        return False
    end = features.storage_offset() + (count - 1) * features.stride(1) + round_up(n, RUN)
    return bool(n % RUN == 0 or end * features.element_size() <= features.untyped_storage().nbytes())
