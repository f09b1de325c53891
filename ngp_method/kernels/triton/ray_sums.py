"""Kernels that sum over the samples of each ray: what gradients of rays, and of what belongs to rays, are made of.

A tile is [rays, 16 samples] of one warp, as in compositing_kernels.py and for its reasons. They go by the runs: of padding
nothing is read. Lanes add up the same samples in the same order every time.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .aot import FUSED, Variant
from .device import interpreted
from .packing_kernels import PLAIN, read_runs, variant

TILE = {"RAYS": 4, "SAMPLES": 16, "num_warps": 1, "num_stages": 1, **FUSED}


def tile() -> dict[str, Any]:
    """Sizes of every kernel here; in the interpreter it is the number of programs that takes time."""
    return {**TILE, "RAYS": 512, "SAMPLES": 64} if interpreted() else TILE


@triton.jit(do_not_specialize=PLAIN)
def sum_runs(  # type: ignore[no-untyped-def]
    values, out, info, n_rays, per_sample, per_feature, room, RAYS: tl.constexpr, SAMPLES: tl.constexpr
):
    """Values of samples, strides (per_sample, per_feature) -> their sums in rows, out float32 [features, room].

    The second axis of the grid is the feature.
    """
    ray, first, count = read_runs(info, n_rays, RAYS)
    feature = tl.program_id(1).to(tl.int64)
    total = tl.zeros([RAYS, SAMPLES], tl.float32)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        there = values + feature * per_feature + (first[:, None] + k) * per_sample
        total += tl.load(there, mask=k < count[:, None], other=0.0).to(tl.float32)
    tl.store(out + feature * room + ray, tl.sum(total, axis=1), mask=ray < n_rays)


@triton.jit(do_not_specialize=PLAIN)
def point_gradients(  # type: ignore[no-untyped-def]
    d_points, points, t_starts, t_ends, info, d_o, d_d, n_rays, per_sample, per_feature, room, scale,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Gradients of origins and directions, float32 [R, 3], from those of points, strides (per_sample, per_feature).

    A point, in rows [3, room], is (o + t d - low) * scale, so d_o is scale times the sum of its gradients and d_d that of t
    times them; a coordinate at the border of the box has none. The second axis of the grid is the axis.
    """
    ray, first, count = read_runs(info, n_rays, RAYS)
    axis = tl.program_id(1)
    total = tl.zeros([RAYS, SAMPLES], tl.float32)
    along = tl.zeros([RAYS, SAMPLES], tl.float32)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        i = first[:, None] + k
        x = tl.load(points + axis * room + i, mask=valid, other=0.0)
        g = tl.load(d_points + axis * per_feature + i * per_sample, mask=valid & (x > 0.0) & (x < 1.0), other=0.0)
        t = 0.5 * (tl.load(t_starts + i, mask=valid, other=0.0) + tl.load(t_ends + i, mask=valid, other=0.0))
        total += g
        along += g * t
    tl.store(d_o + 3 * ray + axis, tl.sum(total, axis=1) * scale, mask=ray < n_rays)
    tl.store(d_d + 3 * ray + axis, tl.sum(along, axis=1) * scale, mask=ray < n_rays)


@triton.jit(do_not_specialize=PLAIN)
def add_weight_gradient(  # type: ignore[no-untyped-def]
    sigmas, t_starts, t_ends, info, weights, d_weights, d_sigmas, n_rays, per_sigma,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Adds to d_sigmas [n] what gradients of the weights themselves bring: compositing's ``backward`` with v_i = d_weight_i."""
    _, first, count = read_runs(info, n_rays, RAYS)
    longest = tl.max(count, axis=0)
    shares = tl.zeros([RAYS, SAMPLES], tl.float32)
    for begin in range(0, longest, SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        i = first[:, None] + k
        shares += tl.load(weights + i, mask=valid, other=0.0) * tl.load(d_weights + i, mask=valid, other=0.0)
    behind = tl.sum(shares, axis=1)
    thickness = tl.zeros([RAYS], tl.float32)
    for begin in range(0, longest, SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        i = first[:, None] + k
        length = tl.load(t_ends + i, mask=valid, other=0.0) - tl.load(t_starts + i, mask=valid, other=0.0)
        value = tl.load(d_weights + i, mask=valid, other=0.0)
        share = tl.load(weights + i, mask=valid, other=0.0) * value
        x = tl.load(sigmas + i * per_sigma, mask=valid, other=0.0) * length
        after = tl.exp(-(thickness[:, None] + tl.cumsum(x, axis=1)))
        rest = behind[:, None] - tl.cumsum(share, axis=1)
        so_far = tl.load(d_sigmas + i, mask=valid, other=0.0)
        tl.store(d_sigmas + i, so_far + length * (after * value - rest), mask=valid)
        thickness += tl.sum(x, axis=1)
        behind -= tl.sum(share, axis=1)


def variants() -> list[Variant]:
    """Every kernel of this file as it is launched."""
    numbers = "out sigmas t_starts t_ends weights d_weights d_sigmas points d_points d_o d_d"
    types = {"*i32": "info", "*fp32": numbers, "i32": "n_rays per_feature room", "fp32": "scale"}
    # Densities lie side by side, and so does each coordinate of points.
    found = [
        variant("sums_add_weight_gradient", add_weight_gradient, types, {"per_sigma": 1, **TILE}),
        variant("sums_point_gradients", point_gradients, types, {"per_sample": 1, **TILE}),
    ]
    for kind, short in (("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")):
        typed = {**types, f"*{short}": types.get(f"*{short}", "") + " values"}
        # Gradients of features lie in rows, sample beside sample.
        found.append(variant(f"sums_runs/{kind}", sum_runs, typed, {"per_sample": 1, **TILE}))
    return found
