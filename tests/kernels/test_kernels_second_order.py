"""The second order, of every kernel set against the reference in float64: losses on normals, and on gradients of tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    array,
    assert_near,
    assert_no_worse,
    generator,
    kernels_of,
    low_precision,
    nan_memory,  # noqa: F401 - a fixture
    readable,
)

pytestmark = [pytest.mark.usefixtures("nan_memory")]

REFERENCE = kernels_of("reference")
MIXED = {"n_levels": 3, "log2_hashmap_size": 10, "base_resolution": 5, "finest_resolution": 20}
"""Scales 4, 9 and 19: two dense levels and a hashed one, and lattice positions that are exact for dyadic positions."""


def _dyadic(n: int, n_dims: int = 3) -> Tensor:
    return torch.randint(0, 65, (n, n_dims), generator=generator(n)).float() / 64


def _with_normals(kernels: Kernels, x: Tensor, table: Tensor, layout: HashGridLayout, rounded: bool = False) -> list[Tensor]:
    """Gradients of table, positions and a small network from a loss on its outputs and on their gradient."""
    rng = generator(3)
    dtype, n = x.dtype, x.shape[0]
    width, wanted = torch.randn(layout.n_output_dims, 8, generator=rng), torch.randn(n, layout.n_dims, generator=rng)
    first, second = width.to(dtype).requires_grad_(), torch.randn(8, generator=rng).to(dtype).requires_grad_()
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.hash_encode(positions, parameters.half().to(dtype) if rounded else parameters, layout)
    dense = features.bfloat16().to(dtype) if rounded else kernels.dense_features(features)
    raw = torch.tanh(dense @ first) @ second
    (normals,) = torch.autograd.grad(raw.sum(), positions, create_graph=True)
    loss = (normals * wanted.to(dtype)).sum() + (normals**2).mean() + raw.square().sum()
    return [normals.detach(), *torch.autograd.grad(loss, [parameters, positions, first, second])]


NAMES = ("normals", "table gradient", "position gradient", "first matrix", "second matrix")


@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("n_dims", [2, 3], ids=["plane", "space"])
@pytest.mark.parametrize("kernel_set", SETS)
def test_second_order(kernel_set: str, n_dims: int, features: int) -> None:
    """A loss on normals trains the table: mixed second derivatives of the weights among them."""
    layout, x = HashGridLayout(n_features_per_level=features, n_dims=n_dims, **MIXED), _dyadic(300, n_dims)
    table = readable(kernel_set, torch.rand(layout.n_params, generator=generator(features)) - 0.5)
    got = _with_normals(kernels_of(kernel_set), x, table, layout)
    truth = _with_normals(REFERENCE, x.double(), table.double(), layout)
    low = low_precision(kernel_set)
    plain = _with_normals(REFERENCE, x, table, layout, rounded=low)
    for what, mine, theirs, exact in zip(NAMES, got, plain, truth):
        assert float(exact.abs().max()) > 0, what
        if low:
            assert_no_worse(mine, theirs, exact, what)
        else:
            mean, allowed = (tol.rms(array(v) - array(exact)) for v in (mine, theirs))
            assert mean <= tol.SAME_PRECISION * allowed, f"{what}: {mean:.3g}, plain torch {allowed:.3g}"


@pytest.mark.parametrize("kernel_set", ["cpu-float32", "triton-float32"])
def test_second_order_through_the_table_gradient(kernel_set: str) -> None:
    """The table's gradient is linear in the features' and can be differentiated too."""
    layout, x = HashGridLayout(**MIXED), _dyadic(200)
    c, u = torch.randn(200, layout.n_output_dims), torch.randn(layout.n_params)
    table = torch.randn(layout.n_params)

    def results(kernels: Kernels, dtype: torch.dtype) -> list[Tensor]:
        positions, cotangent = x.to(dtype, copy=True).requires_grad_(), c.to(dtype, copy=True).requires_grad_()
        parameters = table.to(dtype, copy=True).requires_grad_()
        features = kernels.hash_encode(positions, parameters, layout)
        (gradient,) = torch.autograd.grad(features, parameters, cotangent, create_graph=True)
        return list(torch.autograd.grad((gradient * u.to(dtype)).sum(), [cotangent, positions]))

    got, truth = results(kernels_of(kernel_set), torch.float32), results(REFERENCE, torch.float64)
    for mine, exact, what in zip(got, truth, ("cotangent", "positions")):
        assert_near(mine, exact, 16 * tol.LATTICE_EXACT * float(exact.abs().max()), what)


@pytest.mark.parametrize("kernel_set", SETS)
def test_normals_leave_the_tables_gradient_alone(kernel_set: str) -> None:
    """With a gradient buffer that is added to in place, too: autograd.grad by positions has no use for the table's."""
    kernels, layout, x = kernels_of(kernel_set), HashGridLayout(**MIXED), _dyadic(50).requires_grad_()
    table = torch.rand(layout.n_params, requires_grad=True)
    table.grad = torch.zeros_like(table)
    table.grad_in_place = True  # type: ignore[attr-defined]
    features = kernels.dense_features(kernels.hash_encode(x, table, layout))
    (normals,) = torch.autograd.grad(features.sum(), x, create_graph=True)
    assert not table.grad.any()
    assert normals.any()
    normals.square().sum().backward()
    second = table.grad.clone()
    assert second.any()
    table.grad.zero_()
    table.grad_in_place = False  # type: ignore[attr-defined]
    features = kernels.dense_features(kernels.hash_encode(x, table, layout))
    (normals,) = torch.autograd.grad(features.sum(), x, create_graph=True)
    (apart,) = torch.autograd.grad(normals.square().sum(), table)
    assert_near(second, apart, 1e-5 * float(apart.abs().max()), "in place against apart")


PERCEPTRON = MLPLayout(32, 16, 64, 2)


def _penalty(kernels: Kernels, dtype: torch.dtype) -> list[Tensor]:
    """Gradients of weights and of two parts of the inputs, from a loss on the gradient of the first part."""
    rng = generator(7)
    numbers = [torch.randn(40, 16, generator=rng), torch.randn(40, 16, generator=rng), torch.randn(40, 16, generator=rng)]
    first, second, wanted = (v.to(dtype) for v in numbers)
    weights = (0.2 * torch.randn(PERCEPTRON.n_params, generator=rng)).to(dtype).requires_grad_()
    leaves = [first.requires_grad_(), second.requires_grad_(), weights]
    out = kernels.mlp(leaves[:2], weights, PERCEPTRON)
    (slope,) = torch.autograd.grad(out[:, 0].sum(), first, create_graph=True)
    loss = (torch.nn.functional.normalize(slope, dim=-1) * wanted).sum() + out.square().mean()
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("kernel_set", SETS)
def test_second_order_of_perceptrons(kernel_set: str) -> None:
    got, plain = _penalty(kernels_of(kernel_set), torch.float32), _penalty(REFERENCE, torch.float32)
    truth = _penalty(REFERENCE, torch.float64)
    for what, mine, theirs, exact in zip(("first part", "second part", "weights"), got, plain, truth):
        size = tol.rms(array(exact))
        error, allowed = (tol.rms(array(v) - array(exact)) for v in (mine, theirs))
        floor = 32 * tol.ROUNDOFF_BF16 if low_precision(kernel_set) else tol.MLP_32
        assert size > 0, what
        assert error <= tol.SAME_PRECISION * allowed + floor * size, f"{what}: {error:.3g} of {size:.3g}"
