"""Two operations in one, for rendering: what they give must be what the two give one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.fields.averaged import xavier_uniform
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from support import tolerances as tol
from support.kernel_cases import SETS, SIZES, array, generator, kernels_of, low_precision, nan_memory  # noqa: F401 - a fixture

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")
GRIDS = {
    "16x2": HashGridLayout(16, 2, 11, 16, 512),
    "8x4": HashGridLayout(8, 4, 11, 8, 256),
    "plane 16x2": HashGridLayout(16, 2, 11, 16, 512, 2),
}


def assert_same(kernel_set: str, got: Tensor, composed: Tensor, truth: Tensor) -> None:
    """As close to the truth as the set's own two operations are; where it computes in float32, close by itself."""
    assert got.shape == truth.shape
    assert got.dtype == torch.float32
    if not got.numel():
        return
    size = tol.rms(array(truth))
    error, theirs = tol.rms(array(got) - array(truth)), tol.rms(array(composed) - array(truth))
    if low_precision(kernel_set):
        assert error <= tol.LOW_PRECISION_RMS * theirs + tol.LOW_PRECISION_FLOOR * size
    else:
        assert error <= tol.SAME_PRECISION * theirs + tol.MLP_32 * size


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize(("rows", "hidden"), [(1, 1), (16, 1), (1, 2), (3, 2)])
def test_encoding_and_network(kernel_set: str, n: int, shape: str, rows: int, hidden: int) -> None:
    """One hidden layer for the density, two for functions."""
    kernels, grid, random = kernels_of(kernel_set), GRIDS[shape], generator(n, rows)
    torch.manual_seed(n)
    layout = MLPLayout(grid.n_output_dims, 16 if hidden == 1 else rows, 64, hidden)
    weights, table = xavier_uniform(layout), torch.randn(grid.n_params, generator=random)
    positions = torch.rand(n, grid.n_dims, generator=random)
    positions[: n // 8] = (positions[: n // 8] * 4).round() / 4  # cell borders, 0 and 1
    got = kernels.encode_mlp(positions, table, weights, grid, layout, rows)
    composed = kernels.mlp([kernels.hash_encode(positions, table, grid)], weights, layout, rows)
    # Positions stay what float32 makes of them on the lattice: only what follows is computed in float64.
    features = REFERENCE.hash_encode(positions, table, grid)
    assert_same(kernel_set, got, composed, REFERENCE.mlp([features.double()], weights.double(), layout, rows))
    assert not got.requires_grad


@pytest.mark.parametrize("n_rays", [0, 1, 31, 400])
def test_harmonics_and_colour_network(kernel_set: str, n_rays: int) -> None:
    kernels, random = kernels_of(kernel_set), generator(n_rays)
    torch.manual_seed(n_rays)
    layout = MLPLayout(32, 3, 64, 2)
    weights = xavier_uniform(layout)
    counts = torch.randint(0, 12, (n_rays,), generator=random)
    rays, total = ray_indices_from_counts(counts), int(counts.sum())
    samples = PackedSamples(torch.rand(total), torch.rand(total), rays, packed_info_from_counts(counts))
    directions = torch.nn.functional.normalize(torch.randn(n_rays, 3, generator=random), dim=-1)
    raw = torch.randn(total, 16, generator=random)
    got = kernels.sh_mlp(raw, directions, samples, weights, layout)
    composed = kernels.mlp([raw, kernels.spread(kernels.sh_encode(directions), samples)], weights, layout)
    harmonics = REFERENCE.sh_encode(directions.double())[rays.long()]
    assert_same(kernel_set, got, composed, REFERENCE.mlp([raw.double(), harmonics], weights.double(), layout))
