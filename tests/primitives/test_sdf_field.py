"""A distance that is known exactly, as it is seen: hits, normals, colours, and beside the mesh of the same ball."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from ngp_method.primitives.sdf.field import DistanceField, slice_colors
from ngp_method.primitives.sdf.mesh import make_mesh
from ngp_method.primitives.sdf.signed import SignedDistance
from ngp_method.primitives.sdf.tracing import DistanceBounds, cut_to_box, skip, skip_in_torch
from ngp_method.primitives.sdf.truth import look_at_mesh
from ngp_method.primitives.sdf.views import FIELD_OF_VIEW, focal_length, orbit

UP = torch.tensor([0.0, 1.0, 0.0])
RADIUS = 0.35


def ball(positions: Tensor) -> Tensor:
    """Distance of a ball in the middle of the cube."""
    return (positions - 0.5).norm(dim=-1) - RADIUS


@pytest.fixture
def learned() -> DistanceField:
    """A field whose network is that distance."""

    def value_and_gradient(positions: Tensor) -> tuple[Tensor, Tensor]:
        return ball(positions)[:, None], torch.nn.functional.normalize(positions - 0.5, dim=-1)

    network: Any = SimpleNamespace(
        value_at=lambda positions: ball(positions)[:, None],
        value_and_gradient=value_and_gradient,
        mlp_params=torch.zeros(1),
    )
    return DistanceField(network)


def rays(n: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """The first view's rays in units of the cube, and the sides of their pixels."""
    pose = orbit(UP, 8, 0.5 * math.sqrt(3.0))[0]
    axis = (torch.arange(n) + 0.5 - 0.5 * n) / focal_length(n)
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    d = torch.stack([x, y, -torch.ones_like(x)], -1).reshape(-1, 3) @ pose[:, :3].T
    length = d.norm(dim=-1, keepdim=True)
    return (pose[:, 3] + 0.5).expand_as(d).contiguous(), d / length, 1.0 / focal_length(n) / length[:, 0]


def expected_t(o: Tensor, d: Tensor) -> Tensor:
    """Where rays meet the ball, NaN where they miss."""
    to = o.double() - 0.5
    b = (to * d).sum(-1)
    return -b - torch.sqrt(b * b - (to * to).sum(-1) + RADIUS**2)


def test_the_ball_is_seen_where_it_is(learned: DistanceField) -> None:
    o, d, pixel = rays()
    seen = learned.look(o, d, UP, pixel)
    expected = expected_t(o, d)
    clear = ball(o + (0.5 - o).mul(d).sum(-1, keepdim=True) * d).abs() > 0.02  # neither just met nor just missed
    assert torch.equal(seen.hit[clear], ~expected.isnan()[clear])
    both = seen.hit & clear
    off = ball(o + seen.t[:, None] * d).abs()
    assert bool((off <= 0.5 * pixel * seen.t + 1e-5)[both].all()), "to half a pixel"
    exact = learned.look(o, d, UP)
    assert float((exact.t - expected)[exact.hit & clear].abs().max()) < 1e-3
    normals = torch.nn.functional.normalize(o + expected[:, None].float() * d - 0.5, dim=-1)
    assert float((exact.normals - normals)[exact.hit & clear].abs().max()) < 0.01
    assert not bool(seen.t[~seen.hit].any() or seen.normals[~seen.hit].any())
    assert seen.colors is not None
    assert float(seen.colors.min()) >= 0.0
    assert float(seen.colors.max()) <= 1.0
    assert int(seen.steps[seen.hit].min()) >= 1


def test_what_nobody_wants_is_not_computed(learned: DistanceField) -> None:
    o, d, pixel = rays(8)
    seen = learned.look(o, d, UP, pixel, lambda what: False)
    assert seen.colors is None
    assert not bool(seen.normals.any())
    assert bool(seen.hit.any())


def test_normals_by_differences_are_those_of_the_surface(learned: DistanceField) -> None:
    at = 0.5 + RADIUS * torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    exact = learned.normal(at)
    for width in (0.0, 0.01):
        found = learned.normal_of_pixel(at, torch.full((200,), width))
        assert float((found * exact).sum(-1).min()) > 0.999


