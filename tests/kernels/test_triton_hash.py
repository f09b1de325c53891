"""What is special to the Triton hash grid: merged runs, types of features, which gradients are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.kernels.triton import TritonKernels, hash_scatter
from support import tolerances as tol
from support.kernel_cases import (
    array,
    assert_near,
    generator,
    kernels_of,
    low_precision,
    nan_memory,  # noqa: F401 - a fixture
)

pytestmark = [pytest.mark.usefixtures("nan_memory")]

SETS = ["triton", "triton-float32"]
REFERENCE = kernels_of("reference")
MIXED = {"n_levels": 3, "log2_hashmap_size": 10, "base_resolution": 5, "finest_resolution": 20}
"""Scales 4, 9 and 19: two dense levels and a hashed one, and lattice positions that are exact for dyadic positions."""


def _dyadic(n: int) -> Tensor:
    return torch.randint(0, 65, (n, 3), generator=generator(n)).float() / 64


def _along_rays(n: int, length: int) -> Tensor:
    """Samples as marching makes them: rays of ``length`` samples with instant-ngp's finest step."""
    rng = generator(n, length)
    rays = -(-n // length)
    starts, directions = 0.3 + 0.4 * torch.rand(rays, 1, 3, generator=rng), torch.randn(rays, 1, 3, generator=rng)
    steps = torch.arange(length)[None, :, None] * 3**0.5 / 1024
    return (starts + steps * torch.nn.functional.normalize(directions, dim=-1)).reshape(-1, 3)[:n].clamp(0, 1).contiguous()


def _table_gradient(kernels: Kernels, x: Tensor, layout: HashGridLayout, c: Tensor) -> Tensor:
    table = torch.zeros(layout.n_params, dtype=x.dtype, requires_grad=True)
    (kernels.dense_features(kernels.hash_encode(x, table, layout)) * c).sum().backward()
    assert table.grad is not None
    return table.grad


@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("vectors", [True, False])
def test_table_gradient_of_samples_along_rays(monkeypatch: pytest.MonkeyPatch, vectors: bool, features: int) -> None:
    """Runs of equal cells, cut off by rays, programs and the end; with vectors of features and without; in any order."""
    monkeypatch.setattr(hash_scatter, "packed", lambda: vectors)
    layout, n = HashGridLayout(4, features, 11, 16, 2048), 1003
    assert {run for _, _, run in hash_scatter.launches(layout)} == {1, hash_scatter.RUN}
    x, c = _along_rays(n, 37), torch.randn(n, layout.n_output_dims, generator=generator(n))
    got = _table_gradient(kernels_of("triton-float32"), x, layout, c)
    terms = array(_table_gradient(REFERENCE, x, layout, c.abs()))
    assert_near(got, _table_gradient(REFERENCE, x, layout, c), tol.GRADIENT_TERMS * terms, "table gradient")
    order = torch.randperm(n, generator=generator(1))
    shuffled = _table_gradient(kernels_of("triton-float32"), x[order], layout, c[order])
    assert_near(shuffled, got, tol.GRADIENT_TERMS * terms, "table gradient, shuffled")


def test_launches_have_every_level_once() -> None:
    for sizes in ((16, 2, 19, 16, 2048), (8, 4, 19, 16, 32768), (1, 2, 13, 16, 16), (1, 2, 19, 2048, 2048), (3, 2, 10, 5, 20)):
        layout = HashGridLayout(*sizes)
        found = [level for start, count, _ in hash_scatter.launches(layout) for level in range(start, start + count)]
        assert found == list(range(layout.n_levels))


def _additions(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> int:
    """Numbers added atomically, counted in the interpreter."""
    from triton.runtime.interpreter import interpreter_builder

    plain, counted = type(interpreter_builder).create_atomic_rmw, [0]

    def counting(self: Any, operation: Any, pointer: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counted[0] += int(np.broadcast_to(mask.data, pointer.data.shape).sum())
        return plain(self, operation, pointer, value, mask, *rest)

    monkeypatch.setattr(type(interpreter_builder), "create_atomic_rmw", counting)
    work()
    monkeypatch.setattr(type(interpreter_builder), "create_atomic_rmw", plain)
    return counted[0]


def test_runs_of_equal_cells_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse levels: one addition for a run (and where a thread's samples end); fine levels: one for each sample."""
    kernels, n, features = kernels_of("triton-float32"), 512, 2

    def additions(layout: HashGridLayout, x: Tensor) -> int:
        c = torch.ones(n, layout.n_output_dims)
        return _additions(monkeypatch, lambda: _table_gradient(kernels, x, layout, c))

    coarse, fine = HashGridLayout(1, features, 13, 16, 16), HashGridLayout(1, features, 13, 2048, 2048)
    still, x = torch.full((n, 3), 0.4), _along_rays(n, 64)
    cells = torch.floor(x * 15 + 0.5)
    starts = (cells[1:] != cells[:-1]).any(-1)
    starts[hash_scatter.RUN - 1 :: hash_scatter.RUN] = True
    assert additions(coarse, still) == n // hash_scatter.RUN * 8 * features
    assert additions(coarse, x) == (1 + int(starts.sum())) * 8 * features < 0.3 * n * 8 * features
    assert additions(fine, still) == n * 8 * features


@pytest.mark.parametrize("coarse", [True, False])
def test_samples_without_a_gradient_add_nothing(coarse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding is of that kind, and all of it is at one point, where additions would wait for each other; NaN is a gradient."""
    kernels, n, features = kernels_of("triton-float32"), 256, 2
    layout = HashGridLayout(1, features, 13, *((16, 16) if coarse else (2048, 2048)))
    x, c = torch.full((n, 3), 0.4), torch.zeros(n, layout.n_output_dims)
    run = hash_scatter.RUN if coarse else 1

    def additions() -> int:
        return _additions(monkeypatch, lambda: _table_gradient(kernels, x, layout, c))

    assert additions() == 0
    c[:, 1] = -0.0
    assert additions() == 0
    c[100, 1] = 1e-30
    assert additions() == 8 * features
    c[200] = float("nan")
    assert additions() == 2 * 8 * features
    assert _table_gradient(kernels, x, layout, c).isnan().any()
    c[:] = 1.0
    assert additions() == n // run * 8 * features


def test_float16_features_carry_float32_gradients() -> None:
    """Gradients of features far below float16's smallest number, 6e-8, arrive."""
    kernels, layout, x = TritonKernels("float16"), HashGridLayout(**MIXED), _dyadic(60)
    table = torch.rand(layout.n_params, requires_grad=True)
    with torch.no_grad():
        before = kernels.hash_encode(x, table, layout)
    assert before.dtype == torch.float16
    features = kernels.hash_encode(x, table, layout)
    taken = kernels.hash_encode(x, table, layout, features=before)
    assert features.dtype == taken.dtype == torch.float32
    assert_near(features, before, 2.0**-11, "float32 against float16 features")
    assert torch.equal(taken, before.float())
    c = 1e-12 * torch.randn(60, layout.n_output_dims)
    (got,) = torch.autograd.grad(features, table, c)
    truth, terms = (_table_gradient(REFERENCE, x, layout, v) for v in (c, c.abs()))
    assert_near(got, truth, tol.GRADIENT_TERMS * array(terms), "table gradient")


@pytest.mark.parametrize("kernel_set", SETS)
def test_features_lie_sample_by_sample(kernel_set: str) -> None:
    # rows begin on multiples of 16 (runs.py)
    kernels, layout, x = kernels_of(kernel_set), HashGridLayout(**MIXED), _dyadic(40)
    dtype = torch.bfloat16 if low_precision(kernel_set) else torch.float32
    for trained in (False, True):
        features = kernels.hash_encode(x, torch.rand(layout.n_params, requires_grad=trained), layout)
        assert (features.shape, features.stride(), features.dtype) == ((40, layout.n_output_dims), (1, 48), dtype)
    harmonics = kernels.sh_encode(torch.nn.functional.normalize(x - 0.4, dim=-1).t().contiguous().t())
    assert (harmonics.shape, harmonics.stride(), harmonics.dtype) == ((40, 16), (1, 48), dtype)


@pytest.mark.parametrize("kernel_set", SETS)
def test_gradients_of_features_in_any_strides(kernel_set: str) -> None:
    kernels, layout, n = kernels_of(kernel_set), HashGridLayout(**MIXED), 45
    c = torch.randn(n, layout.n_output_dims)
    c = c.bfloat16() if low_precision(kernel_set) else c
    found = []
    for cotangent in (c, c.t().contiguous().t(), torch.cat([c, c], 1)[:, : layout.n_output_dims]):
        x, table = _dyadic(n).requires_grad_(), torch.linspace(-1, 1, layout.n_params).requires_grad_()
        found.append(torch.autograd.grad(kernels.hash_encode(x, table, layout), [x, table], cotangent))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_positions_outside_the_box_read_only_the_table() -> None:
    """Against the contract, but a stray position must not bring down the device: every entry lies within its level."""
    layout = HashGridLayout(**MIXED)
    table = torch.rand(layout.n_params, requires_grad=True)
    x = torch.tensor([[-3.7, 0.5, 0.5], [0.5, 9.0, 0.5], [-0.01, 1.01, 3e4]], requires_grad=True)
    features = kernels_of("triton-float32").hash_encode(x, table, layout)
    assert torch.isfinite(features).all()
    features.sum().backward()
    assert table.grad is not None
    assert torch.isfinite(table.grad).all()
