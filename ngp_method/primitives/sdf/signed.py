"""Signed distances from a mesh: how far by the tree, which side by pseudonormals or by the winding number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from . import closest, winding
from .bvh import Bvh, Closest, Floats, Ints, side_by_side
from .mesh import Mesh

HALF = 0.5
"""A point counts as inside where the winding number is more than this, whatever its sign: a soup may look either way."""

CHECKED = 8192
"""Points at which a closed surface is tried with both methods of the sign."""
MAY_DIFFER = 4
"""Points of those that may differ: the sum over dipoles is not exact, but off by 0.05 where it should be off by 0.5."""


@njit(nogil=True, cache=True, error_model="numpy")
def _vertex_normals(vertices, faces, normals, sums):  # type: ignore[no-untyped-def]
    """Unit normals of faces into ``normals`` [F, 3], their sums at vertices weighted by angle into ``sums`` [V, 3]."""
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = (vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2])
        vx, vy, vz = (vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2])
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        double_area = np.sqrt(nx * nx + ny * ny + nz * nz)
        one = 1.0 / max(double_area, 1e-300)
        normals[f, 0], normals[f, 1], normals[f, 2] = nx * one, ny * one, nz * one
        uu, vv, uv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, ux * vx + uy * vy + uz * vz
        # An angle's sine is to its cosine as the double area to the product of the two edges there.
        angles = (np.arctan2(double_area, uv), np.arctan2(double_area, uu - uv), np.arctan2(double_area, vv - uv))
        for k in range(3):
            for axis in range(3):
                sums[faces[f, k], axis] += normals[f, axis] * angles[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _give_signs(triangles, points, slots, places, normals, opposite, corners, sums, distances, begin, end):  # type: ignore[no-untyped-def]
    """Makes distances of points begin .. end - 1 negative inside (Baerentzen and Aanaes 2005).

    The vector from the closest place to the point is held against the face's normal, the sum of an edge's two, or the sum at a
    vertex weighted by angle.

    Args:
        triangles, points, slots, places, distances: see :func:`.closest.closest_points`.
        normals [F, 3], opposite [F, 3], corners [F, 3]: of faces in the tree's order; ``opposite`` is the face across each
            edge or -1.
        sums: [V, 3], see above.
    """
    for p in range(begin, end):
        i, place = slots[p], places[p]
        if i < 0:
            continue
        x, y, z, _, _, _ = closest.closest_on_triangle(points[p, 0], points[p, 1], points[p, 2], triangles, i)
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        if place >= closest.VERTEX_A:
            v = corners[i, place - closest.VERTEX_A]
            nx, ny, nz = sums[v, 0], sums[v, 1], sums[v, 2]
        elif place != closest.FACE:
            j = opposite[i, place - closest.EDGE_AB]
            if j >= 0:
                nx, ny, nz = nx + normals[j, 0], ny + normals[j, 1], nz + normals[j, 2]
        if x * nx + y * ny + z * nz < 0.0:
            distances[p] = -distances[p]


class SignedDistance:
    """What a mesh says of points: signed distance, negative inside, in units of the unit cube.

    Args:
        mesh: see :mod:`.mesh`.
        check: of a closed surface, try whether both methods agree, and take the winding number where they do not: that of a
            surface that passes through itself, or of several of which one lies in another or looks inwards.

    Attributes:
        tree: over the mesh's triangles.
        method: of the sign, "pseudonormal" or "winding".
        notes: the mesh's, with what the check found.
    """

    def __init__(self, mesh: Mesh, check: bool = True) -> None:
        self.mesh, self.tree = mesh, Bvh(mesh.vertices, mesh.faces)
        self.method, self.notes = mesh.sign, mesh.notes
        self._dipoles = np.empty((len(self.tree.nodes), 2, winding.MOMENTS), np.float32)
        winding.moments(*self.tree.arrays, winding.BETA, self._dipoles)
        self._normals = self._pseudonormals()
        asked_for = bool(mesh.notes) and "asked for" in mesh.notes[-1]
        if check and self.method == "pseudonormal" and not asked_for:
            differ = self._check()
            if differ > MAY_DIFFER:
                self.method = "winding"
                why = "the closed surface overlaps itself or looks inwards in part"
                share = f"{100 * differ / CHECKED:.1f} % of points lie on another side by pseudonormals"
                self.notes = (*self.notes[:-1], f"sign: generalised winding number, as {why} ({share})")

    def __call__(self, points: npt.ArrayLike, bounds: npt.ArrayLike | None = None) -> Floats:
        """Signed distances [N] of points [N, 3], float64; infinite where nothing lies within ``bounds`` ([N] or one number)."""
        return self.look(points, bounds)[0]

    def look(self, points: npt.ArrayLike, bounds: npt.ArrayLike | None = None) -> tuple[Floats, Closest]:
        """Signed distances [N], and the closest places without a sign."""
        queries = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        found = self.tree.closest(queries, bounds)
        distances = found.distances.copy()
        side_by_side(lambda a, b: self._sign_range(queries, found.slots, found.places, distances, a, b), len(queries))
        return distances, found

    def inside(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether points [N, 3] lie inside, bool [N]; those on the surface do not."""
        if self.method == "winding":
            return np.abs(self.winding_numbers(points)) > HALF
        return self(points) < 0

    def winding_numbers(self, points: npt.ArrayLike) -> Floats:
        """Generalised winding numbers [N] of points [N, 3], float64: 1 inside and 0 outside of a closed surface."""
        queries = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        out = np.empty(len(queries))
        side_by_side(lambda a, b: winding.winding_numbers(*self.tree.arrays, self._dipoles, queries, out, a, b), len(queries))
        return out

    def measure_range(self, points: Floats, guesses: Ints, out: Floats, begin: int, end: int) -> None:
        """Signed distances of points begin .. end - 1 on the calling thread alone, for work beside training.

        Args:
            points: float64 [N, 3].
            guesses: int32 [N], a triangle's place in the tree that is likely near, -1: none.
            out: float64 [N].
        """
        slots, places = np.empty(len(points), np.int32), np.empty(len(points), np.int8)
        unbounded = np.full(1, np.inf)
        closest.closest_points(*self.tree.arrays, points, unbounded, guesses, out, slots, places, begin, end)
        self._sign_range(points, slots, places, out, begin, end)

    def _sign_range(
        self, points: Floats, slots: Ints, places: npt.NDArray[np.int8], distances: Floats, begin: int, end: int
    ) -> None:
        if self.method == "pseudonormal":
            _give_signs(self.tree.triangles, points, slots, places, *self._normals, distances, begin, end)
            return
        numbers = np.empty(end - begin)
        winding.winding_numbers(*self.tree.arrays, self._dipoles, points[begin:end], numbers, 0, end - begin)
        part = distances[begin:end]
        np.negative(part, out=part, where=(np.abs(numbers) > HALF) & (slots[begin:end] >= 0))

    def _pseudonormals(self) -> tuple[Floats, Ints, Ints, Floats]:
        """Normals, faces across edges, corners, all in the tree's order; sums at vertices."""
        mesh, order = self.mesh, self.tree.order
        normals, sums = np.empty((len(mesh.faces), 3)), np.zeros((len(mesh.vertices), 3))
        _vertex_normals(mesh.vertices, mesh.faces, normals, sums)
        place_of = np.empty(len(order), np.int32)
        place_of[order] = np.arange(len(order), dtype=np.int32)
        across = mesh.opposite[order]
        opposite = np.where(across >= 0, place_of[across // 3], -1)
        return normals[order], opposite, mesh.faces[order], sums

    def _check(self) -> int:
        """How many of CHECKED points, half of them near the surface, are on different sides by the two methods."""
        rng = np.random.default_rng(0)
        low, high = self.mesh.vertices.min(0), self.mesh.vertices.max(0)
        anywhere = rng.uniform(low, high, (CHECKED // 2, 3))
        middles = self.tree.triangles[rng.integers(0, len(self.tree.order), CHECKED - len(anywhere))].reshape(-1, 3, 3).mean(1)
        near = middles + rng.normal(0.0, 0.01, middles.shape)
        points = np.concatenate([anywhere, near])
        return int(((self(points) < 0) != (np.abs(self.winding_numbers(points)) > HALF)).sum())
