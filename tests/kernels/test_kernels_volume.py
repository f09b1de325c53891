"""Points, visibility and compositing of every kernel set against the reference in float64, and their properties."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.kernels.scene import SceneGeometry
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    SIZES,
    array,
    assert_near,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
    two_thread_results,
)

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")


def _batch(n: int, n_rays: int | None = None, opaque: float = 80.0) -> tuple[PackedSamples, Tensor, Tensor]:
    """n samples dealt out to rays (many of them empty), gaps between intervals, densities from 0 to ``opaque``."""
    n_rays = n // 7 + 3 if n_rays is None else n_rays
    rng = generator(n, n_rays)
    owners = torch.sort(torch.randint(0, max(n_rays // 2, 1), (n,), generator=rng) * 2)[0].clamp(max=n_rays - 1)
    counts = torch.bincount(owners, minlength=n_rays) if n else torch.zeros(n_rays, dtype=torch.int64)
    info = packed_info_from_counts(counts)
    gaps = torch.rand(n, generator=rng) * 0.1
    lengths = torch.rand(n, generator=rng) * 0.05 + 1e-3
    starts = (gaps + lengths).cumsum(0)
    starts = starts - starts[info[:, 0].long().clamp(max=max(n - 1, 0))][owners] + 0.1 if n else starts
    sigmas = torch.exp(3 * torch.randn(n, generator=rng)).clamp(max=opaque)
    sigmas[torch.rand(n, generator=rng) < 0.1] = 0.0
    samples = PackedSamples(starts, starts + lengths, ray_indices_from_counts(counts), info)
    return samples, sigmas, torch.rand(n, 3, generator=rng)


def _double(samples: PackedSamples) -> PackedSamples:
    return PackedSamples(samples.t_starts.double(), samples.t_ends.double(), samples.ray_indices, samples.packed_info)


def _composite(
    kernels: Kernels, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples, c: Tensor, c_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Sums, weights and gradients for cotangents c [R, 5] of colour, opacity and depth, and of the weights if given."""
    s, rgb = sigmas.clone().requires_grad_(), rgbs.clone().requires_grad_()
    out = kernels.composite(s, rgb, samples)
    loss = (out.rgbs * c[:, :3]).sum() + (out.opacities * c[:, 3]).sum() + (out.depths * c[:, 4]).sum()
    if c_weights is not None:
        loss = loss + (out.weights * c_weights).sum()
    loss.backward()
    assert s.grad is not None
    assert rgb.grad is not None
    return {
        "colours": out.rgbs.detach(),
        "opacities": out.opacities.detach(),
        "depths": out.depths.detach(),
        "weights": out.weights.detach(),
        "density gradient": s.grad,
        "colour gradient": rgb.grad,
    }


@pytest.mark.parametrize("n", SIZES)
def test_composite(kernel_set: str, n: int) -> None:
    samples, sigmas, rgbs = _batch(n)
    c = torch.randn(samples.n_rays, 5, generator=generator(n))
    got = _composite(kernels_of(kernel_set), sigmas, rgbs, samples, c)
    truth = _composite(REFERENCE, sigmas.double(), rgbs.double(), _double(samples), c.double())
    _compare(got, truth, samples, c)


@pytest.mark.parametrize("n", SIZES)
def test_gradients_of_weights(kernel_set: str, n: int) -> None:
    """They add to what flows from the sums, and leave the colours' gradient and all values as they are."""
    samples, sigmas, rgbs = _batch(n)
    rng = generator(n, 1)
    c, c_weights = torch.randn(samples.n_rays, 5, generator=rng), torch.randn(n, generator=rng)
    kernels = kernels_of(kernel_set)
    got = _composite(kernels, sigmas, rgbs, samples, c, c_weights)
    truth = _composite(REFERENCE, sigmas.double(), rgbs.double(), _double(samples), c.double(), c_weights.double())
    # The value of a sample, of which the bound is made, has one more term.
    _compare(got, truth, samples, torch.cat([c, c_weights.abs().amax().expand(len(c), 1) if n else c[:, :1]], -1))
    without = _composite(kernels, sigmas, rgbs, samples, c)
    for what in set(got) - {"density gradient"}:
        assert torch.equal(got[what], without[what]), what


