"""Marching kernels: the step law of instant-ngp through the cascaded occupancy grid, a range of rays at a time."""

from __future__ import annotations

import math

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
    rays_o, rays_d, t_min, t_max, jitter, bits, blocks, center, unit, cone, min_step, max_step, limit,
    t_out, dt_out, counts, resume, begin, end,
):  # fmt: skip
    """Samples of rays begin .. end - 1.

    Args:
        rays_o, rays_d: float32 [R, 3].
        t_min, t_max, jitter: float32 [R].
        bits, blocks: the occupancy grid as :func:`pack_occupancy` makes it.
        center: float32 [3]; unit: edge of the unit cube; cone, min_step, max_step: the step law (world units).
        limit: most samples of one ray.
        t_out, dt_out: float32 [end - begin, limit], begins and lengths of the samples.
        counts: int32 [R].
        resume: float32 [R], where the ray stands when it stopped: t_max or more if it is done.
    """
    levels, grid = np.int32(blocks.shape[0]), np.int32(blocks.shape[1] * SKIP)
    inv_unit = ONE / unit
    for r in range(begin, end):
        ox = (rays_o[r, 0] - center[0]) * inv_unit
        oy = (rays_o[r, 1] - center[1]) * inv_unit
        oz = (rays_o[r, 2] - center[2]) * inv_unit
        dx, dy, dz = rays_d[r, 0] * inv_unit, rays_d[r, 1] * inv_unit, rays_d[r, 2] * inv_unit
        jx, jy, jz = _inverse(dx), _inverse(dy), _inverse(dz)
        t, t_end = t_min[r], t_max[r]
        t += jitter[r] * min(max(t * cone, min_step), max_step)
        n = 0
        row = r - begin
        while t < t_end and n < limit:
            dt = min(max(t * cone, min_step), max_step)
            middle = t + HALF * dt
            px, py, pz = ox + dx * middle, oy + dy * middle, oz + dz * middle
            level, by_step = 0, 0
            if levels > 1:
                reach = max(max(max(abs(px), abs(py)), abs(pz)), TINY)
                by_step = _exponent(dt * inv_unit * np.float32(2 * grid))
                level = min(max(max(_exponent(reach) + 1, by_step), 0), levels - 1)
            scale = np.float32(grid) / np.float32(1 << level)
            # Coordinates in cells of this cascade.
            shift = HALF * np.float32(grid)
            qx, qy, qz = px * scale + shift, py * scale + shift, pz * scale + shift
            ix, iy, iz = np.int32(math.floor(qx)), np.int32(math.floor(qy)), np.int32(math.floor(qz))
            if ix < 0 or iy < 0 or iz < 0 or ix >= grid or iy >= grid or iz >= grid:
                t += dt
                continue
            bx, by, bz = ix >> SKIP_BITS, iy >> SKIP_BITS, iz >> SKIP_BITS
            full = blocks[level, bx, by, bz] != 0
            if full and (bits[level, bx, by, bz, ix & LOW, iy & LOW] >> (iz & LOW)) & 1:
                t_out[row, n] = t
                dt_out[row, n] = dt
                n += 1
                t += dt
                continue
            size = ONE
            if not full:
                size, ix, iy, iz = np.float32(SKIP), bx, by, bz
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
            dt = min(max(t * cone, min_step), max_step)
            while t + HALF * dt < target and t < t_end:
                t += dt
                dt = min(max(t * cone, min_step), max_step)
        counts[r] = n
        resume[r] = t


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
    """Copy the rows of :func:`march_rays` into the packed layout."""
    for r in range(begin, end):
        row, base = r - begin, first[r]
        for k in range(counts[r]):
            t = t_in[row, k]
            t_starts[base + k] = t
            t_ends[base + k] = t + dt_in[row, k]
            ray_indices[base + k] = r


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
        blocks: uint8 [K, G / 8, G / 8, G / 8], whether any cell of a block is occupied.
    """
    levels, grid = occupied.shape[0], occupied.shape[1]
    bits[:] = 0
    blocks[:] = 0
    for k in range(levels):
        for x in range(grid):
            for y in range(grid):
                for z in range(grid):
                    if occupied[k, x, y, z]:
                        bx, by, bz = x >> SKIP_BITS, y >> SKIP_BITS, z >> SKIP_BITS
                        blocks[k, bx, by, bz] = 1
                        bits[k, bx, by, bz, x & LOW, y & LOW] |= np.uint8(1 << (z & LOW))
