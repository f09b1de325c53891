"""Closed surfaces of the demo scene as triangle meshes: lathe work, tubes, boxes and leaves.

Every shape is made of *sheets*: grids of points (U, V, 3) with analytic normals and texture coordinates. Sheets meet in
doubled vertices, which keeps creases sharp and texture seams clean; welded by position the result is closed and wound
outwards (a test checks it), so that the same triangles serve as the renderer's geometry and as the known surface.

Units are scene units, z is up. float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triangles = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Triangles with normals and texture coordinates.

    vertices (V, 3), normals (V, 3) unit and outward, uvs (V, 2) in [0, 1] (may exceed it where a texture repeats),
    faces (F, 3) counter-clockwise seen from outside.
    """

    vertices: Array
    normals: Array
    uvs: Array
    faces: Triangles

    def moved(self, rotation: Array | None = None, offset: tuple[float, float, float] | Array = (0.0, 0.0, 0.0)) -> Mesh:
        """The mesh under p -> rotation @ p + offset; rotation (3, 3) proper orthogonal."""
        matrix = np.eye(3) if rotation is None else rotation
        return Mesh(
            _turned_by(matrix, self.vertices) + np.asarray(offset),
            _turned_by(matrix, self.normals),
            self.uvs,
            self.faces,
        )

    def planar_uvs(self, radius: float) -> Mesh:
        """The mesh with (x, y) in [-radius, radius] as texture coordinates: for inlays seen from above."""
        uvs = self.vertices[:, :2] / (2.0 * radius) + 0.5
        return Mesh(self.vertices, self.normals, uvs, self.faces)


def _turned_by(matrix: Array, points: Array) -> Array:
    """matrix @ p for each row, summed in a fixed order: equal points stay equal, which a BLAS does not promise."""
    terms: Array = points[:, :, None] * matrix.T
    return terms[:, 0] + terms[:, 1] + terms[:, 2]


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh holding the triangles of all, nothing welded."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uvs for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def rotation(axis: tuple[float, float, float], degrees: float) -> Array:
    """Rotation matrix (3, 3) about an axis through the origin, right-handed."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def sheet(points: Array, normals: Array, uvs: Array) -> Mesh:
    """Grid (U, V, 3) -> triangles, counter-clockwise where dP/du x dP/dv points along the normals.

    Triangles with two equal corners (poles) are left out.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    vertices = points.reshape(-1, 3)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return Mesh(vertices, normals.reshape(-1, 3), uvs.reshape(-1, 2), faces[area > 1e-12])


def lathe(profile: Array, segments: int = 96, repeat: float = 1.0) -> Mesh:
    """Surface of revolution about z of one smooth polyline.

    Args:
        profile: (P, 2) of (r >= 0, z), walked with the outside on the right: outer walls upwards.
        segments: facets around the axis.
        repeat: texture repeats around the axis; u goes around, v along the profile by arc length.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    angle[-1] = 0.0  # the seam closes exactly
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    r, z = profile[:, 0][None], profile[:, 1][None]
    tangent = np.gradient(profile, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal_r, normal_z = tangent[:, 1][None], -tangent[:, 0][None]
    points = np.stack([cos * r, sin * r, z + 0.0 * cos], -1)
    normals = np.stack([cos * normal_r, sin * normal_r, normal_z + 0.0 * cos], -1)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    uvs = np.stack(np.broadcast_arrays(np.linspace(0, repeat, segments + 1)[:, None], (arc / arc[-1])[None]), -1)
    return sheet(points, normals, uvs)


def turned(corners: list[tuple[float, float]], segments: int = 96, repeat: float = 1.0) -> Mesh:
    """Lathe work with a sharp crease at every corner; corners (r, z) as in ``lathe``."""
    return joined([lathe(np.array(edge), segments, repeat) for edge in pairwise(corners)])


def flat_ring(inner: float, outer: float, height: float, segments: int = 96) -> Mesh:
    """Ring about z of rectangular cross-section, centred on z = 0."""
    low, high = -height / 2, height / 2
    return turned([(inner, low), (outer, low), (outer, high), (inner, high), (inner, low)], segments)


def sphere(radius: float, segments: int = 64) -> Mesh:
    """Sphere about the origin; u is longitude, v runs from the south pole to the north pole."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    cos = np.cos(angle)
    cos[[0, -1]] = 0.0
    mesh = lathe(radius * np.stack([cos, np.sin(angle)], -1), segments)
    return Mesh(mesh.vertices, mesh.vertices / radius, mesh.uvs, mesh.faces)


