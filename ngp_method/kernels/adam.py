"""What one step of Adam is given, and its bias correction: the same for every kernel set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

ADAM_MAX_STEPS = 4095
"""Step counts saturate here: 0.99^4095 is 1e-18, the bias correction has long been 1 in float32."""


@dataclass
class AdamState:
    """Moments and step counts of one flat parameter vector; ``Kernels.adam_step`` updates them in place.

    Attributes:
        exp_avg: [P] first moment.
        exp_avg_sq: [P] second moment.
        steps: [P] int16 steps taken by each parameter (tiny-cuda-nn adam.h), saturating at ADAM_MAX_STEPS.
    """

    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor


@dataclass(frozen=True)
class AdamSettings:
    """Hyper-parameters of one step, tiny-cuda-nn's names."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-15
    l2_reg: float = 0.0


@lru_cache(maxsize=8)
def bias_corrections(beta1: float, beta2: float) -> np.ndarray:
    """float64 [ADAM_MAX_STEPS + 1]: sqrt(1 - beta2^n) / (1 - beta1^n) by step count n (entry 0 belongs to no step)."""
    n = np.maximum(np.arange(ADAM_MAX_STEPS + 1, dtype=np.float64), 1.0)
    return np.asarray(np.sqrt(1.0 - beta2**n) / (1.0 - beta1**n))


def whole_vectors(size: int) -> None:
    """Raises ValueError for a parameter vector that does not consist of sixteens."""
    if size % 16:
        raise ValueError(f"A parameter vector's length must be a multiple of 16, not {size}.")
