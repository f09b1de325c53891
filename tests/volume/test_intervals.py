"""Intervals along rays: where they lie, how new ones are drawn, and what they gather."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.volume.intervals import blurred, composite, jittered_borders, resampled, spread_along, stratified_points
from support.kernel_cases import kernels_of

LIKE = torch.empty(0, dtype=torch.float64)


def histogram(n_rays: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Borders [R, n + 1] at odd distances, and weights [R, n] of which some are zero."""
    rng = torch.Generator().manual_seed(seed)
    borders = (2.0 + torch.rand(n_rays, n + 1, generator=rng, dtype=torch.float64).cumsum(-1)).sort(-1).values
    weights = torch.rand(n_rays, n, generator=rng, dtype=torch.float64).square()
    weights[:, ::3] = 0.0
    return borders, weights


# -- where the first pass looks


@pytest.mark.parametrize("random", [True, False])
def test_borders_lie_about_where_even_ones_do(random: bool) -> None:
    torch.manual_seed(0)
    n = 16
    shares = jittered_borders(4000, n, random, LIKE)
    even = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    assert ((shares[:, 1:] - shares[:, :-1]) >= 0).all()
    assert shares.min() >= 0.0
    assert shares.max() <= 1.0
    assert float((shares - even).abs().max()) <= 0.5 / n + 1e-12
    if random:
        # uniform over 1/n (the ends over half of it): the mean of 4,000 within 5 standard errors
        inner = shares[:, 1:-1]
        assert float((inner.mean(0) - even[1:-1]).abs().max()) < 5 / n / math.sqrt(12 * 4000)
        assert float(inner.std(0).min()) > 0.9 / n / math.sqrt(12)
    else:
        assert torch.equal(shares, even.expand(4000, -1))


@pytest.mark.parametrize("random", [True, False])
def test_points_lie_one_in_each_part(random: bool) -> None:
    torch.manual_seed(0)
    points = stratified_points(1000, 8, random, LIKE)
    assert torch.equal((points * 8).floor(), torch.arange(8.0, dtype=torch.float64).expand(1000, -1))
    assert random == bool((points.std(0) > 0.01).all())


@pytest.mark.parametrize("inverse", [True, False])
def test_the_way_is_spread_from_end_to_end(inverse: bool) -> None:
    t_min, t_max = torch.tensor([2.0, 0.0, 0.5]).double(), torch.tensor([6.0, 3.0, 0.5]).double()
    shares = torch.linspace(0, 1, 9).double().expand(3, -1)
    t = spread_along(shares, t_min, t_max, inverse)
    assert torch.isfinite(t).all()
    assert ((t[:, 1:] - t[:, :-1]) >= 0).all()
    torch.testing.assert_close(t[:, -1], t_max)
    expected = 1 / np.linspace(1 / 2.0, 1 / 6.0, 9) if inverse else np.linspace(2.0, 6.0, 9)
    np.testing.assert_allclose(t[0].numpy(), expected, rtol=1e-12)
    assert (t[1] >= 0).all()


# -- drawing from a histogram


def inverted(borders: list[float], weights: list[float], u: float) -> float:
    """Where the sum of a histogram reaches u of its total, by walking along it."""
    missing = max(0.0, 1e-5 - sum(weights)) / len(weights)
    masses = [w + missing for w in weights]
    total, below = sum(masses), 0.0
    for k, mass in enumerate(masses):
        if mass > 0 and below + mass / total >= u:
            return borders[k] + (u - below) * total / mass * (borders[k + 1] - borders[k])
        below += mass / total
    return borders[-1]


def test_evenly_spaced_draws_against_a_walk() -> None:
    borders, weights = histogram(5, 11)
    found = resampled(borders, weights, 33, random=False)
    top = 1.0 - torch.finfo(torch.float64).eps
    for ray in range(5):
        for place, u in enumerate(np.linspace(0.0, top, 33)):
            expected = inverted(borders[ray].tolist(), weights[ray].tolist(), u)
            # at u = 0 any place of an empty first bin is as good
            assert float(found[ray, place]) == pytest.approx(expected, abs=1e-9) or place == 0


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rays", "n"), [(64, 129), (3, 1), (0, 5)])
def test_draws_are_sorted_within_bounds_and_without_gradient(random: bool, kind: torch.dtype, rays: int, n: int) -> None:
    torch.manual_seed(0)
    borders, weights = (x.to(kind) for x in histogram(rays, 32))
    found = resampled(borders, weights.requires_grad_(), n, random)
    assert found.shape == (rays, n)
    assert not found.requires_grad
    assert ((found[:, 1:] - found[:, :-1]) >= 0).all()
    assert (found >= borders[:, :1]).all()
    assert (found <= borders[:, -1:]).all()


