"""Samples as wide as their pixels, of a kernel set against the reference in float64, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.footprints import wide_output_dims
from ngp_method.kernels.layout import HashGridLayout, MLPLayout

from .gpu_check import LAYOUTS, MIXED, REFERENCE, Cases, as_near, gradients, judge
from .gpu_compare import Row, tol

NAMES = ["features", "table gradient", "position gradient"]


def widths(cases: Cases, n: int) -> Tensor:
    """From a thousandth of the box to beyond it, and points."""
    found = 10.0 ** (4 * cases.uniform(n) - 3.5)
    found[: n // 8] = 0.0
    return found


def footprints(cases: Cases) -> Iterator[Row]:
    """hash_encode of footprints, its gradients and their derivative; encode_mlp of them."""
    tiny = cases.device.type == "cpu"
    for n in (0, 300) if tiny else (*cases.sizes, cases.large):
        yield from encoded(cases, MIXED, torch.randint(0, 65, (n, 3), generator=cases.rng, device=cases.device).float() / 64)
    grid = LAYOUTS["16x2"]
    grid = replace(grid, log2_hashmap_size=11, finest_resolution=512) if tiny else grid
    yield from in_one(cases, grid, 300 if tiny else cases.large)


def encoded(cases: Cases, layout: HashGridLayout, x: Tensor) -> Iterator[Row]:
    """Features and gradients, and the table's gradient of a loss on the positions'."""
    n = x.shape[0]
    table, wide = 2 * cases.uniform(layout.n_params) - 1, widths(cases, n)
    c, q = cases.normal(n, wide_output_dims(layout)), cases.normal(n, 3)

    def features(kernels: Kernels, low: bool = False) -> Callable[..., Tensor]:
        def run(table: Tensor, x: Tensor) -> Tensor:
            given = table.half().float() if low else table
            found = kernels.hash_encode(x, given, layout, wide.to(x.dtype))
            return found.to(cases.dtype).float() if low else kernels.dense_features(found)

        return run

    def slopes(kernels: Kernels, low: bool = False) -> Callable[..., Tensor]:
        def run(table: Tensor) -> Tensor:
            at = x.to(table.dtype).requires_grad_()
            loss = (features(kernels, low)(table, at).to(table.dtype) * c.to(table.dtype)).sum()
            (found,) = torch.autograd.grad(loss, at, create_graph=True)
            return found

        return run

    for names, of, leaves, upstream in (
        (NAMES, features, [table, x], c),
        (["slopes", "its table gradient"], slopes, [table], q),
    ):
        got = gradients(of(cases.kernels), leaves, upstream, torch.float32)
        beside = gradients(of(REFERENCE, cases.low), leaves, upstream, torch.float32)
        truth = gradients(of(REFERENCE), leaves, upstream, torch.float64)
        yield from judge(cases, "footprints 3x2", names, got, beside, truth, tol.SAME_PRECISION)


def in_one(cases: Cases, grid: HashGridLayout, n: int) -> Iterator[Row]:
    """Encoding and density network, one operation and two."""
    net, x, wide = MLPLayout(wide_output_dims(grid), 16, 64, 1), cases.uniform(n, 3), 0.1 * widths(cases, n)
    table, weights = cases.normal(grid.n_params), cases.normal(net.n_params) * 0.2
    features = REFERENCE.hash_encode(x, table, grid, wide).double()
    for rows in (1, 16):
        got = cases.kernels.encode_mlp(x, table, weights, grid, net, rows, wide)
        own = cases.kernels.mlp([cases.kernels.hash_encode(x, table, grid, wide)], weights, net, rows)
        truth = REFERENCE.mlp([features], weights.double(), net, rows)
        yield as_near(cases, "footprints encode_mlp", f"{rows} outputs", got, own, truth)


CHECKS = {"footprints": footprints}
