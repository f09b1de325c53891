"""Perceptrons of every kernel set against the reference in float64, alone and behind the encodings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    SIZES,
    array,
    assert_near,
    assert_no_worse,
    generator,
    kernels_of,
    low_precision,
    nan_memory,  # noqa: F401 - a fixture
    readable,
    two_thread_results,
)

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")
DENSITY, COLOUR = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)
LAYOUTS = [DENSITY, COLOUR, MLPLayout(20, 5, 16, 3), MLPLayout(48, 20, 32, 1)]
NAMES = ("outputs", "weight gradient", "gradient of the first part", "gradient of the second part")


def _name(layout: MLPLayout) -> str:
    return "-".join(str(v) for v in (layout.n_input_dims, *[rows for rows, _ in layout.shapes[:-1]], layout.n_output_dims))


def _run(
    kernels: Kernels, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, c: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """Outputs and the gradients of weights and parts; every number rounded to ``dtype`` on its way in."""
    leaves = [v.clone().requires_grad_() for v in (weights, *parts)]
    cast = [v.to(dtype) for v in leaves]
    out = kernels.mlp(cast[1:], cast[0], layout, rows=c.shape[1])
    out.backward(c.to(out.dtype))
    return [out.detach(), *[leaf.grad for leaf in leaves if leaf.grad is not None]]


def _inputs(layout: MLPLayout, n: int, split: int) -> tuple[list[Tensor], Tensor, Tensor]:
    rng = generator(n, layout.n_params)
    widths = (split, layout.n_input_dims - split)
    parts = [torch.randn(n, width, generator=rng) for width in widths if width]
    weights = torch.randn(layout.n_params, generator=rng) * (2 / layout.n_neurons) ** 0.5
    return parts, weights, torch.randn(n, layout.n_output_dims, generator=rng)


def _away_from_kinks(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout) -> Tensor:
    """[N] samples of which no neuron is so near zero that rounding could switch it (its gradient would jump)."""
    hidden = torch.cat([part.double() for part in parts], -1)
    hidden = torch.nn.functional.pad(hidden, (0, layout.padded_input - hidden.shape[1]))
    safe = torch.ones(hidden.shape[0], dtype=torch.bool)
    for offset, (rows, columns) in zip(layout.offsets[:-1], layout.shapes[:-1]):
        hidden = hidden @ weights[offset : offset + rows * columns].double().view(rows, columns).t()
        safe &= (hidden.abs() > 1e-5).all(-1)
        hidden = hidden.relu()
    return safe


def _check(kernel_set: str, parts: list[Tensor], weights: Tensor, layout: MLPLayout, c: Tensor) -> None:
    if not low_precision(kernel_set):
        safe = _away_from_kinks(parts, weights, layout)
        assert safe.float().sum() >= 0.95 * c.shape[0] - 1
        c = c * safe[:, None]
    got = _run(kernels_of(kernel_set), parts, weights, layout, c, torch.float32)
    truth = _run(REFERENCE, parts, weights.double(), layout, c, torch.float64)
    plain = _run(REFERENCE, parts, weights, layout, c, torch.bfloat16)
    assert len(got) == len(truth) == 2 + len(parts)
    assert got[0].dtype == torch.float32
    for what, mine, exact, rounded in zip(NAMES, got, truth, plain):
        if low_precision(kernel_set):
            assert_no_worse(mine, rounded, exact, what)
        elif exact.numel():
            size = max(tol.rms(array(exact)), float(exact.abs().max()) / 4)
            assert_near(mine, exact, tol.MLP_32 * size, what)
        else:
            assert mine.shape == exact.shape


@pytest.mark.parametrize("layout", LAYOUTS, ids=_name)
@pytest.mark.parametrize("n", SIZES)
def test_mlp(kernel_set: str, n: int, layout: MLPLayout) -> None:
    parts, weights, c = _inputs(layout, n, split=layout.n_input_dims // 4 * 2)
    _check(kernel_set, parts, weights, layout, c)


@pytest.mark.parametrize("split", [0, 1, 5, 31])
def test_mlp_of_parts_of_any_width(kernel_set: str, split: int) -> None:
    parts, weights, c = _inputs(COLOUR, 100, split)
    _check(kernel_set, parts, weights, COLOUR, c)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_fewer_rows(kernel_set: str, rows: int) -> None:
    parts, weights, c = _inputs(DENSITY, 77, 16)
    _check(kernel_set, parts, weights, DENSITY, c[:, :rows])


def test_padding_has_no_gradient(kernel_set: str) -> None:
    layout = MLPLayout(20, 3, 64, 1)
    parts, weights, c = _inputs(layout, 100, 10)
    gradient = _run(kernels_of(kernel_set), parts, weights, layout, c, torch.float32)[1]
    first, last = gradient[: 64 * 32].view(64, 32), gradient[64 * 32 :].view(16, 64)
    assert first[:, :20].any()
    assert not first[:, 20:].any()
    assert last[:3].any()
    assert not last[3:].any()


def test_only_what_is_asked_for_gets_a_gradient(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    parts, weights, c = _inputs(COLOUR, 40, 16)
    second = parts[1].clone().requires_grad_()
    kernels.mlp([parts[0], second], weights, COLOUR).backward(c)
    assert torch.equal(second.grad, _run(kernels, parts, weights, COLOUR, c, torch.float32)[3])
    with torch.no_grad():
        assert not kernels.mlp([parts[0], second], weights, COLOUR).requires_grad


def _in_rows(values: Tensor, size: int = 64, beyond: float = float("nan")) -> Tensor:
    """The same numbers as a view of wider rows, whatever lies beyond being none of the callee's business."""
    rows = torch.full((values.shape[1], size), beyond)
    rows[:, : values.shape[0]] = values.t()
    return rows.t()[: values.shape[0]]


