"""Packing kernels: what goes by samples, one to a thread, and the runs that all kernels which go by rays read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from . import aot
from .device import interpreted

SIZES = {"BLOCK": 128, "num_warps": 4, "num_stages": 1, **aot.FUSED}
"""Samples of a program: one to a thread, so that what is loaded side by side and what is gathered have one layout and nothing
goes through shared memory."""

PLAIN = ["n", "m", "n_rays", "capacity", "limit", "per_feature", "per_channel", "room"]
"""Arguments that are new in every step: Triton would compile anew where one happens to be a multiple of 16."""


def variant(name: str, kernel: Any, types: Mapping[str, str], given: Mapping[str, Any]) -> aot.Variant:
    """A kernel as it is launched, for the table of resources.

    Args:
        types: names of arguments, with blanks between, by their Triton type; more than the kernel has do no harm.
        given: see :func:`.aot.variant`.
    """
    kinds = {key: kind for kind, names in types.items() for key in names.split()}
    return aot.variant(name, kernel, {key: kinds[key] for key in kernel.arg_names if key not in given}, given)


def launch(n: int) -> tuple[tuple[int], dict[str, Any]]:
    """Grid that reaches n samples, and sizes; in the interpreter it is the number of programs that takes time."""
    sizes = {**SIZES, "BLOCK": 4096} if interpreted() else SIZES
    return (triton.cdiv(n, sizes["BLOCK"]),), sizes


@triton.jit
def read_runs(info, n_rays, RAYS: tl.constexpr):  # type: ignore[no-untyped-def]
    """(ray, first sample, number of samples) of this program's rays; info: int32 [R, 2]."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    first = tl.load(info + 2 * ray, mask=ray < n_rays, other=0)
    return ray, first, tl.load(info + 2 * ray + 1, mask=ray < n_rays, other=0)


@triton.jit
def used_slots(info, n_rays):  # type: ignore[no-untyped-def]
    """Where the last run ends, and padding begins."""
    last = info + 2 * (n_rays - 1)
    return tl.load(last) + tl.load(last + 1)


