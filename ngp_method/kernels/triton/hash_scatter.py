"""Hash grid: gradient of the table, scattered with atomic additions into float32.

What costs is additions that reach the L2 cache, and most of all those that wait for each other: 2^18 samples share the 5,000
entries of the coarsest level. Four things keep them few.

1. Samples lie ray by ray, so on coarse levels neighbours share the cell. There a thread walks RUN samples one after the other
   and adds up the gradients of the cell's corners in registers for as long as the cell stays the same. Any order of samples
   gives the right sums; unordered ones are only not merged. Counted with 16 levels of 2 features, 2^19 entries and rays of 16
   samples: 78 additions to an entry a sample instead of 128, and 1,700 to the busiest entry instead of 8,100 (of 2^18 samples).
2. The features of an entry are one addition where the chip has vectors of them (PACKED: ``red.global.add.v2.f32`` and ``v4``,
   Hopper and later).
3. Neighbouring lanes add to neighbouring addresses: the two corners of one (y, z) lie side by side on a dense level, and in one
   sector of 32 bytes three times of four (F = 2) on a hashed one, as the prime of x is 1. Hence the tile [BLOCK, 2, PART] of
   (sample, corner's x, feature); a warp's addition is counted by the sectors it touches. Where there are no vectors each lane
   has one feature: Triton is kept from seeing that features are contiguous (by a stride that it does not know is 1), or it
   would give all of them to one thread, whose additions would go out one by one.
4. A sample without a gradient adds nothing. Padding (see packing.py) is of that kind, and all of it lies at one point: on an
   H100, 20,000 slots of padding took three times as long as 280,000 samples.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import torch
import triton
import triton.language as tl

from ..layout import HashGridLayout
from . import aot
from .device import interpreted
from .hash_cells import (
    OPTIONS,
    PLAIN,
    SHAPES,
    block_of,
    four_entries,
    inward,
    lattice,
    level_numbers,
    level_weight,
    third,
    weight,
)

RUN = 8
"""Samples that a thread walks on the levels where it pays."""

MERGED_SHARE = 8
"""Levels are merged up to this fraction of the finest resolution (one eighth): see :func:`launches`."""

RUNS = block_of(64)
"""Runs of a program where features come in vectors: a thread to each of the two corners of one (y, z), with four warps."""

VECTOR = 4
"""Features of a tile at most: 16 bytes, the longest vector that is added."""

VECTOR_CAPABILITY = (9, 0)
"""Chips from which float32 additions come in vectors (PTX ISA, red)."""


@lru_cache
def packed() -> bool:
    """Whether the current device adds vectors of float32 atomically."""
    if interpreted():
        return True
    return not torch.version.hip and torch.cuda.get_device_capability() >= VECTOR_CAPABILITY


def launches(layout: HashGridLayout) -> list[tuple[int, int, int]]:
    """(first level, levels, samples to a run) of each launch: coarse levels merge runs of samples, fine ones do not.

    instant-ngp's step is sqrt(3) / 1024 of the unit cube and its finest level has 2,048 cells along an edge (more in a larger
    scene, whose step is as much smaller in the box). On rays of 16 such samples, a sample has left the cell of the one before
    in 10 % of cases on the coarsest level of 16, in 60 % at an eighth of the finest resolution, where merging still spares a
    third of the additions, and nearly always beyond a half. Where no level is as fine, samples are close together on all.
    """
    finest = max(layout.finest_resolution, 2048)
    coarse = sum(float(level.scale) * MERGED_SHARE <= finest for level in layout.levels)
    found = [(0, coarse, RUN), (coarse, layout.n_levels - coarse, 1)]
    return [one for one in found if one[1]]


@triton.jit
def any_gradient(g, PACKED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether a lane's gradients [BLOCK, 2, PART] have anything to add: one answer for a vector. All bits but the sign count,
    so that not-a-number does."""
    bits = g.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    if PACKED:
        return tl.max(bits, 2, keep_dims=True) > 0
    else:
        return bits > 0


@triton.jit
def add_corner(gradient, entry, sums, f, f_stride, live, F: tl.constexpr, PACKED: tl.constexpr):  # type: ignore[no-untyped-def]
    """gradient[entry, f] += sums [BLOCK, 2, PART] where live."""
    if PACKED:
        at = gradient + entry * F + f
    else:
        at = gradient + entry * F + f * f_stride
    tl.atomic_add(at, sums, mask=live, sem="relaxed")


