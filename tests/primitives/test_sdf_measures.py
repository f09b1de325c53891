"""Measures of a field against a mesh, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from ngp_method.primitives.sdf.measures import chamfer, strict_iou, surface_error, surface_points
from ngp_method.primitives.sdf.mesh import make_mesh
from ngp_method.primitives.sdf.signed import SignedDistance
from support.shapes import mesh_of


@pytest.fixture(scope="module")
def ball() -> SignedDistance:
    """A fine ball of radius 3, which the cube holds with a radius of a little less than a half."""
    shape = trimesh.creation.icosphere(subdivisions=4, radius=3.0)
    return SignedDistance(make_mesh(shape.vertices, shape.faces))


def _radius(shape: SignedDistance) -> float:
    return 3.0 * shape.mesh.scale


def _ball(radius: float) -> object:
    return lambda points: np.linalg.norm(points.astype(np.float64) - 0.5, axis=1) - radius


def test_iou_of_balls_in_each_other(ball: SignedDistance) -> None:
    """Volumes go by the third power of the radius; 2^18 points err by 0.001, the ball's facets by 0.3 %."""
    outer = _radius(ball)
    for share in (0.5, 0.8, 1.0, 1.05):
        found = strict_iou(_ball(outer * share), ball, 1 << 18)  # type: ignore[arg-type]
        assert found == pytest.approx(min(share, 1 / share) ** 3, abs=0.006)


def test_iou_is_strict(ball: SignedDistance) -> None:
    """A field that is right near the surface and says inside in a far corner is charged for the corner."""
    true = _ball(_radius(ball))

    def wrong(points: np.ndarray) -> np.ndarray:
        return np.where((points < 0.1).all(1), -1.0, true(points))  # type: ignore[operator]

    inside = 4 / 3 * np.pi * _radius(ball) ** 3
    assert strict_iou(wrong, ball, 1 << 20) == pytest.approx(inside / (inside + 0.001), abs=0.004)
    assert strict_iou(wrong, ball, 1 << 20) < strict_iou(true, ball, 1 << 20)  # type: ignore[arg-type]


def test_iou_in_chunks_and_of_nothing(ball: SignedDistance) -> None:
    sizes: list[int] = []
    shares: list[float] = []

    def field(points: np.ndarray) -> np.ndarray:
        sizes.append(len(points))
        assert points.dtype == np.float32
        return np.ones(len(points))

    assert strict_iou(field, ball, (1 << 19) + 5, progress=shares.append) == 0.0
    assert sizes == [1 << 18, 1 << 18, 5]
    assert (len(shares), shares[-1]) == (3, 1.0)
    plane = SignedDistance(mesh_of("plane"))
    assert strict_iou(lambda points: np.ones(len(points)), plane, 1000) == 1.0


def test_surface_error_is_the_fields_offset(ball: SignedDistance) -> None:
    assert surface_error(ball, ball, 5000) < 1e-7
    assert surface_error(lambda p: ball(p) + 0.01, ball, 5000) == pytest.approx(0.01, rel=1e-5)
    assert surface_error(lambda p: np.where(p[:, :1] < 0.5, -0.02, 0.04)[:, 0], ball, 5000) == pytest.approx(0.03, rel=0.02)


def test_surface_points_lie_on_the_surface_by_area() -> None:
    box = mesh_of("box")
    shape = SignedDistance(box)
    points = surface_points(shape.tree, 20_000)
    assert np.abs(shape(points)).max() < 1e-14
    top = np.isclose(points[:, 2], box.vertices[:, 2].max(), atol=1e-12)
    assert top.mean() == pytest.approx(2.0 / 7.0, abs=0.001)  # sides of 1, 2 and 0.5


def test_chamfer_of_balls_in_each_other(ball: SignedDistance) -> None:
    smaller = 0.5 + 0.9 * (ball.mesh.vertices - 0.5)
    found = chamfer(smaller, ball.mesh.faces, ball, 20_000)
    gap = 0.1 * _radius(ball)
    assert found.accuracy == pytest.approx(gap, rel=0.01)
    assert found.completeness == pytest.approx(gap, rel=0.01)
    assert found.distance == pytest.approx(gap, rel=0.01)
    assert found.in_world == pytest.approx(0.3, rel=0.01)
    assert chamfer(ball.mesh.vertices, ball.mesh.faces, ball, 5000).distance < 1e-15


def test_chamfer_tells_what_is_missing_from_what_is_too_much(ball: SignedDistance) -> None:
    half = ball.mesh.faces[ball.mesh.vertices[ball.mesh.faces].mean(1)[:, 2] > 0.5]
    found = chamfer(ball.mesh.vertices, half, ball, 5000)
    assert found.accuracy < 1e-15
    assert found.completeness > 0.05
