"""Keeping the first samples of each ray and spreading a ray's features over its samples: copies, so equal to the last
bit; and sums over the samples of each ray, their gradients and those of copies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    SIZES,
    assert_near,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
    two_thread_results,
)
from support.march_cases import check_layout

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")
GRID = HashGridLayout(3, 4, 10, 5, 20)


def _batch(n: int, n_rays: int) -> tuple[PackedSamples, Tensor]:
    """n samples dealt out to rays, every other ray without; and how many of each to keep (none, some, all)."""
    rng = generator(n, n_rays)
    owners = torch.sort(torch.randint(0, (n_rays + 1) // 2, (n,), generator=rng) * 2)[0]
    counts = torch.bincount(owners, minlength=n_rays) if n else torch.zeros(n_rays, dtype=torch.int64)
    starts = torch.rand(n, generator=rng)
    samples = PackedSamples(starts, starts + 1, ray_indices_from_counts(counts), packed_info_from_counts(counts))
    share = torch.randint(-1, 4, (n_rays,), generator=rng).clamp(0, 2) / 2
    return samples, (counts * share).floor().to(torch.int32)


def _features(kernels: Kernels, n: int) -> list[Tensor]:
    """What training keeps: features in the set's own layout, positions in rows, and a plain matrix."""
    rng = generator(n)
    table, x = torch.randn(GRID.n_params, generator=rng), torch.rand(n, 3, generator=rng)
    rows = torch.zeros(3, n + 32)
    rows[:, :n] = x.t()
    return [kernels.hash_encode(x, table, GRID), x, rows.t()[:n], torch.rand(n, 1, generator=rng)]


@pytest.mark.parametrize("n", SIZES)
def test_keep_first(kernel_set: str, n: int) -> None:
    kernels, n_rays = kernels_of(kernel_set), n // 5 + 1
    samples, counts = _batch(n, n_rays)
    features = _features(kernels, n)
    kept, chosen = kernels.keep_first(samples, counts, features)
    dense = [kernels.dense_features(one) for one in features]
    wanted, dense_wanted = REFERENCE.keep_first(samples, counts, dense)
    check_layout(kept, n_rays)
    assert torch.equal(kept.packed_info[:, 1], counts)
    for name in ("t_starts", "t_ends", "ray_indices", "packed_info"):
        assert torch.equal(getattr(kept, name), getattr(wanted, name)), name
    assert len(chosen) == len(features)
    for given, got, exact in zip(features, chosen, dense_wanted):
        assert got.dtype == given.dtype
        assert got.ndim == given.ndim
        assert torch.equal(kernels.dense_features(got), exact)


@pytest.mark.parametrize("n", SIZES)
def test_spread(kernel_set: str, n: int) -> None:
    kernels, n_rays = kernels_of(kernel_set), n // 5 + 1
    samples, _ = _batch(n, n_rays)
    d = torch.nn.functional.normalize(torch.randn(n_rays, 3, generator=generator(n)), dim=-1)
    for features in (kernels.sh_encode(d), d):
        got = kernels.spread(features, samples)
        assert got.dtype == features.dtype
        exact = REFERENCE.spread(kernels.dense_features(features), samples)
        assert torch.equal(kernels.dense_features(got), exact)


