"""Compositing kernels: transmittance, weights, sums and their gradients.

A program is one warp and takes a few rays, a tile [rays, 16 samples] at a time. Sixteen samples of a ray are neighbours in
memory, 64 bytes of each array, so that three quarters and more of what is fetched is used; one lane a ray would touch a sector
for each lane and array at once and keep the warp for as long as the longest of 32 rays. Along the samples the transmittance is
a running sum of optical thickness, over lanes within the tile and from tile to tile in a register of each ray.

The sum *before* a sample is made of the thicknesses one place earlier, loaded once more (they are in the cache). Taking a
sample's own thickness off the sum that includes it would lose everything in front of a wall.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .aot import FUSED, Variant
from .device import interpreted
from .packing_kernels import PLAIN, read_runs, used_slots, variant

TILE = {"RAYS": 4, "SAMPLES": 16, "num_warps": 1, "num_stages": 1, **FUSED}
"""Two numbers a thread (AMD: one). More samples would idle behind short rays (10 to 60 samples in training), fewer would cut
sectors of memory; more rays would wait for the longest of them, and 2^14 rays are 31 warps on each of 132 processors so."""

PADDING = 256
"""Slots behind the last run that a program clears, if they are its own (see :mod:`.packing`)."""


def tile() -> tuple[dict[str, Any], int]:
    """Sizes of every kernel here, and PADDING; in the interpreter it is the number of programs that takes time."""
    return ({**TILE, "RAYS": 512, "SAMPLES": 64}, 1 << 15) if interpreted() else (TILE, PADDING)


@triton.jit
def _thickness(sigmas, per_sigma, t_starts, t_ends, i, wanted):  # type: ignore[no-untyped-def]
    """sigma * dt of samples i, zero where not wanted."""
    length = tl.load(t_ends + i, mask=wanted, other=0.0) - tl.load(t_starts + i, mask=wanted, other=0.0)
    return tl.load(sigmas + i * per_sigma, mask=wanted, other=0.0) * length


@triton.jit
def _opacity(x):  # type: ignore[no-untyped-def]
    """1 - exp(-x) for x >= 0, to float32's precision where x is small too: six terms of the series leave x^7 / 5040."""
    y = tl.minimum(x, 0.25)
    series = y * (1 + y * (-1 / 2 + y * (1 / 6 + y * (-1 / 24 + y * (1 / 120 - y * (1 / 720))))))
    return tl.where(x < 0.25, series, 1.0 - tl.exp(-x))


@triton.jit
def _clear(rows, room, count: tl.constexpr, info, n_rays, n, PADDING: tl.constexpr):  # type: ignore[no-untyped-def]
    """Zeros behind the last run in ``count`` rows of n numbers, ``room`` apart: this program's share of the slots."""
    used = used_slots(info, n_rays)
    begin = tl.program_id(0) * PADDING
    if (begin + PADDING > used) & (begin < n):
        i = begin + tl.arange(0, PADDING)
        for row in tl.static_range(count):
            tl.store(rows + row * room + i, tl.zeros([PADDING], tl.float32), mask=(i >= used) & (i < n))


@triton.jit(do_not_specialize=PLAIN)
def visible(  # type: ignore[no-untyped-def]
    sigmas, t_starts, t_ends, info, counts, n_rays, per_sigma, limit, RAYS: tl.constexpr, SAMPLES: tl.constexpr
):
    """Samples of each ray before which the optical thickness is at most ``limit``: counts int32 [R]."""
    ray, first, count = read_runs(info, n_rays, RAYS)
    before = tl.zeros([RAYS], tl.float32)
    # Counted in float32: Triton 3.2's interpreter makes int64 of a sum of int32, and stores that.
    seen = tl.zeros([RAYS], tl.float32)
    begin = 0
    longest = tl.max(count, axis=0)
    while begin < longest:
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        x = _thickness(sigmas, per_sigma, t_starts, t_ends, first[:, None] + k - 1, valid & (k > 0))
        seen += tl.sum((valid & (before[:, None] + tl.cumsum(x, axis=1) <= limit)).to(tl.float32), axis=1)
        before += tl.sum(x, axis=1)
        # Rays that have become opaque are done.
        longest = tl.max(tl.where(before <= limit, count, 0), axis=0)
        begin += SAMPLES
    tl.store(counts + ray, seen.to(tl.int32), mask=ray < n_rays)


@triton.jit
def _weights(  # type: ignore[no-untyped-def]
    sigmas, per_sigma, t_starts, t_ends, first, count, begin, thickness, SAMPLES: tl.constexpr
):
    """(sample, whether it is one, T_i * alpha_i, T_i, middle, thickness before the next tile) of one tile."""
    k = begin + tl.arange(0, SAMPLES)[None, :]
    valid = k < count[:, None]
    i = first[:, None] + k
    x = _thickness(sigmas, per_sigma, t_starts, t_ends, i - 1, valid & (k > 0))
    before = tl.exp(-(thickness[:, None] + tl.cumsum(x, axis=1)))
    weight = before * _opacity(_thickness(sigmas, per_sigma, t_starts, t_ends, i, valid))
    middle = 0.5 * (tl.load(t_starts + i, mask=valid, other=0.0) + tl.load(t_ends + i, mask=valid, other=0.0))
    return i, valid, weight, before, middle, thickness + tl.sum(x, axis=1)


