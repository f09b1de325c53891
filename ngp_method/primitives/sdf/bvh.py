"""A tree of boxes over triangles, and what is asked of it: closest points and rays, many at a time, on all threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...kernels.cpu import pool
from . import bvh_build, closest, ray_queries

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

_AT_LEAST, _PER_THREAD = 256, 8


def side_by_side(task: Callable[[int, int], object], n: int) -> None:
    """task(begin, end) for ranges that make up 0 .. n - 1, on all threads; results may not depend on the division."""
    ranges = pool.chunks(n, 64, _AT_LEAST, _PER_THREAD)
    pool.run(lambda c: task(*ranges[c]), len(ranges))


@dataclass(frozen=True)
class Closest:
    """Closest places of a mesh to N points.

    Attributes:
        distances: float64 [N], at least 0; infinite where nothing lies within the bound.
        faces: int32 [N], -1 where nothing lies within the bound.
        places: int8 [N], where on the face: see :data:`.closest.FACE` and what follows.
        slots: int32 [N], the face's place in the tree's order.
    """

    distances: Floats
    faces: Ints
    places: npt.NDArray[np.int8]
    slots: Ints


@dataclass(frozen=True)
class Hits:
    """Nearest hits of R rays.

    Attributes:
        ts: float64 [R], in lengths of the direction; infinite for a miss.
        faces: int32 [R], -1 for a miss.
        weights: float64 [R, 2], of the face's second and third corner; the first has the rest of 1.
    """

    ts: Floats
    faces: Ints
    weights: Floats


class Bvh:
    """The tree; see :mod:`.bvh_build` for what it is made of.

    Args:
        vertices: [V, 3], finite.
        faces: [F, 3] integers, F at least 1.
        leaf: most triangles of a leaf, 1 to 7.

    Attributes:
        nodes, words: one memory as float32 and as int32 [nodes, 16].
        triangles: float64 [F, 9], corners in the tree's order.
        order: int32 [F], the face at each place of that order.
    """

    def __init__(self, vertices: npt.ArrayLike, faces: npt.ArrayLike, leaf: int = bvh_build.LEAF) -> None:
        points = np.ascontiguousarray(vertices, np.float64)
        corners = np.ascontiguousarray(faces, np.int32)
        if not len(corners):
            raise ValueError("A tree needs at least one triangle.")
        if not 1 <= leaf <= bvh_build.LEAF_COUNT:
            raise ValueError(f"A leaf has 1 to {bvh_build.LEAF_COUNT} triangles, not {leaf}.")
        boxes = np.empty((len(corners), 6), np.float32)
        bvh_build.triangle_boxes(points, corners, boxes)
        self.order: Ints = np.arange(len(corners), dtype=np.int32)
        nodes = np.zeros((len(corners), bvh_build.WORDS), np.float32)
        used = bvh_build.build(boxes, self.order, nodes, nodes.view(np.int32), leaf)
        self.nodes = nodes[:used].copy()
        self.words: Ints = self.nodes.view(np.int32)
        self.triangles: Floats = np.empty((len(corners), 9))
        bvh_build.gather_triangles(points, corners, self.order, self.triangles)

    @property
    def arrays(self) -> tuple[npt.NDArray[np.float32], Ints, Floats]:
        """What every kernel takes first: nodes, words, triangles."""
        return self.nodes, self.words, self.triangles

    def closest(self, points: npt.ArrayLike, bounds: npt.ArrayLike | None = None) -> Closest:
        """Closest places of the mesh.

        Args:
            points: [N, 3], finite; N may be 0.
            bounds: [N] or one number: only what is nearer than this is looked for, which is much faster near the surface. Where
                nothing is, the distance is infinite and the face -1.
        """
        queries = _points(points)
        n = len(queries)
        limits = np.full(1, np.inf) if bounds is None else np.ascontiguousarray(bounds, np.float64).reshape(-1)
        if len(limits) not in (1, n):
            raise ValueError(f"{n} points need {n} bounds or one, not {len(limits)}.")
        no_guess = np.full(1, -1, np.int32)
        found = Closest(np.empty(n), np.empty(n, np.int32), np.empty(n, np.int8), np.empty(n, np.int32))
        out = (found.distances, found.slots, found.places)
        side_by_side(lambda a, b: closest.closest_points(*self.arrays, queries, limits, no_guess, *out, a, b), n)
        self._name_faces(found.slots, found.faces)
        return found

    def nearest_hits(
        self, origins: npt.ArrayLike, directions: npt.ArrayLike, t_min: npt.ArrayLike = 0.0, t_max: npt.ArrayLike = np.inf
    ) -> Hits:
        """Nearest hits of rays, from either side of a face, strictly between t_min and t_max.

        Args:
            origins, directions: [R, 3]; R may be 0. A direction need not be a unit vector; one of zero length misses.
            t_min, t_max: [R] or one number, in lengths of the direction.
        """
        hits, slots = self._trace(origins, directions, t_min, t_max, False)
        self._name_faces(slots, hits.faces)
        return hits

    def any_hits(
        self, origins: npt.ArrayLike, directions: npt.ArrayLike, t_min: npt.ArrayLike = 0.0, t_max: npt.ArrayLike = np.inf
    ) -> npt.NDArray[np.bool_]:
        """Whether anything lies on rays strictly between t_min and t_max: bool [R]. Faster than the nearest hit."""
        _, slots = self._trace(origins, directions, t_min, t_max, True)
        return np.asarray(slots >= 0)

    def _trace(
        self, origins: npt.ArrayLike, directions: npt.ArrayLike, t_min: npt.ArrayLike, t_max: npt.ArrayLike, any_hit: bool
    ) -> tuple[Hits, Ints]:
        o, d = _points(origins), _points(directions)
        near, far = (np.ascontiguousarray(t, np.float64).reshape(-1) for t in (t_min, t_max))
        n = len(o)
        if len(d) != n or len(near) not in (1, n) or len(far) not in (1, n):
            raise ValueError(f"{n} origins need {n} directions, and as many t_min and t_max, or one of each.")
        hits, slots = Hits(np.empty(n), np.empty(n, np.int32), np.empty((n, 2))), np.empty(n, np.int32)
        out = (hits.ts, slots, hits.weights)
        side_by_side(lambda a, b: ray_queries.nearest_hits(*self.arrays, o, d, near, far, *out, any_hit, a, b), n)
        return hits, slots

    def _name_faces(self, slots: Ints, faces: Ints) -> None:
        faces[:] = np.where(slots >= 0, self.order[slots], -1)


def _points(values: npt.ArrayLike) -> Floats:
    return np.ascontiguousarray(np.asarray(values, np.float64).reshape(-1, 3))
