"""Marching kernels: instant-ngp's step law through the cascaded occupancy grid, one lane a ray.

A ray stands on a lattice of steps that does not depend on the grid: t, t + dt(t), ... in float32, one rounding each. A look
into the grid tells for a whole cell, or for the largest empty cube around it (4^3 or 8^3 cells), whether the steps in it are
samples, and up to which t that holds. The ray then goes on step by step, never by a jump, so that samples are those of a dense
walk to the last bit; but it looks once a cell, not once a step.

A program is one warp, and the lanes of a warp wait for each other. So each turn of the loop does the same for all: one look by
the lanes that need one, then up to SUBSTEPS steps. A loop of its own over the steps would make every lane wait at every turn
for the longest way through empty space.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .aot import EXACT, Variant
from .device import interpreted
from .packing_kernels import PLAIN, variant

COUNT = tl.constexpr(0)
"""A walk that writes the number of samples and where each ray stopped,"""

KEEP = tl.constexpr(1)
"""one that also writes where each sample begins, in a row of ``limit`` numbers for each ray,"""

FILL = tl.constexpr(2)
"""and one that writes the samples to their places: a second walk after COUNT, where there is no room for the rows of KEEP."""

WALK = {"num_warps": 1, "num_stages": 1, **EXACT}

SUBSTEPS = {False: 16, True: 8}
"""Steps a turn, without a cone and with one. A cell of 128^3 is 5 of instant-ngp's finest steps long, its diagonal 8, an empty
cube of 4^3 some 20. On sm_90 a step takes 7 instructions (10 in a cone) and waits for one sum (four operations), a look 95
(140) and the memory. Counted on a sphere's shell: 16 steps make 109 turns of 208 instructions where 8 make 147 of 152; in a
cone, 230 of 294 where 8 make 284 of 216."""

WAVES = {"nvidia": 32, "amd": 64}
"""Rays of a program: one to a lane of one warp. More would have lanes wait for more rays, or warps for each other."""


@triton.jit
def step_size(t, cone, min_step, max_step, CONE: tl.constexpr):  # type: ignore[no-untyped-def]
    """dt(t)."""
    dt = min_step
    if CONE:
        dt = tl.minimum(tl.maximum(t * cone, min_step), max_step)
    return dt


@triton.jit
def _begin_of(middle, half_min, half_max, shrink, CONE: tl.constexpr):  # type: ignore[no-untyped-def]
    """t of the step with that middle: t + dt(t) / 2 = middle, solved piece by piece (shrink: 1 / (1 + cone / 2))."""
    t = middle - half_min
    if CONE:
        t = tl.maximum(tl.minimum(middle * shrink, t), middle - half_max)
    return t


@triton.jit
def _power_below(value):  # type: ignore[no-untyped-def]
    """The greatest power of two that is no more than a number above zero: its exponent bits."""
    return (value.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)


@triton.jit
def _slabs(sx, sy, sz, jx, jy, jz, half):  # type: ignore[no-untyped-def]
    """t at which a ray enters the cube [-half, half]^3 and leaves it, if the first is less; s: t at which x, y, z are 0."""
    ax, ay, az = tl.abs(jx) * half, tl.abs(jy) * half, tl.abs(jz) * half
    near = tl.maximum(tl.maximum(sx - ax, sy - ay), sz - az)
    return near, tl.minimum(tl.minimum(sx + ax, sy + ay), sz + az)


@triton.jit
def _look(qx, qy, qz, right, up, deep, level, bits, blocks, wanted, GRID: tl.constexpr, LOG_EDGE: tl.constexpr):  # type: ignore[no-untyped-def]
    """What the grid holds at a point, and for how far.

    Args:
        qx, qy, qz: the point, in cells.
        right, up, deep: float32, 1 where the ray moves towards greater coordinates, else 0.
        wanted: where anything shall be read.
    Returns:
        Whether the point lies in the cascade and is wanted; if so, whether its cell is occupied; and the sides, in cells, by
        which the ray may leave the cell or the empty cube.
    """
    # Each by itself: the least of three would pass over NaN.
    inside = wanted & (qx >= 0.0) & (qy >= 0.0) & (qz >= 0.0) & (qx < GRID) & (qy < GRID) & (qz < GRID)
    ix, iy, iz = qx.to(tl.int32), qy.to(tl.int32), qz.to(tl.int32)
    block = (((((level << LOG_EDGE) | (ix >> 3)) << LOG_EDGE) | (iy >> 3)) << LOG_EDGE) | (iz >> 3)
    flags = tl.load(blocks + block, mask=inside, other=0).to(tl.int32)
    some = inside & (((flags >> ((ix & 4) | ((iy & 4) >> 1) | ((iz & 4) >> 2))) & 1) != 0)
    row = tl.load(bits + ((block << 6) | ((ix & 7) << 3) | (iy & 7)), mask=some, other=0).to(tl.int32)
    # Minus the cube's edge, as integer and as mask: -1, -4 or -8.
    size = tl.where(some, -1, tl.where(flags != 0, -4, -8))
    edge = -size.to(tl.float32)
    fx = tl.fma(right, edge, (ix & size).to(tl.float32))
    fy = tl.fma(up, edge, (iy & size).to(tl.float32))
    fz = tl.fma(deep, edge, (iz & size).to(tl.float32))
    return inside, ((row >> (iz & 7)) & 1) != 0, fx, fy, fz


@triton.jit(do_not_specialize=PLAIN)
def walk(  # type: ignore[no-untyped-def]
    rays_o, rays_d, t_min, t_max, jitter, bits, blocks, counts, resume, rows, info, t_starts, t_ends, ray_indices,
    n_rays, limit, cx, cy, cz, inv_unit, cone, min_step, max_step, share, top, grown,
    WHAT: tl.constexpr, CONE: tl.constexpr, MULTI: tl.constexpr, JITTER: tl.constexpr, GRID: tl.constexpr,
    LOG_EDGE: tl.constexpr, SUBSTEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walks rays; see COUNT, KEEP, FILL. EXACT: t must be rounded as everywhere else, and a second walk must see what the
    first saw.

    Args:
        rays_o, rays_d: float32 [R, 3].
        t_min, t_max, jitter: float32 [R].
        bits, blocks: the grid as :func:`.occupancy.pack_grid` makes it.
        counts: int32 [R], written by COUNT and KEEP.
        resume: float32 [R], written likewise: where the ray stands when it stopped; t_max or more if it is done.
        rows: float32 [R, limit], written by KEEP.
        info: int32 [R, 2], read by FILL, which writes t_starts, t_ends, ray_indices.
        cx, cy, cz, inv_unit: centre and one over the edge of the unit cube.
        cone, min_step, max_step: the step law; cone > 0: CONE. share: of a ray's t_max, its shortest step.
        top: half the edge of the last cascade, in unit cubes; MULTI: there is more than one.
        grown: t at which a step is as long as a cell of cascade 0 (CONE and MULTI).
        LOG_EDGE: log2 of EDGE there.
    """
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = r < n_rays
    ox = (tl.load(rays_o + 3 * r, mask=real, other=0.0) - cx) * inv_unit
    oy = (tl.load(rays_o + 3 * r + 1, mask=real, other=0.0) - cy) * inv_unit
    oz = (tl.load(rays_o + 3 * r + 2, mask=real, other=0.0) - cz) * inv_unit
    dx = tl.load(rays_d + 3 * r, mask=real, other=0.0) * inv_unit
    dy = tl.load(rays_d + 3 * r + 1, mask=real, other=0.0) * inv_unit
    dz = tl.load(rays_d + 3 * r + 2, mask=real, other=0.0) * inv_unit
    # Where a component is nothing, huge.
    jx = 1.0 / tl.where(tl.abs(dx) > 1e-30, dx, 1e-30)
    jy = 1.0 / tl.where(tl.abs(dy) > 1e-30, dy, 1e-30)
    jz = 1.0 / tl.where(tl.abs(dz) > 1e-30, dz, 1e-30)
    right, up, deep = (jx > 0).to(tl.float32), (jy > 0).to(tl.float32), (jz > 0).to(tl.float32)
    # Where the ray passes the planes through the centre: the plane x is met at sx + x * jx.
    sx, sy, sz = -ox * jx, -oy * jy, -oz * jz
    t = tl.load(t_min + r, mask=real, other=0.0)
    t = tl.where(t < 0.0, 0.0, t)
    t_end = tl.load(t_max + r, mask=real, other=0.0)
    # Numbers as vectors: nothing to the compiler, but in the interpreter they would be made so at every turn.
    zero = tl.zeros([BLOCK], tl.float32)
    cone, min_step, max_step = zero + cone, zero + min_step, zero + max_step
    min_step = tl.maximum(min_step, t_end * share)
    max_step = tl.maximum(max_step, min_step)
    half_min, half_max, shrink = 0.5 * min_step, 0.5 * max_step, 1.0 / (1.0 + 0.5 * cone)
    if JITTER:
        t += tl.load(jitter + r, mask=real, other=0.0) * step_size(t, cone, min_step, max_step, CONE)
    n = tl.zeros([BLOCK], tl.int32)
    most = n + limit
    first = n
    if WHAT == FILL:
        first = tl.load(info + 2 * r, mask=real, other=0)
        most = tl.load(info + 2 * r + 1, mask=real, other=0)
    row = rows + r * limit
    # Until which t the steps are known to be samples (full) or not: at first, up to just before the scene's box.
    until, far = _slabs(sx, sy, sz, jx, jy, jz, zero + 1.001 * top)
    until = tl.minimum(_begin_of(tl.where(until < far, until, 1e30), half_min, half_max, shrink, CONE), t_end)
    full = n != 0
    alive = (t < t_end) & (n < most)
    while tl.max(alive.to(tl.int32), axis=0) != 0:
        dt = step_size(t, cone, min_step, max_step, CONE)
        middle = tl.fma(dt, zero + 0.5, t)
        look = alive & (t >= until)
        px, py, pz = tl.fma(dx, middle, ox), tl.fma(dy, middle, oy), tl.fma(dz, middle, oz)
        # Half the edge of the cascade: the least that holds the point, with cells of more than two steps.
        half = zero + 0.5
        if MULTI:
            reach = 2.0 * tl.maximum(tl.maximum(tl.abs(px), tl.abs(py)), tl.abs(pz))
            length = tl.maximum(dt * (inv_unit * (2 * GRID)), half)
            half = _power_below(tl.minimum(tl.maximum(reach, length), zero + top))
        # With one cascade the compiler sees that all of these are constants.
        level = (half.to(tl.int32, bitcast=True) >> 23) - 126
        scale = (0x7F000000 - half.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True) * (0.5 * GRID)
        qx, qy, qz = (px + half) * scale, (py + half) * scale, (pz + half) * scale
        inside, hit, fx, fy, fz = _look(qx, qy, qz, right, up, deep, level, bits, blocks, look, GRID, LOG_EDGE)
        cell = half * (2.0 / GRID)
        fx, fy, fz = tl.fma(fx, cell, -half), tl.fma(fy, cell, -half), tl.fma(fz, cell, -half)
        beyond = tl.minimum(tl.minimum(tl.fma(fx, jx, sx), tl.fma(fy, jy, sy)), tl.fma(fz, jz, sz))
        if MULTI:
            # The cell was chosen for this step's length and this shell of the cascades: leave neither unseen.
            if CONE:
                beyond = tl.minimum(beyond, _power_below(length) * grown)
            near, behind = _slabs(sx, sy, sz, jx, jy, jz, 0.5 * half)
            inner = (level > 0) & (near < behind) & (behind > middle)
            beyond = tl.minimum(beyond, tl.where(inner, near, 1e30))
        # Outside all cascades: a step at a time near the box, anything beyond it.
        beyond = tl.where(inside, beyond, tl.where(middle > far, 1e30, 0.0))
        beyond = tl.minimum(_begin_of(beyond, half_min, half_max, shrink, CONE), t_end)
        until = tl.where(look, beyond, until)
        full = tl.where(look, hit, full)
        # Samples are taken from the first step of a turn on, without gaps: their places are known before they are. The steps
        # go on whether or not they are wanted, so that each waits for the sum before it and for nothing else.
        room, taken = tl.where(full, most - n, SUBSTEPS), n * 0
        place, at = row + n, first + n
        step, lattice = alive, t
        for s in tl.static_range(SUBSTEPS):
            sample = step & full
            further = lattice + dt
            if WHAT == KEEP:
                tl.store(place + s, lattice, mask=sample)
            if WHAT == FILL:
                tl.store(t_starts + at + s, lattice, mask=sample)
                tl.store(t_ends + at + s, further, mask=sample)
                tl.store(ray_indices + at + s, r, mask=sample)
            taken = tl.where(sample, s + 1, taken)
            t = tl.where(step, further, t)
            lattice = further
            if CONE:
                dt = tl.minimum(tl.maximum(lattice * cone, min_step), max_step)
            step = (lattice < until) & (room > s + 1)
        n += taken
        alive = (t < t_end) & (n < most)
    if WHAT != FILL:
        tl.store(counts + r, n, mask=real)
        tl.store(resume + r, t, mask=real)