@triton.jit
def _add_tile(red, green, blue, opacity, depth, weight, middle, colour, per_channel, valid):  # type: ignore[no-untyped-def]
    """The five sums with one more tile of samples, whose red ``colour`` points to."""
    red += weight * tl.load(colour, mask=valid, other=0.0)
    green += weight * tl.load(colour + per_channel, mask=valid, other=0.0)
    blue += weight * tl.load(colour + 2 * per_channel, mask=valid, other=0.0)
    return red, green, blue, opacity + weight, depth + weight * middle


@triton.jit(do_not_specialize=PLAIN)
def forward(  # type: ignore[no-untyped-def]
    sigmas, rgbs, t_starts, t_ends, info, colours, opacities, depths, weights, n_rays, n, per_sigma, per_sample, per_channel,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, PADDING: tl.constexpr,
):  # fmt: skip
    """Weights [n] and sums: colours [R, 3], opacities [R], depths [R], all float32."""
    ray, first, count = read_runs(info, n_rays, RAYS)
    zeros = tl.zeros([RAYS, SAMPLES], tl.float32)
    red, green, blue, opacity, depth = zeros, zeros, zeros, zeros, zeros
    thickness = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        i, valid, weight, _, middle, thickness = _weights(
            sigmas, per_sigma, t_starts, t_ends, first, count, begin, thickness, SAMPLES
        )
        tl.store(weights + i, weight, mask=valid)
        red, green, blue, opacity, depth = _add_tile(
            red, green, blue, opacity, depth, weight, middle, rgbs + i * per_sample, per_channel, valid
        )
    tl.store(colours + 3 * ray, tl.sum(red, axis=1), mask=ray < n_rays)
    tl.store(colours + 3 * ray + 1, tl.sum(green, axis=1), mask=ray < n_rays)
    tl.store(colours + 3 * ray + 2, tl.sum(blue, axis=1), mask=ray < n_rays)
    tl.store(opacities + ray, tl.sum(opacity, axis=1), mask=ray < n_rays)
    tl.store(depths + ray, tl.sum(depth, axis=1), mask=ray < n_rays)
    _clear(weights, n, 1, info, n_rays, n, PADDING)


@triton.jit
def _add(target, values, mask):  # type: ignore[no-untyped-def]
    """target += values, by one lane each."""
    tl.store(target, tl.load(target, mask=mask, other=0.0) + values, mask=mask)


@triton.jit(do_not_specialize=PLAIN)
def accumulate(  # type: ignore[no-untyped-def]
    sigmas, rgbs, t_starts, t_ends, info, rays, resume, t_max, t, colours, opacities, depths, medians, evaluated, weights,
    alive, n_rays, n, per_sigma, per_sample, per_channel, least, median,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, PADDING: tl.constexpr,
):  # fmt: skip
    """Adds one round's samples behind what rays have gathered, and says which of them go on.

    Args:
        rays: [A] any integers, where each ray of the round keeps what it has gathered.
        resume: float32 [A]; alive: uint8 [A], written: resume < t_max and more than ``least`` of the light is left.
        t_max, t, opacities, depths, medians, evaluated: float32 [R]; colours [R, 3]: all but t_max are brought up to date.
        weights: float32 [n], written: shares of the whole ray's light.
        median: opacity at which the median depth lies.
    """
    ray, first, count = read_runs(info, n_rays, RAYS)
    real = ray < n_rays
    home = tl.load(rays + ray, mask=real, other=0)
    old = tl.load(opacities + home, mask=real, other=0.0)
    left = 1.0 - old
    zeros = tl.zeros([RAYS, SAMPLES], tl.float32)
    red, green, blue, opacity, depth, last = zeros, zeros, zeros, zeros, zeros, zeros
    crossed = zeros + 1e30
    thickness = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        i, valid, weight, before, middle, thickness = _weights(
            sigmas, per_sigma, t_starts, t_ends, first, count, begin, thickness, SAMPLES
        )
        tl.store(weights + i, left[:, None] * weight, mask=valid)
        red, green, blue, opacity, depth = _add_tile(
            red, green, blue, opacity, depth, weight, middle, rgbs + i * per_sample, per_channel, valid
        )
        # Gathered with this sample: one minus what is left behind it.
        behind = valid & (1.0 - left[:, None] * (before - weight) >= median)
        crossed = tl.minimum(crossed, tl.where(behind, middle, 1e30))
        last = tl.maximum(last, tl.where(valid, middle, 0.0))
    now = old + left * tl.sum(opacity, axis=1)
    there = tl.min(crossed, axis=1)
    # Rounding may have the sum cross where no single sample does: then it is the last one.
    there = tl.where(there < 1e30, there, tl.max(last, axis=1))
    tl.store(medians + home, there, mask=real & (now >= median) & (old < median))
    _add(colours + 3 * home, left * tl.sum(red, axis=1), real)
    _add(colours + 3 * home + 1, left * tl.sum(green, axis=1), real)
    _add(colours + 3 * home + 2, left * tl.sum(blue, axis=1), real)
    _add(depths + home, left * tl.sum(depth, axis=1), real)
    _add(evaluated + home, count.to(tl.float32), real)
    tl.store(opacities + home, now, mask=real)
    stopped = tl.load(resume + ray, mask=real, other=0.0)
    tl.store(t + home, stopped, mask=real)
    goes_on = (stopped < tl.load(t_max + home, mask=real, other=0.0)) & (1.0 - now > least)
    tl.store(alive + ray, goes_on.to(tl.uint8), mask=real)
    _clear(weights, n, 1, info, n_rays, n, PADDING)