@triton.jit(do_not_specialize=PLAIN)
def write_runs(ends, counts, info, n_rays, capacity, CAPPED: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """info int32 [R, 2] (first sample, count) from the running sums ``ends`` of ``counts``.

    If CAPPED, rays whose running sum is above the capacity begin where the last one before them ends.
    """
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = r < n_rays
    end = tl.load(ends + r, mask=real, other=0)
    count = tl.load(counts + r, mask=real, other=0).to(tl.int32)
    first = end - count
    if CAPPED:
        # The running sums only grow: by halves, how many of them are no more than the capacity.
        low = n_rays * 0
        high = n_rays
        while low < high:
            middle = (low + high) // 2
            if tl.load(ends + middle) <= capacity:
                low = middle + 1
            else:
                high = middle
        used = tl.load(ends + low - 1, mask=low > 0, other=0)
        first = tl.where(end <= capacity, first, used)
        count = tl.where(end <= capacity, count, 0)
    tl.store(info + 2 * r, first, mask=real)
    tl.store(info + 2 * r + 1, count, mask=real)


@triton.jit(do_not_specialize=PLAIN)
def room(info, resume, t_max, found, numbers, n_rays, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """found uint8 [R]: rays that have samples or met nothing; numbers int32 [2], zero before: samples, and such rays."""
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = r < n_rays
    count = tl.load(info + 2 * r + 1, mask=real, other=0)
    done = tl.load(resume + r, mask=real, other=0.0) >= tl.load(t_max + r, mask=real, other=0.0)
    good = real & ((count > 0) | done)
    tl.store(found + r, good.to(tl.uint8), mask=real)
    tl.atomic_add(numbers, tl.sum(count))
    tl.atomic_add(numbers + 1, tl.sum(good.to(tl.int32)))


@triton.jit(do_not_specialize=PLAIN)
def write_padding(info, t_starts, t_ends, ray_indices, n_rays, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Intervals of no length on the last ray in the slots behind the last run."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    padding = (i >= used_slots(info, n_rays)) & (i < n)
    tl.store(t_starts + i, tl.zeros([BLOCK], tl.float32), mask=padding)
    tl.store(t_ends + i, tl.zeros([BLOCK], tl.float32), mask=padding)
    tl.store(ray_indices + i, tl.zeros([BLOCK], tl.int32) + (n_rays - 1), mask=padding)


@triton.jit
def _places(i, n, ray_indices, old, new):  # type: ignore[no-untyped-def]
    """(Ray, whether it is kept, where it goes) of samples i, from the runs ``old`` to the runs ``new``."""
    ray = tl.load(ray_indices + i, mask=i < n, other=0)
    order = i - tl.load(old + 2 * ray)
    kept = (i < n) & (order < tl.load(new + 2 * ray + 1))
    return ray, kept, tl.load(new + 2 * ray) + order


@triton.jit(do_not_specialize=PLAIN)
def keep_samples(  # type: ignore[no-untyped-def]
    t_starts, t_ends, ray_indices, old, new, to_starts, to_ends, to_rays, n, BLOCK: tl.constexpr
):
    """From the runs ``old`` to the runs ``new`` (int32 [R, 2]: first sample, count), which are as long or shorter."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray, kept, to = _places(i, n, ray_indices, old, new)
    tl.store(to_starts + to, tl.load(t_starts + i, mask=kept, other=0.0), mask=kept)
    tl.store(to_ends + to, tl.load(t_ends + i, mask=kept, other=0.0), mask=kept)
    tl.store(to_rays + to, ray, mask=kept)


@triton.jit
def _copy_features(source, target, per_source, per_target, wanted, FEATURES: tl.constexpr):  # type: ignore[no-untyped-def]
    """One sample a lane from ``source`` to ``target`` (pointers to feature 0), four loads under way before the first store.

    Not as a tile [samples, features]: of addresses that Triton knows nothing about, its versions choose differently which axis
    neighbouring lanes take.
    """
    for f in tl.static_range(0, FEATURES, 4):
        a = tl.load(source + f * per_source, mask=wanted, other=0.0)
        b, c, d = a, a, a
        if f + 1 < FEATURES:
            b = tl.load(source + (f + 1) * per_source, mask=wanted, other=0.0)
        if f + 2 < FEATURES:
            c = tl.load(source + (f + 2) * per_source, mask=wanted, other=0.0)
        if f + 3 < FEATURES:
            d = tl.load(source + (f + 3) * per_source, mask=wanted, other=0.0)
        tl.store(target + f * per_target, a, mask=wanted)
        if f + 1 < FEATURES:
            tl.store(target + (f + 1) * per_target, b, mask=wanted)
        if f + 2 < FEATURES:
            tl.store(target + (f + 2) * per_target, c, mask=wanted)
        if f + 3 < FEATURES:
            tl.store(target + (f + 3) * per_target, d, mask=wanted)


@triton.jit(do_not_specialize=PLAIN)
def keep_features(  # type: ignore[no-untyped-def]
    source, target, ray_indices, old, new, n, m, n_rays, per_sample, per_feature, room,
    FEATURES: tl.constexpr, CAPPED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The same for features, strides (per_sample, per_feature) -> rows [FEATURES, room] of m numbers each.

    If CAPPED, those behind the last run are zero.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _, kept, to = _places(i, n, ray_indices, old, new)
    # 2^22 samples of 128 features are 2^29 numbers.
    _copy_features(source + i * per_sample, target + to, per_feature, room, kept, FEATURES)
    if CAPPED:
        padding = (i >= used_slots(new, n_rays)) & (i < m)
        for f in tl.static_range(FEATURES):
            tl.store(target + f * room + i, tl.zeros([BLOCK], target.dtype.element_ty), mask=padding)


@triton.jit(do_not_specialize=PLAIN)
def spread_features(  # type: ignore[no-untyped-def]
    source, target, ray_indices, n, per_ray, per_feature, room, FEATURES: tl.constexpr, BLOCK: tl.constexpr
):
    """Each sample's ray's features, strides (per_ray, per_feature) -> rows [FEATURES, room] of n numbers each."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices + i, mask=i < n, other=0)
    _copy_features(source + ray * per_ray, target + i, per_feature, room, i < n, FEATURES)


def variants() -> list[aot.Variant]:
    """Every kernel of this file as it is launched."""
    integers = "ends counts info ray_indices old new to_rays numbers"
    numbers = "n_rays capacity n m per_sample per_feature per_ray room"
    types = {"*i32": integers, "i32": numbers, "*fp32": "t_starts t_ends to_starts to_ends resume t_max", "*u8": "found"}
    found = [
        variant("packing_write_runs", write_runs, types, {"CAPPED": True, **SIZES}),
        variant("packing_room", room, types, SIZES),
        variant("packing_write_padding", write_padding, types, SIZES),
        variant("packing_keep_samples", keep_samples, types, SIZES),
    ]
    for kind, short in (("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")):
        typed = {**types, f"*{short}": types.get(f"*{short}", "") + " source target"}
        # Positions and encoded features in rows of neighbouring samples; harmonics likewise; directions as they come.
        for features in (3, 32):
            sizes = {"FEATURES": features, "CAPPED": True, **SIZES}
            found.append(variant(f"packing_keep_features/{features}/{kind}", keep_features, typed, {"per_sample": 1, **sizes}))
        sizes = {"per_ray": 1, "FEATURES": 16, **SIZES}
        found.append(variant(f"packing_spread/16/{kind}", spread_features, typed, sizes))
    return found
