"""Drawing training points of a mesh: on the surface, around it, and anywhere in the unit cube.

Points of a part are stratified: those on the surface along the triangles in the tree's order, by area; those in the cube along
a Z-curve. Neighbours in that order are neighbours in space, so that finding their distances reads what the last one has read.
"""

from __future__ import annotations

import numpy as np
from numba import njit

GROUP = 8
"""Samples of a group, which holds each kind in its share: whole groups are drawn, so that every batch has the mix exactly."""

SURFACE, NEAR, WIDE, UNIFORM = range(4)

TRIES = 16
"""Times that noise is drawn anew for a point that it takes out of the unit cube; then it is moved to the cube's border."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def mixed(x):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64 (Steele et al. 2014): numbers that follow each other become 64 bits without a pattern."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _uniform(key, number):  # type: ignore[no-untyped-def]
    """Number ``number`` of a stream: float64 in (0, 1)."""
    bits = mixed(key + np.uint64(number + 1) * _GOLDEN)
    return (np.float64(bits >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _every_third(x):  # type: ignore[no-untyped-def]
    """Bits 0, 3, 6 ... of 63 bits, together."""
    x &= np.uint64(0x1249249249249249)
    x = (x | (x >> np.uint64(2))) & np.uint64(0x10C30C30C30C30C3)
    x = (x | (x >> np.uint64(4))) & np.uint64(0x100F00F00F00F00F)
    x = (x | (x >> np.uint64(8))) & np.uint64(0x001F0000FF0000FF)
    x = (x | (x >> np.uint64(16))) & np.uint64(0x001F00000000FFFF)
    return (x | (x >> np.uint64(32))) & np.uint64(0x00000000001FFFFF)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _logistic(u):  # type: ignore[no-untyped-def]
    """Noise of the logistic distribution with a standard deviation of 1."""
    return np.log(u / (1.0 - u)) * (np.sqrt(3.0) / np.pi)


@njit(nogil=True, cache=True, error_model="numpy")
def _shuffle(targets, begin, end, key):  # type: ignore[no-untyped-def]
    """Shuffles targets begin .. end - 1 (Fisher and Yates)."""
    for i in range(end - 1, begin, -1):
        j = begin + int(_uniform(key, i) * (i - begin + 1))
        targets[i], targets[j] = targets[j], targets[i]


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _on_triangle(triangles, i, u, v, out, p):  # type: ignore[no-untyped-def]
    """A point of triangle i, uniform by area, for u and v in (0, 1)."""
    root = np.sqrt(u)
    for k in range(3):
        corners = (1.0 - root) * triangles[i, k] + root * (1.0 - v) * triangles[i, 3 + k] + root * v * triangles[i, 6 + k]
        out[p, k] = np.float32(corners)


@njit(nogil=True, cache=True, error_model="numpy")
def _add_noise(points, p, sigma, key):  # type: ignore[no-untyped-def]
    """Moves a point by noise that leaves it in the unit cube: see TRIES."""
    for k in range(3):
        center, moved = points[p, k], 0.0
        for attempt in range(TRIES):
            moved = center + sigma * _logistic(_uniform(key, 4 + 3 * attempt + k))
            if 0.0 <= moved <= 1.0:
                break
        points[p, k] = np.float32(min(max(moved, 0.0), 1.0))


@njit(nogil=True, cache=True, error_model="numpy")
def draw(triangles, areas, shares, sigmas, seed, number, points, guesses, targets):  # type: ignore[no-untyped-def]
    """Draws part ``number``: a function of seed and number alone. All surface points come first, then near, wide, uniform.

    Args:
        triangles: float64 [F, 9] in the tree's order; areas: float64 [F], the share of the first
            1, 2 ... F of them in the area.
        shares: int64 [4], samples of each kind in a group of GROUP.
        sigmas: float64 [4], standard deviation of the noise along each axis.
        seed, number: uint64.
        points: float64 [n, 3], n a multiple of GROUP: float32 numbers in [0, 1].
        guesses: int32 [n], the triangle that a point was drawn from, -1 in the cube.
        targets: int32 [n], a permutation: where each sample belongs in the part.
    """
    groups = points.shape[0] // GROUP
    part_key = mixed(mixed(seed + _GOLDEN) ^ ((number + np.uint64(1)) * _GOLDEN))
    p = lane = 0
    for kind in range(4):
        n, begin, triangle = shares[kind] * groups, p, 0
        for k in range(n):
            key = mixed(part_key + np.uint64(p + 1) * _GOLDEN)
            targets[p] = (k // shares[kind]) * GROUP + lane + k % shares[kind]
            along = (k + _uniform(key, 0)) / n
            if kind == UNIFORM:
                bits = np.uint64(along * 9223372036854775808.0)
                for axis in range(3):
                    cell = np.float64(_every_third(bits >> np.uint64(2 - axis))) + _uniform(key, 1 + axis)
                    points[p, axis] = np.float32(cell / 2097152.0)
                guesses[p] = -1
            else:
                while areas[triangle] < along and triangle < areas.shape[0] - 1:
                    triangle += 1
                _on_triangle(triangles, triangle, _uniform(key, 1), _uniform(key, 2), points, p)
                guesses[p] = triangle
                if kind != SURFACE:
                    _add_noise(points, p, sigmas[kind], key)
            p += 1
        _shuffle(targets, begin, p, mixed(part_key ^ np.uint64(kind + 1)))
        lane += shares[kind]


@njit(nogil=True, cache=True, error_model="numpy")
def place(points, distances, targets, first_measured, out):  # type: ignore[no-untyped-def]
    """Puts samples where they belong: rows [n, 4] of point and distance, 0 for those before ``first_measured``."""
    for p in range(points.shape[0]):
        row = targets[p]
        for k in range(3):
            out[row, k] = points[p, k]
        out[row, 3] = distances[p] if p >= first_measured else 0.0
