"""Encodings and perceptrons of a kernel set against the reference in float64, on the device: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.reference import ReferenceKernels
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts

from .gpu_compare import Row, near, no_worse, tol

REFERENCE = ReferenceKernels()
MIXED = HashGridLayout(3, 2, 10, 5, 20)
"""Scales 4, 9 and 19: exact for dyadic positions, two dense levels and a hashed one."""

LAYOUTS = {"16x2": HashGridLayout(), "8x4": HashGridLayout(8, 4)}
"""The paper's and instant-ngp's present one, 2^19 entries a level, N_max 2048."""

DENSITY, COLOUR = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)
NETWORKS = {"density": DENSITY, "colour": COLOUR, "width 128": MLPLayout(32, 16, 128, 2), "narrow": MLPLayout(20, 5, 16, 3)}


class Cases:
    """Random inputs on a device, and the precision that plain torch is asked for beside a kernel set.

    Args:
        kernels: what is judged.
        device: where.
        sizes: numbers of samples.
        large: one more number of samples, for the layouts that are trained with (indices beyond 2^24 included).
    """

    def __init__(self, kernels: Kernels, device: torch.device, sizes: Sequence[int], large: int) -> None:
        self.kernels, self.device, self.sizes, self.large = kernels, device, sizes, large
        self.low = bool(getattr(kernels, "low_precision", False))
        self.dtype: torch.dtype = getattr(kernels, "dtype", torch.bfloat16) if self.low else torch.float32
        self.rng = torch.Generator(device).manual_seed(1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.rng, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1)."""
        return torch.rand(shape, generator=self.rng, device=self.device)

    def directions(self, n: int) -> Tensor:
        """Unit vectors."""
        return torch.nn.functional.normalize(self.normal(n, 3), dim=-1)