@triton.jit(do_not_specialize=PLAIN)
def backward(  # type: ignore[no-untyped-def]
    sigmas, rgbs, t_starts, t_ends, info, weights, colours, opacities, depths, d_colours, d_opacities, d_depths,
    d_sigmas, d_rgbs, n_rays, n, per_sigma, per_sample, per_channel, room,
    RAYS: tl.constexpr, SAMPLES: tl.constexpr, PADDING: tl.constexpr,
):  # fmt: skip
    """Gradients of densities, d_sigmas [n], and colours, rows d_rgbs [3, room].

    With value v_i = d_colour . rgb_i + d_opacity + d_depth * middle_i and S_i = sum over j > i of weight_j * v_j:
    d sigma_i = dt_i * (T_{i+1} * v_i - S_i), T_{i+1} being the transmittance behind sample i.
    """
    ray, first, count = read_runs(info, n_rays, RAYS)
    real = ray < n_rays
    g0 = tl.load(d_colours + 3 * ray, mask=real, other=0.0)
    g1 = tl.load(d_colours + 3 * ray + 1, mask=real, other=0.0)
    g2 = tl.load(d_colours + 3 * ray + 2, mask=real, other=0.0)
    go = tl.load(d_opacities + ray, mask=real, other=0.0)
    gd = tl.load(d_depths + ray, mask=real, other=0.0)
    behind = g0 * tl.load(colours + 3 * ray, mask=real, other=0.0) + g1 * tl.load(colours + 3 * ray + 1, mask=real, other=0.0)
    behind += g2 * tl.load(colours + 3 * ray + 2, mask=real, other=0.0) + go * tl.load(opacities + ray, mask=real, other=0.0)
    behind += gd * tl.load(depths + ray, mask=real, other=0.0)
    thickness = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, axis=0), SAMPLES):
        k = begin + tl.arange(0, SAMPLES)[None, :]
        valid = k < count[:, None]
        i = first[:, None] + k
        start = tl.load(t_starts + i, mask=valid, other=0.0)
        end = tl.load(t_ends + i, mask=valid, other=0.0)
        colour = rgbs + i * per_sample
        value = g0[:, None] * tl.load(colour, mask=valid, other=0.0) + go[:, None]
        value += g1[:, None] * tl.load(colour + per_channel, mask=valid, other=0.0)
        value += g2[:, None] * tl.load(colour + 2 * per_channel, mask=valid, other=0.0)
        value += gd[:, None] * (0.5 * (start + end))
        weight = tl.load(weights + i, mask=valid, other=0.0)
        share = weight * value
        x = tl.load(sigmas + i * per_sigma, mask=valid, other=0.0) * (end - start)
        after = tl.exp(-(thickness[:, None] + tl.cumsum(x, axis=1)))
        rest = behind[:, None] - tl.cumsum(share, axis=1)
        tl.store(d_sigmas + i, (end - start) * (after * value - rest), mask=valid)
        tl.store(d_rgbs + i, g0[:, None] * weight, mask=valid)
        tl.store(d_rgbs + room + i, g1[:, None] * weight, mask=valid)
        tl.store(d_rgbs + 2 * room + i, g2[:, None] * weight, mask=valid)
        thickness += tl.sum(x, axis=1)
        behind -= tl.sum(share, axis=1)
    _clear(d_sigmas, n, 1, info, n_rays, n, PADDING)
    _clear(d_rgbs, room, 3, info, n_rays, n, PADDING)


def variants() -> list[Variant]:
    """Every kernel of this file as it is launched."""
    ours = "sigmas rgbs t_starts t_ends colours opacities depths weights resume t_max t medians evaluated"
    types = {
        "*fp32": ours + " d_colours d_opacities d_depths d_sigmas d_rgbs",
        "*i32": "info counts",
        "*i64": "rays",
        "*u8": "alive",
        "fp32": "limit least median",
        "i32": "n_rays n per_channel room",
    }
    found = []
    for kernel in (visible, forward, backward, accumulate):
        # Densities and colours lie in rows, sample beside sample.
        sizes = {"PADDING": PADDING, "per_sigma": 1, "per_sample": 1}
        used = {key: value for key, value in sizes.items() if key in kernel.arg_names}
        found.append(variant(f"compositing_{kernel.__name__}", kernel, types, {**TILE, **used}))
    return found
