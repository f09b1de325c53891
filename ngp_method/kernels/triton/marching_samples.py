"""What becomes of a walk's samples: packed, and the points in their middles."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .aot import EXACT, Variant
from .device import interpreted
from .marching_kernels import step_size
from .packing_kernels import PLAIN, SIZES, read_runs, variant

TILE = {"RAYS": 4, "SAMPLES": 16, "num_warps": 1, "num_stages": 1, **EXACT}
"""What a program of :func:`fill` copies at a time: 16 samples are 64 bytes, two or three sectors of memory. EXACT for the
rule: between the product and the sum in t + dt(t) lie the bounds of dt, so that nothing could be fused."""


@triton.jit(do_not_specialize=PLAIN)
def fill(  # type: ignore[no-untyped-def]
    rows, t_max, info, t_starts, t_ends, ray_indices, n_rays, limit, cone, min_step, max_step, share,
    CONE: tl.constexpr, RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """From the rows of a KEEP walk to packed samples; ``info`` is int32 [R, 2] (first sample, count). EXACT.

    ``t_max`` and ``share`` as in the walk.
    """
    ray, first, count = read_runs(info, n_rays, RAYS)
    least = tl.maximum(min_step, tl.load(t_max + ray, mask=ray < n_rays, other=0.0) * share)[:, None]
    most = tl.maximum(max_step, least)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        t = tl.load(rows + ray[:, None] * limit + k, mask=valid, other=0.0)
        to = first[:, None] + k
        tl.store(t_starts + to, t, mask=valid)
        tl.store(t_ends + to, t + step_size(t, cone, least, most, CONE), mask=valid)
        tl.store(ray_indices + to, tl.broadcast_to(ray[:, None], (RAYS, SAMPLES)), mask=valid)


@triton.jit(do_not_specialize=PLAIN)
def points(  # type: ignore[no-untyped-def]
    rays_o, rays_d, t_starts, t_ends, ray_indices, out, n, room, lx, ly, lz, scale, BLOCK: tl.constexpr
):
    """Middles of the intervals, normalised to [0, 1] and clamped, in rows: ``out`` is float32 [3, room].

    Behind the last sample (room: n rounded up to 16) lie points too, so that whoever reads positions in whole vectors reads
    nothing that is not finite.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = i < n
    r = 3 * tl.load(ray_indices + i, mask=real, other=0)
    t = 0.5 * (tl.load(t_starts + i, mask=real, other=0.0) + tl.load(t_ends + i, mask=real, other=0.0))
    x = (tl.load(rays_o + r) + tl.load(rays_d + r) * t - lx) * scale
    y = (tl.load(rays_o + r + 1) + tl.load(rays_d + r + 1) * t - ly) * scale
    z = (tl.load(rays_o + r + 2) + tl.load(rays_d + r + 2) * t - lz) * scale
    tl.store(out + i, tl.minimum(tl.maximum(x, 0.0), 1.0), mask=i < room)
    tl.store(out + room + i, tl.minimum(tl.maximum(y, 0.0), 1.0), mask=i < room)
    tl.store(out + 2 * room + i, tl.minimum(tl.maximum(z, 0.0), 1.0), mask=i < room)


def fill_tile() -> dict[str, Any]:
    """Sizes of :func:`fill`; in the interpreter it is the number of programs that takes time."""
    return {**TILE, "RAYS": 512, "SAMPLES": 64} if interpreted() else TILE


def variants() -> list[Variant]:
    """Every kernel of this file as it is launched."""
    types = {
        "*fp32": "rays_o rays_d rows t_max t_starts t_ends out",
        "*i32": "info ray_indices",
        "fp32": "cone min_step max_step share lx ly lz scale",
        "i32": "n_rays limit n room",
    }
    cones = (("unit", False), ("cascades", True))
    found = [variant(f"marching_fill/{scene}", fill, types, {**TILE, "CONE": cone}) for scene, cone in cones]
    return [*found, variant("marching_points", points, types, SIZES)]
