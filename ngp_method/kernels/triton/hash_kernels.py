"""Hash grid: features of positions, and the gradient of positions.

Bound by memory: 8 look-ups a sample and level (4 in two dimensions). An entry's features are one vector load. Levels are the
slow axis of the grid, so that one level's table is all that is wanted from the L2 cache at a time; a sample's position is read
once a level for it, which is an order of magnitude less. The numbers of the levels lie in a small table on the device rather
than in arguments: the level is a program's index, and Triton cannot index arguments.

Tiles: [BLOCK] samples, [BLOCK, PART] their features; PART features are at most 16 bytes of the table, the widest load there is,
so that all features of a sample lie in one thread and no tile goes through shared memory.
"""

from __future__ import annotations

from itertools import product

import triton
import triton.language as tl

from . import aot
from .hash_cells import (
    OPTIONS,
    PLAIN,
    SHAPES,
    block_of,
    coordinates,
    face,
    four_entries,
    inward,
    lattice,
    level_numbers,
    level_weight,
    rounded,
    scale_feature,
    third,
    weight,
)

BLOCK = block_of(128)
"""Samples of a program, one a thread: on an H100 a tenth faster than two, though they keep 16 look-ups in flight."""


@triton.jit
def entry_features(source, entry, f, F: tl.constexpr):  # type: ignore[no-untyped-def]
    """Features f of entries [BLOCK] -> float32 [BLOCK, PART]."""
    return tl.load(source + (entry * F)[:, None] + f[None, :]).to(tl.float32)


@triton.jit
def interpolated(  # type: ignore[no-untyped-def]
    x0, x1, x2, v0, v1, v2, source, f, scale, resolution, entries, dense,
    F: tl.constexpr, DIMS: tl.constexpr, DIRECTIONAL: tl.constexpr,
):  # fmt: skip
    """Features f of positions [BLOCK] in one level, or their derivative along the direction v -> float32 [BLOCK, PART].

    Args:
        source: feature 0 of the level's first entry.
        scale, resolution, entries, dense: the level's numbers.
    """
    px, fx = lattice(x0, scale)
    py, fy = lattice(x1, scale)
    pz, fz = third(x2, scale, DIMS)
    ux = scale * inward(x0, v0)
    uy = scale * inward(x1, v1)
    uz = scale * inward(x2, v2)
    gy = 1.0 - fy
    gz = 1.0 - fz
    e0, e1, e2, e3 = four_entries(px, py, pz, resolution, entries, dense)
    wx = 1.0 - fx
    vx = -ux
    # Not the first product: with that, ptxas takes 8 registers more on sm_80.
    sums = tl.zeros([x0.shape[0], f.shape[0]], tl.float32)
    sums += weight(wx, vx, gy, -uy, gz, -uz, DIRECTIONAL)[:, None] * entry_features(source, e0, f, F)
    sums += weight(wx, vx, fy, uy, gz, -uz, DIRECTIONAL)[:, None] * entry_features(source, e1, f, F)
    if DIMS == 3:
        sums += weight(wx, vx, gy, -uy, fz, uz, DIRECTIONAL)[:, None] * entry_features(source, e2, f, F)
        sums += weight(wx, vx, fy, uy, fz, uz, DIRECTIONAL)[:, None] * entry_features(source, e3, f, F)
    e0, e1, e2, e3 = four_entries(px + 1, py, pz, resolution, entries, dense)
    sums += weight(fx, ux, gy, -uy, gz, -uz, DIRECTIONAL)[:, None] * entry_features(source, e0, f, F)
    sums += weight(fx, ux, fy, uy, gz, -uz, DIRECTIONAL)[:, None] * entry_features(source, e1, f, F)
    if DIMS == 3:
        sums += weight(fx, ux, gy, -uy, fz, uz, DIRECTIONAL)[:, None] * entry_features(source, e2, f, F)
        sums += weight(fx, ux, fy, uy, fz, uz, DIRECTIONAL)[:, None] * entry_features(source, e3, f, F)
    return sums


