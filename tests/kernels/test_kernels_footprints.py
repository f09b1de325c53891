"""Footprints, samples as wide as their pixels: weights of levels against the error function, and every set of kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.fields.averaged import xavier_uniform
from ngp_method.kernels import Kernels
from ngp_method.kernels.footprints import SCALE_FEATURES, erf, level_weights, scale_levels, wide_output_dims
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.kernels.scene import SceneGeometry
from support import oracle
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

WIDE = HashGridLayout(16, 2, 11, 16, 512)

ERF = 5e-4
"""Abramowitz and Stegun 7.1.27: the largest error of the approximation."""

WEIGHT_32 = 32 * tol.ROUNDOFF32
"""A weight in float32: one minus the inverse of a fourth power of a sum of five terms; a dozen roundings, four times those of
the root."""


def _footprints(n: int) -> Tensor:
    """From points to wider than the box, log-uniform; the first ones are points."""
    found = 10.0 ** (4 * torch.rand(n, generator=generator(n, 5)) - 3.5)
    found[: n // 8] = 0.0
    return found


def _dyadic(n: int, n_dims: int = 3) -> Tensor:
    x = torch.randint(0, 65, (n, n_dims), generator=generator(n)).float() / 64
    x[:1], x[1:2] = 0.0, 1.0
    return x


def test_the_error_function() -> None:
    x = torch.cat([torch.linspace(0, 6, 6001), torch.tensor([64.0])]).double()
    assert_near(erf(x), torch.erf(x), ERF, "approximation")
    assert (erf(x).diff() > 0).all(), "monotone"
    assert float(erf(torch.tensor(0.0))) == 0.0
    assert float(erf(torch.tensor(64.0))) == 1.0


def test_weights_are_the_share_of_a_gaussian_within_a_cell() -> None:
    """Across the ray, by counting draws of the Gaussian that fall within half a cell of its middle along both axes."""
    layout, rng = HashGridLayout(**MIXED), np.random.default_rng(3)
    for s in (0.01, 0.05, 0.2):
        weights = level_weights(torch.tensor([s], dtype=torch.float64), layout)[0]
        for level, weight in zip(layout.levels, weights):
            draws = rng.normal(0.0, s, (400_000, 2))
            share = float((np.abs(draws) < 0.5 / float(level.scale)).all(-1).mean())
            assert abs(float(weight) - share) < 2 * ERF + 4 * 0.5 / math.sqrt(400_000)


def test_the_weight_falls_as_what_a_point_tells_of_the_mean() -> None:
    """Of independent entries in a plane: the slope of the line from the feature at a point to its mean over the Gaussian.

    Interpolation alone blurs an entry over one and a half cells along each axis, for which the share within half a cell is
    that much less, and no more.
    """
    cells = 64
    axis = (np.arange(4 * cells) + 0.5) / 4 - 0.5
    entries = np.maximum(0.0, 1.0 - np.abs(axis[:, None] - np.arange(cells)))
    alike = entries @ entries.T  # covariance of a line's features
    middle, layout = slice(cells, 3 * cells), HashGridLayout(1, 2, 19, cells + 1, cells + 1, 2)
    for s in (0.01, 0.02, 0.03, 0.06):
        blur = np.exp(-0.5 * ((axis[:, None] - axis) / (s * cells)) ** 2)
        blur /= blur.sum(1, keepdims=True)
        slope = (np.trace((blur @ alike)[middle, middle]) / np.trace(alike[middle, middle])) ** 2
        weight = float(level_weights(torch.tensor([s], dtype=torch.float64), layout)[0, 0])
        assert slope / 1.55**2 <= weight <= slope


def test_points_and_what_is_no_width_have_every_level_whole() -> None:
    layout = HashGridLayout(n_levels=2, base_resolution=1, finest_resolution=64)
    assert float(layout.levels[0].scale) == 0.0
    given = torch.tensor([0.0, -1.0, float("nan")])
    assert torch.equal(level_weights(given, layout), torch.ones(3, 2))
    assert (level_weights(torch.tensor([1e30]), layout) == torch.tensor([[1.0, 0.0]])).all(), "one cell holds everything"


def _encode(
    kernels: Kernels, x: Tensor, table: Tensor, layout: HashGridLayout, c: Tensor, wide: Tensor, rounded: bool = False
) -> list[Tensor]:
    """Features and the gradients of table and positions; ``rounded``: as plain torch does it in low precision."""
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.hash_encode(positions, parameters.half().float() if rounded else parameters, layout, wide)
    dense = features.bfloat16().float() if rounded else kernels.dense_features(features)
    return [dense.detach(), *torch.autograd.grad((dense * c).sum(), [parameters, positions])]


NAMES = ("features", "table gradient", "position gradient")


@pytest.mark.parametrize("n_dims", [2, 3], ids=["plane", "space"])
@pytest.mark.parametrize(("n", "features"), [(0, 2), (1, 4), (31, 8), (1000, 2), (1000, 4)])
@pytest.mark.parametrize("kernel_set", SETS)
def test_hash_encode(kernel_set: str, n: int, features: int, n_dims: int) -> None:
    layout, rng = HashGridLayout(n_features_per_level=features, n_dims=n_dims, **MIXED), generator(n, features)
    x, wide = _dyadic(n, n_dims), _footprints(n)
    table = readable(kernel_set, 2 * torch.rand(layout.n_params, generator=rng) - 1)
    c = torch.randn(n, wide_output_dims(layout), generator=rng)
    got = _encode(kernels_of(kernel_set), x, table, layout, c, wide)
    truth = _encode(REFERENCE, x.double(), table.double(), layout, c.double(), wide.double())
    if low_precision(kernel_set):
        plain = _encode(REFERENCE, x, table, layout, c, wide, rounded=True)
        for what, mine, theirs, exact in zip(NAMES, got, plain, truth):
            assert_no_worse(mine, theirs, exact, what)
        return
    terms = _encode(REFERENCE, x.double(), table.double(), layout, c.double().abs(), wide.double())[1]
    slopes = 4 * array(c.abs().sum(-1, keepdim=True)) * 19
    bounds = (tol.LATTICE_EXACT + WEIGHT_32, (tol.GRADIENT_TERMS + WEIGHT_32) * array(terms) + 1e-30, None)
    assert_near(got[0], truth[0], bounds[0], NAMES[0])
    # A weight is off by WEIGHT_32 whatever its size: so is what it is multiplied with.
    assert_near(got[1], truth[1], bounds[1] + WEIGHT_32 * array(_touched(x, c, layout)), NAMES[1])
    assert_near(got[2], truth[2], (tol.LATTICE_EXACT + WEIGHT_32) * slopes, NAMES[2])


def _touched(x: Tensor, c: Tensor, layout: HashGridLayout) -> Tensor:
    """The table's gradient of points with absolute cotangents: what every weight of a level multiplies."""
    table = torch.zeros(layout.n_params, dtype=torch.float64, requires_grad=True)
    features = REFERENCE.hash_encode(x.double(), table, layout)
    (found,) = torch.autograd.grad((features * c[:, : layout.n_output_dims].double().abs()).sum(), table)
    return found


