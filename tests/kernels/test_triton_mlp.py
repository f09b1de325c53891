"""What is special to the Triton perceptrons: where features lie, float16's range, second derivatives, shapes of all kinds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import mlp_composed
from ngp_method.kernels.layout import MLPLayout
from ngp_method.kernels.triton import mlp, mlp_launch, runs
from support import tolerances as tol
from support.kernel_cases import (
    array,
    assert_near,
    assert_no_worse,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
)

pytestmark = [pytest.mark.usefixtures("nan_memory")]

REFERENCE = kernels_of("reference")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DENSITY, COLOUR = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)


def _inputs(layout: MLPLayout, n: int, widths: Sequence[int]) -> tuple[list[Tensor], Tensor, Tensor]:
    rng = generator(n, layout.n_params)
    parts = [torch.randn(n, width, generator=rng) for width in widths]
    weights = torch.randn(layout.n_params, generator=rng) * (2 / layout.n_neurons) ** 0.5
    return parts, weights, torch.randn(n, layout.n_output_dims, generator=rng)


def _run(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, c: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, gradient of the weights, gradients of the parts."""
    leaves = [v.detach().clone().requires_grad_() for v in (weights, *parts)]
    out = mlp.perceptron(leaves[1:], leaves[0], layout, dtype, rows=c.shape[1])
    out.backward(c)
    return [out.detach(), *[leaf.grad for leaf in leaves if leaf.grad is not None]]


