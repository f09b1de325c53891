"""nerfstudio's config of :class:`~..fields.adam.NgpAdam`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import OptimizerConfig

from ..fields.adam import LEARNING_RATE, NgpAdam

__all__ = ["NgpAdam", "NgpAdamConfig"]


@dataclass
class NgpAdamConfig(OptimizerConfig):
    """Adam with instant-ngp's settings."""

    _target: type = field(default_factory=lambda: NgpAdam)
    lr: float = LEARNING_RATE
    """Learning rate at the start."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the first and second moment."""
    eps: float = 1e-15
    """Added to the root of the second moment; as small as this, entries seen rarely still move at full rate."""
    weight_decay: float = 0.0
    """L2 regularisation, added to the gradient: 1e-6 for the matrices, none for the table."""
