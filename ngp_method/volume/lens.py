"""Lenses, both ways: a direction in a camera's own axes, and where it comes to lie in the plane of the picture.

A direction has OpenGL's axes, x right, y up, z backwards, and any length. The plane is that of a lens with focal length 1, x
right and y down: a pinhole's distance from the axis is the tangent of the angle, an equidistant fisheye's the angle itself. A
pixel is (fx x + cx, fy y + cy) of the distorted coordinates. The inverse of ``distort`` has no closed form and is not here:
nerfstudio finds it in Newton steps, which :mod:`ngp_method.data.rays` asks for.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

PERSPECTIVE, FISHEYE = 1, 2
"""nerfstudio.cameras.cameras.CameraType values that are known here, both with nerfstudio's six distortion parameters."""


def onto_plane(local: Tensor, fisheye: bool) -> tuple[Tensor, Tensor]:
    """Directions [N, 3], a pinhole's all ahead of it -> x, y [N], not distorted."""
    depth = -local[:, 2]
    if not fisheye:
        return local[:, 0] / depth, -local[:, 1] / depth
    across = torch.linalg.norm(local[:, :2], dim=-1)
    scale = torch.atan2(across, depth) / across.clamp(min=1e-9)
    return local[:, 0] * scale, -local[:, 1] * scale


def from_plane(coords: Tensor, fisheye: bool) -> Tensor:
    """x, y [..., 2], not distorted -> directions [..., 3]: of length 1 for a fisheye, 1 along the axis for a pinhole."""
    x, y = coords[..., 0], -coords[..., 1]
    if not fisheye:
        return torch.stack([x, y, -torch.ones_like(x)], dim=-1)
    theta = torch.sqrt(x * x + y * y).clamp(max=math.pi)
    # sin(theta) / theta, which is 1 in the middle of the image
    sinc = torch.sinc(theta / math.pi)
    return torch.stack([x * sinc, y * sinc, -torch.cos(theta)], dim=-1)


def distort(x: Tensor, y: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """OpenCV's radial (k1..k4) and tangential (p1, p2) distortion, nerfstudio's order k1, k2, k3, k4, p1, p2."""
    numbers = [float(v) for v in k]
    return bend(x, y, *numbers) if any(numbers) else (x, y)


def bend(x: Any, y: Any, k1: float, k2: float, k3: float, k4: float, p1: float, p2: float) -> tuple[Any, Any]:
    """The same of tensors or of numbers: :mod:`.border` compiles it."""
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
    )