def _plain(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, c: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The reference with every number rounded to ``dtype`` on its way in."""
    leaves = [v.detach().to(dtype, copy=True).requires_grad_() for v in (weights, *parts)]
    out = REFERENCE.mlp(leaves[1:], leaves[0], layout, rows=c.shape[1])
    out.backward(c.to(out.dtype))
    return [out.detach(), *[leaf.grad for leaf in leaves if leaf.grad is not None]]


def _check(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, c: Tensor, dtype: torch.dtype) -> None:
    got, truth = _run(parts, weights, layout, c, dtype), _plain(parts, weights, layout, c, torch.float64)
    plain = _plain(parts, weights, layout, c, dtype)
    assert len(got) == 2 + len(parts)
    for number, (mine, rounded, exact) in enumerate(zip(got, plain, truth)):
        if dtype == torch.float32:
            # A neuron within rounding of zero may switch: plain torch in float32 has as many of those.
            floor = tol.MLP_32 * tol.rms(array(exact))
            assert tol.rms(array(mine) - array(exact)) <= tol.SAME_PRECISION * tol.rms(array(rounded) - array(exact)) + floor
        else:
            assert_no_worse(mine, rounded, exact, f"result {number}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layout", "widths"),
    [
        (MLPLayout(32, 16, 16, 1), (32,)),
        (MLPLayout(40, 4, 48, 4), (3, 20, 17)),
        (MLPLayout(16, 1, 32, 6), (16,)),
        (MLPLayout(32, 16, 128, 1), (32,)),
        (MLPLayout(32, 3, 128, 3), (16, 16)),
        (MLPLayout(100, 70, 64, 2), (100,)),
        (MLPLayout(130, 3, 160, 2), (130,)),
        (MLPLayout(20, 3, 32, 1), (5, 5, 5, 5)),
    ],
    ids=str,
)
def test_shapes(dtype: torch.dtype, layout: MLPLayout, widths: tuple[int, ...]) -> None:
    """Widths that are no powers of two, depths beyond one launch, three parts; and what is left to torch's products."""
    parts, weights, c = _inputs(layout, 45, widths)
    _check(parts, weights, layout, c, dtype)


def test_each_matrix_gets_its_gradient_in_one_launch() -> None:
    for width in (64, 128):
        for depth in range(1, 8):
            launches = mlp_launch.rounds(MLPLayout(32, 3, width, depth))
            assert [ends for ends, _, _ in launches] == [True] + [False] * (len(launches) - 1)
            inner = [k for _, ka, kb in launches for k in (ka, kb) if k]
            assert inner == list(range(1, depth))


@pytest.mark.parametrize("dtype", DTYPES)
def test_features_in_runs(dtype: torch.dtype) -> None:
    """Rows of samples with anything behind the last one, read in whole vectors, give the very numbers of any other layout."""
    parts, weights, c = _inputs(COLOUR, 37, (16, 16))
    wanted = _run(parts, weights, COLOUR, c, dtype)
    leaves = [weights.clone().requires_grad_()]
    for part in parts:
        laid = runs.empty_runs(37, 16, torch.float32, part.device)
        laid.copy_(part)
        assert runs.in_runs(laid)
        assert not runs.in_runs(part)
        leaves.append(laid.detach().requires_grad_())
    upstream = runs.empty_runs(37, 3, torch.float32, c.device)
    upstream.copy_(c)
    out = mlp.perceptron(leaves[1:], leaves[0], COLOUR, dtype)
    gradients = torch.autograd.grad(out, leaves, upstream)
    for got, exact in zip((out, *gradients), wanted):
        assert torch.equal(got, exact)
    assert all(runs.in_runs(one) for one in (out.detach(), *gradients[1:]))


def test_runs_that_end_with_their_memory_are_not_read_beyond_it() -> None:
    memory = torch.zeros(3 * 64 - 27)
    short = torch.as_strided(memory, (37, 3), (1, 64))
    assert not runs.in_runs(short)
    assert runs.in_runs(torch.as_strided(torch.zeros(2 * 64 + 48), (37, 3), (1, 64)))
    assert runs.in_runs(torch.as_strided(memory, (32, 3), (1, 64)))
    assert not runs.in_runs(torch.as_strided(memory, (32, 3), (1, 40)))
    assert not runs.in_runs(torch.as_strided(memory, (32, 3), (1, 64), 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gradient_has_the_type_of_its_part(dtype: torch.dtype) -> None:
    (first, second), weights, c = _inputs(COLOUR, 20, (16, 16))
    leaves = [first.to(dtype).requires_grad_(), second.requires_grad_()]
    mlp.perceptron(leaves, weights, COLOUR, dtype).backward(c)
    assert [leaf.grad.dtype for leaf in leaves if leaf.grad is not None] == [dtype, torch.float32]


@pytest.mark.parametrize("fused", [True, False])
def test_float16_gradients_neither_vanish_nor_overflow(monkeypatch: pytest.MonkeyPatch, fused: bool) -> None:
    """Cotangents 2^40 times smaller or larger give gradients just that much smaller or larger."""
    monkeypatch.setattr(mlp, "fused", lambda *args, **kwargs: fused)
    parts, weights, c = _inputs(COLOUR, 50, (16, 16))
    _, *usual = _run(parts, weights, COLOUR, c, torch.float16)
    for factor in (2.0**-40, 2.0**40):
        _, *scaled = _run(parts, weights, COLOUR, c * factor, torch.float16)
        for one, other in zip(usual, scaled):
            assert torch.equal(other, one * factor)
    for nothing in _run(parts, weights, COLOUR, torch.zeros_like(c), torch.float16)[1:]:
        assert not nothing.any()


def test_float16_tiles_have_their_own_range() -> None:
    """A sample's gradient does not suffer from a far larger one in another tile."""
    tile = mlp_launch.blocks_of(DENSITY, torch.float16, backward=True).samples
    parts, weights, c = _inputs(DENSITY, tile + 8, (32,))
    c[:tile] *= 2.0**40
    d_part = _run(parts, weights, DENSITY, c, torch.float16)[2]
    alone = _run([parts[0][tile:]], weights, DENSITY, c[tile:], torch.float16)[2]
    assert torch.equal(d_part[tile:], alone)
    assert alone.abs().max() > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [DENSITY, COLOUR, MLPLayout(20, 5, 48, 3)], ids=str)
def test_composed(monkeypatch: pytest.MonkeyPatch, layout: MLPLayout, dtype: torch.dtype) -> None:
    """What chips get that the kernels do not serve."""
    monkeypatch.setattr(mlp, "fused", lambda *args, **kwargs: False)
    monkeypatch.setattr(mlp_launch, "forward", None)
    parts, weights, c = _inputs(layout, 100, (layout.n_input_dims - 7, 7))
    _check(parts, weights, layout, c, dtype)
    _check([part[:0] for part in parts], weights, layout, c[:0], dtype)


def test_gradient_added_in_place() -> None:
    parts, weights, c = _inputs(COLOUR, 60, (16, 16))
    once = _run(parts, weights, COLOUR, c, torch.float32)[1]
    parameters = torch.nn.Parameter(weights)
    parameters.grad_in_place = True  # type: ignore[attr-defined]
    parameters.grad = buffer = torch.ones_like(weights)
    mlp.perceptron(parts, parameters, COLOUR, torch.float32).backward(c)
    assert parameters.grad is buffer
    assert_near(buffer - 1, once, tol.GRADIENT_TERMS * (array(once.abs()).max() + 1), "gradient")
    # Asked for the parts' gradient alone, nothing is added.
    before = buffer.clone()
    leaf = parts[0].clone().requires_grad_()
    out = mlp.perceptron([leaf, parts[1]], parameters, COLOUR, torch.float32)
    (alone,) = torch.autograd.grad(out, leaf, c)
    assert torch.equal(buffer, before)
    assert torch.equal(alone, _run(parts, weights, COLOUR, c, torch.float32)[2])


def _penalty(out: Tensor, x: Tensor, direction: Tensor) -> Tensor:
    """A loss on normals: of the unit gradient of the first output, and of the outputs themselves."""
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), x, create_graph=True)
    unit = torch.nn.functional.normalize(gradient, dim=-1)
    return (unit * direction).sum() + out.square().mean()