def test_draws_follow_the_histogram() -> None:
    """Of n stratified draws a bin gets within one of n times its share at either end; many rays bring the mean there."""
    torch.manual_seed(1)
    n, rays = 64, 4000
    borders, weights = (x[:1].expand(rays, -1) for x in histogram(1, 12, seed=5))
    found = resampled(borders, weights, n, random=True)
    share = weights[0] / weights[0].sum()
    bins = torch.searchsorted(borders[0].contiguous(), found, right=True) - 1
    counts = torch.nn.functional.one_hot(bins.clamp(0, 11), 12).double().sum(1)
    assert float((counts - n * share).abs().max()) < 2.0
    # a count's deviation is below one: the mean of 4,000 within 5 of its standard errors
    assert float((counts.mean(0) - n * share).abs().max()) < 5 / math.sqrt(rays)
    assert not counts[:, share == 0].any()
    within = (found - borders[0][bins]) / (borders[0][bins + 1] - borders[0][bins])
    assert float(within.mean()) == pytest.approx(0.5, abs=0.01), "evenly within its bin"


def test_nothing_counts_as_the_same_everywhere() -> None:
    borders = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    found = resampled(borders, torch.zeros(1, 4), 5, random=False)
    torch.testing.assert_close(found, borders, atol=1e-5, rtol=0)


def test_weights_are_blurred_as_a_loop_does() -> None:
    _, weights = histogram(4, 9)
    found = blurred(weights)
    for ray, row in enumerate(weights.tolist()):
        wide = [row[0], *row, row[-1]]
        expected = [0.5 * (max(wide[k], wide[k + 1]) + max(wide[k + 1], wide[k + 2])) for k in range(9)]
        np.testing.assert_allclose(found[ray].numpy(), expected, rtol=1e-15)
    assert (found >= weights).all(), "an envelope of them"


# -- compositing


def gathered_case(n_rays: int = 6, n: int = 20, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Densities from nothing to opaque, colours, borders."""
    rng = torch.Generator().manual_seed(4)
    sigmas = torch.rand(n_rays, n, generator=rng, dtype=torch.float64).pow(4) * 30
    sigmas[0] = 0.0
    sigmas[1, 3] = 1e30
    rgbs = torch.rand(n_rays, n, 3, generator=rng, dtype=torch.float64)
    borders, _ = histogram(n_rays, n)
    return sigmas.to(kind), rgbs.to(kind), borders.to(kind)


def test_compositing_against_loops() -> None:
    sigmas, rgbs, t = gathered_case()
    middles = 0.5 * (t[:, 1:] + t[:, :-1])
    found = composite(sigmas, rgbs, t, middles)
    for ray in range(len(sigmas)):
        light, color, depth, opacity = 1.0, np.zeros(3), 0.0, 0.0
        for k in range(sigmas.shape[1]):
            alpha = 1.0 - math.exp(-float(sigmas[ray, k] * (t[ray, k + 1] - t[ray, k])))
            assert float(found.weights[ray, k]) == pytest.approx(light * alpha, abs=1e-12)
            color += light * alpha * rgbs[ray, k].numpy()
            depth, opacity = depth + light * alpha * float(middles[ray, k]), opacity + light * alpha
            light *= 1.0 - alpha
        np.testing.assert_allclose(found.rgbs[ray].numpy(), color, atol=1e-12)
        assert float(found.depths[ray]) == pytest.approx(depth, abs=1e-11)
        assert float(found.opacities[ray]) == pytest.approx(opacity, abs=1e-12)


def test_compositing_is_that_of_packed_samples() -> None:
    """The kernel sets' operation on the same intervals; in float64 to a few of its roundings."""
    sigmas, rgbs, t = gathered_case()
    n_rays, n = sigmas.shape
    counts = torch.full((n_rays,), n)
    packed = PackedSamples(
        t[:, :-1].reshape(-1), t[:, 1:].reshape(-1), ray_indices_from_counts(counts), packed_info_from_counts(counts)
    )
    expected = kernels_of("reference").composite(sigmas.reshape(-1), rgbs.reshape(-1, 3), packed)
    found = composite(sigmas, rgbs, t, 0.5 * (t[:, 1:] + t[:, :-1]))
    for name in ("rgbs", "opacities", "depths"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.weights.reshape(-1), expected.weights, rtol=1e-11, atol=1e-12)


def test_weights_sum_to_at_most_one() -> None:
    sigmas, rgbs, t = gathered_case(200, 128, torch.float32)
    found = composite(100.0 * sigmas, rgbs, t, t[:, 1:])
    assert float(found.opacities.max()) <= 1.0
    assert float(found.weights.sum(-1).max()) <= 1.0 + 1e-6
    assert not found.opacities[0].any()


def test_splitting_an_interval_changes_nothing() -> None:
    sigmas, rgbs, t = gathered_case()
    whole = composite(sigmas, rgbs, t, t[:, 1:])
    cut = torch.stack([t[:, :-1], 0.5 * (t[:, :-1] + t[:, 1:])], -1).flatten(1)
    halves = torch.cat([cut, t[:, -1:]], -1)
    split = composite(sigmas.repeat_interleave(2, 1), rgbs.repeat_interleave(2, 1), halves, halves[:, 1:])
    torch.testing.assert_close(split.rgbs, whole.rgbs, rtol=1e-12, atol=1e-13)


def test_gradients_of_compositing() -> None:
    sigmas, rgbs, t = gathered_case(3, 5)
    sigmas = sigmas.clamp(max=5.0) + 0.1
    inputs = [x.clone().requires_grad_() for x in (sigmas, rgbs)]
    assert torch.autograd.gradcheck(lambda s, c: composite(s, c, t, t[:, 1:])[:3], inputs)
