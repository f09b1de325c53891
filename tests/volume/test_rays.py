"""Rays: what is taken of them, and what becomes of nerfstudio's bundles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ngp_method.kernels.scene import SceneGeometry
from ngp_method.studio.bundles import rays_of
from ngp_method.volume.rays import Rays, cone_radius
from support.kernel_cases import kernels_of

NAMES = ("o", "d", "t_min", "t_max", "camera", "area")


def _rays(n: int, whole: bool = True) -> Rays:
    rng = torch.Generator().manual_seed(n)
    o, d = torch.randn(n, 3, generator=rng), torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    rays = Rays(o, d, torch.rand(n, generator=rng), 1 + torch.rand(n, generator=rng))
    return replace(rays, camera=torch.arange(n), area=torch.rand(n, generator=rng)) if whole else rays


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_some_of_them(n: int, whole: bool) -> None:
    rays = _rays(n, whole)
    for index in (slice(1, 4), torch.arange(n) % 2 == 0, torch.arange(n).flip(0)):
        some = rays[index]
        for name in NAMES:
            value, of_all = getattr(some, name), getattr(rays, name)
            assert (value is None) == (of_all is None)
            assert value is None or torch.equal(value, of_all[index])


@pytest.mark.parametrize(("n", "sizes"), [(0, [0]), (1, [1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_so_many_at_a_time(n: int, sizes: list[int]) -> None:
    """In their order; no rays are one part, so that whoever joins the results has something to join."""
    parts = list(_rays(n).split(3))
    assert [part.n_rays for part in parts] == sizes
    for name in NAMES:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(_rays(n), name))


def test_whether_gradients_are_wanted() -> None:
    rays = _rays(3)
    assert not rays.wants_gradient
    for name in ("o", "d"):
        asking = replace(rays, **{name: getattr(rays, name).clone().requires_grad_()})
        assert asking.wants_gradient
        assert not asking.detach().wants_gradient
        with torch.no_grad():
            assert not asking.wants_gradient


def _bundle(**more: Tensor) -> RayBundle:
    """A picture of 2 x 3 rays along z, from in front of a box of edge 2 around the origin."""
    origins, directions = torch.tensor([0.1, 0.2, -3.0]).expand(2, 3, 3), torch.tensor([0.0, 0.0, 2.0]).expand(2, 3, 3)
    return RayBundle(origins=origins, directions=directions, pixel_area=torch.full((2, 3, 1), 3e-4), **more)


def test_a_cone_is_as_wide_as_its_pixel() -> None:
    """A disc of the cone's radius has the variance of the square pixel along either axis (mip-NeRF, section 3.1)."""
    width = 0.003
    (radius,) = cone_radius(torch.tensor([width**2], dtype=torch.float64)).tolist()
    draws = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    square = (width * (draws[:, 0] - 0.5)).var()
    disc = (radius * draws[:, 0].sqrt() * torch.cos(2 * math.pi * draws[:, 1])).var()
    # Of a disc the variance is r^2 / 4, of a square w^2 / 12: mip-NeRF's radius of 2 / sqrt(12) makes them one.
    torch.testing.assert_close(disc, square, rtol=0.02, atol=0.0)
    assert radius == pytest.approx(2 / math.sqrt(12) * width)


def test_bundles_that_are_not_of_pixels_stand_for_points() -> None:
    """nerfstudio's exports and its test of what is hidden have an area of 1; no picture has pixels of 6 degrees."""
    given = torch.tensor([1e-6, 1.0, 0.02, 0.0, -1.0, float("inf"), float("nan")])
    assert (cone_radius(given) > 0).tolist() == [True, False, False, False, False, False, False]
    assert _rays(3, whole=False).radius is None
    assert _rays(3, whole=False).footprint is None


def test_a_bundle_of_nerfstudio() -> None:
    geometry = SceneGeometry(unit_size=2.0)
    rays = rays_of(_bundle(camera_indices=torch.arange(6).view(2, 3, 1)), geometry, None, kernels_of("reference"))
    assert rays.n_rays == 6
    assert rays.camera is not None
    assert rays.radius is not None
    assert rays.camera.tolist() == list(range(6))
    assert torch.equal(rays.d, torch.tensor([[0.0, 0.0, 1.0]]).expand(6, 3)), "of length 1"
    torch.testing.assert_close(rays.radius, torch.full((6,), 1e-2), rtol=1e-6, atol=0.0)
    assert (rays.t_min.tolist(), rays.t_max.tolist()) == ([2.0] * 6, [4.0] * 6)
    assert rays_of(_bundle(), geometry, None, kernels_of("reference")).camera is None
    assert rays_of(_bundle(), geometry, 2.5, kernels_of("reference")).t_min.tolist() == [2.5] * 6
    crop = {"nears": torch.full((2, 3, 1), 3.0), "fars": torch.full((2, 3, 1), 3.5)}
    cut = rays_of(_bundle(**crop), geometry, 2.5, kernels_of("reference"))
    assert (cut.t_min.tolist(), cut.t_max.tolist()) == ([3.0] * 6, [3.5] * 6)
