"""NeRF's multilayer perceptron, which mip-NeRF shares: positions -> density, and with a direction -> colour.

Plain torch, with biases: a baseline as it was published, not one of the kernel sets' perceptrons.
Source: NeRF (arXiv 2003.08934), figure 7; mip-NeRF (arXiv 2103.13415), section 4; Glorot's initialisation and biases of zero
as in the code of both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MLPSizes:
    """Widths and depths.

    Attributes:
        n_neurons: width of the trunk.
        n_hidden_layers: hidden layers of the trunk.
        skip_after: hidden layer, counted from 1, behind which the encoded position is joined once more; no layer that far:
            nowhere.
        n_neurons_color: width of the layers behind the joined direction.
        n_hidden_layers_color: how many of these there are.
    """

    n_neurons: int = 256
    n_hidden_layers: int = 8
    skip_after: int = 5
    n_neurons_color: int = 128
    n_hidden_layers_color: int = 1


class NerfMLP(nn.Module):
    """Encoded positions and directions -> raw density and raw colour, before their activations.

    Args:
        n_positions: features of a position.
        n_directions: features of a direction.
        sizes: widths and depths.
    """

    def __init__(self, n_positions: int, n_directions: int, sizes: MLPSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, inputs = sizes.n_neurons, n_positions
        self.trunk = nn.ModuleList()
        for layer in range(1, sizes.n_hidden_layers + 1):
            self.trunk.append(nn.Linear(inputs, width))
            inputs = width + (n_positions if layer == sizes.skip_after else 0)
        self.density_head = nn.Linear(inputs, 1)
        self.bottleneck = nn.Linear(inputs, width)
        widths = [width + n_directions, *[sizes.n_neurons_color] * sizes.n_hidden_layers_color]
        self.color_trunk = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.color_head = nn.Linear(widths[-1], 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @property
    def n_params(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.parameters())

    def density(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded positions [..., n_positions] -> raw densities [...], and what the colour goes on from."""
        hidden = positions
        for number, layer in enumerate(self.trunk, 1):
            hidden = torch.relu(layer(hidden))
            if number == self.sizes.skip_after:
                hidden = torch.cat([hidden, positions], -1)
        return self.density_head(hidden)[..., 0], hidden

    def color(self, hidden: Tensor, directions: Tensor) -> Tensor:
        """What :meth:`density` gave [..., W] and encoded directions [..., n_directions] -> raw colours [..., 3]."""
        hidden = torch.cat([self.bottleneck(hidden), directions], -1)
        for layer in self.color_trunk:
            hidden = torch.relu(layer(hidden))
        found: Tensor = self.color_head(hidden)
        return found

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded positions [..., n_positions], directions [..., n_directions] -> raw densities [...], raw colours [..., 3]."""
        raw, hidden = self.density(positions)
        return raw, self.color(hidden, directions)
