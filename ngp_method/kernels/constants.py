"""Small constants as tensors, once for each device: made anew, each would be copied to a GPU while the host waits."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(values: Values, like: Tensor) -> Tensor:
    """The numbers as a tensor of the device and type of another. Shared: not to be written to."""
    return _made(values, like.dtype, like.device)


@lru_cache(maxsize=256)
def _made(values: Values, dtype: torch.dtype, device: torch.device) -> Tensor:
    # A tensor of inference mode could not be used in training afterwards.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
