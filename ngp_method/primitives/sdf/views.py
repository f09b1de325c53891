"""Views of what stands in the unit cube: cameras around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .lighting import frame

FIELD_OF_VIEW = math.radians(36.0)
"""Of the views, vertically and horizontally."""

ROOM = 1.03
"""How much farther away the cameras stand than a ball around the subject would need to touch the picture's borders."""

ELEVATION = math.radians(18.0)
"""Of the cameras above the horizon."""


def orbit(up: Tensor, count: int, radius: float) -> Tensor:
    """Poses [count, 3, 4] float32 around the middle of the cube, which lies at the origin of the world; OpenGL axes.

    Args:
        up: [3] what is upwards; the first camera stands before the subject's front, a little to its right.
        radius: of a ball around the middle of the cube that holds the subject, in edges of the cube: all of it is seen.
    """
    right, above, front = frame(up.float())
    distance = ROOM * radius / math.sin(0.5 * FIELD_OF_VIEW)
    poses = []
    for index in range(count):
        angle = math.radians(25.0) + 2.0 * math.pi * index / count
        level = math.sin(angle) * right + math.cos(angle) * front
        back = torch.nn.functional.normalize(math.cos(ELEVATION) * level + math.sin(ELEVATION) * above, dim=0)
        side = torch.nn.functional.normalize(torch.linalg.cross(above, back), dim=0)
        poses.append(torch.stack([side, torch.linalg.cross(back, side), back, distance * back], -1))
    return torch.stack(poses)


def focal_length(pixels: int) -> float:
    """Of a picture so many pixels wide and high, in pixels."""
    return 0.5 * pixels / math.tan(0.5 * FIELD_OF_VIEW)
