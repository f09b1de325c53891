"""Pixels as cones: the Gaussian that stands for each piece of one (mip-NeRF, section 3.1).

A ray's cone has the radius ``r t`` at distance t. mip-NeRF takes r = 2 / sqrt(12) pixel widths: the disc whose variance across
each axis is that of a square pixel. Its rays have directions d of the plane at distance 1 of the lens, and t counts in their
lengths; ours are unit vectors, and t is a distance. A cone of the radius r' per length of d has r' / |d| per distance, which is
2 / sqrt(12) times the width that the pixel has at distance 1 *from the camera*, and here that width is the square root of
``Rays.area``. In the middle of a picture both are the same. Off the axis by an angle a, mip-NeRF's pixel is cos(a) as wide as
in the middle in both directions; the area says cos(a) across and cos(a)^2 along the tilt, as lenses have it. So our radius is
sqrt(cos(a)) times mip-NeRF's: 5.6 % less in the corners of NeRF's synthetic pictures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .rays import Rays

RADIUS_PER_WIDTH = 2.0 / math.sqrt(12.0)
"""Radius of the cone over the width of a pixel, both at distance 1 (mip-NeRF, section 3.1)."""

MOST_AREA = 1e-2
"""Area at distance 1 above which it is no pixel's: one of 6 degrees. Some commands of nerfstudio say 1 for want of one."""


class AlongRays(NamedTuple):
    """Pieces of cones as Gaussians in their own axes, each [...].

    Attributes:
        t_means: mean distance along the ray.
        t_variances: variance along it.
        r_variances: variance across it, the same in each direction.
    """

    t_means: Tensor
    t_variances: Tensor
    r_variances: Tensor


class Gaussians(NamedTuple):
    """Gaussians of pieces of cones.

    Attributes:
        means: [R, S, 3].
        variances: [R, S, 3] diagonals of the covariances.
    """

    means: Tensor
    variances: Tensor


def cone_radii(rays: Rays) -> Tensor:
    """[R] radius of each ray's cone at distance 1; 0, a ray without width, where no pixel's area is known."""
    if rays.area is None:
        return torch.zeros_like(rays.t_min)
    return torch.where(rays.area <= MOST_AREA, RADIUS_PER_WIDTH * rays.area.clamp(min=0.0).sqrt(), 0.0)


def frustum_moments(t_starts: Tensor, t_ends: Tensor, radii: Tensor) -> AlongRays:
    """Mean and variances of the uniform distribution over conical frustums.

    mip-NeRF, section 3.1 and its supplement, in the form that is written with the middle of the interval and half its length:
    of differences of fifth powers float32 would leave nothing.

    Args:
        t_starts, t_ends: [...] where the frustum begins and ends, from the tip of the cone; not negative.
        radii: [...] radius of the cone at distance 1.
    """
    mu, h = 0.5 * (t_starts + t_ends), 0.5 * (t_ends - t_starts)
    mu2, h2 = mu.square(), h.square()
    total = (3.0 * mu2 + h2).clamp(min=torch.finfo(mu.dtype).tiny)  # 0 at the tip alone, where all is 0
    share = h2 / total
    t_means = mu + 2.0 * mu * share
    t_variances = h2 / 3.0 - (4.0 / 15.0) * share.square() * (12.0 * mu2 - h2)
    r_variances = radii.square() * (0.25 * mu2 + (5.0 / 12.0) * h2 - (4.0 / 15.0) * h2 * share)
    return AlongRays(t_means, t_variances, r_variances)


def frustum_gaussians(rays: Rays, t: Tensor) -> Gaussians:
    """The pieces of rays' cones between neighbouring distances, as Gaussians in space (mip-NeRF, section 3.1).

    Args:
        rays: R rays.
        t: [R, S + 1] borders of S intervals, ascending.
    """
    along = frustum_moments(t[:, :-1], t[:, 1:], cone_radii(rays)[:, None])
    d = rays.d[:, None]
    means = rays.o[:, None] + along.t_means[..., None] * d
    # 1 - d d / |d|^2, of unit vectors
    variances = along.t_variances[..., None] * d.square() + along.r_variances[..., None] * (1.0 - d.square())
    return Gaussians(means, variances)
