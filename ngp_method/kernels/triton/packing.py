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

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from ..adjoint import RunKernels
from ..samples import PackedSamples
from . import packing_kernels as kernels
from . import ray_sums
from .runs import empty_runs


def runs(counts: Tensor, capacity: int | None = None) -> tuple[Tensor, Tensor]:
    """[R] samples of each ray -> packed_info int32 [R, 2], and the running sums of ``counts``, int32 [R]. R is not zero.

    With a capacity, rays whose running sum is above it get (used, 0).
    """
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    info = torch.empty(counts.shape[0], 2, dtype=torch.int32, device=counts.device)
    grid, sizes = kernels.launch(counts.shape[0])
    kernels.write_runs[grid](ends, counts, info, counts.shape[0], capacity or 0, CAPPED=capacity is not None, **sizes)
    return info, ends


def room(samples: PackedSamples, resume: Tensor, t_max: Tensor) -> tuple[Tensor, Tensor]:
    """The operation ``room``."""
    n_rays, device = samples.n_rays, resume.device
    found, numbers = torch.empty(n_rays, dtype=torch.uint8, device=device), torch.zeros(2, dtype=torch.int32, device=device)
    if n_rays:
        grid, sizes = kernels.launch(n_rays)
        kernels.room[grid](samples.packed_info, resume, t_max.detach().contiguous(), found, numbers, n_rays, **sizes)
    return found.view(torch.bool), numbers


def pad(samples: PackedSamples) -> None:
    """Make padding of the slots behind the last run."""
    n, info = samples.n_samples, samples.packed_info
    if n:
        grid, sizes = kernels.launch(n)
        kernels.write_padding[grid](info, samples.t_starts, samples.t_ends, samples.ray_indices, samples.n_rays, n, **sizes)


def empty_samples(info: Tensor, n: int) -> PackedSamples:
    """n samples to be written."""
    t_starts, t_ends = torch.empty(n, device=info.device), torch.empty(n, device=info.device)
    return PackedSamples(t_starts, t_ends, torch.empty(n, dtype=torch.int32, device=info.device), info)


def keep_first(
    samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
) -> tuple[PackedSamples, list[Tensor]]:
    """The operation ``keep_first``; features come in runs (see runs.py).

    Args:
        capacity: slots of the result, which is then made without asking the host (see the head of this file); as many as
            ``samples`` has are always enough. Padding of features is zero.
    """
    n = samples.n_samples
    if not samples.n_rays or not n:
        return samples, [one.detach() for one in features]
    info, ends = runs(counts, capacity)
    m = int(ends[-1]) if capacity is None else capacity
    kept, (grid, sizes) = empty_samples(info, m), kernels.launch(n)
    kernels.keep_samples[grid](
        samples.t_starts, samples.t_ends, samples.ray_indices, samples.packed_info, info,
        kept.t_starts, kept.t_ends, kept.ray_indices, n, **sizes,
    )  # fmt: skip
    if capacity is not None:
        pad(kept)
    chosen = [empty_runs(m, one.shape[1], one.dtype, one.device) for one in features]
    grid, sizes = kernels.launch(max(n, m))
    for one, target in zip(features, chosen):
        kernels.keep_features[grid](
            one.detach(), target, samples.ray_indices, samples.packed_info, info, n, m, samples.n_rays,
            *one.stride(), target.stride(1), FEATURES=one.shape[1], CAPPED=capacity is not None, **sizes,
        )  # fmt: skip
    return kept, chosen


def _copy_to_samples(features: Tensor, samples: PackedSamples) -> Tensor:
    """``spread``: [R, C] in any layout -> [N, C] in runs (see runs.py)."""
    n, source = samples.n_samples, features.detach()
    target = empty_runs(n, source.shape[1], source.dtype, source.device)
    if n:
        grid, sizes = kernels.launch(n)
        kernels.spread_features[grid](
            source, target, samples.ray_indices, n, *source.stride(), target.stride(1), FEATURES=source.shape[1], **sizes
        )
    return target


def _add_to_rays(values: Tensor, samples: PackedSamples) -> Tensor:
    """``sum_runs``: [N, C] in any layout -> [R, C] float32 in runs."""
    n_rays, count, source, tile = samples.n_rays, values.shape[1], values.detach(), ray_sums.tile()
    target = empty_runs(n_rays, count, torch.float32, source.device)
    if n_rays and count:
        ray_sums.sum_runs[(triton.cdiv(n_rays, tile["RAYS"]), count)](
            source, target, samples.packed_info, n_rays, *source.stride(), target.stride(1), **tile
        )
    return target


RUNS = RunKernels(_copy_to_samples, _add_to_rays)
"""``spread`` and ``sum_runs``, with gradients where they are wanted."""
