"""The closest point of a triangle mesh, in float64, and what kind of place it is: inside a face, on an edge, at a vertex."""

from __future__ import annotations

import numpy as np
from numba import njit

from .bvh_build import FIRST_CHILD, LEAF_COUNT, LEAF_SHIFT, STACK

FACE, EDGE_AB, EDGE_BC, EDGE_CA, VERTEX_A, VERTEX_B, VERTEX_C = range(7)
"""Places of a triangle (a, b, c); edge k of 0, 1, 2 goes from corner k to the next."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def closest_on_triangle(px, py, pz, triangles, i):  # type: ignore[no-untyped-def]
    """(p minus the closest point of triangle i: x, y, z; weights of its corners b and c; place).

    Ericson, Real-Time Collision Detection (2005), section 5.1.5. Weights are held to the triangle, so that rounding on a needle
    of a triangle never finds a point off it.
    """
    ax, ay, az = px - triangles[i, 0], py - triangles[i, 1], pz - triangles[i, 2]
    abx, aby, abz = triangles[i, 3] - triangles[i, 0], triangles[i, 4] - triangles[i, 1], triangles[i, 5] - triangles[i, 2]
    acx, acy, acz = triangles[i, 6] - triangles[i, 0], triangles[i, 7] - triangles[i, 1], triangles[i, 8] - triangles[i, 2]
    bx, by, bz = px - triangles[i, 3], py - triangles[i, 4], pz - triangles[i, 5]
    cx, cy, cz = px - triangles[i, 6], py - triangles[i, 7], pz - triangles[i, 8]
    d1, d2 = abx * ax + aby * ay + abz * az, acx * ax + acy * ay + acz * az
    d3, d4 = abx * bx + aby * by + abz * bz, acx * bx + acy * by + acz * bz
    d5, d6 = abx * cx + aby * cy + abz * cz, acx * cx + acy * cy + acz * cz
    if d1 <= 0.0 and d2 <= 0.0:
        return ax, ay, az, 0.0, 0.0, VERTEX_A
    if d3 >= 0.0 and d4 <= d3:
        return bx, by, bz, 1.0, 0.0, VERTEX_B
    if d6 >= 0.0 and d5 <= d6:
        return cx, cy, cz, 0.0, 1.0, VERTEX_C
    v = w = 0.0
    place = FACE
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v, place = d1 / (d1 - d3), EDGE_AB
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        w, place = d2 / (d2 - d6), EDGE_CA
    elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        v, place = 1.0 - w, EDGE_BC
    else:
        total = va + vb + vc
        v = min(max(vb / total, 0.0), 1.0)
        w = min(max(vc / total, 0.0), 1.0 - v)
    return ax - v * abx - w * acx, ay - v * aby - w * acy, az - v * abz - w * acz, v, w, place


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def box_distance2(nodes, node, side, px, py, pz):  # type: ignore[no-untyped-def]
    """Squared distance from a point to the box of one child; 0 inside."""
    at = 6 * side
    x = max(max(nodes[node, at] - px, px - nodes[node, at + 3]), 0.0)
    y = max(max(nodes[node, at + 1] - py, py - nodes[node, at + 4]), 0.0)
    z = max(max(nodes[node, at + 2] - pz, pz - nodes[node, at + 5]), 0.0)
    return x * x + y * y + z * z


@njit(nogil=True, cache=True, error_model="numpy")
def closest_points(  # type: ignore[no-untyped-def]
    nodes, words, triangles, points, bounds, guesses, distances, slots, places, begin, end
):
    """Closest triangles of points begin .. end - 1, nearer child first.

    Args:
        nodes, words, triangles: the tree, see :mod:`.bvh_build`.
        points: float64 [N, 3].
        bounds: float64 [N] or [1]: only what is nearer than this counts.
        guesses: int32 [N] or [1], a triangle (its place in the tree) that is tested first, -1: none.
        distances: float64 [N], not squared, infinite where nothing lies within the bound.
        slots: int32 [N], the triangle's place in the tree, or -1; places: int8 [N].
    """
    stack, stack_d = np.empty(STACK, np.int32), np.empty(STACK, np.float64)
    one_bound, one_guess = bounds.shape[0] == 1, guesses.shape[0] == 1
    for p in range(begin, end):
        px, py, pz = points[p, 0], points[p, 1], points[p, 2]
        bound = bounds[0 if one_bound else p]
        best, slot, place = bound * bound, np.int32(-1), FACE
        guess = guesses[0 if one_guess else p]
        if guess >= 0:
            x, y, z, _, _, at = closest_on_triangle(px, py, pz, triangles, guess)
            d = x * x + y * y + z * z
            if d <= best:
                best, slot, place = d, guess, at
        node, top = np.int32(0), 0
        while True:
            near, far = words[node, FIRST_CHILD], words[node, FIRST_CHILD + 1]
            d_near, d_far = box_distance2(nodes, node, 0, px, py, pz), box_distance2(nodes, node, 1, px, py, pz)
            if d_far < d_near:
                near, far, d_near, d_far = far, near, d_far, d_near
            if d_far < best:
                stack[top], stack_d[top] = far, d_far
                top += 1
            if d_near < best:
                stack[top], stack_d[top] = near, d_near
                top += 1
            node = np.int32(-1)
            while top:
                top -= 1
                if stack_d[top] >= best:
                    continue
                child = stack[top]
                if child >= 0:
                    node = child
                    break
                code = ~child
                first = code >> LEAF_SHIFT
                for i in range(first, first + (code & LEAF_COUNT)):
                    x, y, z, _, _, at = closest_on_triangle(px, py, pz, triangles, i)
                    d = x * x + y * y + z * z
                    if d < best:
                        best, slot, place = d, np.int32(i), at
            if node < 0:
                break
        distances[p] = np.sqrt(best) if slot >= 0 else np.inf
        slots[p], places[p] = slot, place
