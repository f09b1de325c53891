"""Small meshes, and what brute force in float64 says of them: the judges of the tree's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

from ngp_method.primitives.sdf.mesh import Mesh, make_mesh


def _hemisphere() -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.update_faces(ball.triangles_center[:, 2] > 0)
    return ball


def _soup() -> trimesh.Trimesh:
    rng = np.random.default_rng(3)
    corners = rng.random((60, 1, 3)) + rng.normal(0, 0.15, (60, 3, 3))
    return trimesh.Trimesh(corners.reshape(-1, 3), np.arange(180).reshape(-1, 3), process=False)


SHAPES: dict[str, Any] = {
    "ball": lambda: trimesh.creation.icosphere(subdivisions=2),
    "torus": lambda: trimesh.creation.torus(1.0, 0.3, major_sections=24, minor_sections=12),
    "box": lambda: trimesh.creation.box((1.0, 2.0, 0.5)),
    "spike": lambda: trimesh.creation.cone(radius=0.1, height=2.0, sections=5),
    "hemisphere": _hemisphere,
    "soup": _soup,
    "triangle": lambda: trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 2, 1]], [[0, 1, 2]], process=False),
    "plane": lambda: trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False),
}
CLOSED = ("ball", "torus", "box", "spike")


def mesh_of(name: str) -> Mesh:
    """One of SHAPES in the unit cube."""
    shape = SHAPES[name]()
    return make_mesh(shape.vertices, shape.faces, name=name)


def corners_of(mesh: Mesh) -> np.ndarray:
    """float64 [F, 3, 3]."""
    return mesh.vertices[mesh.faces]


def points_around(mesh: Mesh, n: int = 300) -> np.ndarray:
    """float64 points in the cube, far outside, near the surface, and exactly on vertices, middles of edges and of faces."""
    rng, corners = np.random.default_rng(1), corners_of(mesh)
    middles = corners.mean(1)
    near = middles[rng.integers(0, len(corners), n)] + rng.normal(0, 1e-3, (n, 3))
    edges = 0.5 * (corners[:, 0] + corners[:, 1])
    return np.concatenate(
        [rng.random((n, 3)), rng.normal(0, 30, (50, 3)), near, mesh.vertices[:100], edges[:100], middles[:100]]
    )


def _to_segments(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    along, to = b - a, points[:, None] - a
    share = np.clip((to * along).sum(-1) / (along**2).sum(-1), 0.0, 1.0)
    return np.linalg.norm(to - share[..., None] * along, axis=-1)


def distances_to_all(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[N, F] distances: to the plane above the triangle, to the nearest edge beside it."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    found = np.minimum(np.minimum(_to_segments(points, a, b), _to_segments(points, b, c)), _to_segments(points, c, a))
    above = np.ones(found.shape, bool)
    for start, stop in ((a, b), (b, c), (c, a)):
        above &= (np.cross(normal, stop - start) * (points[:, None] - start)).sum(-1) >= 0
    height = np.abs(((points[:, None] - a) * normal).sum(-1))
    return np.where(above, height, found)


def exact_winding(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[N] winding numbers: the sum of all triangles' solid angles."""
    a, b, c = (corners[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return np.arctan2((a * np.cross(b, c)).sum(-1), below).sum(-1) / (2.0 * np.pi)


def ray_hits(origins: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[R, F] t of each ray and triangle, infinite for a miss (Moeller and Trumbore)."""
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = np.cross(directions[:, None], e2)
    with np.errstate(all="ignore"):
        inverse = 1.0 / (e1 * cross).sum(-1)
        to = origins[:, None] - corners[:, 0]
        u = (to * cross).sum(-1) * inverse
        q = np.cross(to, e1)
        v, t = (directions[:, None] * q).sum(-1) * inverse, (e2 * q).sum(-1) * inverse
        return np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
