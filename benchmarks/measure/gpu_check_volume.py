"""Marching, compositing, compaction and the optimiser of a kernel set against the reference, on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState, Kernels
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.kernels.scene import SceneGeometry

from .gpu_check import REFERENCE, Cases
from .gpu_compare import Row, equal, near, tol

MOST_UNSURE = 0.03
"""Share of the steps whose middle may lie so near a cell's border that float32 may take either side (march_cases.py)."""


def batch(cases: Cases, n: int) -> tuple[PackedSamples, Tensor, Tensor]:
    """n samples dealt out to rays, half of which stay without; densities from air to walls; colours."""
    n_rays = n // 7 + 3
    owners = torch.sort((cases.uniform(n) * (n_rays // 2)).long() * 2)[0]
    counts = torch.bincount(owners, minlength=n_rays)
    lengths = cases.uniform(n) * 0.05 + 1e-3
    ends = (lengths + 0.1 * cases.uniform(n)).double().cumsum(0)
    info = packed_info_from_counts(counts)
    first = info[:, 0].long().clamp(max=max(n - 1, 0))
    starts = (ends - ends[first][owners]).float() + 0.1 if n else lengths
    sigmas = torch.exp(3 * cases.normal(n)).clamp(max=80.0) * (cases.uniform(n) > 0.1)
    return PackedSamples(starts, starts + lengths, ray_indices_from_counts(counts), info), sigmas, cases.uniform(n, 3)


def double(samples: PackedSamples) -> PackedSamples:
    """The same intervals in float64."""
    return PackedSamples(samples.t_starts.double(), samples.t_ends.double(), samples.ray_indices, samples.packed_info)


def march(cases: Cases) -> Iterator[Row]:
    """Where steps begin to the last bit; which of them are samples, but for those that rounding may move."""
    tiny = cases.device.type == "cpu"
    count = 8 if tiny else 4096
    for scale in (1, 8):
        geometry = SceneGeometry((0.25, -0.5, 0.0), 2.0, scale, step_scale=16.0 if tiny else 1.0)
        centre = torch.tensor(geometry.center, device=cases.device)
        o = centre + (cases.uniform(count, 3) - 0.5) * geometry.box_size
        d, jitter = cases.directions(count), cases.uniform(count)
        t_min = torch.where(cases.uniform(count) < 0.1, 1e10, 0.05 * geometry.unit_size * cases.uniform(count))
        t_max = torch.full_like(t_min, 0.7 * geometry.box_size)
        full = torch.ones(geometry.cascades, 32, 32, 32, dtype=torch.bool, device=cases.device)
        for name, grid in (("full", full), ("sparse", torch.rand(full.shape, generator=cases.rng, device=cases.device) < 0.1)):
            got, resume = cases.kernels.march(o, d, t_min, t_max, grid, geometry, jitter)
            truth, end = REFERENCE.march(o, d, t_min, t_max, grid, geometry, jitter)
            op = f"march s={scale} {name}"
            alone = _only_one_has(got, truth)
            yield Row(op, "samples only one has", alone, MOST_UNSURE * max(truth.n_samples, 1), "samples")
            same = (got.packed_info[:, 1] == truth.packed_info[:, 1]) & (t_min < t_max)
            yield equal(op, "where rays of the same length go on", resume[same], end[same])
    none = [v[:0] for v in (o, d, t_min, t_max)]
    empty, resume = cases.kernels.march(*none, full, geometry)
    yield Row("march no rays", "samples", float(empty.n_samples + resume.shape[0]), 0.0, "numbers that differ")


def _only_one_has(got: PackedSamples, truth: PackedSamples) -> float:
    """Samples (ray, begin to the last bit, end) that are in one of the two only."""
    keys = []
    for samples in (got, truth):
        bits = samples.t_starts.view(torch.int32).long() & 0xFFFFFFFF
        keys.append(samples.ray_indices.long() << 32 | bits)
    both = torch.isin(keys[0], keys[1])
    return float(int((~both).sum()) + int((~torch.isin(keys[1], keys[0])).sum()))


def points(cases: Cases) -> Iterator[Row]:
    """Middles of intervals over the scene box."""
    geometry = SceneGeometry((0.3, -0.7, 1.1), 1.7, 8)
    for n in (*cases.sizes, cases.large):
        samples, _, _ = batch(cases, n)
        o, d = 8 * cases.normal(samples.n_rays, 3), cases.directions(samples.n_rays)
        got = cases.kernels.points(o, d, samples, geometry)
        truth = REFERENCE.points(o.double(), d.double(), double(samples), geometry)
        reach = float(o.abs().max()) + 2.0 + float(samples.t_ends.max() if n else 0.0)
        yield near("points", "positions", got, truth, tol.POINT_32 * (2 + reach / geometry.box_size))


def visible_counts(cases: Cases) -> Iterator[Row]:
    """Between the counts for a slightly higher and a slightly lower threshold."""
    for n in (*cases.sizes, cases.large):
        samples, sigmas, _ = batch(cases, n)
        got = cases.kernels.visible_counts(sigmas, samples, 0.01)
        slack = 1 + 64 * tol.ROUNDOFF32 * 6
        low, high = (REFERENCE.visible_counts(sigmas.double(), double(samples), t) for t in (0.01 * slack, 0.01 / slack))
        wrong = float(((got < low) | (got > high)).sum())
        yield Row("visible_counts", "rays out of bounds", wrong, 0.0, "numbers that differ")


def keep_first(cases: Cases) -> Iterator[Row]:
    """Copies: the same to the last bit."""
    kernels, layout = cases.kernels, HashGridLayout(3, 4, 10, 5, 20)
    table = cases.normal(layout.n_params)
    for n in (*cases.sizes, cases.large):
        samples, _, _ = batch(cases, n)
        counts = (samples.packed_info[:, 1] * cases.uniform(samples.n_rays)).to(torch.int32)
        x = cases.uniform(n, 3)
        features = kernels.hash_encode(x, table, layout)
        kept, chosen = kernels.keep_first(samples, counts, [features, x])
        wanted, exact = REFERENCE.keep_first(samples, counts, [kernels.dense_features(features), x])
        for name in ("t_starts", "t_ends", "ray_indices", "packed_info"):
            yield equal("keep_first", name, getattr(kept, name), getattr(wanted, name))
        for one, other in zip(chosen, exact):
            yield equal("keep_first", "features", kernels.dense_features(one), other)
        d = cases.directions(samples.n_rays)
        harmonics = kernels.sh_encode(d)
        got, truth = kernels.spread(harmonics, samples), REFERENCE.spread(kernels.dense_features(harmonics), samples)
        yield equal("spread", "features", kernels.dense_features(got), truth)
        values = cases.normal(n, 16)
        terms = REFERENCE.sum_runs(values.double().abs(), samples)
        exact_sums = REFERENCE.sum_runs(values.double(), samples)
        largest = float(terms.max()) if n else 0.0
        yield near("sum_runs", "sums", kernels.sum_runs(values, samples), exact_sums, tol.GRADIENT_TERMS * largest)


def composite(cases: Cases) -> Iterator[Row]:
    """Sums along rays and the gradients of densities and colours."""
    for n in (*cases.sizes, cases.large):
        samples, sigmas, rgbs = batch(cases, n)
        c, of_weights = cases.normal(samples.n_rays, 5), cases.normal(n)
        got = _composite(cases.kernels, sigmas, rgbs, samples, c, of_weights)
        truth = _composite(REFERENCE, sigmas.double(), rgbs.double(), double(samples), c.double(), of_weights.double())
        value = float(c.abs().sum(-1).max()) + float(of_weights.abs().max() if n else 0.0)
        reach = 1.0 + float(samples.t_ends.max() if n else 0.0)
        length = float((samples.t_ends - samples.t_starts).max() if n else 0.0)
        bounds = {
            "colours": tol.COMPOSITE_32,
            "opacities": tol.COMPOSITE_32,
            "depths": tol.COMPOSITE_32 * reach,
            "weights": tol.COMPOSITE_32,
            "density gradient": tol.COMPOSITE_GRADIENT_32 * value * reach * length,
            "colour gradient": tol.COMPOSITE_32 * float(c.abs().max()),
        }
        for what, bound in bounds.items():
            yield near("composite", what, got[what], truth[what], bound)


def _composite(
    kernels: Kernels, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples, c: Tensor, of_weights: Tensor
) -> dict[str, Tensor]:
    s, rgb = sigmas.clone().requires_grad_(), rgbs.clone().requires_grad_()
    out = kernels.composite(s, rgb, samples)
    sums = (out.rgbs * c[:, :3]).sum() + (out.opacities * c[:, 3]).sum() + (out.depths * c[:, 4]).sum()
    (sums + (out.weights * of_weights).sum()).backward()
    names = ("colours", "opacities", "depths", "weights", "density gradient", "colour gradient")
    assert s.grad is not None
    assert rgb.grad is not None
    values = (v.detach() for v in (out.rgbs, out.opacities, out.depths, out.weights))
    return dict(zip(names, (*values, s.grad, rgb.grad)))


def adam_step(cases: Cases) -> Iterator[Row]:
    """Four steps with gradients that are mostly zero, and the running average."""
    size = 40_000 if cases.device.type == "cpu" else 2_000_000
    for n in (0, 16, 1008, size):
        start, gradients = cases.normal(n), [cases.normal(n) * (cases.uniform(n) < 0.3) for _ in range(4)]
        found = []
        for kernels, dtype in ((cases.kernels, torch.float32), (REFERENCE, torch.float64)):
            param = start.to(dtype, copy=True)
            steps = torch.zeros(n, dtype=torch.int16, device=cases.device)
            state = AdamState(torch.zeros_like(param), torch.zeros_like(param), steps)
            mean = start.to(dtype, copy=True)  # the running average, in the same pass every other step
            for number, gradient in enumerate(gradients):
                given = gradient.to(dtype, copy=True)
                due = (mean, 0.2) if number % 2 else ()
                kernels.adam_step(param, given, state, AdamSettings(1e-2, l2_reg=1e-2), *due)
            found.append((param, state.exp_avg, state.exp_avg_sq, mean, state.steps, given))
        names = ("values", "first moments", "second moments", "running average")
        for what, got, truth in zip(names, *found):
            yield near("adam_step", what, got, truth, tol.ADAM_32 * float(truth.abs().max() if n else 1.0))
        yield equal("adam_step", "step counts", found[0][4], found[1][4])
        yield equal("adam_step", "cleared gradient", found[0][5], torch.zeros_like(found[0][5]))
        average = start.clone()
        cases.kernels.average(average, found[0][0], 0.05)
        truth = start.double() + 0.05 * (found[0][0].double() - start.double())
        yield near("average", "values", average, truth, 4 * tol.ROUNDOFF32 * (start.abs() + found[0][0].abs()))


CHECKS = {
    "march": march,
    "points": points,
    "visible_counts": visible_counts,
    "keep_first": keep_first,
    "composite": composite,
    "adam_step": adam_step,
}
