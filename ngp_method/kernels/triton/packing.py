"""Samples of rays packed one ray after the other: where each run begins, the first of each run, what belongs to its ray.

Buffers of a fixed size. ``march`` and ``keep_first`` ask the host for one number, how many samples there are, to allocate what
they return. Given a ``capacity``, they do not: what they return has that many slots, and

* a ray whose run ends beyond the last slot, and every ray behind it, has no samples (:func:`runs`);
* the slots behind the last run, used = sum of ``packed_info[-1]``, are *padding*: intervals [0, 0] of the last ray.

So a kernel that goes by samples may treat padding like anything else: the ray exists, lengths are zero and with them opacity,
weight and gradient, features and positions are finite. One that goes by rays never meets it; if it returns something for each
sample, it writes zeros there. A kernel that would rather stop early reads ``used`` from the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...samples import PackedSamples
from .aot import Variant
from .device import interpreted

BLOCK = 128
"""Samples of a program of four warps: one to a thread, so that what is loaded side by side and what is gathered have one layout
and nothing goes through shared memory."""


PLAIN = ["n", "m", "n_rays", "capacity", "limit", "per_feature", "per_channel"]
"""Arguments that are new in every step: Triton would compile anew where one happens to be a multiple of 16."""


def variant(name: str, kernel: Any, types: Mapping[str, str], sizes: Mapping[str, Any], **options: Any) -> Variant:
    """A kernel as it is launched, for the table of resources.

    Args:
        types: names of arguments, with blanks between, by their Triton type; more than the kernel has do no harm.
        sizes: its constants, num_warps and num_stages where they are not Triton's.
    """
    constants = dict(sizes)
    launch = {key: constants.pop(key) for key in ("num_warps", "num_stages") if key in constants}
    kinds = {key: kind for kind, names in types.items() for key in names.split()}
    signature = {key: kinds[key] for key in kernel.arg_names if key not in constants}
    aligned = tuple(key for key, kind in signature.items() if kind.startswith("*"))
    return Variant(name, kernel, signature, constants, aligned=aligned, options=options, **launch)


def block_size() -> int:
    """Samples of a program; in the interpreter it is the number of programs that takes time."""
    return 4096 if interpreted() else BLOCK


@triton.jit(do_not_specialize=PLAIN)
def write_runs(ends, counts, used, info, n_rays, capacity, CAPPED: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """info int32 [R, 2] (first sample, count) from the running sums ``ends`` of ``counts``.

    Args:
        used: int32 scalar, the greatest of ``ends`` that is no more than ``capacity`` (or zero); read if CAPPED.
    """
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = r < n_rays
    end = tl.load(ends + r, mask=real, other=0)
    count = tl.load(counts + r, mask=real, other=0).to(tl.int32)
    first = end - count
    if CAPPED:
        first = tl.where(end <= capacity, first, tl.load(used))
        count = tl.where(end <= capacity, count, 0)
    tl.store(info + 2 * r, first, mask=real)
    tl.store(info + 2 * r + 1, count, mask=real)


@triton.jit(do_not_specialize=PLAIN)
def write_padding(info, t_starts, t_ends, ray_indices, n_rays, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Intervals of no length on the last ray in the slots behind the last run."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    last = info + 2 * (n_rays - 1)
    padding = (i >= tl.load(last) + tl.load(last + 1)) & (i < n)
    tl.store(t_starts + i, tl.zeros([BLOCK], tl.float32), mask=padding)
    tl.store(t_ends + i, tl.zeros([BLOCK], tl.float32), mask=padding)
    tl.store(ray_indices + i, tl.zeros([BLOCK], tl.int32) + (n_rays - 1), mask=padding)


@triton.jit(do_not_specialize=PLAIN)
def keep_samples(  # type: ignore[no-untyped-def]
    t_starts, t_ends, ray_indices, old, new, to_starts, to_ends, to_rays, n, BLOCK: tl.constexpr
):
    """From the runs ``old`` to the runs ``new`` (int32 [R, 2]: first sample, count), which are as long or shorter."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices + i, mask=i < n, other=0)
    order = i - tl.load(old + 2 * ray)
    kept = (i < n) & (order < tl.load(new + 2 * ray + 1))
    to = tl.load(new + 2 * ray) + order
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
    source, target, ray_indices, old, new, n, m, n_rays, per_sample, per_feature,
    FEATURES: tl.constexpr, CAPPED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The same for features, strides (per_sample, per_feature) -> rows [FEATURES, m], zero behind the last run if CAPPED."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices + i, mask=i < n, other=0)
    order = i - tl.load(old + 2 * ray)
    kept = (i < n) & (order < tl.load(new + 2 * ray + 1))
    to = tl.load(new + 2 * ray) + order
    # 2^22 samples of 128 features are 2^29 numbers.
    _copy_features(source + i * per_sample, target + to, per_feature, m, kept, FEATURES)
    if CAPPED:
        last = new + 2 * (n_rays - 1)
        padding = (i >= tl.load(last) + tl.load(last + 1)) & (i < m)
        for f in tl.static_range(FEATURES):
            tl.store(target + f * m + i, tl.zeros([BLOCK], target.dtype.element_ty), mask=padding)