@pytest.mark.parametrize("kernel_set", SETS)
def test_points_are_what_they_are_without_footprints(kernel_set: str) -> None:
    """To the last bit, values and gradients: a footprint of zero changes nothing."""
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, table = _dyadic(200), torch.randn(layout.n_params, generator=generator(1))
    c = torch.randn(200, wide_output_dims(layout), generator=generator(2))
    with_zeros = _encode(kernels, x, table, layout, c, torch.zeros(200))
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.dense_features(kernels.hash_encode(positions, parameters, layout))
    count = layout.n_output_dims
    assert (with_zeros[0][:, count : count + SCALE_FEATURES] == 1).all(), "they see every level whole"
    assert (with_zeros[0][:, count + SCALE_FEATURES :] == 0).all(), "padding"
    without = [features.detach(), *torch.autograd.grad((features * c[:, :count]).sum(), [parameters, positions])]
    assert torch.equal(with_zeros[0][:, :count], without[0])
    assert torch.equal(with_zeros[1], without[1])
    # In low precision the sets' ways to it differ: the cotangents are multiplied in float32 or in their own type.
    assert_near(with_zeros[2], without[2], 1e-6 * float(without[2].abs().max()), NAMES[2])


@pytest.mark.parametrize("kernel_set", SETS)
def test_features_made_before_are_not_made_again(kernel_set: str) -> None:
    kernels, layout = kernels_of(kernel_set), HashGridLayout(**MIXED)
    x, wide, table = _dyadic(100), _footprints(100), torch.randn(layout.n_params, generator=generator(1))
    c = torch.randn(100, wide_output_dims(layout), generator=generator(2))
    fresh = _encode(kernels, x, table, layout, c, wide)
    with torch.no_grad():
        before = kernels.hash_encode(x, table, layout, wide)
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.dense_features(kernels.hash_encode(positions, parameters, layout, wide, before))
    again = [features.detach(), *torch.autograd.grad((features * c).sum(), [parameters, positions])]
    for what, mine, theirs in zip(NAMES, again, fresh):
        assert torch.equal(mine, theirs), what