def test_gradients_of_weights_along_one_long_ray(kernel_set: str) -> None:
    samples, sigmas, rgbs = _batch(1024, n_rays=1, opaque=0.5)
    c, c_weights = torch.randn(1, 5, generator=generator(2)), torch.randn(1024, generator=generator(3))
    got = _composite(kernels_of(kernel_set), sigmas, rgbs, samples, c, c_weights)
    truth = _composite(REFERENCE, sigmas.double(), rgbs.double(), _double(samples), c.double(), c_weights.double())
    _compare(got, truth, samples, torch.cat([c, c_weights.abs().amax().view(1, 1)], -1))


@pytest.mark.parametrize("loss", [torch.sum, torch.norm])
@pytest.mark.parametrize("output", ["rgbs", "weights"])
def test_a_second_derivative_is_refused(kernel_set: str, output: str, loss: Callable[[Tensor], Tensor]) -> None:
    """It is not computed, and zero would be wrong; also of a sum, whose upstream gradient needs none itself."""
    samples, sigmas, rgbs = _batch(60)
    s = sigmas.requires_grad_()
    out = getattr(kernels_of(kernel_set).composite(s, rgbs, samples), output)
    (slope,) = torch.autograd.grad(loss(out), s, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (slope**2).sum().backward()


def _compare(got: dict[str, Tensor], truth: dict[str, Tensor], samples: PackedSamples, c: Tensor) -> None:
    reach = 1.0 + float(samples.t_ends.max() if samples.n_samples else 0.0)
    for what, exact in truth.items():
        bound = tol.COMPOSITE_32 * (reach if what == "depths" else 1.0)
        if what == "density gradient" and samples.n_samples:
            value = c.abs().sum(-1).max() * reach * (samples.t_ends - samples.t_starts).max()
            bound = tol.COMPOSITE_GRADIENT_32 * float(value)
        elif what == "colour gradient":
            bound *= float(c.abs().max())
        assert_near(got[what], exact, bound, what)


def test_composite_of_no_rays(kernel_set: str) -> None:
    samples, sigmas, rgbs = _batch(0, n_rays=0)
    got = _composite(kernels_of(kernel_set), sigmas, rgbs, samples, torch.zeros(0, 5))
    assert got["colours"].shape == (0, 3)
    assert got["opacities"].shape == got["depths"].shape == (0,)


def test_composite_of_one_long_ray(kernel_set: str) -> None:
    """1,024 thin samples: the errors of the running transmittance must not add up."""
    samples, sigmas, rgbs = _batch(1024, n_rays=1, opaque=0.5)
    c = torch.randn(1, 5, generator=generator(2))
    got = _composite(kernels_of(kernel_set), sigmas, rgbs, samples, c)
    _compare(got, _composite(REFERENCE, sigmas.double(), rgbs.double(), _double(samples), c.double()), samples, c)


def test_composite_of_walls_and_of_air(kernel_set: str) -> None:
    """Densities as large as float32 allows are opaque, not NaN; without density nothing is seen and the gradient is
    finite."""
    samples, _, rgbs = _batch(60, n_rays=4)
    c = torch.randn(4, 5, generator=generator(2))
    for value in (1e30, 1e4, 1e-30, 0.0):
        sigmas = torch.full((60,), value)
        got = _composite(kernels_of(kernel_set), sigmas, rgbs, samples, c)
        _compare(got, _composite(REFERENCE, sigmas.double(), rgbs.double(), _double(samples), c.double()), samples, c)


@pytest.mark.parametrize("only", ["rgbs", "opacities", "depths", "weights"])
def test_any_output_alone_can_be_differentiated(kernel_set: str, only: str) -> None:
    samples, sigmas, rgbs = _batch(200)
    results = []
    for kernels, dtype in ((kernels_of(kernel_set), torch.float32), (REFERENCE, torch.float64)):
        s, rgb = sigmas.to(dtype, copy=True).requires_grad_(), rgbs.to(dtype, copy=True).requires_grad_()
        getattr(kernels.composite(s, rgb, samples if dtype == torch.float32 else _double(samples)), only).sum().backward()
        results.append((s.grad, torch.zeros_like(rgb) if rgb.grad is None else rgb.grad))
    reach = 1.0 + float(samples.t_ends.max())
    for what, got, exact in zip(("density gradient", "colour gradient"), *results):
        assert_near(got, exact, tol.COMPOSITE_GRADIENT_32 * 3 * reach, what)


def test_any_strides(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    samples, sigmas, rgbs = _batch(100)
    c = torch.randn(samples.n_rays, 5, generator=generator(1))
    wanted = _composite(kernels, sigmas, rgbs, samples, c)
    rows = torch.full((4, 128), float("nan"))
    rows[:3, :100], rows[3, :100] = rgbs.t(), sigmas
    s, rgb = rows[3, :100].requires_grad_(), rows.t()[:100, :3].requires_grad_()
    out = kernels.composite(s, rgb, samples)
    (out.rgbs * c[:, :3]).sum().backward()
    assert torch.equal(out.rgbs, wanted["colours"])
    assert torch.equal(rgb.grad, wanted["colour gradient"])
    wide = torch.stack([sigmas, sigmas], -1)[:, 0]
    assert torch.equal(kernels.composite(wide, rgbs, samples).opacities, wanted["opacities"])


def test_weights_sum_to_at_most_one(kernel_set: str) -> None:
    samples, sigmas, rgbs = _batch(4099, n_rays=60)
    out = kernels_of(kernel_set).composite(sigmas, rgbs, samples)
    assert (out.weights >= 0).all()
    assert out.opacities.max() <= 1 + tol.WEIGHT_SUM
    assert out.opacities.max() > 0.99, "some rays are opaque"
    sums = torch.zeros(samples.n_rays).index_add(0, samples.ray_indices.long(), out.weights)
    assert_near(sums, out.opacities, tol.WEIGHT_SUM, "opacities are the sums of the weights")


def test_splitting_an_interval_changes_nothing(kernel_set: str) -> None:
    """An interval cut in three, density and colour as before: the same colour and opacity, the weight shared out."""
    kernels = kernels_of(kernel_set)
    samples, sigmas, rgbs = _batch(500)
    whole = kernels.composite(sigmas, rgbs, samples)
    length = samples.t_ends - samples.t_starts
    edges = torch.stack([samples.t_starts + share * length for share in (0.0, 0.2, 0.7)], -1).reshape(-1)
    ends = torch.stack([edges[1::3], edges[2::3], samples.t_ends], -1).reshape(-1)
    counts = samples.packed_info[:, 1] * 3
    cut = PackedSamples(edges, ends, ray_indices_from_counts(counts), packed_info_from_counts(counts))
    parts = kernels.composite(sigmas.repeat_interleave(3), rgbs.repeat_interleave(3, 0), cut)
    # The cuts are rounded to float32: each length is off by u * t, each thickness by sigma times that.
    moved = 6 * tol.ROUNDOFF32 * float((sigmas * samples.t_ends).max()) + tol.COMPOSITE_32
    assert_near(parts.rgbs, whole.rgbs, moved, "colours")
    assert_near(parts.opacities, whole.opacities, moved, "opacities")
    assert_near(parts.weights.view(-1, 3).sum(-1), whole.weights, moved, "weights")


def test_packed_equals_dense(kernel_set: str) -> None:
    """Rays as rows of a matrix, those with fewer samples filled up with empty intervals; products instead of sums of
    thickness."""
    samples, sigmas, rgbs = _batch(800, n_rays=40)
    longest = int(samples.packed_info[:, 1].max())
    rows = samples.ray_indices.long()
    columns = torch.arange(800) - samples.packed_info[:, 0].long()[rows]
    alpha, colour = torch.zeros(40, longest).double(), torch.zeros(40, longest, 3).double()
    alpha[rows, columns] = 1 - torch.exp(-sigmas.double() * (samples.t_ends - samples.t_starts).double())
    colour[rows, columns] = rgbs.double()
    before = torch.cat([torch.ones(40, 1), torch.cumprod(1 - alpha, -1)[:, :-1]], -1)
    weights = before * alpha
    out = kernels_of(kernel_set).composite(sigmas, rgbs, samples)
    assert_near(out.rgbs, (weights[..., None] * colour).sum(1), tol.COMPOSITE_32, "colours")
    assert_near(out.opacities, weights.sum(1), tol.COMPOSITE_32, "opacities")
    assert_near(out.weights, weights[rows, columns], tol.COMPOSITE_32, "weights")


@pytest.mark.parametrize("threshold", [1e-4, 0.01, 0.9])
@pytest.mark.parametrize("n", SIZES)
def test_visible_counts(kernel_set: str, n: int, threshold: float) -> None:
    samples, sigmas, _ = _batch(n)
    got = kernels_of(kernel_set).visible_counts(sigmas, samples, threshold)
    assert got.dtype == torch.int32
    # Rounding may move the count where the transmittance is just the threshold: between these two it must lie.
    slack = 1 + 64 * tol.ROUNDOFF32 * (1 - np.log(threshold))
    low, high = (REFERENCE.visible_counts(sigmas.double(), _double(samples), t) for t in (threshold * slack, threshold / slack))
    assert ((got >= low) & (got <= high)).all()
    assert (low != high).float().mean() < 0.02, "hardly a ray is in doubt"


@pytest.mark.parametrize("scale", [1, 8])
@pytest.mark.parametrize("n", SIZES)
def test_points(kernel_set: str, n: int, scale: int) -> None:
    samples, _, _ = _batch(n)
    geometry = SceneGeometry((0.3, -0.7, 1.1), 1.7, scale)
    rng = generator(n, scale)
    o = torch.randn(samples.n_rays, 3, generator=rng) * scale
    d = torch.nn.functional.normalize(torch.randn(samples.n_rays, 3, generator=rng), dim=-1)
    got = kernels_of(kernel_set).points(o, d, samples, geometry)
    truth = REFERENCE.points(o.double(), d.double(), _double(samples), geometry)
    assert got.shape == (n, 3)
    assert not n or (float(got.min()) >= 0.0 and float(got.max()) <= 1.0)
    largest = 2 + (float(o.abs().max()) + 2.0 + float(samples.t_ends.max()) if n else 0.0) / geometry.box_size
    assert_near(got, truth, tol.POINT_32 * largest, "points")


def _point_gradients(kernels: Kernels, o: Tensor, d: Tensor, samples: PackedSamples, geometry: SceneGeometry, c: Tensor):  # type: ignore[no-untyped-def]
    leaves = [o.clone().requires_grad_(), d.clone().requires_grad_()]
    out = kernels.points(*leaves, samples, geometry)
    (out * c).sum().backward()
    return out.detach(), *(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("scale", [1, 8])
@pytest.mark.parametrize("n", SIZES)
def test_gradients_of_points(kernel_set: str, n: int, scale: int) -> None:
    """To origins and directions; clamped coordinates have none, and rays without samples get zeros."""
    samples, _, _ = _batch(n)
    geometry, kernels = SceneGeometry((0.3, -0.7, 1.1), 1.7, scale), kernels_of(kernel_set)
    rng = generator(n, scale)
    o = torch.randn(samples.n_rays, 3, generator=rng) * scale
    d = torch.nn.functional.normalize(torch.randn(samples.n_rays, 3, generator=rng), dim=-1)
    exact = REFERENCE.points(o.double(), d.double(), _double(samples), geometry)
    largest = 2 + (float(o.abs().max()) + 2.0 + float(samples.t_ends.max()) if n else 0.0) / geometry.box_size
    unclamped = geometry.normalize(o.double()[samples.ray_indices.long()])
    unclamped += (
        d.double()[samples.ray_indices.long()] * (samples.t_starts + samples.t_ends).double()[:, None] / 2
    ) / geometry.box_size
    # Where rounding decides whether a coordinate is clamped, nothing is asked.
    doubt = torch.minimum(unclamped.abs(), (1 - unclamped).abs()) <= tol.POINT_32 * largest
    c = torch.where(doubt, 0.0, torch.randn(n, 3, generator=rng))
    got = _point_gradients(kernels, o, d, samples, geometry, c)
    truth = _point_gradients(REFERENCE, o.double(), d.double(), _double(samples), geometry, c.double())
    assert torch.equal(got[0], kernels.points(o, d, samples, geometry)), "the values are those without gradients"
    inside = (exact > 0) & (exact < 1)
    assert not n > 30 or 0 < int(inside.sum()) < inside.numel()
    middle = 0.5 * (samples.t_starts + samples.t_ends)[:, None].double()
    for what, mine, wanted, factor in (("origins", got[1], truth[1], 1.0), ("directions", got[2], truth[2], middle)):
        terms = REFERENCE.sum_runs(c.double().abs() * inside * factor, samples) / geometry.box_size
        assert_near(mine, wanted, tol.GRADIENT_TERMS * array(terms), what)


def test_gradients_of_points_where_one_is_wanted_or_none(kernel_set: str) -> None:
    kernels = kernels_of(kernel_set)
    samples, _, _ = _batch(100)
    o = torch.zeros(samples.n_rays, 3)
    d = torch.nn.functional.normalize(torch.randn(samples.n_rays, 3, generator=generator(1)), dim=-1)
    geometry = SceneGeometry()
    assert kernels.points(o, d, samples, geometry).grad_fn is None
    _, d_o, d_d = _point_gradients(kernels, o, d, samples, geometry, torch.ones(100, 3))
    for number, whole in ((0, d_o), (1, d_d)):
        rays = [o.clone(), d.clone()]
        rays[number].requires_grad_()
        with torch.no_grad():
            assert kernels.points(*rays, samples, geometry).grad_fn is None
        kernels.points(*rays, samples, geometry).sum().backward()
        assert torch.equal(rays[number].grad, whole)
        assert rays[1 - number].grad is None
    leaf = d.clone().requires_grad_()
    (slope,) = torch.autograd.grad((kernels.points(o, leaf, samples, geometry) ** 2).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


@pytest.mark.sets("cpu")
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str) -> None:
    samples, sigmas, rgbs = _batch(20_000, n_rays=3000)
    c = torch.randn(3000, 5, generator=generator(1))
    o = torch.randn(3000, 3, generator=generator(2))

    def results(kernels: Kernels) -> Iterator[Tensor]:
        yield from _composite(kernels, sigmas, rgbs, samples, c, torch.randn(20_000, generator=generator(4))).values()
        yield kernels.visible_counts(sigmas, samples, 1e-2)
        d = torch.nn.functional.normalize(o, dim=-1)
        yield from _point_gradients(kernels, o, d, samples, SceneGeometry(aabb_scale=4), torch.ones(20_000, 3))

    two_thread_results(kernel_set, results)


def test_points_feed_the_encoding_without_leftovers(kernel_set: str) -> None:
    """What lies beyond the last point in its buffer is finite: an encoding may read it."""
    samples, _, _ = _batch(31)
    o = torch.zeros(samples.n_rays, 3)
    got = kernels_of(kernel_set).points(o, o + 1, samples, SceneGeometry())
    memory = torch.as_strided(got, (got.untyped_storage().nbytes() // 4,), (1,), 0)
    assert np.isfinite(array(memory)).all()
