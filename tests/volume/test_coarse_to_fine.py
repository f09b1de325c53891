"""NeRF and mip-NeRF along rays: units, passes, what is shared, and a training step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.fields.nerf_mlp import MLPSizes
from ngp_method.fields.positional import octaves, positional_encoding
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.coarse_to_fine import CUBE, CoarseToFine
from ngp_method.volume.coarse_to_fine_step import CoarseToFineStep
from ngp_method.volume.frustums import Gaussians, frustum_gaussians
from ngp_method.volume.intervals import composite
from ngp_method.volume.mipnerf import MipNerf, MipNerfSettings
from ngp_method.volume.nerf import Nerf, NerfSettings
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.rays import Rays

SMALL = MLPSizes(16, 3, 2, 8, 1)
BLENDER = SceneGeometry(unit_size=CUBE)
KINDS = ("mipnerf", "nerf")


def field_of(kind: str, geometry: SceneGeometry = BLENDER, **more: Any) -> CoarseToFine:
    """A small field in float64."""
    torch.manual_seed(3)
    field: CoarseToFine
    if kind == "nerf":
        field = Nerf(geometry, NerfSettings(sizes=SMALL, n_frequencies=3, n_coarse_samples=9, n_fine_samples=7, **more))
        for network in field.networks:
            torch.nn.init.constant_(network.density_head.bias, 0.7)  # a ReLU lets something through
    else:
        field = MipNerf(geometry, MipNerfSettings(sizes=SMALL, n_frequencies=4, n_samples=9, **more))
    return field.double()


def rays_for(geometry: SceneGeometry, n: int = 12, area: float = 1e-4) -> Rays:
    """Towards the scene from four edges of the unit cube away, in float64; the last misses the box."""
    rng = torch.Generator().manual_seed(5)
    d = torch.cat([0.5 * torch.rand(n, 2, generator=rng) - 0.25, -torch.ones(n, 1)], -1).double()
    d[-1] = torch.tensor([0.0, 0.0, 1.0])
    d = torch.nn.functional.normalize(d, dim=-1)
    o = torch.tensor([[0.1, -0.2, 1.3]], dtype=torch.float64).expand(n, 3) * geometry.unit_size
    o = o + torch.tensor(geometry.center, dtype=torch.float64)
    t_min, t_max = intersect_box(o, d, geometry.aabb.double(), 0.0, math.inf)
    return Rays(o, d, t_min, t_max, None, torch.full((n,), area, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_of_another_size_and_place_is_the_same_scene(kind: str) -> None:
    """World units are nobody's business: colours are the same, depths scale, densities per unit fall by as much."""
    other = SceneGeometry(center=(5.0, -3.0, 40.0), unit_size=16.0 * CUBE)
    here, there = field_of(kind), field_of(kind, other)
    first, second = (field.trace(rays_for(field.geometry), random=False)[-1] for field in (here, there))
    assert 0.05 < float(first.opacities[:-1].detach().min()) < 1.0
    torch.testing.assert_close(second.rgbs, first.rgbs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(second.depths, 16.0 * first.depths, rtol=1e-9, atol=1e-12)
    points = 2.0 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 1.0
    moved = 16.0 * points + torch.tensor(other.center)
    for field in (here, there):
        field.float()
    torch.testing.assert_close(16.0 * there.density_at(moved), here.density_at(points), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(there.normals_at(moved), here.normals_at(points), rtol=0, atol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_blender_scenes_are_encoded_as_published(kind: str) -> None:
    field = field_of(kind)
    points = torch.randn(7, 3, dtype=torch.float64)
    assert field.scale == 1.0
    assert torch.equal(field.positions_in_units(points), points)
    assert field.n_octaves == {"mipnerf": 4, "nerf": 3}[kind]
    encoded = field.encode(points) if isinstance(field, Nerf) else field.encode(Gaussians(points, torch.zeros_like(points)))  # type: ignore[operator]
    expected = positional_encoding(points, octaves(0, field.n_octaves, points), identity=kind == "nerf")
    torch.testing.assert_close(encoded, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_places_of_a_large_scene_are_encoded_alike(kind: str) -> None:
    """Lower octaves beside the published ones: the lowest wave does not come round within the box."""
    field = field_of(kind, SceneGeometry(unit_size=2.0, aabb_scale=16))
    assert field.n_octaves == {"mipnerf": 4, "nerf": 3}[kind] + 4
    assert 2.0 * math.pi / 2.0**field.lowest > CUBE * 16 > 2.0 * math.pi


@pytest.mark.parametrize("kind", KINDS)
def test_rays_that_miss_the_box_have_met_nothing(kind: str) -> None:
    rays = rays_for(BLENDER)
    for found in field_of(kind).trace(rays, random=True):
        for value in (found.rgbs, found.opacities, found.depths):
            assert not value[-1].any()
            assert value[:-1].any()
        assert found.weights.shape[0] == rays.n_rays - 1
    none = field_of(kind).trace(rays[rays.n_rays - 1 :], random=True)[-1]
    assert none.rgbs.shape == (1, 3)
    none.rgbs.sum().backward()  # a step of nothing but such rays is legal
    empty = field_of(kind).trace(rays[:0], random=False)[-1]
    assert empty.rgbs.shape == (0, 3)


@pytest.mark.parametrize("random", [True, False])
def test_mip_nerfs_passes_written_out(random: bool) -> None:
    """Both of the same network; the second between distances drawn from blurred weights with 0.01 more (section 3.2)."""
    field = field_of("mipnerf")
    assert isinstance(field, MipNerf)
    rays = rays_for(BLENDER)[:4]
    torch.manual_seed(9)
    first, second = field.passes(rays, random)
    torch.manual_seed(9)
    even = torch.linspace(0, 1, 10, dtype=torch.float64)
    mid = 0.5 * (even[1:] + even[:-1])
    low, high = torch.cat([even[:1], mid]), torch.cat([mid, even[-1:]])
    shares = low + (high - low) * torch.rand(4, 10, dtype=torch.float64) if random else even.expand(4, 10)
    t = rays.t_min[:, None] + shares * (rays.t_max - rays.t_min)[:, None]

    def passed(t: Tensor) -> Any:
        gaussians = frustum_gaussians(rays, t)
        frequencies = octaves(0, 4, t)[:, None]
        angles = (gaussians.means[..., None, :] * frequencies).flatten(-2)
        fade = torch.exp(-0.5 * (gaussians.variances[..., None, :] * frequencies**2).flatten(-2))
        features = torch.cat([fade * angles.sin(), fade * angles.cos()], -1)
        views = positional_encoding(rays.d, octaves(0, 4, t))[:, None].expand(-1, 9, -1)
        raw, rgbs = field.network(0)(features, views)
        sigmas = torch.log1p(torch.exp(raw - 1.0))
        return composite(sigmas, (1.0 + 2 * 0.001) / (1.0 + torch.exp(-rgbs)) - 0.001, t, 0.5 * (t[:, 1:] + t[:, :-1]))

    expected = passed(t)
    torch.testing.assert_close(first.weights, expected.weights)
    torch.testing.assert_close(first.rgbs, expected.rgbs)
    w = torch.cat([expected.weights[:, :1], expected.weights, expected.weights[:, -1:]], -1)
    w = torch.maximum(w[:, 1:], w[:, :-1])
    w = 0.5 * (w[:, 1:] + w[:, :-1]) + 0.01
    below = torch.cat([torch.zeros(4, 1).double(), (w / w.sum(-1, keepdim=True)).cumsum(-1)], -1)
    top = 1.0 - torch.finfo(torch.float64).eps
    u = torch.linspace(0, top, 10, dtype=torch.float64).expand(4, 10)
    if random:
        u = ((torch.arange(10) + torch.rand(4, 10, dtype=torch.float64)) / 10).clamp(max=top)
    new = torch.stack([torch.from_numpy(np.interp(u[r], below[r].detach(), t[r])) for r in range(4)])
    torch.testing.assert_close(second.rgbs, passed(new).rgbs, rtol=1e-9, atol=1e-12)


def test_nerfs_second_pass_has_the_first_ones_points_and_its_own_network() -> None:
    field = field_of("nerf")
    assert isinstance(field, Nerf)
    seen: list[tuple[int, Tensor]] = []
    plain = field._pass

    def noted(number: int, rays: Rays, at: Tensor, views: Tensor) -> Any:
        seen.append((number, at))
        return plain(number, rays, at, views)

    field._pass = noted  # type: ignore[method-assign]
    found = field.passes(rays_for(BLENDER)[:5], random=True)
    (first, coarse), (second, fine) = seen
    assert (first, second) == (0, 1)
    assert fine.shape == (5, 9 + 7)
    assert ((fine[:, 1:] - fine[:, :-1]) >= 0).all()
    assert (torch.isclose(fine[:, :, None], coarse[:, None]).any(1)).all(), "all of the first are among them"
    found[1].rgbs.sum().backward()
    assert all(p.grad is None for p in field.network(0).parameters()), "where is looked has no gradient"
    assert any(p.grad is not None and bool(p.grad.any()) for p in field.network(1).parameters())


def test_cones_see_the_pixels_width_and_points_do_not() -> None:
    fields = {"mipnerf": field_of("mipnerf"), "w/o IPE": field_of("mipnerf", integrated=False), "nerf": field_of("nerf")}
    for name, field in fields.items():
        narrow, wide = (field.trace(rays_for(BLENDER, area=area), random=False)[-1].rgbs for area in (1e-6, 9e-3))
        assert bool(torch.equal(narrow, wide)) == (name != "mipnerf"), name


def test_noise_on_densities_is_for_training_alone() -> None:
    field, rays = field_of("nerf", density_noise=1.0), rays_for(BLENDER)
    quiet = field_of("nerf").trace(rays, random=False)[-1].rgbs
    assert not torch.equal(field.trace(rays, random=False)[-1].rgbs, quiet)
    assert torch.equal(field.eval().trace(rays, random=False)[-1].rgbs, quiet)


@pytest.mark.parametrize("kind", KINDS)
def test_points_alone(kind: str) -> None:
    """What a mesh asks for: nothing outside of the box, colours in [0, 1], normals against the density's slope."""
    field = field_of(kind).float()
    points = torch.tensor([[0.0, 0.1, 0.2], [1.4, -1.4, 1.4], [1.6, 0.0, 0.0], [0.0, -9.0, 0.0]])
    sigmas = field.density_at(points)
    assert (sigmas[:2] > 0).any()
    assert not sigmas[2:].any()
    colors = field.color_at(points, torch.nn.functional.normalize(points, dim=-1))
    assert colors.shape == (4, 3)
    assert 0.0 <= float(colors.min()) < float(colors.max()) <= 1.0
    normals = field.normals_at(points[:2])
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(2))
    step = 1e-2
    raw = [field.raw_at(field.positions_in_units(points[:2] + sign * step * normals))[0] for sign in (1, -1)]
    assert (raw[0] < raw[1]).all()
    assert field.density_at(points[:0]).shape == (0,)


def test_a_point_is_as_wide_as_what_was_trained_on() -> None:
    """Isotropic, with the trace of the covariance of a first pass's interval, a pixel across."""
    field = MipNerf(SceneGeometry(unit_size=6.0), MipNerfSettings(sizes=SMALL, n_samples=10), pixel=0.2)
    interval, pixel = 3.0 / 10, 0.2 / 2  # in the field's units, which are half the world's
    assert field.point_variance == pytest.approx((interval**2 / 12 + 2 * pixel**2 / 12) / 3)


@pytest.mark.parametrize(("kind", "weight"), [("mipnerf", 0.1), ("nerf", 1.0)])
def test_a_step_trains_both_passes_over_one_background(kind: str, weight: float) -> None:
    field = field_of(kind)
    step = CoarseToFineStep(field, PlainBackground("random"), weight, 12)
    rays, pixels = rays_for(BLENDER), torch.rand(12, 4, dtype=torch.float64)
    pixels[-1] = 0.0
    predicted = step.predict(rays)
    behind = predicted.background
    assert behind.std() > 0.1, "random, a colour for each ray"
    target = pixels[:, :3] * pixels[:, 3:] + (1 - pixels[:, 3:]) * behind
    errors = [((p.rgbs + (1 - p.opacities)[:, None] * behind - target) ** 2).mean() for p in predicted.passes]
    compared = step.compare(predicted, pixels)
    losses = step.losses(compared)
    torch.testing.assert_close(losses["rgb_loss"], errors[1])
    torch.testing.assert_close(losses["coarse_loss"], weight * errors[0])
    torch.testing.assert_close(compared[-1].mse, errors[1].detach())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for parameter in field.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any())
    assert step.counts == {"rays": 12, "marched": 11 * field.samples_per_ray, "kept": 11 * field.samples_per_ray}
    assert step.budget.rays == 12
