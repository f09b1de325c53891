"""Closest points of a mesh by the tree: held to brute force in float64 and to libigl."""

from __future__ import annotations

import igl
import numpy as np
import pytest

from ngp_method.primitives.sdf import bvh_build, closest
from ngp_method.primitives.sdf.bvh import Bvh
from support.shapes import SHAPES, corners_of, distances_to_all, mesh_of, points_around

ROUNDING = 1e-13
"""float64's, times some tens of operations on numbers of the order of the distances, which are up to about 100."""


@pytest.mark.parametrize("name", SHAPES)
def test_distances_are_brute_forces(name: str) -> None:
    mesh = mesh_of(name)
    points = points_around(mesh)
    truth = distances_to_all(points, corners_of(mesh))
    found = Bvh(mesh.vertices, mesh.faces).closest(points)
    np.testing.assert_allclose(found.distances, truth.min(1), atol=ROUNDING, rtol=ROUNDING)
    named = np.take_along_axis(truth, found.faces[:, None].astype(np.int64), 1)[:, 0]  # the face that is named is as near
    np.testing.assert_allclose(named, truth.min(1), atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("name", ["torus", "soup"])
def test_distances_are_libigls(name: str) -> None:
    mesh = mesh_of(name)
    points = points_around(mesh)
    squared, _, _ = igl.point_mesh_squared_distance(points, mesh.vertices, mesh.faces.astype(np.int64))
    found = Bvh(mesh.vertices, mesh.faces).closest(points)
    np.testing.assert_allclose(found.distances, np.sqrt(squared), atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("leaf", [1, 3, 7])
def test_the_size_of_leaves_changes_nothing(leaf: int) -> None:
    mesh = mesh_of("torus")
    points = points_around(mesh)
    assert np.array_equal(
        Bvh(mesh.vertices, mesh.faces, leaf).closest(points).distances, Bvh(mesh.vertices, mesh.faces).closest(points).distances
    )


def test_the_tree_holds_every_triangle_once_within_its_boxes() -> None:
    mesh = mesh_of("torus")
    tree = Bvh(mesh.vertices, mesh.faces)
    assert sorted(tree.order) == list(range(len(mesh.faces)))
    np.testing.assert_array_equal(tree.triangles.reshape(-1, 3, 3), corners_of(mesh)[tree.order])
    seen, todo = [], [(0, np.full(3, -1.0), np.full(3, 2.0))]
    while todo:
        node, low, high = todo.pop()
        for side in range(2):
            box = tree.nodes[node, 6 * side : 6 * side + 6].astype(np.float64)
            assert (box[:3] >= low).all()
            assert (box[3:] <= high).all()
            child = int(tree.words[node, bvh_build.FIRST_CHILD + side])
            if child >= 0:
                todo.append((child, box[:3], box[3:]))
                continue
            first, count = ~child >> bvh_build.LEAF_SHIFT, ~child & bvh_build.LEAF_COUNT
            corners = tree.triangles[first : first + count].reshape(-1, 3)
            assert (corners >= box[:3]).all()
            assert (corners <= box[3:]).all()
            seen += range(first, first + count)
    assert sorted(seen) == list(range(len(mesh.faces)))


def test_places_of_one_triangle() -> None:
    vertices, faces = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])
    points = [[0.2, 0.2, 1], [0.5, -1, 0], [1, 1, 0], [-1, 0.5, 0], [-1, -1, 0], [2, -0.5, 0], [0, 3, 0]]
    found = Bvh(vertices, faces).closest(points)
    names = ["FACE", "EDGE_AB", "EDGE_BC", "EDGE_CA", "VERTEX_A", "VERTEX_B", "VERTEX_C"]
    assert [int(place) for place in found.places] == [getattr(closest, name) for name in names]
    np.testing.assert_allclose(found.distances, [1, 1, 0.5**0.5, 1, 2**0.5, 1.25**0.5, 2], rtol=1e-15)


def test_bounds_cut_off_what_is_not_nearer() -> None:
    """Within the bound the answer is the same to the last bit; where nothing is, the distance is infinite and the face -1."""
    mesh = mesh_of("torus")
    tree, points = Bvh(mesh.vertices, mesh.faces), points_around(mesh)
    free = tree.closest(points)
    above = tree.closest(points, free.distances * 1.001 + 1e-12)
    assert np.array_equal(above.distances, free.distances)
    below = tree.closest(points, free.distances * 0.999)
    assert np.isinf(below.distances).all()
    assert (below.faces == -1).all()
    one = tree.closest(points, 0.05)
    assert np.array_equal(np.isfinite(one.distances), free.distances < 0.05)
    assert 0 < np.isfinite(one.distances).sum() < len(points)
    with pytest.raises(ValueError, match="bounds"):
        tree.closest(points, [0.1, 0.2])


def test_no_points_and_no_triangles() -> None:
    mesh = mesh_of("box")
    found = Bvh(mesh.vertices, mesh.faces).closest(np.empty((0, 3)))
    assert found.distances.shape == found.faces.shape == (0,)
    with pytest.raises(ValueError, match="at least one triangle"):
        Bvh(mesh.vertices, np.empty((0, 3), int))


def test_a_thousand_triangles_in_one_place() -> None:
    """No split tells them apart: they are halved by number."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    found = Bvh(vertices, np.tile([0, 1, 2], (1000, 1))).closest([[0.2, 0.2, 0.5]])
    assert found.distances[0] == 0.5


def test_triangles_that_shrink_towards_a_point() -> None:
    """Each split takes few off: a tree that would be too deep for the stack is halved below a certain depth."""
    sizes = 0.6 ** np.arange(150.0)
    corners = sizes[:, None, None] * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    tree = Bvh(corners.reshape(-1, 3), np.arange(450).reshape(-1, 3), leaf=1)
    points = np.concatenate([corners[::10].mean(1) * 1.01, np.random.default_rng(0).random((50, 3))])
    np.testing.assert_allclose(tree.closest(points).distances, distances_to_all(points, corners).min(1), atol=ROUNDING)


def test_needles_find_no_point_off_themselves() -> None:
    """A triangle a thousand million times as long as wide, seen from afar: the distance is that to a segment."""
    vertices = np.array([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5], [0.5, 0.5 + 1e-9, 0.5]])
    points = np.random.default_rng(0).normal(0.5, 3.0, (500, 3))
    corners = vertices[None]
    segment = np.minimum(distances_to_all(points, corners)[:, 0], np.linalg.norm(points[:, None] - vertices, axis=-1).min(1))
    np.testing.assert_allclose(Bvh(vertices, [[0, 1, 2]]).closest(points).distances, segment, atol=2e-9)