@triton.jit
def add_cell(  # type: ignore[no-untyped-def]
    gradient, x, y, z, s0, s1, s2, s3, f, f_stride, live, resolution, entries, dense,
    F: tl.constexpr, DIMS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """Add the sums of the corners of one x, four or two."""
    e0, e1, e2, e3 = four_entries(x, y, z, resolution, entries, dense)
    add_corner(gradient, e0, s0, f, f_stride, live, F, PACKED)
    add_corner(gradient, e1, s1, f, f_stride, live, F, PACKED)
    if DIMS == 3:
        add_corner(gradient, e2, s2, f, f_stride, live, F, PACKED)
        add_corner(gradient, e3, s3, f, f_stride, live, F, PACKED)


@triton.jit(do_not_specialize=[*PLAIN, "f_stride", "start"])
def scatter_kernel(  # type: ignore[no-untyped-def]
    x, direction, footprints, levels, up, gradient, n, start, f_stride, x_n, x_c, v_n, v_c, up_n, up_c,
    F: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, RUN: tl.constexpr, DIMS: tl.constexpr,
    PACKED: tl.constexpr, DIRECTIONAL: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Add the gradient of one level's entries: a program has BLOCK runs of RUN samples and PART of F features.

    Args:
        x, direction: float32 [n, DIMS], strides (x_n, x_c) and (v_n, v_c); the direction is read if DIRECTIONAL: the gradient
            is then that of the derivative along it.
        footprints: float32 [n], side by side, read if WEIGHTED.
        levels: int64 [L, 8], see hash_cells.py.
        up: [n, L * F] gradient of the features, strides (up_n, up_c).
        gradient: float32 [entries of all levels, F], 16-byte aligned, added to.
        start: first level of this launch.
        f_stride: 1.
    """
    level = start + tl.program_id(1) // (F // PART)
    first = tl.program_id(1) % (F // PART) * PART
    scale, resolution, entries, offset, dense = level_numbers(levels, level)
    run = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[:, None, None] * RUN
    bit = tl.arange(0, 2)[None, :, None]
    f = tl.arange(0, PART)[None, None, :]
    # Lanes that share a sample all work out its cell: to hand it over would take longer. Only what lies in one thread is not
    # done twice.
    lanes = bit * 0
    if not PACKED:
        lanes += f * 0
    target = gradient + offset * F + first
    row = up + (level * F + first).to(tl.int64) * up_c
    live = run + lanes < n
    qx = (run + lanes).to(tl.uint32)
    qy = qx
    qz = qx
    s0 = tl.zeros([BLOCK, 2, PART], tl.float32)
    s1 = s0
    s2 = s0
    s3 = s0
    some = any_gradient(s0, PACKED)  # of the sums
    for step in range(RUN):
        # Past the end: the last sample again, with a gradient of zero.
        sample = tl.minimum(run + step, n - 1).to(tl.int64)
        at = x + sample * x_n + lanes
        x0, x1 = tl.load(at), tl.load(at + x_c)
        x2 = x0
        if DIMS == 3:
            x2 = tl.load(at + 2 * x_c)
        px, fx = lattice(x0, scale)
        py, fy = lattice(x1, scale)
        pz, fz = third(x2, scale, DIMS)
        px += bit.to(tl.uint32)
        g = tl.load(row + sample * up_n + f * up_c + bit * 0, mask=run + step < n, other=0.0).to(tl.float32)
        if WEIGHTED:
            g = g * level_weight(tl.load(footprints + sample + lanes), scale)
        if RUN > 1:
            left = ((px != qx) | (py != qy) | (pz != qz)) & live & (bit * 0 + step > 0)
            add_cell(target, qx, qy, qz, s0, s1, s2, s3, f, f_stride, left & some, resolution, entries, dense, F, DIMS, PACKED)
            some = some & (left == 0)
            s0 = tl.where(left, 0.0, s0)
            s1 = tl.where(left, 0.0, s1)
            s2 = tl.where(left, 0.0, s2)
            s3 = tl.where(left, 0.0, s3)
        ux = fx
        uy = fy
        uz = fz
        if DIRECTIONAL:
            along = direction + sample * v_n + lanes
            ux = scale * inward(x0, tl.load(along))
            uy = scale * inward(x1, tl.load(along + v_c))
            uz = fz
            if DIMS == 3:
                uz = scale * inward(x2, tl.load(along + 2 * v_c))
        wx = tl.where(bit == 1, fx, 1.0 - fx)
        vx = tl.where(bit == 1, ux, -ux)
        gy = 1.0 - fy
        gz = 1.0 - fz
        s0 += weight(wx, vx, gy, -uy, gz, -uz, DIRECTIONAL) * g
        s1 += weight(wx, vx, fy, uy, gz, -uz, DIRECTIONAL) * g
        if DIMS == 3:
            s2 += weight(wx, vx, gy, -uy, fz, uz, DIRECTIONAL) * g
            s3 += weight(wx, vx, fy, uy, fz, uz, DIRECTIONAL) * g
        qx = px
        qy = py
        qz = pz
        some = some | any_gradient(g, PACKED)
    add_cell(target, qx, qy, qz, s0, s1, s2, s3, f, f_stride, live & some, resolution, entries, dense, F, DIMS, PACKED)


def block(part: int, vectors: bool) -> int:
    """Runs of a program."""
    return RUNS if vectors else RUNS * 2 // part


def variants() -> list[aot.Variant]:
    """With and without vectors, merging and not, for each of SHAPES."""
    whole = dict.fromkeys(("n", "start", "f_stride", "x_n", "x_c", "v_n", "v_c", "up_n", "up_c"), "i32")
    tensors = {"x": "*fp32", "direction": "*fp32", "footprints": "*fp32", "levels": "*i64", "gradient": "*fp32"}
    found = []
    for vectors, (shape, F, dims, weighted), run, order, kind in product(
        (True, False), SHAPES, (1, RUN), ("", "_directional"), ("bfloat16", "float32")
    ):
        given = {"F": F, "PART": F, "BLOCK": block(F, vectors), "RUN": run, "DIMS": dims, "PACKED": vectors}
        given["WEIGHTED"] = weighted
        signature = {**tensors, **whole, "up": "*bf16" if kind == "bfloat16" else "*fp32"}
        name = f"hash_scatter{order}/{shape} run {run}{' packed' if vectors else ''}/{kind}"
        found.append(aot.variant(name, scatter_kernel, signature, {**given, "DIRECTIONAL": bool(order), **OPTIONS}))
    return found
