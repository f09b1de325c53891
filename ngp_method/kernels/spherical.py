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
