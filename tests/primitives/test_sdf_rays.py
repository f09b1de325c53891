"""Rays against the tree: held to brute force, and no ray slips through an edge."""

from __future__ import annotations

import numpy as np
import pytest

from ngp_method.primitives.sdf.bvh import Bvh
from support.shapes import SHAPES, corners_of, mesh_of, ray_hits


def _rays(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    origins = rng.normal(0.5, 1.0, (n, 3))
    return origins, (rng.random((n, 3)) - origins) * rng.uniform(0.1, 10.0, (n, 1))  # of any length


@pytest.mark.parametrize("name", SHAPES)
def test_hits_are_brute_forces(name: str) -> None:
    mesh = mesh_of(name)
    tree, corners = Bvh(mesh.vertices, mesh.faces), corners_of(mesh)
    o, d = _rays(500)
    truth = ray_hits(o, d, corners).min(1)
    hits = tree.nearest_hits(o, d)
    np.testing.assert_allclose(hits.ts, truth, rtol=1e-11)  # conditioned by the angle between ray and face
    hit = hits.faces >= 0
    assert hit.any()
    assert np.array_equal(hit, np.isfinite(truth))
    assert np.array_equal(tree.any_hits(o, d), hit)
    weights = np.concatenate([1.0 - hits.weights.sum(1, keepdims=True), hits.weights], 1)[hit]
    on_face = (weights[:, :, None] * corners[hits.faces[hit]]).sum(1)
    np.testing.assert_allclose(on_face, (o + hits.ts[:, None] * d)[hit], atol=1e-11)
    assert (weights >= 0).all()


def test_only_what_lies_strictly_between_counts() -> None:
    mesh = mesh_of("ball")
    tree = Bvh(mesh.vertices, mesh.faces)
    o, d = _rays(300)
    all_hits = np.sort(ray_hits(o, d, corners_of(mesh)), axis=1)[:, :2]
    through = np.isfinite(all_hits).all(1) & (all_hits[:, 1] > 1.01 * all_hits[:, 0])
    o, d, all_hits = o[through], d[through], all_hits[through]
    assert len(o) > 50
    middle = all_hits.mean(1)
    np.testing.assert_allclose(tree.nearest_hits(o, d, middle).ts, all_hits[:, 1], rtol=1e-11)
    np.testing.assert_allclose(tree.nearest_hits(o, d, 0.0, middle).ts, all_hits[:, 0], rtol=1e-11)
    first = tree.nearest_hits(o, d).ts
    assert not tree.any_hits(o, d, 0.0, first).any()
    assert (tree.nearest_hits(o, d, first).ts > first).all()


def test_no_ray_slips_between_two_faces() -> None:
    """From the middle of a closed ball exactly at its vertices and at points of its edges, along axes too: all hit."""
    mesh = mesh_of("ball")
    middle = mesh.vertices.mean(0)
    corners = corners_of(mesh)
    shares = np.random.default_rng(0).random((20, 1, 1))
    edges = (corners[:, 0] * shares + corners[:, 1] * (1 - shares)).reshape(-1, 3)
    targets = np.concatenate([mesh.vertices, edges, middle + np.eye(3), middle - np.eye(3)])
    hits = Bvh(mesh.vertices, mesh.faces).nearest_hits(np.broadcast_to(middle, targets.shape), targets - middle)
    assert (hits.faces >= 0).all()


def test_rays_along_the_boxes_of_an_aligned_box() -> None:
    """Directions with zeros, origins on the planes of boxes: through a cube's faces at their diagonals."""
    mesh = mesh_of("box")
    tree = Bvh(mesh.vertices, mesh.faces)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    for axis in range(3):
        o = 0.5 * (low + high)
        o[axis] = -1.0
        d = np.zeros(3)
        d[axis] = 1.0
        hits = tree.nearest_hits(o, d)
        np.testing.assert_allclose(hits.ts, [low[axis] + 1.0], rtol=1e-14)
    assert tree.nearest_hits([-1.0, low[1], low[2]], [1.0, 0.0, 0.0]).faces[0] >= 0  # along an edge of the box


def test_directions_of_no_length_miss_and_no_rays_are_legal() -> None:
    mesh = mesh_of("ball")
    tree = Bvh(mesh.vertices, mesh.faces)
    assert tree.nearest_hits([[0.5, 0.5, 0.5]], [[0.0, 0.0, 0.0]]).faces.tolist() == [-1]
    assert tree.nearest_hits([[0.5, 0.5, 0.5]], [[np.nan, 1.0, 0.0]]).faces.tolist() == [-1]
    assert tree.nearest_hits(np.empty((0, 3)), np.empty((0, 3))).ts.shape == (0,)
    with pytest.raises(ValueError, match="directions"):
        tree.nearest_hits([[0.5, 0.5, 0.5]], np.ones((2, 3)))
