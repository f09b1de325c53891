"""One colour behind everything: white, black, or in training a random one for each ray, which makes alpha count."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.constants import constant
from ..rays import Rays
from .part import Part

COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


class PlainBackground(Part):
    """White, black or random.

    Args:
        trained: ``white``, ``black`` or ``random`` (instant-ngp's ``random_bg_color``), of training rays.
        rendered: ``white`` or ``black``, of pictures.
        device: on which constants are made now; training and the viewer only look them up.
    """

    def __init__(self, trained: str = "random", rendered: str = "white", device: torch.device | None = None) -> None:
        super().__init__()
        self.trained, self.rendered = trained, rendered
        for color in COLORS.values():
            constant(color, torch.empty(0, device=device))

    def background(self, rays: Rays) -> Tensor:
        """See :class:`.part.Part`."""
        if self.training and self.trained == "random":
            return torch.rand_like(rays.d)
        return self.color(rays.d).expand_as(rays.d)

    def color(self, like: Tensor) -> Tensor:
        """The one colour [3] behind a picture or, where that is not random, behind training rays."""
        return constant(COLORS[self.trained if self.training else self.rendered], like)
