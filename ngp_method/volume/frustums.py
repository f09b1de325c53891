"""Pixels as cones: the Gaussian that stands for each piece of one (mip-NeRF, section 3.1).

A ray's cone has the radius ``r t`` at distance t. mip-NeRF takes r = 2 / sqrt(12) pixel widths: the disc whose variance across
each axis is that of a square pixel. Its rays have directions d of the plane at distance 1 of the lens, and t counts in their
lengths; ours are unit vectors, and t is a distance. A cone of the radius r' per length of d has r' / |d| per distance, which is
2 / sqrt(12) times the width that the pixel has at distance 1 *from the camera*, and here that width is the square root of
``Rays.area`` (:func:`.rays.cone_radius`). In the middle of a picture both are the same. Off the axis by an angle a, mip-NeRF's
pixel is cos(a) as wide as in the middle in both directions; the area says cos(a) across and cos(a)^2 along the tilt, as lenses
have it. So our radius is sqrt(cos(a)) times mip-NeRF's: 5.6 % less in the corners of NeRF's synthetic pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .rays import Rays


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

    A ray of no pixel has no width, and is spread along itself alone.

    Args:
        rays: R rays.
        t: [R, S + 1] borders of S intervals, ascending.
    """
    radius = rays.radius
    radii = torch.zeros_like(rays.t_min) if radius is None else radius
    along = frustum_moments(t[:, :-1], t[:, 1:], radii[:, None])
    d = rays.d[:, None]
    means = rays.o[:, None] + along.t_means[..., None] * d
    # 1 - d d / |d|^2, of unit vectors
    variances = along.t_variances[..., None] * d.square() + along.r_variances[..., None] * (1.0 - d.square())
    return Gaussians(means, variances)