def _values(n: int, columns: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same numbers side by side, in rows with NaN behind the last, and as a part of something wider."""
    values = torch.randn(n, columns, generator=generator(n, columns)).to(dtype)
    rows, wide = torch.full((columns, n + 32), float("nan"), dtype=dtype), torch.zeros(n, 2 * columns, dtype=dtype)
    rows[:, :n], wide[:, ::2] = values.t(), values
    return {"side by side": values, "rows": rows.t()[:n], "every other": wide[:, ::2]}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("columns", [1, 3, 16])
def test_sums_of_runs(kernel_set: str, n: int, columns: int) -> None:
    """Values, and the gradient, which is a copy."""
    kernels, n_rays = kernels_of(kernel_set), n // 5 + 1
    samples, _ = _batch(n, n_rays)
    c = torch.randn(n_rays, columns, generator=generator(n, 7))
    for layout, values in _values(n, columns, torch.float32).items():
        leaf = values.detach().requires_grad_()
        got = kernels.sum_runs(leaf, samples)
        assert got.dtype == torch.float32
        terms = REFERENCE.sum_runs(values.double().abs(), samples).numpy()
        assert_near(got, REFERENCE.sum_runs(values.double(), samples), tol.GRADIENT_TERMS * terms, layout)
        assert torch.equal(got, kernels.sum_runs(values, samples)), "the same numbers every time, with a gradient or without"
        (got * c).sum().backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, REFERENCE.spread(c, samples)), layout


@pytest.mark.parametrize("n", SIZES)
def test_gradient_of_spread(kernel_set: str, n: int) -> None:
    """Of plain numbers, and of features in the set's own layout, as harmonics have it."""
    kernels, n_rays = kernels_of(kernel_set), n // 5 + 1
    d = torch.nn.functional.normalize(torch.randn(n_rays, 3, generator=generator(n)), dim=-1)
    for features in (torch.randn(n_rays, 6, generator=generator(n)), kernels.sh_encode(d).detach()):
        _check_gradient_of_spread(kernels, features, n)


@pytest.mark.sets("triton")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradient_of_spread_in_low_precision(kernel_set: str, dtype: torch.dtype) -> None:
    _check_gradient_of_spread(kernels_of(kernel_set), torch.randn(201, 6, generator=generator(1)).to(dtype), 1000)


def _check_gradient_of_spread(kernels: Kernels, features: Tensor, n: int) -> None:
    """Sums in float32 whatever the type, rounded once."""
    samples, _ = _batch(n, n // 5 + 1)
    leaf = features.clone(memory_format=torch.preserve_format).requires_grad_()
    out = kernels.spread(leaf, samples)
    assert out.dtype == features.dtype
    assert torch.equal(out, kernels.spread(features, samples))
    upstream = torch.randn(out.shape, generator=generator(n, 1)).to(out.dtype)
    out.backward(upstream)
    assert leaf.grad is not None
    assert leaf.grad.dtype == features.dtype
    dense = kernels.dense_features(upstream).double()
    terms = REFERENCE.sum_runs(dense.abs(), samples).numpy()
    rounding = 0.0 if features.dtype == torch.float32 else torch.finfo(features.dtype).eps
    truth = REFERENCE.sum_runs(dense, samples)
    bound = tol.GRADIENT_TERMS * terms + rounding * truth.abs().numpy()
    assert_near(kernels.dense_features(leaf.grad), truth, bound, "gradient")


def test_gradients_of_spread_and_sums_are_differentiable(kernel_set: str) -> None:
    """Each is the other's gradient, so second order is a composition of the two."""
    kernels = kernels_of(kernel_set)
    samples, _ = _batch(200, 31)
    found = []
    for chosen, dtype in ((kernels, torch.float32), (REFERENCE, torch.float64)):
        x = torch.randn(31, 4, generator=generator(1)).to(dtype).requires_grad_()
        w = torch.randn(200, 4, generator=generator(2)).to(dtype).requires_grad_()
        sums = chosen.sum_runs(chosen.spread(x, samples) ** 2 * w, samples)
        (slope,) = torch.autograd.grad((sums**2).sum(), x, create_graph=True)
        found.append(torch.autograd.grad((slope**2).sum(), (x, w)))
    for what, got, exact in zip(("x", "w"), *found):
        assert_near(got, exact, 64 * tol.GRADIENT_TERMS * float(exact.abs().max()), what)


def test_without_gradients_nothing_is_kept(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    samples, _ = _batch(31, 7)
    per_ray, values = torch.randn(7, 3), torch.randn(31, 3)
    assert kernels.spread(per_ray, samples).grad_fn is None
    assert kernels.sum_runs(values, samples).grad_fn is None
    with torch.no_grad():
        assert kernels.spread(per_ray.requires_grad_(), samples).grad_fn is None


def test_no_rays(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    none = torch.zeros(0, dtype=torch.int32)
    samples = PackedSamples(torch.zeros(0), torch.zeros(0), none, packed_info_from_counts(none))
    kept, (features,) = kernels.keep_first(samples, none, [torch.zeros(0, 3)])
    check_layout(kept, 0)
    assert features.shape == (0, 3)
    assert kernels.dense_features(kernels.spread(kernels.sh_encode(torch.zeros(0, 3)), samples)).shape == (0, 16)
    assert kernels.sum_runs(torch.zeros(0, 16), samples).shape == (0, 16)


def test_what_is_kept_can_be_encoded_and_trained_on(kernel_set: str) -> None:
    """The features of the kept samples stand for those of an encoding of the kept positions."""
    kernels = kernels_of(kernel_set)
    samples, counts = _batch(1000, 150)
    x, table = torch.rand(1000, 3, generator=generator(1)), torch.randn(GRID.n_params, generator=generator(2))
    before = kernels.hash_encode(x, table, GRID)
    kept, (features, positions) = kernels.keep_first(samples, counts, [before, x])
    gradients = []
    for given in (features, None):
        parameters = table.clone().requires_grad_()
        encoded = kernels.dense_features(kernels.hash_encode(positions, parameters, GRID, features=given))
        (encoded * torch.arange(GRID.n_output_dims)).sum().backward()
        gradients.append((encoded.detach(), parameters.grad))
    assert kept.n_samples == positions.shape[0]
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


@pytest.mark.sets("cpu")
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str) -> None:
    samples, counts = _batch(4099, 500)

    def results(kernels: Kernels) -> Iterator[Tensor]:
        yield kernels.sum_runs(torch.randn(4099, 3, generator=generator(3)), samples)
        kept, chosen = kernels.keep_first(samples, counts, _features(kernels, 4099))
        yield from (kept.t_starts, kept.t_ends, kept.ray_indices, *(kernels.dense_features(one) for one in chosen))

    two_thread_results(kernel_set, results)
