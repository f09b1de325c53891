"""Marching kernels: the step law of instant-ngp through the cascaded occupancy grid, a range of rays at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

ZERO = np.float32(0.0)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
HUGE = np.float32(1e30)
TINY = np.float32(1e-30)

SKIP_BITS = 3
SKIP = 1 << SKIP_BITS
LOW = SKIP - 1
"""Edge, in cells, of the blocks that are stepped over whole when empty."""

REGION_BITS = 2
REGION = SKIP << REGION_BITS
"""Edge, in cells, of the regions of blocks that are stepped over whole: most rays begin and end in air."""

EMPTY_REGION, EMPTY_BLOCK, FULL = np.uint8(0), np.uint8(1), np.uint8(2)
"""What is known of a block: its whole region is empty, it is empty, some cell is occupied."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _exponent(value):  # type: ignore[no-untyped-def]
    """e such that value = f * 2^e with f in [0.5, 1), for normal numbers above zero: read off the bits."""
    return (np.float32(value).view(np.int32) >> 23) - 126


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _exit(p, inverse, cell, size):  # type: ignore[no-untyped-def]
    """Distance to the far side of the slab [cell, cell + 1] * size, for one over the direction's component."""
    far = np.float32(cell) * size
    if inverse > ZERO:
        far += size
    return (far - p) * inverse


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _inverse(d):  # type: ignore[no-untyped-def]
    """One over a component of the direction; a huge number, of the same sign or plus, where there is none."""
    return ONE / d if abs(d) > TINY else (HUGE if d >= ZERO else -HUGE)


@njit(nogil=True, cache=True, error_model="numpy")
def march_rays(  # type: ignore[no-untyped-def]
    rays_o, rays_d, t_min, t_max, jitter, bits, blocks, center, unit, cone, min_step, max_step, share, limit,
    t_out, dt_out, counts, resume, begin, end,
):  # fmt: skip
    """Samples of rays begin .. end - 1.

    Args:
        rays_o, rays_d: float32 [R, 3].
        t_min, t_max, jitter: float32 [R].
        bits, blocks: the occupancy grid as :func:`pack_occupancy` makes it.
        center: float32 [3]; unit: edge of the unit cube; cone, min_step, max_step: the step law (world units).
        share: of a ray's t_max, its shortest step (scene.LEAST_SHARE).
        limit: most samples of one ray.
        t_out, dt_out: float32, begins and lengths of the samples, ray after ray; room for (end - begin) * limit.
        counts: int32 [R].
        resume: float32 [R], where the ray stands when it stopped: t_max or more if it is done.
    """
    levels, grid = np.int32(blocks.shape[0]), np.int32(blocks.shape[1] * SKIP)
    inv_unit, edge = ONE / unit, np.float32(grid)
    base = 0
    for r in range(begin, end):
        ox = (rays_o[r, 0] - center[0]) * inv_unit
        oy = (rays_o[r, 1] - center[1]) * inv_unit
        oz = (rays_o[r, 2] - center[2]) * inv_unit
        dx, dy, dz = rays_d[r, 0] * inv_unit, rays_d[r, 1] * inv_unit, rays_d[r, 2] * inv_unit
        jx, jy, jz = _inverse(dx), _inverse(dy), _inverse(dz)
        t, t_end = (ZERO if t_min[r] < ZERO else t_min[r]), t_max[r]
        least = max(min_step, t_end * share)
        most = max(max_step, least)
        t += jitter[r] * min(max(t * cone, least), most)
        n = 0
        while t < t_end and n < limit:
            dt = min(max(t * cone, least), most)
            middle = t + HALF * dt
            px, py, pz = ox + dx * middle, oy + dy * middle, oz + dz * middle
            level, by_step = 0, 0
            if levels > 1:
                reach = max(max(max(abs(px), abs(py)), abs(pz)), TINY)
                by_step = _exponent(dt * inv_unit * np.float32(2 * grid))
                level = min(max(max(_exponent(reach) + 1, by_step), 0), levels - 1)
            scale = edge / np.float32(1 << level)
            # Coordinates in cells of this cascade.
            shift = HALF * edge
            qx, qy, qz = px * scale + shift, py * scale + shift, pz * scale + shift
            if not (ZERO <= qx < edge and ZERO <= qy < edge and ZERO <= qz < edge):
                t += dt
                continue
            # Towards zero is down where nothing is below zero, and needs no call of a function, as floor does here.
            ix, iy, iz = np.int32(qx), np.int32(qy), np.int32(qz)
            bx, by, bz = ix >> SKIP_BITS, iy >> SKIP_BITS, iz >> SKIP_BITS
            state = blocks[level, bx, by, bz]
            if state == FULL and (bits[level, bx, by, bz, ix & LOW, iy & LOW] >> (iz & LOW)) & 1:
                t_out[base + n] = t
                dt_out[base + n] = dt
                n += 1
                t += dt
                continue
            size = ONE
            if state == EMPTY_BLOCK:
                size, ix, iy, iz = np.float32(SKIP), bx, by, bz
            elif state == EMPTY_REGION:
                size, ix, iy, iz = np.float32(REGION), bx >> REGION_BITS, by >> REGION_BITS, bz >> REGION_BITS
            ahead = min(_exit(qx, jx, ix, size), min(_exit(qy, jy, iy, size), _exit(qz, jz, iz, size))) / scale
            # The cell was chosen for this step's length and this shell of the cascades: leave neither unseen.
            target = middle + max(ahead, ZERO)
            if levels > 1:
                if cone > ZERO:
                    grown = np.float32(1 << max(by_step, 0)) / (np.float32(2 * grid) * inv_unit * cone)
                    target = min(target, max(grown, middle))
                if level > 0:
                    inner = np.float32(1 << (level - 1)) * HALF
                    target = min(target, middle + _entry(px, py, pz, dx, dy, dz, inner))
            t += dt
            if cone == ZERO:  # the same steps, all of one length, without working it out
                while t + HALF * dt < target and t < t_end:
                    t += dt
            else:
                dt = min(max(t * cone, least), most)
                while t + HALF * dt < target and t < t_end:
                    t += dt
                    dt = min(max(t * cone, least), most)
        counts[r] = n
        resume[r] = t
        base += n


