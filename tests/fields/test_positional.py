"""Sines and cosines of positions: against loops in float64, and of Gaussians against points drawn from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ngp_method.fields.positional import integrated_positional_encoding, n_features, octaves, positional_encoding


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize(("lowest", "count"), [(0, 10), (-3, 5), (0, 0)])
def test_points_against_a_loop(identity: bool, lowest: int, count: int) -> None:
    positions = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = positional_encoding(positions, octaves(lowest, count, positions), identity)
    assert found.shape == (5, 2, n_features(3, count, identity))
    for i in range(5):
        for j in range(2):
            x = positions[i, j].tolist()
            angles = [2.0**k * value for k in range(lowest, lowest + count) for value in x]
            expected = (x if identity else []) + [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            np.testing.assert_allclose(found[i, j].numpy(), expected, rtol=0, atol=1e-13)


def test_gaussians_against_points_drawn_from_them() -> None:
    """E[sin f x] and E[cos f x] by Monte Carlo, every feature within 5 standard errors: some 0.004 of a range of 2."""
    n, rng = 400_000, torch.Generator().manual_seed(3)
    means = torch.tensor([0.4, -1.3, 0.05], dtype=torch.float64)
    variances = torch.tensor([0.02, 0.3, 1e-6], dtype=torch.float64)
    frequencies = octaves(-1, 9, means)
    points = means + variances.sqrt() * torch.randn(n, 3, generator=rng, dtype=torch.float64)
    drawn = positional_encoding(points, frequencies, identity=False)
    error = drawn.std(0) / math.sqrt(n) + 1e-12
    found = integrated_positional_encoding(means, variances, frequencies)
    assert ((found - drawn.mean(0)).abs() < 5.0 * error).all()
    plain = positional_encoding(means, frequencies, identity=False)
    assert float((plain - drawn.mean(0)).abs().max()) > 0.5, "the points' own encoding is another thing"


def test_gaussians_against_quadrature() -> None:
    """The same by Gauss-Hermite quadrature of 60 points, exact to float64 for waves that the Gaussian is not far wider than."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    means, deviations = [0.4, -1.3, 2.0], [0.1, 0.5, 0.01]
    frequencies = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    found = integrated_positional_encoding(
        torch.tensor(means, dtype=torch.float64), torch.tensor(deviations, dtype=torch.float64).square(), frequencies
    )
    for part, wave in enumerate((np.sin, np.cos)):
        expected = [
            float((w * wave(f * (m + s * x))).sum() / w.sum())
            for f in frequencies.tolist()
            for m, s in zip(means, deviations, strict=True)
        ]
        np.testing.assert_allclose(found[9 * part : 9 * (part + 1)].numpy(), expected, rtol=0, atol=1e-13)


def test_a_gaussian_without_width_is_a_point_and_a_wide_one_nothing() -> None:
    positions = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
    frequencies = octaves(0, 16, positions)
    zero = torch.zeros_like(positions)
    sharp = integrated_positional_encoding(positions, zero, frequencies)
    assert torch.equal(sharp, positional_encoding(positions, frequencies, identity=False))
    wide = integrated_positional_encoding(positions, zero + 1e4, frequencies)
    assert float(wide.abs().max()) < 1e-30
    assert torch.isfinite(integrated_positional_encoding(positions, zero + 1e38, frequencies)).all()