@pytest.mark.parametrize("in_place", [True, False])
def test_second_order(in_place: bool) -> None:
    """The gradient of a loss on the gradient of the inputs: with respect to weights, inputs, and what feeds them."""
    (x,), weights, direction = _inputs(MLPLayout(32, 16, 64, 2), 40, (32,))
    layout = MLPLayout(32, 16, 64, 2)
    direction = torch.randn(40, 32, generator=generator(9))

    def run(dtype: torch.dtype, of_triton: bool) -> list[Tensor]:
        leaf, flat = x.to(dtype, copy=True).requires_grad_(), torch.nn.Parameter(weights.to(dtype, copy=True))
        if in_place:
            flat.grad_in_place = True  # type: ignore[attr-defined]
            flat.grad = torch.zeros_like(flat)
        if of_triton:
            out = mlp.perceptron([leaf], flat, layout, torch.float32)
        else:
            out = REFERENCE.mlp([leaf], flat, layout)
        _penalty(out, leaf, direction.to(dtype)).backward()
        assert leaf.grad is not None
        assert flat.grad is not None
        return [flat.grad, leaf.grad]

    for what, mine, plain, exact in zip(
        ("weights", "inputs"), run(torch.float32, True), run(torch.float32, False), run(torch.float64, False)
    ):
        floor = tol.MLP_32 * tol.rms(array(exact))
        limit = tol.SAME_PRECISION * tol.rms(array(plain) - array(exact)) + floor
        assert tol.rms(array(mine) - array(exact)) <= limit, what


def test_second_order_in_the_gradient_that_comes_in() -> None:
    """The input's gradient is linear in the cotangent, and torch can check the whole of it."""
    layout = MLPLayout(6, 2, 16, 2)
    parts, weights, c = _inputs(layout, 4, (6,))
    leaves = [v.double().requires_grad_() for v in (c, parts[0], weights)]

    def function(up: Tensor, x: Tensor, flat: Tensor) -> tuple[Tensor, ...]:
        d_weights, d_parts = mlp_composed.gradients(up, [x], flat, layout, torch.float64)
        return d_weights, *d_parts

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_a_number_stays_with_its_sample(dtype: torch.dtype) -> None:
    parts, weights, c = _inputs(COLOUR, 20, (16, 16))
    usual = _run(parts, weights, COLOUR, c, dtype)
    parts[0][7, 3] = float("nan")
    out = mlp.perceptron(parts, weights, COLOUR, dtype)
    others = torch.arange(20) != 7
    assert out[7].isnan().all()
    assert torch.equal(out[others], usual[0][others])