@njit(nogil=True, cache=True, error_model="numpy")
def _entry(px, py, pz, dx, dy, dz, half):  # type: ignore[no-untyped-def]
    """Distance from a point outside to the cube [-half, half]^3 along d; HUGE if it is missed."""
    near, far = ZERO, HUGE
    for axis in range(3):
        p = px if axis == 0 else (py if axis == 1 else pz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        if d == ZERO:
            if abs(p) >= half:
                return HUGE
        else:
            a, b = (-half - p) / d, (half - p) / d
            near, far = max(near, min(a, b)), min(far, max(a, b))
    return near if near < far else HUGE


@njit(nogil=True, cache=True, error_model="numpy")
def fill(t_in, dt_in, first, counts, t_starts, t_ends, ray_indices, begin, end):  # type: ignore[no-untyped-def]
    """Copy what :func:`march_rays` found of rays begin .. end - 1 into the packed layout."""
    source = 0
    for r in range(begin, end):
        base = first[r]
        for k in range(counts[r]):
            t = t_in[source + k]
            t_starts[base + k] = t
            t_ends[base + k] = t + dt_in[source + k]
            ray_indices[base + k] = r
        source += counts[r]


@njit(nogil=True, cache=True, error_model="numpy")
def points(rays_o, rays_d, t_starts, t_ends, ray_indices, low, scale, out, begin, end):  # type: ignore[no-untyped-def]
    """Middles of samples begin .. end - 1, normalised to [0, 1]: float32 rows [3, n_padded]."""
    for i in range(begin, end):
        r = ray_indices[i]
        t = HALF * (t_starts[i] + t_ends[i])
        for axis in range(3):
            value = (rays_o[r, axis] + rays_d[r, axis] * t - low[axis]) * scale
            out[axis, i] = min(max(value, ZERO), ONE)


@njit(nogil=True, cache=True, error_model="numpy")
def point_gradients(  # type: ignore[no-untyped-def]
    d_points, points, t_starts, t_ends, packed_info, scale, d_o, d_d, begin, end
):
    """Gradients of origins and directions [R, 3] of rays begin .. end - 1 from those of points, rows [3, n_padded].

    A point is (o + t d - low) * scale, so d_o is scale times the sum of its gradients and d_d that of t times them; a
    coordinate at the border of the box has none.
    """
    for r in range(begin, end):
        first, n = packed_info[r, 0], packed_info[r, 1]
        for axis in range(3):
            total = along = ZERO
            for i in range(first, first + n):
                if ZERO < points[axis, i] < ONE:
                    g = d_points[axis, i]
                    total += g
                    along += g * HALF * (t_starts[i] + t_ends[i])
            d_o[r, axis] = total * scale
            d_d[r, axis] = along * scale


@njit(nogil=True, cache=True, error_model="numpy")
def pack_occupancy(occupied, bits, blocks):  # type: ignore[no-untyped-def]
    """One bit a cell, block by block: 8^3 cells are one cache line, so that a ray misses the cache once a block.

    Args:
        occupied: uint8 [K, G, G, G].
        bits: uint8 [K, G / 8, G / 8, G / 8, 8, 8]: block, then x and y within it; z within it is the bit.
        blocks: uint8 [K, G / 8, G / 8, G / 8], FULL, EMPTY_BLOCK or EMPTY_REGION. A region may not reach out of the grid, where
            another cascade holds: there are none in a grid whose edge is no multiple of theirs.
    """
    levels, grid = occupied.shape[0], occupied.shape[1]
    bits[:] = 0
    blocks[:] = EMPTY_BLOCK
    for k in range(levels):
        for x in range(grid):
            for y in range(grid):
                for z in range(grid):
                    if occupied[k, x, y, z]:
                        bx, by, bz = x >> SKIP_BITS, y >> SKIP_BITS, z >> SKIP_BITS
                        blocks[k, bx, by, bz] = FULL
                        bits[k, bx, by, bz, x & LOW, y & LOW] |= np.uint8(1 << (z & LOW))
    if grid % REGION == 0:
        edge = 1 << REGION_BITS
        for k in range(levels):
            for x in range(0, grid // SKIP, edge):
                for y in range(0, grid // SKIP, edge):
                    for z in range(0, grid // SKIP, edge):
                        region = blocks[k, x : x + edge, y : y + edge, z : z + edge]
                        if region.max() != FULL:
                            region[:] = EMPTY_REGION