def _normals(
    kernels: Kernels, x: Tensor, table: Tensor, layout: HashGridLayout, wide: Tensor, rounded: bool = False
) -> list[Tensor]:
    """Gradients of table and positions from a loss on the gradient by positions."""
    rng = generator(3)
    first, wanted = torch.randn(wide_output_dims(layout), generator=rng).to(x), torch.randn(x.shape, generator=rng).to(x)
    positions, parameters = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.hash_encode(positions, parameters.half().to(x) if rounded else parameters, layout, wide)
    raw = torch.tanh((features.bfloat16().to(x) if rounded else kernels.dense_features(features)) @ first)
    (normals,) = torch.autograd.grad(raw.sum(), positions, create_graph=True)
    loss = (normals * wanted).sum() + raw.square().sum()
    return [normals.detach(), *torch.autograd.grad(loss, [parameters, positions])]


@pytest.mark.parametrize("kernel_set", SETS)
def test_second_order(kernel_set: str) -> None:
    layout, x, wide = HashGridLayout(**MIXED), _dyadic(300), _footprints(300)
    table = readable(kernel_set, torch.rand(layout.n_params, generator=generator(1)) - 0.5)
    got = _normals(kernels_of(kernel_set), x, table, layout, wide)
    truth = _normals(REFERENCE, x.double(), table.double(), layout, wide.double())
    low = low_precision(kernel_set)
    plain = _normals(REFERENCE, x, table, layout, wide, rounded=low)
    for what, mine, theirs, exact in zip(("normals", "table", "positions"), got, plain, truth):
        if low:
            assert_no_worse(mine, theirs, exact, what)
        else:
            mean, allowed = (tol.rms(array(v) - array(exact)) for v in (mine, theirs))
            assert mean <= tol.SAME_PRECISION * allowed, f"{what}: {mean:.3g}, plain torch {allowed:.3g}"


