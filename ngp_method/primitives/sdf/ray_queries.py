"""Rays against the triangles of the tree: the nearest hit, or whether there is any.

The test is the watertight one of Woop, Benthin and Wald (2013), in float64: which side of an edge a ray passes is worked out
from the same numbers for both faces that share it, so that no ray slips between them. A hit on an edge counts for both.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .bvh_build import FIRST_CHILD, LEAF_COUNT, LEAF_SHIFT, STACK

_TINY = 1e-290
_WIDER = 1.0 + 1e-12
"""Of the far end of a box: rounding of its distance must not lose what lies on its border."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _inverse(d):  # type: ignore[no-untyped-def]
    """One over a component of the direction; huge where it is zero."""
    return 1.0 / d if abs(d) > _TINY else 1.0 / _TINY


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _enters(nodes, node, side, ox, oy, oz, ix, iy, iz, t_min, t_max):  # type: ignore[no-untyped-def]
    """Where a ray enters the box of a child; infinite if it misses it between t_min and t_max."""
    at = 6 * side
    ax, bx = (nodes[node, at] - ox) * ix, (nodes[node, at + 3] - ox) * ix
    ay, by = (nodes[node, at + 1] - oy) * iy, (nodes[node, at + 4] - oy) * iy
    az, bz = (nodes[node, at + 2] - oz) * iz, (nodes[node, at + 5] - oz) * iz
    near = max(max(min(ax, bx), min(ay, by)), max(min(az, bz), t_min))
    far = min(min(max(ax, bx), max(ay, by)), min(max(az, bz), t_max))
    return near if near <= far * _WIDER else np.inf


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _sheared(triangles, i, corner, o, axes, shear):  # type: ignore[no-untyped-def]
    """A corner of a triangle in the frame in which the ray is the third axis."""
    kx, ky, kz = axes
    x, y = triangles[i, 3 * corner + kx] - o[kx], triangles[i, 3 * corner + ky] - o[ky]
    z = triangles[i, 3 * corner + kz] - o[kz]
    return x - shear[0] * z, y - shear[1] * z, shear[2] * z


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _hit(triangles, i, o, axes, shear):  # type: ignore[no-untyped-def]
    """(t, weight of corner b, weight of corner c) of a ray and a triangle from either side; t is NaN for a miss."""
    ax, ay, az = _sheared(triangles, i, 0, o, axes, shear)
    bx, by, bz = _sheared(triangles, i, 1, o, axes, shear)
    cx, cy, cz = _sheared(triangles, i, 2, o, axes, shear)
    u, v, w = cx * by - cy * bx, ax * cy - ay * cx, bx * ay - by * ax
    total = u + v + w
    if (min(u, min(v, w)) < 0.0 and max(u, max(v, w)) > 0.0) or total == 0.0:
        return np.nan, 0.0, 0.0
    return (u * az + v * bz + w * cz) / total, v / total, w / total


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _frame(d):  # type: ignore[no-untyped-def]
    """(order of axes with the direction's largest last, shear): Woop et al., section 3.1."""
    kz = 0
    if abs(d[1]) > abs(d[kz]):
        kz = 1
    if abs(d[2]) > abs(d[kz]):
        kz = 2
    kx, ky = (kz + 1) % 3, (kz + 2) % 3
    return (kx, ky, kz), (d[kx] / d[kz], d[ky] / d[kz], 1.0 / d[kz])


@njit(nogil=True, cache=True, error_model="numpy")
def nearest_hits(nodes, words, triangles, origins, directions, t_min, t_max, ts, slots, weights, any_hit, begin, end):  # type: ignore[no-untyped-def]
    """Nearest hits of rays begin .. end - 1; with ``any_hit`` the first that is found.

    Args:
        nodes, words, triangles: the tree, see :mod:`.bvh_build`.
        origins, directions: float64 [R, 3]; t counts in lengths of the direction.
        t_min, t_max: float64 [R] or [1]; a hit lies strictly between them.
        ts: float64 [R], infinite for a miss; slots: int32 [R], the triangle's place in the tree, -1 for a miss.
        weights: float64 [R, 2] of the triangle's second and third corner.
    """
    stack, stack_t = np.empty(STACK, np.int32), np.empty(STACK, np.float64)
    for r in range(begin, end):
        o, d = origins[r], directions[r]
        first_t, best = t_min[0 if t_min.shape[0] == 1 else r], t_max[0 if t_max.shape[0] == 1 else r]
        ts[r], slots[r], weights[r, 0], weights[r, 1] = np.inf, -1, 0.0, 0.0
        length = max(abs(d[0]), max(abs(d[1]), abs(d[2])))
        if not 0.0 < length < np.inf:
            continue
        axes, shear = _frame(d)
        ox, oy, oz = o[0], o[1], o[2]
        ix, iy, iz = _inverse(d[0]), _inverse(d[1]), _inverse(d[2])
        stack[0], stack_t[0], top = 0, -np.inf, 1
        while top:
            top -= 1
            if stack_t[top] >= best:
                continue
            node = stack[top]
            if node >= 0:
                near, far = words[node, FIRST_CHILD], words[node, FIRST_CHILD + 1]
                t_near = _enters(nodes, node, 0, ox, oy, oz, ix, iy, iz, first_t, best)
                t_far = _enters(nodes, node, 1, ox, oy, oz, ix, iy, iz, first_t, best)
                if t_far < t_near:
                    near, far, t_near, t_far = far, near, t_far, t_near
                if t_far < np.inf:
                    stack[top], stack_t[top] = far, t_far
                    top += 1
                if t_near < np.inf:
                    stack[top], stack_t[top] = near, t_near
                    top += 1
                continue
            first = (~node) >> LEAF_SHIFT
            for i in range(first, first + ((~node) & LEAF_COUNT)):
                t, v, w = _hit(triangles, i, o, axes, shear)
                if first_t < t < best:  # never true of NaN
                    best = ts[r] = t
                    slots[r], weights[r, 0], weights[r, 1] = i, v, w
            if any_hit and slots[r] >= 0:
                break
