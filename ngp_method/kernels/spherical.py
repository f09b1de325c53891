"""Real spherical harmonics up to degree 4 (16 values), in tiny-cuda-nn's order and signs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SH_DIM = 16
"""Values of degree 4, i.e. bands 0 to 3."""

# Normalisation of the real spherical harmonics, written as the closed forms rather than as decimals.
C0 = 0.5 * math.sqrt(1.0 / math.pi)
C1 = math.sqrt(3.0 / (4.0 * math.pi))
C2_XY = 0.5 * math.sqrt(15.0 / math.pi)
C2_ZZ = 0.25 * math.sqrt(5.0 / math.pi)
C2_XX = 0.25 * math.sqrt(15.0 / math.pi)
C3_33 = 0.25 * math.sqrt(35.0 / (2.0 * math.pi))
C3_XYZ = 0.5 * math.sqrt(105.0 / math.pi)
C3_1 = 0.25 * math.sqrt(21.0 / (2.0 * math.pi))
C3_0 = 0.25 * math.sqrt(7.0 / math.pi)
C3_2 = 0.25 * math.sqrt(105.0 / math.pi)


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Unit directions [N, 3] in [-1, 1] -> [N, 16]; band l, order m at l * l + l + m."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, C0),
            -C1 * y,
            C1 * z,
            -C1 * x,
            C2_XY * x * y,
            -C2_XY * y * z,
            C2_ZZ * (3.0 * zz - 1.0),
            -C2_XY * x * z,
            C2_XX * (xx - yy),
            C3_33 * y * (yy - 3.0 * xx),
            C3_XYZ * x * y * z,
            C3_1 * y * (1.0 - 5.0 * zz),
            C3_0 * z * (5.0 * zz - 3.0),
            C3_1 * x * (1.0 - 5.0 * zz),
            C3_2 * z * (xx - yy),
            C3_33 * x * (3.0 * yy - xx),
        ],
        -1,
    )


def direction_gradient(directions: Tensor, upstream: Tensor) -> Tensor:
    """Gradient of :func:`spherical_harmonics`, term by term.

    Args:
        directions: [N, 3].
        upstream: [N, 16] gradient of the values.
    Returns:
        [N, 3].
    """
    x, y, z = directions.unbind(-1)
    _, g1, g2, g3, g4, g5, g6, g7, g8, g9, g10, g11, g12, g13, g14, g15 = upstream.unbind(-1)
    across, thin = 3.0 * (y * y - x * x), 1.0 - 5.0 * z * z
    d_x = -C1 * g3 + C2_XY * (y * g4 - z * g7) + 2.0 * C2_XX * x * g8 + C3_XYZ * y * z * g10
    d_x = d_x + C3_33 * (across * g15 - 6.0 * x * y * g9) + C3_1 * thin * g13 + 2.0 * C3_2 * x * z * g14
    d_y = -C1 * g1 + C2_XY * (x * g4 - z * g5) - 2.0 * C2_XX * y * g8 + C3_XYZ * x * z * g10
    d_y = d_y + C3_33 * (across * g9 + 6.0 * x * y * g15) + C3_1 * thin * g11 - 2.0 * C3_2 * y * z * g14
    d_z = C1 * g2 - C2_XY * (y * g5 + x * g7) + 6.0 * C2_ZZ * z * g6 + C3_XYZ * x * y * g10
    d_z = d_z - 10.0 * C3_1 * z * (y * g11 + x * g13) + C3_0 * (15.0 * z * z - 3.0) * g12 + C3_2 * (x * x - y * y) * g14
    return torch.stack([d_x, d_y, d_z], -1)