@triton.jit(do_not_specialize=PLAIN)
def spread_features(  # type: ignore[no-untyped-def]
    source, target, ray_indices, n, per_ray, per_feature, FEATURES: tl.constexpr, BLOCK: tl.constexpr
):
    """Rows [FEATURES, n] of each sample's ray's features, strides (per_ray, per_feature)."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices + i, mask=i < n, other=0)
    _copy_features(source + ray * per_ray, target + i, per_feature, n, i < n, FEATURES)


def runs(counts: Tensor, capacity: int | None = None) -> tuple[Tensor, Tensor]:
    """[R] samples of each ray -> packed_info int32 [R, 2], and the running sums of ``counts``, int32 [R]. R is not zero.

    With a capacity, rays whose running sum is above it get (used, 0).
    """
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    used = ends if capacity is None else ends.masked_fill(ends > capacity, 0).amax()
    info = torch.empty(counts.shape[0], 2, dtype=torch.int32, device=counts.device)
    block = block_size()
    write_runs[(triton.cdiv(counts.shape[0], block),)](
        ends, counts, used, info, counts.shape[0], capacity or 0, CAPPED=capacity is not None, BLOCK=block
    )
    return info, ends


def pad(samples: PackedSamples) -> None:
    """Make padding of the slots behind the last run."""
    n, block = samples.n_samples, block_size()
    if n:
        write_padding[(triton.cdiv(n, block),)](
            samples.packed_info, samples.t_starts, samples.t_ends, samples.ray_indices, samples.n_rays, n, BLOCK=block
        )


def empty_samples(info: Tensor, n: int) -> PackedSamples:
    """n samples to be written."""
    t_starts, t_ends = torch.empty(n, device=info.device), torch.empty(n, device=info.device)
    return PackedSamples(t_starts, t_ends, torch.empty(n, dtype=torch.int32, device=info.device), info)


def keep_first(
    samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
) -> tuple[PackedSamples, list[Tensor]]:
    """The operation ``keep_first``.

    Args:
        capacity: slots of the result, which is then made without asking the host (see the head of this file); as many as
            ``samples`` has are always enough. Padding of features is zero.
    """
    n = samples.n_samples
    if not samples.n_rays or not n:
        return samples, [one.detach() for one in features]
    info, ends = runs(counts, capacity)
    m = int(ends[-1]) if capacity is None else capacity
    kept, block = empty_samples(info, m), block_size()
    keep_samples[(triton.cdiv(n, block),)](
        samples.t_starts, samples.t_ends, samples.ray_indices, samples.packed_info, info,
        kept.t_starts, kept.t_ends, kept.ray_indices, n, BLOCK=block,
    )  # fmt: skip
    if capacity is not None:
        pad(kept)
    chosen = []
    for one in features:
        one, n_features = one.detach(), one.shape[1]
        target = torch.empty(n_features, m, dtype=one.dtype, device=one.device)
        keep_features[(triton.cdiv(max(n, m), block),)](
            one, target, samples.ray_indices, samples.packed_info, info, n, m, samples.n_rays, *one.stride(),
            FEATURES=n_features, CAPPED=capacity is not None, BLOCK=block,
        )  # fmt: skip
        chosen.append(target.t())
    return kept, chosen


def spread(features: Tensor, samples: PackedSamples) -> Tensor:
    """The operation ``spread``: [R, C] in any layout -> [N, C] with strides (1, N)."""
    n, n_features, source, block = samples.n_samples, features.shape[1], features.detach(), block_size()
    target = torch.empty(n_features, n, dtype=source.dtype, device=source.device)
    if n:
        spread_features[(triton.cdiv(n, block),)](
            source, target, samples.ray_indices, n, *source.stride(), FEATURES=n_features, BLOCK=block
        )
    return target.t()


def variants() -> list[Variant]:
    """Every kernel of this file as it is launched."""
    integers = "ends counts used info ray_indices old new to_rays"
    numbers = "n_rays capacity n m per_sample per_feature per_ray"
    types = {"*i32": integers, "i32": numbers, "*fp32": "t_starts t_ends to_starts to_ends"}
    found = [
        variant("packing_write_runs", write_runs, types, {"CAPPED": True, "BLOCK": BLOCK}),
        variant("packing_write_padding", write_padding, types, {"BLOCK": BLOCK}),
        variant("packing_keep_samples", keep_samples, types, {"BLOCK": BLOCK}),
    ]
    for kind, short in (("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")):
        typed = {**types, f"*{short}": types.get(f"*{short}", "") + " source target"}
        # Positions and encoded features in rows of neighbouring samples; harmonics likewise; directions as they come.
        for features in (3, 32):
            sizes = {"FEATURES": features, "CAPPED": True, "BLOCK": BLOCK}
            found.append(variant(f"packing_keep_features/{features}/{kind}", keep_features, typed, {"per_sample": 1, **sizes}))
        sizes = {"per_ray": 1, "FEATURES": 16, "BLOCK": BLOCK}
        found.append(variant(f"packing_spread/16/{kind}", spread_features, typed, sizes))
    return found