@triton.jit(do_not_specialize=PLAIN)
def encode_kernel(  # type: ignore[no-untyped-def]
    x, direction, footprints, table, levels, out, n, x_n, x_c, v_n, v_c, out_n, out_c,
    F: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, DIMS: tl.constexpr, DIRECTIONAL: tl.constexpr,
    WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Features of one level, or their derivative along the direction: a program has BLOCK samples and PART of F features.

    Args:
        x, direction: float32 [n, DIMS], strides (x_n, x_c) and (v_n, v_c); the direction is read if DIRECTIONAL.
        footprints: float32 [n], side by side, read if WEIGHTED.
        table: [entries of all levels, F], 16-byte aligned.
        levels: int64 [L, 8], see hash_cells.py.
        out: [n, L * F], strides (out_n, out_c).
    """
    level = tl.program_id(1) // (F // PART)
    first = tl.program_id(1) % (F // PART) * PART
    scale, resolution, entries, offset, dense = level_numbers(levels, level)
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = sample < n
    x0, x1, x2 = coordinates(x, sample, x_n, x_c, live, DIMS)
    v0, v1, v2 = x0, x1, x2
    if DIRECTIONAL:
        v0, v1, v2 = coordinates(direction, sample, v_n, v_c, live, DIMS)
    f = tl.arange(0, PART)
    source = table + offset * F + first
    sums = interpolated(x0, x1, x2, v0, v1, v2, source, f, scale, resolution, entries, dense, F, DIMS, DIRECTIONAL)
    if WEIGHTED:
        sums = sums * level_weight(tl.load(footprints + sample, mask=live, other=0.0), scale)[:, None]
    to = out + sample.to(tl.int64) * out_n + (level * F + first).to(tl.int64) * out_c
    for column in tl.static_range(PART):
        # One column after the other: stored whole, the tile would be turned over in shared memory first.
        value = tl.sum(tl.where(f[None, :] == column, sums, 0.0), 1)
        tl.store(to + column * out_c, rounded(value, out.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=PLAIN)
def scale_kernel(  # type: ignore[no-untyped-def]
    footprints, levels, out, n, out_n, out_c, L: tl.constexpr, FIRST: tl.constexpr, BLOCK: tl.constexpr
):
    """Features of the width of samples -> columns FIRST + program_id(1) of out, [n, columns]."""
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live, number = sample < n, tl.program_id(1)
    value = scale_feature(tl.load(footprints + sample, mask=live, other=0.0), levels, number, L)
    at = out + sample.to(tl.int64) * out_n + (FIRST + number).to(tl.int64) * out_c
    tl.store(at, rounded(value, out.dtype.element_ty), mask=live)


@triton.jit
def four_corners(  # type: ignore[no-untyped-def]
    source, e0, e1, e2, e3, up, f, wx, ux, sx, fy, uy, fz, uz, F: tl.constexpr, DIMS: tl.constexpr, DIRECTIONAL: tl.constexpr
):
    """What the corners of one x, four or two, add to the gradient of a sample's position, in cells: three [BLOCK]."""
    gy = 1.0 - fy
    gz = 1.0 - fz
    d0 = tl.sum(entry_features(source, e0, f, F) * up, 1)
    d1 = tl.sum(entry_features(source, e1, f, F) * up, 1)
    along_x = d0 * face(gy, -uy, gz, -uz, DIRECTIONAL) + d1 * face(fy, uy, gz, -uz, DIRECTIONAL)
    along_y = (d1 - d0) * face(wx, ux, gz, -uz, DIRECTIONAL)
    along_z = tl.zeros_like(fz)
    if DIMS == 3:
        d2 = tl.sum(entry_features(source, e2, f, F) * up, 1)
        d3 = tl.sum(entry_features(source, e3, f, F) * up, 1)
        along_x += d2 * face(gy, -uy, fz, uz, DIRECTIONAL) + d3 * face(fy, uy, fz, uz, DIRECTIONAL)
        along_y += (d3 - d2) * face(wx, ux, fz, uz, DIRECTIONAL)
        along_z = (d2 - d0) * face(wx, ux, gy, -uy, DIRECTIONAL) + (d3 - d1) * face(wx, ux, fy, uy, DIRECTIONAL)
    return sx * along_x, along_y, along_z


@triton.jit(do_not_specialize=[*PLAIN, "programs"])
def position_kernel(  # type: ignore[no-untyped-def]
    x, direction, footprints, table, levels, up, out, n, programs, x_n, x_c, v_n, v_c, up_n, up_c,
    F: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, DIMS: tl.constexpr, DIRECTIONAL: tl.constexpr,
    WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Gradient of positions, [n, DIMS] contiguous: of sum(up * features), or of its derivative along the direction.

    All levels in one program, whose sums stay in registers.

    Args:
        up: [n, L * F], strides (up_n, up_c).
        programs: L * F / PART.
        The rest as in :func:`encode_kernel`.
    """
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = sample < n
    x0, x1, x2 = coordinates(x, sample, x_n, x_c, live, DIMS)
    v0, v1, v2 = x0, x1, x2
    if DIRECTIONAL:
        v0, v1, v2 = coordinates(direction, sample, v_n, v_c, live, DIMS)
    f = tl.arange(0, PART)
    row = up + (sample.to(tl.int64) * up_n)[:, None] + (f.to(tl.int64) * up_c)[None, :]
    dx = tl.zeros([BLOCK], tl.float32)
    dy = dx
    dz = dx
    for number in range(programs):
        level = number // (F // PART)
        first = number % (F // PART) * PART
        scale, resolution, entries, offset, dense = level_numbers(levels, level)
        px, fx = lattice(x0, scale)
        py, fy = lattice(x1, scale)
        pz, fz = third(x2, scale, DIMS)
        ux = scale * inward(x0, v0)
        uy = scale * inward(x1, v1)
        uz = scale * inward(x2, v2)
        g = tl.load(row + tl.full([], number * PART, tl.int64) * up_c, mask=live[:, None], other=0.0).to(tl.float32)
        if WEIGHTED:
            g = g * level_weight(tl.load(footprints + sample, mask=live, other=0.0), scale)[:, None]
        source = table + offset * F + first
        for bit in tl.static_range(2):
            wx = fx if bit else 1.0 - fx
            vx = ux if bit else -ux
            e0, e1, e2, e3 = four_entries(px + bit, py, pz, resolution, entries, dense)
            sx = 1.0 if bit else -1.0
            ax, ay, az = four_corners(source, e0, e1, e2, e3, g, f, wx, vx, sx, fy, uy, fz, uz, F, DIMS, DIRECTIONAL)
            dx += scale * ax
            dy += scale * ay
            dz += scale * az
    to = out + sample.to(tl.int64) * DIMS
    tl.store(to, inward(x0, dx), mask=live)
    tl.store(to + 1, inward(x1, dy), mask=live)
    if DIMS == 3:
        tl.store(to + 2, inward(x2, dz), mask=live)


def part_of(features: int, table_bytes: int) -> int:
    """Features that one thread reads at once: all of them, or as many as 16 bytes hold."""
    return min(features, 16 // table_bytes)


def variants() -> list[aot.Variant]:
    """Both kernels for each of SHAPES, in low precision from a float16 table; float16 with and without training."""
    whole = dict.fromkeys(("n", "x_n", "x_c", "v_n", "v_c"), "i32")
    tensors = {"x": "*fp32", "direction": "*fp32", "footprints": "*fp32", "levels": "*i64"}
    # In training, float16 has features and their gradients in float32 (see encode.py).
    kinds = (("bfloat16", "*fp16", "*bf16"), ("float16", "*fp16", "*fp16"), ("float16 trained", "*fp16", "*fp32"),
             ("float32", "*fp32", "*fp32"))  # fmt: skip
    found = []
    for (name, table, features), (shape, F, dims, weighted), order in product(kinds, SHAPES, ("", "_directional")):
        given = {"F": F, "PART": F, "BLOCK": BLOCK, "DIMS": dims, "DIRECTIONAL": bool(order), "WEIGHTED": weighted, **OPTIONS}
        common = {**tensors, "table": table, **whole}
        encode = {**common, "out": features, "out_n": "i32", "out_c": "i32"}
        position = {**common, "out": "*fp32", "up": features, "up_n": "i32", "up_c": "i32", "programs": "i32"}
        if name != "float16" or not order:
            found.append(aot.variant(f"hash_encode{order}/{shape}/{name}", encode_kernel, encode, given))
        if weighted and not order and name != "float16 trained":  # which is float32, as are its features
            fixed = {"L": 16, "FIRST": 16 * F, "BLOCK": BLOCK, **OPTIONS}
            given_scale = {
                "footprints": "*fp32",
                "levels": "*i64",
                "out": features,
                **dict.fromkeys(("n", "out_n", "out_c"), "i32"),
            }
            found.append(aot.variant(f"hash_scale/{shape}/{name}", scale_kernel, given_scale, fixed))
        if name != "float16":
            found.append(aot.variant(f"hash_position{order}/{shape}/{name}", position_kernel, position, given))
    return found