@pytest.mark.parametrize(
    ("grid", "n", "rows"), [(WIDE, 0, 16), (WIDE, 31, 16), (WIDE, 1100, 1), (HashGridLayout(8, 4, 11, 8, 256), 1100, 16)]
)
@pytest.mark.parametrize("kernel_set", SETS)
def test_encoding_and_network_in_one(kernel_set: str, n: int, rows: int, grid: HashGridLayout) -> None:
    """Against the set's own two operations, each judged above."""
    kernels, rng, layout = kernels_of(kernel_set), generator(n, rows), MLPLayout(wide_output_dims(grid), 16, 64, 1)
    torch.manual_seed(n)
    weights, table = xavier_uniform(layout), torch.randn(grid.n_params, generator=rng)
    positions, wide = torch.rand(n, 3, generator=rng), 0.1 * _footprints(n)
    got = kernels.encode_mlp(positions, table, weights, grid, layout, rows, wide)
    apart = kernels.mlp([kernels.hash_encode(positions, table, grid, wide)], weights, layout, rows)
    assert got.shape == (n, rows)
    size = float(apart.abs().max()) if n else 0.0
    assert_near(got, apart, 4 * (tol.ROUNDOFF_BF16 if low_precision(kernel_set) else tol.MLP_32) * size, "outputs")
    if n > 100:
        points = kernels.encode_mlp(positions, table, weights, grid, layout, rows, torch.zeros(n))
        assert float((points - got).abs().max()) > 0.05 * size, "footprints matter"


def test_the_reference_is_the_formula() -> None:
    """Against loops in float64 and the true error function, within what the approximation is off."""
    layout, n = HashGridLayout(**MIXED), 40
    x, wide = torch.rand(n, 3, generator=generator(9)).double(), _footprints(n).double()
    table = torch.randn(layout.n_params, generator=generator(8)).double()
    got = REFERENCE.hash_encode(x, table, layout, wide)
    levels = oracle.grid_levels(3, 10, 5, 20)
    points = oracle.hash_encode_all(array(x), array(table).reshape(-1, 2), levels)
    shares = [[math.erf(1 / (math.sqrt(8) * s * v.scale)) ** 2 if s else 1.0 for v in levels] for s in wide.tolist()]
    expected = points * np.repeat(np.array(shares), 2, 1)
    assert (np.abs(array(got)[:, :6] - expected) <= 2 * ERF * np.abs(points) + 1e-9).all()
    assert scale_levels(layout) == (2, 2, 1, 1)
    assert (np.abs(array(got)[:, 6:10] - (2 * np.array(shares)[:, [2, 2, 1, 1]] - 1)) <= 4 * ERF).all()
    assert got.shape == (n, 16)
    assert not got[:, 10:].any()


def test_the_levels_whose_weights_are_features() -> None:
    """From the finest to the middle one, evenly, of any number of levels."""
    for n_levels in range(1, 33):
        found = scale_levels(HashGridLayout(n_levels=n_levels, base_resolution=4, finest_resolution=4096))
        wanted = np.linspace(n_levels - 1, n_levels // 2, SCALE_FEATURES)
        assert (found[0], found[-1]) == (n_levels - 1, n_levels // 2)
        assert (np.abs(np.array(found) - wanted) <= 0.5).all()


@pytest.mark.parametrize("n_rays", [0, 1, 31, 400])
@pytest.mark.parametrize("kernel_set", ["reference", *SETS])
def test_footprints_of_samples(kernel_set: str, n_rays: int) -> None:
    """As wide as the ray's cone at the middle of the interval, in edges of the box."""
    rng, geometry = generator(n_rays), SceneGeometry(unit_size=2.0, aabb_scale=4)
    counts = torch.randint(0, 12, (n_rays,), generator=rng)
    total = int(counts.sum())
    starts = 5 * torch.rand(total, generator=rng)
    rays = ray_indices_from_counts(counts)
    samples = PackedSamples(starts, starts + torch.rand(total, generator=rng), rays, packed_info_from_counts(counts))
    radii = torch.rand(n_rays, generator=rng)
    got = kernels_of(kernel_set).footprints(radii.requires_grad_(), samples, geometry)
    assert not got.requires_grad
    for index in range(0, total, 7):
        middle = (float(samples.t_starts[index]) + float(samples.t_ends[index])) / 2
        expected = float(radii[rays[index]]) * middle / 8.0
        assert abs(float(got[index]) - expected) <= tol.POINT_32 * max(expected, 1e-3)
    assert got.shape == (total,)
