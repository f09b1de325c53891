"""What pictures and distances need of a kernel set, against the reference in float64: grids of two dimensions, one MLP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ngp_method.kernels.layout import HashGridLayout, MLPLayout

from .gpu_check import REFERENCE, Cases, as_near, gradients, hash_case, judge
from .gpu_compare import Row, tol

SMALL = HashGridLayout(3, 2, 7, 5, 20, 2)
"""Scales 4, 9 and 19: exact for dyadic positions, two dense levels and a hashed one."""

PICTURE = HashGridLayout(16, 2, 20, 16, 2800, 2)
"""Of a picture of 5600 pixels."""

NETWORKS = {2: MLPLayout(32, 3, 64, 2), 3: MLPLayout(32, 1, 64, 2)}
"""A picture's, a distance's (paper section 4)."""


def plane(cases: Cases) -> Iterator[Row]:
    """hash_encode of two dimensions: values and gradients."""
    tiny = cases.device.type == "cpu"
    for features in (2,) if tiny else (2, 4, 8):
        for n in cases.sizes:
            x = torch.randint(0, 65, (n, 2), generator=cases.rng, device=cases.device).float() / 64
            layout = replace(SMALL, n_features_per_level=features)
            yield from hash_case(cases, f"plane 3x{features}", layout, x, judge_positions=True)
    layout = replace(PICTURE, n_levels=4, log2_hashmap_size=12) if tiny else PICTURE
    yield from hash_case(cases, "plane 16x2", layout, cases.uniform(cases.large, 2), judge_positions=False)


def function(cases: Cases) -> Iterator[Row]:
    """A picture and a distance: trained step, and the fused evaluation that renders them."""
    n = 1000 if cases.device.type == "cpu" else cases.large
    for n_dims, net in NETWORKS.items():
        grid = HashGridLayout(16, 2, 11, 16, 256, n_dims)
        x = torch.randint(0, 1025, (n, n_dims), generator=cases.rng, device=cases.device).float() / 1024
        c, start = cases.normal(n, net.n_output_dims), [cases.normal(grid.n_params), 0.2 * cases.normal(net.n_params)]

        def run(table, weights, kernels=cases.kernels, x=x, grid=grid, net=net):  # type: ignore[no-untyped-def]
            return kernels.mlp([kernels.hash_encode(x.to(table.dtype), table, grid)], weights, net)

        def plain(table, weights, x=x, grid=grid, net=net):  # type: ignore[no-untyped-def]
            return REFERENCE.mlp([REFERENCE.hash_encode(x.to(table.dtype), table, grid)], weights, net)

        def rounded(table, weights, x=x, grid=grid, net=net):  # type: ignore[no-untyped-def]
            features = REFERENCE.hash_encode(x, table.half().float(), grid).to(cases.dtype)
            return REFERENCE.mlp([features], weights.to(cases.dtype), net)

        got = gradients(run, start, c, torch.float32)
        beside = gradients(rounded if cases.low else plain, start, c, torch.float32)
        truth = gradients(plain, start, c, torch.float64)
        op = f"function of {n_dims}"
        yield from judge(cases, op, ["values", "table gradient", "weight gradient"], got, beside, truth, tol.SAME_PRECISION)
        fused = cases.kernels.encode_mlp(x, *start, grid, net, net.n_output_dims)
        yield as_near(cases, op, "fused values", fused, got[0], truth[0])


CHECKS = {"plane": plane, "function": function}
