"""Rays meet the surface of a distance where it is, with bounds and without, and light falls on it as it should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ngp_method.primitives.sdf.lighting import frame, occlusion, shade, shadow
from ngp_method.primitives.sdf.tracing import DistanceBounds, SurfaceHits, cut_to_box, trace

CENTER, RADIUS = (0.45, 0.5, 0.55), 0.25
CPU = torch.device("cpu")


def sphere(positions: Tensor) -> Tensor:
    """Distance of a ball."""
    return (positions - torch.tensor(CENTER).to(positions)).norm(dim=-1) - RADIUS


def sphere_hits(rays_o: Tensor, rays_d: Tensor) -> Tensor:
    """[R] where rays from outside meet it, NaN where they miss: the quadratic equation."""
    to = rays_o.double() - torch.tensor(CENTER, dtype=torch.float64)
    b = (to * rays_d).sum(-1)
    return -b - torch.sqrt(b * b - (to * to).sum(-1) + RADIUS**2)


def view(n: int) -> tuple[Tensor, Tensor, float]:
    """n x n rays at the cube from a corner outside, and the side of their pixels at distance 1."""
    origin, target = torch.tensor([1.9, 1.6, 1.3]), torch.tensor([0.5, 0.5, 0.5])
    forward = torch.nn.functional.normalize(target - origin, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    up = torch.linalg.cross(right, forward)
    axis = torch.linspace(-0.5, 0.5, n)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    d = forward + x.reshape(-1, 1) * right + y.reshape(-1, 1) * up
    return origin.expand_as(d), torch.nn.functional.normalize(d, dim=-1), 1.0 / n


def looked(bounds: bool, scale: float = 1.0, n: int = 64) -> tuple[SurfaceHits, Tensor, Tensor]:
    """Hits of a view of the ball, and its rays; ``scale``: how much too large the distance says it is."""
    o, d, pixel = view(n)
    t_min, t_max = cut_to_box(o, d)

    def distance(positions: Tensor) -> Tensor:
        return scale * sphere(positions)

    made = DistanceBounds(distance, CPU, 32) if bounds else None
    return trace(distance, o, d, t_min, t_max, made, torch.full((len(d),), pixel * 0.01)), o, d


@pytest.mark.parametrize("bounds", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.6, 1.05])
def test_rays_meet_the_ball_where_it_is(bounds: bool, scale: float) -> None:
    found, o, d = looked(bounds, scale)
    expected = sphere_hits(o, d)
    # a ray that passes within the tolerance of the border may be on either side of it
    near_border = sphere(o + (torch.tensor(CENTER) - o).mul(d).sum(-1, keepdim=True) * d).abs() < 4e-3
    assert bool((found.hit == ~expected.isnan())[~near_border].all())
    both = found.hit & ~expected.isnan() & ~near_border
    assert int(both.sum()) > 150
    # within the tolerance of the surface: along a slanted ray that is farther
    reached = o[both] + found.t[both, None] * d[both]
    assert float(sphere(reached).abs().max()) < 3e-4
    assert float((found.t[both] - expected[both]).abs().median()) < 3e-4


def test_bounds_never_pass_the_surface_and_spare_the_network() -> None:
    plain, *_ = looked(False)
    skipped, _, _ = looked(True)
    same = plain.hit == skipped.hit
    assert float(same.float().mean()) > 0.998
    both = plain.hit & skipped.hit
    assert float((plain.t - skipped.t)[both].abs().max()) < 2e-3
    assert float(skipped.steps.float().mean()) < 0.5 * float(plain.steps.float().mean())
    bounds = DistanceBounds(sphere, CPU, 32)
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    assert bool((bounds.at(points) <= sphere(points).abs()).all())
    assert float(bounds.at(points).max()) > 0.2


def test_rays_that_meet_nothing_end_where_they_leave_the_box() -> None:
    found, o, d = looked(True)
    _, t_max = cut_to_box(o, d)
    t_min, _ = cut_to_box(o, d)
    through = ~found.hit & (t_min < t_max)
    assert int(through.sum()) > 300
    torch.testing.assert_close(found.t[through], t_max[through])
    beside = t_min >= t_max
    assert int(beside.sum()) > 100
    assert not bool(found.hit[beside].any())
    assert not bool(found.steps[beside].any())


def test_a_ray_that_begins_inside_is_there_at_once() -> None:
    o, d = torch.tensor([list(CENTER)]), torch.tensor([[1.0, 0.0, 0.0]])
    found = trace(sphere, o, d, torch.zeros(1), torch.ones(1))
    assert bool(found.hit)
    assert float(found.t) == 0.0


def test_no_rays() -> None:
    none = torch.zeros(0, 3)
    found = trace(sphere, none, none, torch.zeros(0), torch.zeros(0), DistanceBounds(sphere, CPU, 8))
    assert found.hit.shape == found.t.shape == (0,)


def test_rays_along_the_axes_are_cut_to_the_box() -> None:
    o = torch.tensor([[0.5, 0.5, -1.0], [0.5, 0.5, 0.5], [2.0, 0.5, 0.5], [-0.5, 1.5, 0.5]])
    d = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    t_min, t_max = cut_to_box(o, d)
    torch.testing.assert_close(torch.stack([t_min[:2], t_max[:2]]), torch.tensor([[1.0, 0.0], [2.0, 0.5]]))
    assert bool((t_min[2:] >= t_max[2:]).all())


@pytest.mark.parametrize("up", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.3, -2.0, 0.1)])
def test_the_frame_of_a_subject_is_right_handed_and_upright(up: tuple[float, ...]) -> None:
    axes = frame(torch.tensor(up))
    torch.testing.assert_close(axes @ axes.T, torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(axes[1], torch.nn.functional.normalize(torch.tensor(up), dim=0))
    assert float(torch.linalg.det(axes)) > 0


def two_balls(positions: Tensor) -> Tensor:
    """A ball, and one above it in the direction of (0, 1, 0)."""
    above = (positions - torch.tensor([0.45, 0.92, 0.55])).norm(dim=-1) - 0.06
    return torch.minimum(sphere(positions), above)


@pytest.mark.parametrize("bounded", [False, True])
def test_a_shadow_falls_where_something_stands_before_the_light(bounded: bool) -> None:
    bounds = DistanceBounds(two_balls, CPU, 32) if bounded else None
    angles = torch.linspace(-1.2, 1.2, 121)
    outward = torch.stack([angles.sin(), angles.cos(), torch.zeros_like(angles)], -1)
    points = torch.tensor(CENTER) + (RADIUS + 2e-3) * outward
    light = shadow(two_balls, points, torch.tensor([0.0, 1.0, 0.0]), bounds)
    under = (RADIUS * angles.sin()).abs() < 0.05  # the ball above has a radius of 0.06
    beside = ((RADIUS * angles.sin()).abs() > 0.13) & (angles.abs() < 1.0)
    assert not bool(light[under].any())
    assert float(light[beside].min()) > 0.6
    between = light[(angles > 0) & (angles < 0.6)]
    assert int(((between > 0.02) & (between < 0.98)).sum()) >= 3  # soft


def test_what_is_near_something_else_sees_less() -> None:
    normals = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    points = torch.tensor(CENTER) + RADIUS * normals
    open_, hidden = occlusion(sphere, points, normals)[1], occlusion(two_balls, points + 0.07 * normals, normals)[0]
    assert float(open_) > 0.99
    assert float(hidden) < 0.8


def test_shading_is_brighter_towards_the_light_and_never_beyond_white() -> None:
    axes = frame(torch.tensor([0.0, 1.0, 0.0]))
    normals = torch.nn.functional.normalize(torch.randn(400, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    points = torch.tensor(CENTER) + RADIUS * normals
    colors = shade(sphere, points, normals, -normals, torch.tensor([0.0, 1.0, 0.0]))
    assert float(colors.min()) >= 0.0
    assert float(colors.max()) <= 1.0
    key = torch.nn.functional.normalize(torch.tensor([0.45, 0.75, 0.5]) @ axes, dim=0)
    towards = normals @ key
    assert float(colors[towards > 0.8].mean()) > float(colors[towards < -0.2].mean()) + 0.15
    # a normal that points away a little, as at an outline, is taken as one that is seen edge-on
    across = torch.nn.functional.normalize(
        torch.linalg.cross(normals, torch.tensor([[0.3, 0.2, 0.9]]).expand_as(normals)), dim=-1
    )
    bent = torch.nn.functional.normalize(normals + 0.2 * across, dim=-1)
    at_outline = shade(sphere, points, bent, across, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(
        at_outline, shade(sphere, points, normals, across, torch.tensor([0.0, 1.0, 0.0])), atol=1e-3, rtol=0
    )
    assert math.isfinite(float(colors.sum()))