def walk_sizes(cone: bool) -> dict[str, Any]:
    """Sizes of :func:`walk`; in the interpreter it is the number of programs and turns that takes time."""
    if interpreted():
        return {**WALK, "BLOCK": 512, "SUBSTEPS": 12}
    return {**WALK, "BLOCK": WAVES["amd" if torch.version.hip else "nvidia"], "SUBSTEPS": SUBSTEPS[cone]}


def variants() -> list[Variant]:
    """:func:`walk` as it is launched."""
    types = {
        "*fp32": "rays_o rays_d t_min t_max jitter resume rows t_starts t_ends",
        "*i32": "counts info ray_indices",
        "*u8": "bits blocks",
        "fp32": "cx cy cz inv_unit cone min_step max_step share top grown",
        "i32": "n_rays limit",
    }
    found = []
    for scene, many in (("unit", False), ("cascades", True)):
        for maker, wave in WAVES.items():
            for what, number in (("keep", KEEP), ("count", COUNT), ("fill", FILL)):
                sizes = {**WALK, "WHAT": number.value, "CONE": many, "MULTI": many, "JITTER": True, "BLOCK": wave}
                sizes |= {"GRID": 128, "LOG_EDGE": 4, "SUBSTEPS": SUBSTEPS[many]}
                found.append(variant(f"marching_walk/{what}/{scene}/{maker}", walk, types, sizes))
    return found
