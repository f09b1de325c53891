"""The borders of pictures, point by point: the inner loop of :mod:`.visibility`, compiled.

The same as the loop in torch there, and the same points (to rounding, by which one may be seen here that is not seen there). In
torch it is some forty operations for each camera and cascade, on hundred thousands of points of which one in twenty is new; it
serves where numba is not installed, which is to be found nowhere but on a GPU machine with torch alone (benchmarks/gpu.py).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .lens import FISHEYE, PERSPECTIVE, bend

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_bend = njit(nogil=True, cache=True, error_model="numpy", inline="always")(bend)


@_compiled
def _plane(x, y, z, kind, near, reach):  # type: ignore[no-untyped-def]
    """(Whether a point in the camera's axes can be in the picture, and where in the plane of the lens it lies.)"""
    depth = -z
    if kind == PERSPECTIVE:
        across = x * x + y * y
        ahead = depth > max(near, 1e-6) and across < (reach * depth) ** 2
        return ahead, x / depth, -y / depth
    across = math.sqrt(x * x + y * y)
    angle = math.atan2(across, depth)
    scale = angle / max(across, 1e-9)
    return angle < min(reach, 3.1), x * scale, -y * scale


@_compiled
def _reached(x, y, z, radius, kind, near, reach, sides):  # type: ignore[no-untyped-def]
    """Whether anything of a ball around a point in the camera's axes may be seen: never False where it is."""
    depth = -z
    if kind == FISHEYE:
        away = math.sqrt(x * x + y * y + z * z)
        angle = math.atan2(math.sqrt(x * x + y * y), depth)
        return away <= radius or angle - math.asin(min(radius / away, 1.0)) < min(reach, 3.1)
    if depth <= near - radius:
        return False
    right, left, down, up = sides
    return (
        x - right * depth <= radius * math.sqrt(1.0 + right * right)
        and -x - left * depth <= radius * math.sqrt(1.0 + left * left)
        and -y - down * depth <= radius * math.sqrt(1.0 + down * down)
        and y - up * depth <= radius * math.sqrt(1.0 + up * up)
    )


@_compiled
def _corners(x, y, z, spans, kind, near, reach, k, bends, frame):  # type: ignore[no-untyped-def]
    """(Whether all corners of a part are in the picture, whether nothing of the part is), see :func:`.camera.misses`."""
    low_x = low_y = low_u = low_v = math.inf
    high_x = high_y = high_u = high_v = -math.inf
    all_in, known, furthest = True, kind == PERSPECTIVE, 0.0
    for corner in range(8):
        cx, cy, cz = x + spans[corner, 0], y + spans[corner, 1], z + spans[corner, 2]
        ahead, px, py = _plane(cx, cy, cz, kind, near, reach)
        known = known and cz < -1e-6
        u, v = _bend(px, py, k[0], k[1], k[2], k[3], k[4], k[5])
        all_in = all_in and ahead and frame[0] < u and u < frame[1] and frame[2] < v and v < frame[3]
        low_x, high_x, low_y, high_y = min(low_x, px), max(high_x, px), min(low_y, py), max(high_y, py)
        low_u, high_u, low_v, high_v = min(low_u, u), max(high_u, u), min(low_v, v), max(high_v, v)
        furthest = max(furthest, px * px + py * py)
    if all_in or not known:
        return all_in, False
    bent, rings = 0.0, len(bends)
    if rings:
        ring = math.sqrt(furthest) * (rings / reach)
        if not ring < rings:
            return False, False
        bent = 0.125 * bends[int(ring)] * ((high_x - low_x) ** 2 + (high_y - low_y) ** 2)
    outside = low_u - bent > frame[1] or high_u + bent < frame[0] or low_v - bent > frame[3] or high_v + bent < frame[2]
    return False, outside


@_compiled
def _look_into(first, offsets, spans, seen, kind, near, reach, k, bends, frame):  # type: ignore[no-untyped-def]
    """Marks the points of one part that a camera sees; whether it has points left that nobody sees.

    Args:
        first: [3] its first point in the camera's axes; offsets [64, 3] of all points from it; spans [8, 3] of its corners.
        seen: [64] bool, written.
    """
    x, y, z = first
    all_in, outside = _corners(x, y, z, spans, kind, near, reach, k, bends, frame)
    if all_in:
        seen[:] = True
        return False
    if outside:
        return True
    left = False
    for point in range(len(seen)):
        if seen[point]:
            continue
        ox, oy, oz = offsets[point]
        ahead, px, py = _plane(x + ox, y + oy, z + oz, kind, near, reach)
        if ahead:
            u, v = _bend(px, py, k[0], k[1], k[2], k[3], k[4], k[5])
            if frame[0] < u and u < frame[1] and frame[2] < v and v < frame[3]:
                seen[point] = True
                continue
        left = True
    return left


@_compiled
def look(blocks, parts, offsets, spans, balls, rest, opened, seen, pose, kind, near, reach, sides, k, bends, frame):  # type: ignore[no-untyped-def]
    """One camera's look at all blocks with parts that are not seen whole; how many such blocks there are now.

    Args:
        blocks: float64 [M, 3] world positions of the blocks' first points.
        parts: float64 [8, 3] where a block's parts begin, in the camera's axes from the block's first point on.
        offsets, spans: see :func:`_look_into`, in the camera's axes.
        balls: float64 [4]: half a block's diagonal along an axis (its middle's offset) and radius, and a part's.
        rest: int64, numbers of those blocks, the first ``len(rest)``; brought up to date in place.
        opened: bool [M, 8], parts with points that nobody sees, brought up to date.
        seen: bool [M, 8, 64], brought up to date.
        pose: float64 [3, 4].
        frame: float64 [4], left, right, top and bottom of the picture in the plane of the lens, distorted.
    """
    kept = 0
    middle = np.empty(3)
    for axis in range(3):
        middle[axis] = balls[0] * (pose[0, axis] + pose[1, axis] + pose[2, axis])
    inner = middle * (balls[2] / balls[0])
    place, first = np.empty(3), np.empty(3)
    for number in range(len(rest)):
        block = rest[number]
        for axis in range(3):
            place[axis] = 0.0
            for row in range(3):
                place[axis] += (blocks[block, row] - pose[row, 3]) * pose[row, axis]
        left = True
        x, y, z = place[0] + middle[0], place[1] + middle[1], place[2] + middle[2]
        if _reached(x, y, z, balls[1], kind, near, reach, sides):
            left = False
            for part in range(8):
                if not opened[block, part]:
                    continue
                for axis in range(3):
                    first[axis] = place[axis] + parts[part, axis]
                x, y, z = first[0] + inner[0], first[1] + inner[1], first[2] + inner[2]
                if _reached(x, y, z, balls[3], kind, near, reach, sides):
                    opened[block, part] = _look_into(
                        first, offsets, spans, seen[block, part], kind, near, reach, k, bends, frame
                    )
                left = left or opened[block, part]
        if left:
            rest[kept] = block
            kept += 1
    return kept