def test_memory_beyond_the_inputs_does_not_matter(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    parts, weights, c = _inputs(COLOUR, 40, 16)
    wanted = _run(kernels, parts, weights, COLOUR, c, torch.float32)
    leaves = [weights.clone().requires_grad_(), *[_in_rows(part).requires_grad_() for part in parts]]
    out = kernels.mlp(leaves[1:], leaves[0], COLOUR)
    out.backward(_in_rows(c))
    for what, got, exact in zip(NAMES, (out, *[leaf.grad for leaf in leaves]), wanted):
        assert got is not None
        assert torch.equal(got, exact), what


def test_memory_beyond_the_gradient_is_not_written(kernel_set: str) -> None:
    """The gradient of a concatenation comes in slices of one tensor: each callee gets its slice and leaves the rest
    alone."""
    kernels = kernels_of(kernel_set)
    (first, second), weights, c = _inputs(MLPLayout(32, 16), 30, 16)
    x = torch.cat([first, second], -1)
    found = []
    for cotangent in (c.contiguous(), _in_rows(c, 32)):
        parameters = weights.clone().requires_grad_()
        outs = [kernels.mlp([part], parameters, DENSITY) for part in (x[:20], x[20:])]
        torch.cat(outs).backward(cotangent)
        assert torch.equal(cotangent, c), "the gradient handed in was changed"
        found.append(parameters.grad)
    assert torch.equal(*found)


@pytest.mark.sets("cpu")
@pytest.mark.parametrize("n", [4099, 20_000])
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str, n: int) -> None:
    parts, weights, c = _inputs(COLOUR, n, 16)

    def results(kernels: Kernels) -> Iterator[Tensor]:
        yield from _run(kernels, parts, weights, COLOUR, c, torch.float32)

    two_thread_results(kernel_set, results)


def _field(
    kernels: Kernels, x: Tensor, d: Tensor, leaves: Sequence[Tensor], layout: HashGridLayout, rounded: bool = False
) -> Tensor:
    """Raw density and colour [N, 19] through every seam between the operations; ``rounded``: as plain torch in
    bfloat16."""
    table, density, colour = (leaf.to(torch.bfloat16) if rounded else leaf for leaf in leaves)
    if rounded:
        features = kernels.hash_encode(x, leaves[0].half().float(), layout).bfloat16()
        raw = kernels.mlp([features], density, DENSITY)
        rgb = kernels.mlp([raw, kernels.sh_encode(d).bfloat16()], colour, COLOUR)
    else:
        raw = kernels.mlp([kernels.hash_encode(x, table, layout)], density, DENSITY)
        rgb = kernels.mlp([raw, kernels.sh_encode(d)], colour, COLOUR)
    return torch.cat([raw, rgb], -1)


@pytest.mark.parametrize("n", [0, 1, 31, 300])
def test_the_whole_field(kernel_set: str, n: int) -> None:
    """Encoding, density, harmonics and colour: the features go from one to the next in whatever layout the set
    likes."""
    layout = HashGridLayout(8, 4, 10, 5, 5 * 2**7)
    rng = generator(n)
    x = torch.randint(0, 1025, (n, 3), generator=rng).float() / 1024
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    c = torch.randn(n, 19, generator=rng)
    numbers = [layout.n_params, DENSITY.n_params, COLOUR.n_params]
    start = [torch.randn(k, generator=rng) * scale for k, scale in zip(numbers, (1.0, 0.2, 0.2))]
    start[0] = readable(kernel_set, start[0])

    def run(kernels: Kernels, dtype: torch.dtype, rounded: bool = False) -> list[Tensor]:
        leaves = [v.to(dtype, copy=True).requires_grad_() for v in (*start, x)]
        out = _field(kernels, leaves[3], d.to(dtype), leaves[:3], layout, rounded)
        out.backward(c.to(out.dtype))
        return [out.detach(), *[leaf.grad for leaf in leaves if leaf.grad is not None]]

    got, truth = run(kernels_of(kernel_set), torch.float32), run(REFERENCE, torch.float64)
    plain = run(REFERENCE, torch.float32, rounded=low_precision(kernel_set))
    assert len(got) == len(truth) == len(plain) == 5
    names = ("outputs", "table gradient", "density gradient", "colour gradient", "position gradient")
    for what, mine, exact, rounded in zip(names, got, truth, plain):
        if low_precision(kernel_set):
            assert_no_worse(mine, rounded, exact, what)
            continue
        floor = 8 * tol.ROUNDOFF32 * float(np.abs(array(exact)).max(initial=0.0))
        limit = tol.SAME_PRECISION * tol.rms(array(rounded) - array(exact)) + floor
        assert tol.rms(array(mine) - array(exact)) <= limit, what