def gradients(compute: Callable[..., Tensor], leaves: Sequence[Tensor], c: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Values and the gradients of all leaves, computed from numbers of that type."""
    given = [v.detach().to(dtype).requires_grad_() for v in leaves]
    out = compute(*given)
    out.backward(c.to(out.dtype))
    return [out.detach(), *[torch.zeros_like(v) if v.grad is None else v.grad for v in given]]


def judge(cases: Cases, op: str, names: Sequence[str], got: Any, plain: Any, truth: Any, same: float) -> Iterator[Row]:
    for what, mine, rounded, exact in zip(names, got, plain, truth):
        yield from no_worse(op, what, mine, rounded, exact, 0.0 if cases.low else same)


def hash_encode(cases: Cases) -> Iterator[Row]:
    """Small grids on cell borders, then the layouts of training at full size."""
    tiny = cases.device.type == "cpu"  # the interpreter: what takes long there is the number of programs and levels
    for features in (2, 8) if tiny else (2, 4, 8):
        layout = replace(MIXED, n_features_per_level=features)
        for n in cases.sizes:
            x = torch.randint(0, 65, (n, 3), generator=cases.rng, device=cases.device).float() / 64
            yield from hash_case(cases, f"hash_encode 3x{features}", layout, x, judge_positions=True)
    for name, layout in LAYOUTS.items():
        if tiny:
            layout = replace(layout, n_levels=layout.n_levels // 4, log2_hashmap_size=13)
        yield from hash_case(cases, f"hash_encode {name}", layout, cases.uniform(cases.large, 3), judge_positions=False)


def hash_case(cases: Cases, op: str, layout: HashGridLayout, x: Tensor, judge_positions: bool) -> Iterator[Row]:
    table, c = 2 * cases.uniform(layout.n_params) - 1, cases.normal(x.shape[0], layout.n_output_dims)
    kernels = cases.kernels

    def rounded(table: Tensor, x: Tensor) -> Tensor:
        return REFERENCE.hash_encode(x, table.half().float(), layout).to(cases.dtype).float()

    def plain(table: Tensor, x: Tensor) -> Tensor:
        return REFERENCE.hash_encode(x, table, layout)

    def mine(table: Tensor, x: Tensor) -> Tensor:
        return kernels.dense_features(kernels.hash_encode(x, table, layout))

    got = gradients(mine, [table, x], c, torch.float32)
    beside = gradients(rounded if cases.low else plain, [table, x], c, torch.float32)
    truth = gradients(plain, [table, x], c, torch.float64)
    names = ["features", "table gradient", "position gradient"]
    if not judge_positions:
        # Across a cell's border the gradient jumps: positions that float32 may put on either side are left out.
        clear = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        for level in layout.levels:
            lattice = x.double() * float(level.scale) + 0.5
            clear &= ((lattice - lattice.round()).abs() > tol.border_distance(float(level.scale))).all(-1)
        got[2], beside[2], truth[2] = got[2][clear], beside[2][clear], truth[2][clear]
    yield from judge(cases, op, names, got, beside, truth, tol.SAME_PRECISION)


def second_order(cases: Cases) -> Iterator[Row]:
    """Gradient of a function of the position gradient, as normals that are trained on need it."""
    n = min(1000, max(cases.sizes))
    x = (torch.randint(0, 64, (n, 3), generator=cases.rng, device=cases.device) + 0.3).float() / 64
    table, c, q = cases.normal(MIXED.n_params), cases.normal(n, MIXED.n_output_dims), cases.normal(n, 3)

    def gradient(kernels: Kernels, dtype: torch.dtype, half: bool = False) -> Callable[..., Tensor]:
        def compute(table: Tensor) -> Tensor:
            at = x.to(dtype).requires_grad_()
            features = kernels.hash_encode(at, table.half().float() if half else table, MIXED)
            features = features.to(cases.dtype).to(dtype) if half else kernels.dense_features(features)
            loss = (features * c.to(dtype)).sum()
            (found,) = torch.autograd.grad(loss, at, create_graph=True)
            return found

        return compute

    got = gradients(gradient(cases.kernels, torch.float32), [table], q, torch.float32)
    beside = gradients(gradient(REFERENCE, torch.float32, cases.low), [table], q, torch.float32)
    truth = gradients(gradient(REFERENCE, torch.float64), [table], q, torch.float64)
    names = ["position gradient", "its table gradient"]
    yield from judge(cases, "second_order 3x2", names, got, beside, truth, tol.SAME_PRECISION)


def sh_encode(cases: Cases) -> Iterator[Row]:
    """Spherical harmonics."""
    bound = 1.5 * tol.ROUNDOFF_BF16 if cases.low else tol.SH_32
    for n in (*cases.sizes, cases.large):
        d = cases.directions(n)
        got = cases.kernels.dense_features(cases.kernels.sh_encode(d))
        yield near("sh_encode", "values", got, REFERENCE.sh_encode(d.double()), bound)


def mlp(cases: Cases) -> Iterator[Row]:
    """Networks of every width, inputs in two parts."""
    for name, layout in NETWORKS.items():
        for n in (*cases.sizes, cases.large):
            parts = [cases.normal(n, width) for width in (12, layout.n_input_dims - 12)]
            weights = cases.normal(layout.n_params) * (2 / layout.n_neurons) ** 0.5
            c = cases.normal(n, layout.n_output_dims)
            if not cases.low:
                c = c * _away_from_kinks(parts, weights, layout)[:, None]
            got = gradients(_network(cases.kernels, layout), [weights, *parts], c, torch.float32)
            beside = gradients(_network(REFERENCE, layout), [weights, *parts], c, cases.dtype)
            truth = gradients(_network(REFERENCE, layout), [weights, *parts], c, torch.float64)
            names = ["outputs", "weight gradient", "gradient of the first part", "gradient of the second part"]
            yield from judge(cases, f"mlp {name}", names, got, beside, truth, tol.SAME_PRECISION)


def _network(kernels: Kernels, layout: MLPLayout) -> Callable[..., Tensor]:
    return lambda weights, *parts: kernels.mlp(parts, weights, layout)


def _away_from_kinks(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout) -> Tensor:
    """[N] samples of which no neuron is so near zero that rounding could switch it: its gradient would jump."""
    hidden = torch.nn.functional.pad(torch.cat(list(parts), -1).double(), (0, layout.padded_input - layout.n_input_dims))
    safe = torch.ones(hidden.shape[0], dtype=torch.bool, device=hidden.device)
    for offset, (rows, columns) in zip(layout.offsets[:-1], layout.shapes[:-1]):
        hidden = hidden @ weights[offset : offset + rows * columns].double().view(rows, columns).t()
        safe &= (hidden.abs() > 1e-5).all(-1)
        hidden = hidden.relu()
    return safe


FIELD = HashGridLayout(8, 4, 10, 5, 5 * 2**7)


def field(cases: Cases) -> Iterator[Row]:
    """Encoding, density, harmonics and colour in a row: features pass in whatever layout the set likes."""
    for n in (0, 4 * max(cases.sizes)):  # of few samples, one whose neuron rounding has switched decides all
        x = torch.randint(0, 1025, (n, 3), generator=cases.rng, device=cases.device).float() / 1024
        d, c = cases.directions(n), cases.normal(n, 19)
        start = [cases.normal(FIELD.n_params), *(0.2 * cases.normal(net.n_params) for net in (DENSITY, COLOUR)), x]
        got = gradients(_field(cases.kernels, d), start, c, torch.float32)
        beside = gradients(_field(REFERENCE, d, cases.dtype if cases.low else None), start, c, torch.float32)
        truth = gradients(_field(REFERENCE, d), start, c, torch.float64)
        names = ["outputs", "table gradient", "density gradient", "colour gradient", "position gradient"]
        yield from judge(cases, "field", names, got, beside, truth, tol.SAME_PRECISION)


def _field(kernels: Kernels, d: Tensor, low: torch.dtype | None = None) -> Callable[..., Tensor]:
    """(table, density, colour, positions) -> raw density and colour [N, 19]; ``low``: as plain torch does it in that type."""

    def run(table: Tensor, density: Tensor, colour: Tensor, x: Tensor) -> Tensor:
        features = kernels.hash_encode(x, table.half().float() if low else table, FIELD)
        harmonics = kernels.sh_encode(d.to(x.dtype))
        if low:
            features, harmonics, density, colour = (v.to(low) for v in (features, harmonics, density, colour))
        raw = kernels.mlp([features], density, DENSITY)
        return torch.cat([raw, kernels.mlp([raw, harmonics], colour, COLOUR)], -1)

    return run


def fused(cases: Cases) -> Iterator[Row]:
    """Two operations in one, as rendering has them: no worse than the set's own two, one after the other."""
    kernels = cases.kernels
    for n in (0, cases.large) if cases.device.type == "cpu" else (*cases.sizes, cases.large):
        for levels, features in ((16, 2), (8, 4)):
            grid = HashGridLayout(levels, features, 11, 16, 512)
            x, table = cases.uniform(n, 3), cases.normal(grid.n_params)
            weights = cases.normal(DENSITY.n_params) * 0.2
            encoded = REFERENCE.hash_encode(x, table, grid).double()
            for rows in (1, 16):
                got = kernels.encode_mlp(x, table, weights, grid, DENSITY, rows)
                own = kernels.mlp([kernels.hash_encode(x, table, grid)], weights, DENSITY, rows)
                truth = REFERENCE.mlp([encoded], weights.double(), DENSITY, rows)
                yield as_near(cases, f"fused encode_mlp {levels}x{features}", f"{rows} outputs", got, own, truth)
        n_rays = n // 5 + 1
        owners = torch.sort((cases.uniform(n) * n_rays).long())[0]
        counts = torch.bincount(owners, minlength=n_rays)
        starts = cases.uniform(n)
        samples = PackedSamples(starts, starts + 1, ray_indices_from_counts(counts), packed_info_from_counts(counts))
        raw, d, weights = cases.normal(n, 16), cases.directions(n_rays), cases.normal(COLOUR.n_params) * 0.2
        got = kernels.sh_mlp(raw, d, samples, weights, COLOUR)
        own = kernels.mlp([raw, kernels.spread(kernels.sh_encode(d), samples)], weights, COLOUR)
        truth = REFERENCE.sh_mlp(raw.double(), d.double(), samples, weights.double(), COLOUR)
        yield as_near(cases, "fused sh_mlp", "outputs", got, own, truth)


def as_near(cases: Cases, op: str, what: str, got: Tensor, own: Tensor, truth: Tensor) -> Row:
    """Root mean square error against that of ``own`` (test_kernels_composed.py has the same rule)."""
    if got.shape != truth.shape or not got.numel():
        return near(op, what, got, truth, 0.0)
    size, error, theirs = (float(v.double().square().mean().sqrt()) for v in (truth, got - truth, own - truth))
    if cases.low:
        return Row(op, what, error, tol.LOW_PRECISION_RMS * theirs + tol.LOW_PRECISION_FLOOR * size, "rms")
    return Row(op, what, error, tol.SAME_PRECISION * theirs + tol.MLP_32 * size, "rms")


CHECKS = {
    "hash_encode": hash_encode,
    "second_order": second_order,
    "sh_encode": sh_encode,
    "mlp": mlp,
    "field": field,
    "fused": fused,
}
