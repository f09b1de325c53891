"""Encodings of every kernel set against the reference in float64: values, gradients, and what is kept between calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState, Kernels
from ngp_method.kernels.layout import HashGridLayout
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
MIXED = {"n_levels": 3, "log2_hashmap_size": 10, "base_resolution": 5, "finest_resolution": 20}
"""Scales 4, 9 and 19: two dense levels and a hashed one, and lattice positions that are exact for dyadic positions."""


@dataclass
class Encoded:
    """Features [N, C] and the gradients of table and positions."""

    features: Tensor
    table: Tensor
    positions: Tensor


def _encode(
    kernels: Kernels, x: Tensor, table: Tensor, layout: HashGridLayout, cotangent: Tensor, rounded: bool = False
) -> Encoded:
    """Forward and backward; ``rounded``: as plain torch does it in low precision (float16 table, bfloat16 features)."""
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.hash_encode(positions, parameters.half().float() if rounded else parameters, layout)
    dense = features.bfloat16().float() if rounded else kernels.dense_features(features)
    (dense * cotangent).sum().backward()
    assert parameters.grad is not None
    assert positions.grad is not None
    return Encoded(dense.detach(), parameters.grad, positions.grad)


def _dyadic(n: int, n_dims: int = 3) -> Tensor:
    """Multiples of 1/64 (a third of all coordinates on the border of a cell); the corners of the box among them."""
    x = torch.randint(0, 65, (n, n_dims), generator=generator(n)).float() / 64
    x[:1], x[1:2] = 0.0, 1.0
    return x


def _inputs(n: int, layout: HashGridLayout) -> tuple[Tensor, Tensor]:
    rng = generator(n, layout.n_params)
    return 2 * torch.rand(layout.n_params, generator=rng) - 1, torch.randn(n, layout.n_output_dims, generator=rng)


@pytest.mark.parametrize("n_dims", [2, 3], ids=["plane", "space"])
@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("n", SIZES)
def test_hash_encode(kernel_set: str, n: int, features: int, n_dims: int) -> None:
    layout = HashGridLayout(n_features_per_level=features, n_dims=n_dims, **MIXED)
    x, (table, c) = _dyadic(n, n_dims), _inputs(n, layout)
    table = readable(kernel_set, table)
    got = _encode(kernels_of(kernel_set), x, table, layout, c)
    truth = _encode(REFERENCE, x.double(), table.double(), layout, c.double())
    if low_precision(kernel_set):
        plain = _encode(REFERENCE, x, table, layout, c, rounded=True)
        assert_no_worse(got.features, plain.features, truth.features, "features")
        assert_no_worse(got.table, plain.table, truth.table, "table gradient")
        assert_no_worse(got.positions, plain.positions, truth.positions, "position gradient")
        return
    terms = _encode(REFERENCE, x.double(), table.double(), layout, c.double().abs()).table
    assert_near(got.features, truth.features, tol.LATTICE_EXACT, "features")
    assert_near(got.table, truth.table, tol.GRADIENT_TERMS * array(terms), "table gradient")
    bound = 4 * tol.LATTICE_EXACT * array(c.abs().sum(-1, keepdim=True)) * 19
    assert_near(got.positions, truth.positions, bound, "position gradient")


@pytest.mark.parametrize("n_dims", [2, 3], ids=["plane", "space"])
@pytest.mark.parametrize(("levels", "features", "finest"), [(16, 2, 2048), (8, 4, 2048), (4, 8, 64), (1, 2, 16)])
def test_hash_encode_anywhere(kernel_set: str, levels: int, features: int, finest: int, n_dims: int) -> None:
    """Positions whose lattice coordinates are rounded: bounds follow from that rounding (see tolerances)."""
    layout = HashGridLayout(levels, features, 13, 16, finest, n_dims)
    n = 1000
    x, (table, c) = torch.rand(n, n_dims, generator=generator(levels)), _inputs(n, layout)
    x[:1], x[1:2] = 0.0, 1.0
    table = readable(kernel_set, table)
    got = _encode(kernels_of(kernel_set), x, table, layout, c)
    truth = _encode(REFERENCE, x.double(), table.double(), layout, c.double())
    scales = np.array([float(level.scale) for level in layout.levels])
    lattice = array(x)[:, :, None] * scales + 0.5
    clear = (np.abs(lattice - np.rint(lattice)) > tol.border_distance(scales)).all((1, 2))
    assert clear.mean() > 0.97, "nearly all positions can be judged"
    if low_precision(kernel_set):
        plain = _encode(REFERENCE, x, table, layout, c, rounded=True)
        assert_no_worse(got.features, plain.features, truth.features, "features")
        assert_no_worse(got.table, plain.table, truth.table, "table gradient")
        assert_no_worse(got.positions[clear], plain.positions[clear], truth.positions[clear], "position gradient")
        return
    moved = np.repeat([tol.lattice_bound(scale, 1.0) for scale in scales], features)
    assert_near(got.features, truth.features, moved, "features")
    # A weight moves like a feature; what an entry gathers moves by no more than that times the cotangents it sees.
    spread = _encode(REFERENCE, x.double(), torch.zeros_like(table).double(), layout, c.double().abs())
    touched = _gathered(x, c, layout)
    per_entry = np.repeat(moved.reshape(levels, features)[:, 0], [v.entries * features for v in layout.levels])
    assert_near(got.table, truth.table, per_entry * touched + tol.GRADIENT_TERMS * array(spread.table), "table gradient")
    slope = 4 * (np.abs(array(c)) * moved * np.repeat(scales, features)).sum(-1, keepdims=True)
    assert_near(got.positions[clear], truth.positions[clear], slope[clear], "position gradient")


def _gathered(x: Tensor, c: Tensor, layout: HashGridLayout) -> np.ndarray:
    """Sum of |cotangent| over the samples whose cell touches each entry, [n_params]: the gradient if all weights were
    1."""
    f = layout.n_features_per_level
    total = np.zeros((layout.n_entries, f))
    for number, level in enumerate(layout.levels):
        cell = np.floor(array(x) * float(level.scale) + 0.5).astype(np.uint64)
        for corner in range(1 << layout.n_dims):
            index = np.zeros(len(cell), np.uint64)
            for axis, prime in zip(range(layout.n_dims), (1, 2654435761, 805459861)):
                along = cell[:, axis] + np.uint64(corner >> axis & 1)
                index = index + along * np.uint64(level.resolution**axis) if level.dense else index ^ (along * np.uint64(prime))
            index = level.offset + (index % 2**32 % level.entries).astype(np.int64)
            np.add.at(total, index, np.abs(array(c))[:, number * f : (number + 1) * f])
    return total.reshape(-1)


def test_features_made_before_are_not_made_again(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    layout = HashGridLayout(**MIXED)
    x, (table, c) = _dyadic(100), _inputs(100, layout)
    fresh = _encode(kernels, x, table, layout, c)
    with torch.no_grad():
        before = kernels.hash_encode(x, table, layout)
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.hash_encode(positions, parameters, layout, features=before)
    assert torch.equal(kernels.dense_features(features.detach()), fresh.features)
    (kernels.dense_features(features) * c).sum().backward()
    assert torch.equal(parameters.grad, fresh.table)
    assert torch.equal(positions.grad, fresh.positions)


def test_gradient_added_in_place(kernel_set: str) -> None:
    """A table that says ``grad_in_place`` gets its gradient added to the buffer it has."""
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, (table, c) = _dyadic(100), _inputs(100, layout)
    once = _encode(kernels, x, table, layout, c).table
    parameters = table.clone().requires_grad_()
    parameters.grad = torch.ones_like(table)
    parameters.grad_in_place = True  # type: ignore[attr-defined]
    buffer = parameters.grad
    (kernels.dense_features(kernels.hash_encode(x, parameters, layout)) * c).sum().backward()
    assert parameters.grad is buffer
    assert_near(buffer - 1, once, tol.GRADIENT_TERMS * (array(once.abs()) + 1), "gradient")


def test_a_gradient_of_positions_alone_leaves_the_tables_buffer(kernel_set: str) -> None:
    """``autograd.grad(density, positions)`` of a field in training: its normals must not be trained on unasked."""
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, (table, _) = _dyadic(64).requires_grad_(), _inputs(64, layout)
    table.requires_grad_()
    table.grad, table.grad_in_place = torch.zeros_like(table), True  # type: ignore[attr-defined]
    total = kernels.dense_features(kernels.hash_encode(x, table, layout)).sum()
    (normals,) = torch.autograd.grad(total, x, retain_graph=True)
    assert normals.any()
    assert not table.grad.any()
    total.backward()
    assert table.grad.any()
    assert_near(x.grad, normals, 0.0, "the same gradient of positions")


def test_positions_in_any_strides(kernel_set: str) -> None:
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, (table, _) = _dyadic(64), _inputs(64, layout)

    def encode(positions: Tensor) -> Tensor:
        return kernels.dense_features(kernels.hash_encode(positions, table, layout))

    wanted = encode(x)
    wide = torch.full((64, 5), 0.25)
    wide[:, 1:4] = x
    assert torch.equal(encode(wide[:, 1:4]), wanted)
    rows = x.t().contiguous()
    assert torch.equal(encode(rows.t()), wanted)
    assert torch.equal(encode(rows.t()[:40]), wanted[:40])
    assert torch.equal(encode(rows.t()[24:]), wanted[24:])
    assert torch.equal(encode(x[:1].expand(7, 3)), wanted[:1].expand(7, -1))
    assert torch.equal(encode(x[::2]), wanted[::2])


def test_table_changes_are_seen(kernel_set: str) -> None:
    """A set may keep a copy of the table in another precision: no copy may outlive a change."""
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, (table, c) = _dyadic(50), _inputs(50, layout)

    def check(what: str) -> None:
        fresh = _encode(kernels, x, table.clone(), layout, c).features
        assert torch.equal(kernels.dense_features(kernels.hash_encode(x, table, layout)), fresh), what

    check("first use")
    table.mul_(0.5)
    check("after a change in place")
    state = AdamState(torch.zeros_like(table), torch.zeros_like(table), torch.zeros(table.shape, dtype=torch.int16))
    gradient = torch.randn(table.shape, generator=generator(3))
    kernels.adam_step(table, gradient.clone(), state, AdamSettings(0.1))
    check("after a step of the optimiser")
    table.add_(1.0)
    kernels.adam_step(table, gradient.clone(), state, AdamSettings(0.1))
    check("after a change in place and a step of the optimiser")
    table.copy_(gradient)
    check("after loading")


def test_tables_of_the_same_address_are_told_apart(kernel_set: str) -> None:
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x = _dyadic(20)
    for seed in range(6):
        table = readable(kernel_set, torch.rand(layout.n_params, generator=generator(seed)))
        got = kernels.dense_features(kernels.hash_encode(x, table, layout))
        truth = REFERENCE.hash_encode(x, table, layout)
        assert_near(got, truth, 4 * (tol.ROUNDOFF_BF16 if low_precision(kernel_set) else tol.LATTICE_EXACT), f"{seed}")
        del table


@pytest.mark.sets("cpu")
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str) -> None:
    layout = HashGridLayout(n_features_per_level=4, **MIXED)
    x, (table, c) = torch.rand(4099, 3, generator=generator(1)), _inputs(4099, layout)

    def results(kernels: Kernels) -> Iterator[Tensor]:
        encoded = _encode(kernels, x, table, layout, c)
        yield from (encoded.features, encoded.table, encoded.positions)

    two_thread_results(kernel_set, results)


@pytest.mark.parametrize("n", SIZES)
def test_spherical_harmonics(kernel_set: str, n: int) -> None:
    kernels = kernels_of(kernel_set)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator(n)), dim=-1)
    d[:1] = torch.tensor([0.0, 0.0, -1.0])
    got = kernels.dense_features(kernels.sh_encode(d))
    truth = REFERENCE.sh_encode(d.double())
    assert got.shape == (n, 16)
    bound = 1.5 * tol.ROUNDOFF_BF16 if low_precision(kernel_set) else tol.SH_32
    assert_near(got, truth, bound, "spherical harmonics")


def test_one_feature_per_level_is_refused_in_a_sentence(kernel_set: str) -> None:
    layout = HashGridLayout(n_features_per_level=1, **MIXED)
    with pytest.raises(ValueError, match=r"need 2, 4 or 8 features per level; use .*reference\.$"):
        kernels_of(kernel_set).hash_encode(torch.rand(4, 3), torch.rand(layout.n_params), layout)


def test_the_table_outlives_copies_of_itself(kernel_set: str) -> None:
    """deepcopy (nerfstudio copies models for the viewer) must not share what is kept beside a table."""
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, (table, _) = _dyadic(20), _inputs(20, layout)
    first = torch.nn.Parameter(table)
    with torch.no_grad():
        before = kernels.dense_features(kernels.hash_encode(x, first, layout))
        second = copy.deepcopy(first)
        second.mul_(2.0)
        assert torch.equal(kernels.dense_features(kernels.hash_encode(x, second, layout)), 2 * before)
        assert torch.equal(kernels.dense_features(kernels.hash_encode(x, first, layout)), before)


@pytest.mark.parametrize("n", SIZES)
def test_gradient_of_spherical_harmonics(kernel_set: str, n: int) -> None:
    """From the harmonics' gradients as they come, rounded to the features' type; the rest is float32."""
    kernels = kernels_of(kernel_set)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator(n)), dim=-1)
    for given in (d, d.t().contiguous().t()):
        leaf, exact = given.detach().requires_grad_(), d.double().requires_grad_()
        out = kernels.sh_encode(leaf)
        assert torch.equal(out, kernels.sh_encode(d)), "the values are those without a gradient"
        assert kernels.sh_encode(d).grad_fn is None
        upstream = torch.randn(out.shape, generator=generator(n, 1)).to(out.dtype)
        out.backward(upstream)
        dense = kernels.dense_features(upstream).double()
        REFERENCE.sh_encode(exact).backward(dense)
        assert leaf.grad is not None
        assert exact.grad is not None
        bound = tol.SH_32 * tol.SH_SLOPE * array(dense.abs().sum(-1, keepdim=True))
        assert_near(leaf.grad, exact.grad, bound, "gradient of directions")


def test_a_second_derivative_of_harmonics_is_refused(kernel_set: str) -> None:
    leaf = torch.nn.functional.normalize(torch.randn(31, 3, generator=generator(1)), dim=-1).requires_grad_()
    harmonics = kernels_of(kernel_set).sh_encode(leaf).float()
    (slope,) = torch.autograd.grad((harmonics**2).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def test_positions_of_other_dimensions_are_refused(kernel_set: str) -> None:
    layout = HashGridLayout(**MIXED)
    for shape in ((4, 2), (4, 4), (3,)):
        with pytest.raises(ValueError, match=r"takes positions \[N, 3\], not"):
            kernels_of(kernel_set).hash_encode(torch.rand(*shape), torch.zeros(layout.n_params), layout)