def _frames(path: Array, closed: bool) -> tuple[Array, Array, Array]:
    """Tangents and two cross vectors (P, 3) carried along a path without twisting; a closed one's twist is spread."""
    if closed:
        tangent = np.roll(path[:-1], -1, axis=0) - np.roll(path[:-1], 1, axis=0)
        tangent = np.concatenate([tangent, tangent[:1]])
    else:
        tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.empty_like(tangent)
    start = np.cross(tangent[0], np.eye(3)[np.argmin(np.abs(tangent[0]))])
    side[0] = start / np.linalg.norm(start)
    for i in range(1, len(path)):
        step = side[i - 1] - tangent[i] * (side[i - 1] @ tangent[i])
        side[i] = step / np.linalg.norm(step)
    up = np.cross(tangent, side)
    if closed:
        twist = np.arctan2(side[0] @ up[-1], side[0] @ side[-1])
        angle = np.linspace(0.0, twist, len(path))[:, None]
        side, up = np.cos(angle) * side + np.sin(angle) * up, np.cos(angle) * up - np.sin(angle) * side
        side[-1], up[-1] = side[0], up[0]
    return tangent, side, up


def tube(path: Array, radius: float | Array, segments: int = 12, closed: bool = False) -> Mesh:
    """Round tube along a path (P, 3), u along it and v around; radius a number or (P,).

    Open tubes get flat ends; a closed path repeats its first point.
    """
    tangent, side, up = _frames(path, closed)
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    angle[-1] = 0.0
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(path),))[:, None, None]
    around = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = path[:, None] + radii * around
    u, v = np.linspace(0.0, 1.0, len(path))[:, None], np.linspace(0.0, 1.0, segments + 1)[None]
    # tangent x d(around)/d(angle) points inwards, so the wall is laid with v backwards
    wall = sheet(points[:, ::-1], around[:, ::-1], np.stack(np.broadcast_arrays(u, v[:, ::-1]), -1))
    if closed:
        return wall
    ends = []
    for row, normal, rim in ((0, -tangent[0], points[0, ::-1]), (-1, tangent[-1], points[-1])):
        centre = np.broadcast_to(path[row], rim.shape)
        grid = np.stack([centre, rim])
        ends.append(sheet(grid, np.broadcast_to(normal, grid.shape), np.zeros((*grid.shape[:2], 2))))
    return joined([wall, *ends])


def leaf(path: Array, width: float, thickness: float, facing: Array, segments: int = 12) -> Mesh:
    """Thin closed leaf along a path (P, 3), a lens in cross-section, pointed at both ends.

    Args:
        width: greatest full width; thickness: greatest full thickness (both scene units).
        facing: (3,) the way the upper side looks.
    """
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.cross(tangent, facing)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    upper = np.cross(across, tangent)
    along = np.linspace(0.0, 1.0, len(path))
    shape = np.sin(np.pi * along**0.8)
    shape[[0, -1]] = 0.0
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    angle[-1] = 0.0
    cos, sin = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    half = shape[:, None, None] / 2
    # the blade is folded up a little along the midrib, which catches the light
    fold = 0.25 * width * half * np.abs(cos)
    points = path[:, None] + half * width * cos * across[:, None] + (half * thickness * sin + fold) * upper[:, None]
    normals = cos * thickness * across[:, None] + sin * width * upper[:, None] + 0.0 * half
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    uvs = np.stack(np.broadcast_arrays(along[:, None], (0.5 + 0.5 * np.cos(angle))[None]), -1)
    return sheet(points, normals, uvs)


def box(size: tuple[float, float, float]) -> Mesh:
    """Box about the origin; its six sides lie side by side in a texture of six columns (+x, -x, +y, -y, +z, -z)."""
    half = np.asarray(size) / 2
    sides = []
    for column, (axis, sign) in enumerate((axis, sign) for axis in range(3) for sign in (1.0, -1.0)):
        normal = np.eye(3)[axis] * sign
        first, second = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3] * sign
        s, t = np.meshgrid([-1.0, 1.0], [-1.0, 1.0], indexing="ij")
        points = half * (normal + s[..., None] * first + t[..., None] * second)
        uvs = np.stack([(column + s / 2 + 0.5) / 6, t / 2 + 0.5], -1)
        sides.append(sheet(points, np.broadcast_to(normal, points.shape), uvs))
    return joined(sides)
