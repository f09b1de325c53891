"""Marching and compositing as torch operations on the CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adjoint import RunKernels
from ..gradients import first_order_only
from ..interface import Composited
from ..samples import PackedSamples, packed_info_from_counts
from ..scene import LEAST_SHARE, MAX_STEPS, SceneGeometry
from . import buffers, compositing, encode, marching, pool

RAYS_PER_TASK = 256
"""Rays marched at a time: what is found of them (some 40 samples a ray) stays in the second-level cache."""


def pack_grid(occupied: Tensor, former: object = None) -> tuple[np.ndarray, np.ndarray]:
    """The occupancy grid, bool [K, G, G, G], as the marcher reads it: bits and blocks (:func:`marching.pack_occupancy`)."""
    levels, grid = occupied.shape[0], occupied.shape[1]
    if grid % marching.SKIP:
        raise ValueError(f"The occupancy grid's resolution must be a multiple of {marching.SKIP}, not {grid}.")
    shape = (levels, *[grid // marching.SKIP] * 3)
    bits, blocks = np.zeros((*shape, marching.SKIP, marching.SKIP), np.uint8), np.zeros(shape, np.uint8)
    marching.pack_occupancy(occupied.view(torch.uint8).numpy(), bits, blocks)
    return bits, blocks


def as_array(tensor: Tensor) -> np.ndarray:
    """float32, row-major, without a gradient: the same memory where it is so already."""
    return np.asarray(tensor.detach().to(torch.float32).contiguous().numpy())


def march(
    rays_o: Tensor, rays_d: Tensor, t_min: Tensor, t_max: Tensor, grid: tuple[np.ndarray, np.ndarray],
    geometry: SceneGeometry, jitter: Tensor | None, max_samples: int | None,
) -> tuple[PackedSamples, Tensor]:  # fmt: skip
    """The operation ``march`` through a grid that :func:`pack_grid` made."""
    n_rays, limit = rays_o.shape[0], max_samples or MAX_STEPS
    o, d, near, far = as_array(rays_o), as_array(rays_d), as_array(t_min), as_array(t_max)
    shift = np.zeros(n_rays, np.float32) if jitter is None else as_array(jitter)
    counts, resume = torch.zeros(n_rays, dtype=torch.int32), torch.zeros(n_rays)
    law = (geometry.cone_angle, geometry.min_step, geometry.max_step, LEAST_SHARE)
    numbers = [np.float32(v) for v in (geometry.unit_size, *law)]
    center = np.asarray(geometry.center, np.float32)
    ranges = pool.chunks(n_rays, RAYS_PER_TASK, at_least=1, per_thread=-(-n_rays // RAYS_PER_TASK))
    kept: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.float32), np.empty(0, np.float32))] * len(ranges)

    def walk(task: int) -> None:
        begin, end = ranges[task]
        most = (end - begin) * limit
        room = pool.scratch(8 * most).view(np.float32)
        t, dt = room[:most], room[most : 2 * most]
        marching.march_rays(
            o, d, near, far, shift, *grid, center, *numbers, limit, t, dt, counts.numpy(), resume.numpy(),
            begin, end,
        )  # fmt: skip
        found = int(counts[begin:end].sum())
        kept[task] = (t[:found].copy(), dt[:found].copy())

    pool.run(walk, len(ranges))
    packed = packed_info_from_counts(counts)
    total = int(counts.sum())
    samples = PackedSamples(torch.empty(total), torch.empty(total), torch.empty(total, dtype=torch.int32), packed)
    first = packed[:, 0].contiguous().numpy()
    targets = (samples.t_starts.numpy(), samples.t_ends.numpy(), samples.ray_indices.numpy())
    pool.run(lambda task: marching.fill(*kept[task], first, counts.numpy(), *targets, *ranges[task]), len(ranges))
    return samples, resume


def visible_counts(sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
    """The operation ``visible_counts``."""
    counts = torch.zeros(samples.n_rays, dtype=torch.int32)
    arrays = (as_array(sigmas), as_array(samples.t_starts), as_array(samples.t_ends), samples.packed_info.numpy())
    log_threshold = np.float32(math.log(max(threshold, 1e-38)))
    ranges = pool.chunks(samples.n_rays, 1, at_least=256)
    pool.run(lambda c: compositing.visible(*arrays, log_threshold, counts.numpy(), *ranges[c]), len(ranges))
    return counts


def _rows(features: Tensor) -> Tensor:
    """Any layout -> rows (float32) or pairs (int32)."""
    return buffers.tensor_to_pairs(features) if features.ndim == 3 else buffers.tensor_to_rows(features)


def _tensor(rows: Tensor, n: int) -> Tensor:
    return buffers.pairs_to_tensor(rows, n) if rows.dtype == torch.int32 else buffers.rows_to_tensor(rows, n)


def keep_first(samples: PackedSamples, counts: Tensor, features: Sequence[Tensor]) -> tuple[PackedSamples, list[Tensor]]:
    """The operation ``keep_first``: runs are copied row by row."""
    packed = packed_info_from_counts(counts)
    n = int(counts.sum())
    old, new = samples.packed_info[:, 0].contiguous().numpy(), packed[:, 0].contiguous().numpy()
    runs = counts.to(torch.int32).numpy()
    sources = [t.view(1, -1) for t in (samples.t_starts, samples.t_ends, samples.ray_indices)]
    sources += [_rows(one) for one in features]
    targets = [torch.empty(1, n, dtype=t.dtype) for t in sources[:3]]
    targets += [torch.empty(t.shape[0], buffers.padded(n), dtype=t.dtype) for t in sources[3:]]
    jobs = [(i, row) for i, source in enumerate(sources) for row in range(source.shape[0])]
    words = [(buffers.words(a), buffers.words(b)) for a, b in zip(sources, targets)]
    ranges = pool.chunks(len(jobs), 1, at_least=1, per_thread=2)

    def task(chunk: int) -> None:
        for i, row in jobs[slice(*ranges[chunk])]:
            compositing.copy_runs(*words[i], old, new, runs, row, row + 1)

    pool.run(task, len(ranges))
    for target in targets[3:]:
        target[:, n:] = 0
    kept = PackedSamples(targets[0][0], targets[1][0], targets[2][0], packed)
    return kept, [_tensor(target, n) for target in targets[3:]]


def _copy_to_samples(features: Tensor, samples: PackedSamples) -> Tensor:
    """``spread``, run by run in each row."""
    source, n = _rows(features), samples.n_samples
    target = torch.empty(source.shape[0], buffers.padded(n), dtype=source.dtype)
    first, counts = (samples.packed_info[:, i].contiguous().numpy() for i in (0, 1))
    a, b, ranges = buffers.words(source), buffers.words(target), pool.chunks(source.shape[0], 1, at_least=1)
    pool.run(lambda c: compositing.fill_runs(a, b, first, counts, *ranges[c]), len(ranges))
    target[:, int(first[-1] + counts[-1]) if samples.n_rays else 0 :] = 0  # last: runs are filled beyond their ends
    return _tensor(target, n)


def _add_to_rays(values: Tensor, samples: PackedSamples) -> Tensor:
    """``sum_runs``, run by run in each row."""
    source, n_rays = buffers.tensor_to_rows(encode.dense(values)), samples.n_rays
    target = torch.zeros(source.shape[0], buffers.padded(n_rays))
    first, counts = (samples.packed_info[:, i].contiguous().numpy() for i in (0, 1))
    a, b, ranges = source.numpy(), target.numpy(), pool.chunks(n_rays, 1, at_least=256)
    pool.run(lambda c: compositing.sum_runs(a, b, first, counts, *ranges[c]), len(ranges))
    return buffers.rows_to_tensor(target, n_rays)


RUNS = RunKernels(_copy_to_samples, _add_to_rays)
"""``spread`` and ``sum_runs``, with gradients where they are wanted."""


class Composite(torch.autograd.Function):
    """(sigmas, rgbs, samples) -> (rgbs [R, 3], opacities [R], depths [R], weights [N])."""

    @staticmethod
    def forward(ctx: Any, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> tuple[Tensor, ...]:
        """Sums along the rays."""
        density, rows = sigmas.detach().contiguous(), buffers.tensor_to_rows(rgbs)
        sums = (torch.zeros(samples.n_rays, 3), torch.zeros(samples.n_rays), torch.zeros(samples.n_rays))
        weights = torch.empty(samples.n_samples)
        arrays = (as_array(density), rows.numpy(), as_array(samples.t_starts), as_array(samples.t_ends))
        ranges = pool.chunks(samples.n_rays, 1, at_least=256)
        out = [t.numpy() for t in (*sums, weights)]
        pool.run(lambda c: compositing.forward(*arrays, samples.packed_info.numpy(), *out, *ranges[c]), len(ranges))
        ctx.save_for_backward(density, rows, *sums, weights)
        ctx.samples = samples
        ctx.set_materialize_grads(False)  # so that weights nobody differentiates cost nothing
        return (*sums, weights)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """See :func:`compositing.backward`, and :func:`compositing.add_weight_gradient` where weights have a gradient."""
        density, rows, colours, opacities, depths, weights = ctx.saved_tensors
        samples: PackedSamples = ctx.samples
        d_sigmas, d_rows = torch.empty_like(density), torch.empty_like(rows)
        d_rows[:, samples.n_samples :] = 0
        arrays = [as_array(density), rows.numpy(), as_array(samples.t_starts), as_array(samples.t_ends)]
        arrays += [samples.packed_info.numpy(), weights.numpy(), colours.numpy(), opacities.numpy(), depths.numpy()]
        d_sums = [torch.zeros_like(total) if d is None else d for d, total in zip(grad_outputs, (colours, opacities, depths))]
        arrays += [*map(as_array, d_sums), d_sigmas.numpy(), d_rows.numpy()]
        ranges = pool.chunks(samples.n_rays, 1, at_least=256)
        pool.run(lambda c: compositing.backward(*arrays, *ranges[c]), len(ranges))
        if grad_outputs[3] is not None:
            # The gradient is linear in what flows in, so this part of it can be added.
            of_weights = [*arrays[2:6], as_array(grad_outputs[3]), d_sigmas.numpy()]
            pool.run(lambda c: compositing.add_weight_gradient(*of_weights, *ranges[c]), len(ranges))
        return d_sigmas, buffers.rows_to_tensor(d_rows, samples.n_samples), None


def composite(sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
    """The operation ``composite``."""
    return Composited(*Composite.apply(sigmas, rgbs, samples))
