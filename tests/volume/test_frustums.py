"""Pieces of cones as Gaussians: against the paper's closed forms as exact fractions, and against points drawn in the cone."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from ngp_method.data.rays import CachedRayGenerator
from ngp_method.volume.frustums import frustum_gaussians, frustum_moments
from ngp_method.volume.rays import MOST_AREA, Rays

INTERVALS = [(0.0, 1.0), (0.0, 1e-3), (2.0, 6.0), (3.0, 3.25), (4.0, 4.03125), (4.0, 4.000244140625), (100.0, 100.0078125)]
"""Exact in float32: from the tip of the cone to intervals a hundred-thousandth as long as they are far away."""


def closed_forms(start: float, end: float, radius: float) -> tuple[float, float, float]:
    """E[t], var(t) and the variance of x over a frustum (mip-NeRF's supplement), without any rounding."""
    a, b, r = Fraction(start), Fraction(end), Fraction(radius)
    third = b**3 - a**3
    mean = Fraction(3, 4) * (b**4 - a**4) / third
    square = Fraction(3, 5) * (b**5 - a**5) / third
    return float(mean), float(square - mean**2), float(r**2 * Fraction(3, 20) * (b**5 - a**5) / third)


@pytest.mark.parametrize(("kind", "roundoff"), [(torch.float64, 2.0**-53), (torch.float32, 2.0**-24)])
@pytest.mark.parametrize(("start", "end"), INTERVALS)
def test_the_stable_form_is_the_closed_form(start: float, end: float, kind: torch.dtype, roundoff: float) -> None:
    """Within 32 roundings: a dozen products and sums of which no two nearly cancel."""
    start, end, radius = (float(torch.tensor(value, dtype=kind)) for value in (start, end, 0.01))
    found = frustum_moments(*(torch.tensor([value], dtype=kind) for value in (start, end, radius)))
    for value, expected in zip(found, closed_forms(start, end, radius), strict=True):
        assert float(value) == pytest.approx(expected, rel=32 * roundoff)


def test_the_closed_form_itself_would_leave_nothing_in_float32() -> None:
    """What the stable form is for."""
    a, b = torch.tensor(4.0), torch.tensor(4.000244140625)
    mean = 0.75 * (b**4 - a**4) / (b**3 - a**3)
    variance = 0.6 * (b**5 - a**5) / (b**3 - a**3) - mean**2
    assert abs(float(variance) / closed_forms(4.0, 4.000244140625, 0.01)[1] - 1.0) > 0.5


def test_a_point_at_the_tip_is_a_point() -> None:
    zero = torch.zeros(1)
    assert all(float(value) == 0.0 for value in frustum_moments(zero, zero, zero + 0.1))


def rays_of(area: torch.Tensor | None, n: int = 1) -> Rays:
    """n equal rays in float64, askew."""
    d = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64), dim=-1).expand(n, 3)
    o = torch.tensor([[0.1, 0.2, -0.4]], dtype=torch.float64).expand(n, 3)
    return Rays(o, d, torch.zeros(n, dtype=torch.float64), torch.full((n,), 9.0, dtype=torch.float64), None, area)


@pytest.mark.parametrize(("start", "end", "area"), [(0.0, 1.0, 1e-2), (2.0, 2.5, 1e-2), (1.0, 4.0, 1e-3)])
def test_moments_are_those_of_points_in_the_frustum(start: float, end: float, area: float) -> None:
    """Monte Carlo: uniform in the frustum (t with density t^2, then a disc), means and variances within 5 standard errors."""
    n, rng = 400_000, torch.Generator().manual_seed(7)
    rays = rays_of(torch.tensor([area], dtype=torch.float64))
    u = torch.rand(3, n, generator=rng, dtype=torch.float64)
    t = (start**3 + u[0] * (end**3 - start**3)) ** (1 / 3)
    radius = float(rays.radius) * t * u[1].sqrt()
    across = torch.linalg.svd(rays.d).Vh[1:]  # two axes across the ray
    turn = 2.0 * math.pi * u[2]
    points = (
        rays.o + t[:, None] * rays.d + radius[:, None] * (turn.cos()[:, None] * across[0] + turn.sin()[:, None] * across[1])
    )
    found = frustum_gaussians(rays, torch.tensor([[start, end]], dtype=torch.float64))
    centred = points - points.mean(0)
    squares = centred.square()
    for value, samples in ((found.means[0, 0], points), (found.variances[0, 0], squares)):
        error = samples.std(0) / math.sqrt(n)
        assert ((value - samples.mean(0)).abs() < 5.0 * error).all()
        assert (error < 0.01 * samples.std(0)).all(), "the bound is tight"


def test_a_disc_has_the_variance_of_its_pixel() -> None:
    """r = 2 / sqrt(12) w: variance r^2 / 4 of a disc = w^2 / 12 of a square."""
    area = torch.tensor([1e-4], dtype=torch.float64)
    assert float(rays_of(area).radius) ** 2 / 4 == pytest.approx(1e-4 / 12)


@pytest.mark.parametrize("area", [None, torch.ones(1, dtype=torch.float64), torch.tensor([1.01 * MOST_AREA])])
def test_without_a_pixel_a_ray_has_no_width(area: torch.Tensor | None) -> None:
    """nerfstudio's placeholder 1 too: nothing is left across the ray, and along it what the interval has."""
    rays = rays_of(area)
    assert rays.radius is None or float(rays.radius) == 0.0
    t = torch.tensor([[2.0, 2.5]], dtype=torch.float64)
    found, along = frustum_gaussians(rays, t), frustum_moments(t[:, :1], t[:, 1:], torch.zeros(1, 1, dtype=torch.float64))
    torch.testing.assert_close(found.variances[0, 0], along.t_variances[0] * rays.d[0].square(), rtol=1e-12, atol=0)


def test_the_radius_beside_mip_nerfs_own() -> None:
    """Of a pinhole: the same in the middle, elsewhere sqrt(cos) of the angle off the axis times it: 5.6 % less in a corner.

    mip-NeRF's: 2 / sqrt(12) / f for each length of the direction on the plane at distance 1, divided by that length.
    """
    size, f = 801, 1111.0
    pose = torch.eye(4)[None, :3]
    cameras = Cameras(pose, f, f, size / 2, size / 2, size, size)
    pixels = torch.tensor([[0, size // 2, size // 2], [0, 0, 0], [0, size // 2, 100]])
    bundle = CachedRayGenerator(cameras)(pixels)
    area = bundle.pixel_area[:, 0]
    rays = Rays(bundle.origins, bundle.directions, torch.zeros(3), torch.ones(3), None, area)
    cosine = -bundle.directions[:, 2]
    mip = 2.0 / math.sqrt(12.0) / f * cosine
    # nerfstudio's area is the product of two chords, which in a corner are not quite at right angles: 0.4 % there
    torch.testing.assert_close(rays.radius, mip * cosine.sqrt(), rtol=5e-3, atol=0)
    assert float(cosine[1].sqrt()) == pytest.approx(0.944, abs=2e-3)
