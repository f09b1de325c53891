"""NeRF's perceptron: its size is the published one, and what it computes stands in loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ngp_method.fields.nerf_mlp import MLPSizes, NerfMLP


def count(n_positions: int, n_directions: int) -> int:
    """Numbers of the published network, written out layer by layer."""
    rows = [n_positions, 256, 256, 256, 256, 256 + n_positions, 256, 256]
    trunk = sum((n + 1) * 256 for n in rows)
    return trunk + (256 + 1) * 1 + (256 + 1) * 256 + (256 + n_directions + 1) * 128 + (128 + 1) * 3


@pytest.mark.parametrize(
    ("n_positions", "published"),
    [
        (2 * 3 * 16, 612_740),  # mip-NeRF: its paper says "612K" beside NeRF's 1,191K
        (3 + 2 * 3 * 10, 1_191_688 // 2),  # NeRF: each of two
    ],
)
def test_the_published_sizes(n_positions: int, published: int) -> None:
    assert NerfMLP(n_positions, 27, MLPSizes()).n_params == count(n_positions, 27) == published


@pytest.mark.parametrize(
    "sizes", [MLPSizes(8, 4, 2, 6, 1), MLPSizes(8, 3, 3, 6, 2), MLPSizes(5, 1, 5, 4, 0), MLPSizes(5, 2, 1, 4, 1)]
)
def test_against_loops(sizes: MLPSizes) -> None:
    """ReLU behind hidden layers alone, the position joined once more behind one, none behind the bottleneck."""
    torch.manual_seed(0)
    network = NerfMLP(7, 4, sizes).double()
    for parameter in network.parameters():  # biases too
        torch.nn.init.normal_(parameter, std=0.5)
    positions, directions = torch.randn(6, 7, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    raw, rgbs = network(positions, directions)

    def layer(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
        weight, bias = (p.detach().numpy() for p in module.parameters())
        return np.array([sum(weight[row, i] * x[i] for i in range(len(x))) + bias[row] for row in range(len(bias))])

    for n in range(6):
        x = positions[n].numpy()
        for number, module in enumerate(network.trunk, 1):
            x = np.maximum(layer(module, x), 0.0)
            if number == sizes.skip_after:
                x = np.concatenate([x, positions[n].numpy()])
        density = layer(network.density_head, x)
        x = np.concatenate([layer(network.bottleneck, x), directions[n].numpy()])
        for module in network.color_trunk:
            x = np.maximum(layer(module, x), 0.0)
        np.testing.assert_allclose(raw[n].detach().numpy(), density[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rgbs[n].detach().numpy(), layer(network.color_head, x), rtol=1e-12, atol=1e-12)


def test_it_begins_as_glorot_has_it() -> None:
    torch.manual_seed(0)
    network = NerfMLP(96, 27, MLPSizes())
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            bound = (6.0 / sum(module.weight.shape)) ** 0.5
            assert 0.8 * bound < float(module.weight.detach().abs().max()) <= bound
            assert not module.bias.any()