def test_outside_of_the_cube_it_goes_on(learned: DistanceField) -> None:
    draw = torch.Generator().manual_seed(2)
    positions = 4.0 * torch.rand(500, 3, generator=draw) - 1.5
    value, gradient = learned.everywhere(positions)
    true = ball(positions)
    assert bool((value >= true - 1e-6).all()), "never less than the true one"
    inside = ((positions >= 0) & (positions <= 1)).all(-1)
    torch.testing.assert_close(value[inside], true[inside])
    assert float(((value - true) / true.abs())[~inside].max()) < 1.0
    away = torch.tensor([[3.0, 0.5, 0.5]])
    value, gradient = learned.everywhere(away)
    torch.testing.assert_close(value, torch.tensor([2.0 + 0.5 - RADIUS]))
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.0, 0.0]]))


def test_the_mesh_is_seen_as_the_learned_surface_is(learned: DistanceField) -> None:
    """Same light, same place; its faces are flat, which a fine ball shows little of."""
    shape = trimesh.creation.icosphere(5, 1.0)
    made = make_mesh(shape.vertices, shape.faces)
    scale = RADIUS / float(np.ptp(made.vertices[:, 0]) / 2)
    o, d, pixel = rays()
    true = look_at_mesh(SignedDistance(made), 0.5 + (o - 0.5) / scale, d, UP)
    seen = learned.look(o, d, UP, pixel, exact=True)
    assert float((true.hit != seen.hit).float().mean()) < 0.02
    both = true.hit & seen.hit
    assert float((true.t * scale - seen.t)[both].abs().median()) < 2e-3
    assert float((true.normals * seen.normals).sum(-1)[both].median()) > 0.999
    assert true.colors is not None
    assert seen.colors is not None
    assert float((true.colors - seen.colors)[both].abs().median()) < 0.1


def test_an_open_mesh_is_seen_from_both_sides() -> None:
    plane = make_mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    o, d = torch.tensor([[0.5, 0.5, 2.0], [0.5, 0.5, -1.0]]), torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    seen = look_at_mesh(SignedDistance(plane), o, d, UP)
    assert bool(seen.hit.all())
    torch.testing.assert_close(seen.t, torch.tensor([1.5, 1.5]))
    assert seen.colors is not None
    assert float(seen.colors.min()) > 0.0


@pytest.mark.parametrize("up", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
def test_views_hold_the_whole_cube_upright(up: tuple[float, ...]) -> None:
    reach = 0.5 * math.sqrt(3.0)
    nearest = 0.0
    for pose in orbit(torch.tensor(up), 24, reach):
        torch.testing.assert_close(pose[:, :3] @ pose[:, :3].T, torch.eye(3), atol=1e-5, rtol=0)
        assert float(torch.linalg.det(pose[:, :3])) > 0
        assert float(pose[:, 1] @ torch.tensor(up)) > 0.9, "upwards is upwards"
        corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
        seen = (corners - pose[:, 3]) @ pose[:, :3]
        middle = -pose[:, 3] @ pose[:, :3]
        assert float(middle[:2].abs().max()) < 1e-5
        nearest = max(nearest, float((seen[:, :2].abs() / -seen[:, 2:]).max()) / math.tan(0.5 * FIELD_OF_VIEW))
    assert 0.8 < nearest < 1.0, "within the picture, and filling it"


def test_a_slice_tells_inside_from_outside() -> None:
    colors = slice_colors(torch.tensor([-0.12, 0.12, 0.0]))
    assert float(colors[0, 0]) > float(colors[0, 2])
    assert float(colors[1, 2]) > float(colors[1, 0])
    assert float(colors[2].max()) < 0.01, "the surface is a dark line"


def test_empty_space_is_skipped_as_it_is_defined() -> None:
    """The compiled loop against torch's operations."""
    bounds = DistanceBounds(ball, torch.device("cpu"), 32)
    o, d, _ = rays(40)
    t_min, t_max = cut_to_box(o, d)
    alive = t_min < t_max
    arrays = o[alive].contiguous(), d[alive].contiguous(), t_min[alive], t_max[alive]
    found, expected = skip(bounds, *arrays), skip_in_torch(bounds, *arrays)
    close = (found - expected).abs() < 1e-4
    assert float(close.float().mean()) > 0.99, "but for where a cell's border is met within rounding"
    assert bool((found <= arrays[3]).all())
    assert bool((ball(arrays[0] + found[:, None] * arrays[1]) > 0).all()), "never into it"
    assert float((found - arrays[2]).mean()) > 0.1
