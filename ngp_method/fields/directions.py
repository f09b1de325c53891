"""Direction encodings: how a ray's direction reaches the colour network. None of them has parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..kernels import Kernels
from ..kernels.layout import MLPLayout
from ..kernels.samples import PackedSamples
from ..kernels.spherical import SH_DIM

OCTAVES = 4
"""Of the frequency encoding of directions (NeRF section 5.1; instant-ngp ``configs/nerf/frequency.json``)."""


class Harmonics:
    """Spherical harmonics of degree 4 (paper section 5.4)."""

    n_output_dims = SH_DIM

    def encode(self, kernels: Kernels, rays_d: Tensor) -> Tensor:
        """Unit directions [R, 3] -> features of the rays, with a gradient."""
        return kernels.sh_encode(rays_d)

    def mlp_along(
        self, kernels: Kernels, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout
    ) -> Tensor:
        """Perceptron on features [N, C] of samples and those of their rays -> [N, n_output_dims], without gradients."""
        return kernels.sh_mlp(raw, rays_d, samples, weights, layout)


class Plain(Harmonics):
    """A function of the direction in plain torch, and the perceptron on what is spread along the rays."""

    def __init__(self, function: Callable[[Tensor], Tensor], n_output_dims: int) -> None:
        self.function, self.n_output_dims = function, n_output_dims

    def encode(self, kernels: Kernels, rays_d: Tensor) -> Tensor:
        """See the other."""
        return self.function(rays_d)

    @torch.no_grad()
    def mlp_along(
        self, kernels: Kernels, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout
    ) -> Tensor:
        """See the other."""
        return kernels.mlp([raw, kernels.spread(self.function(rays_d), samples)], weights, layout)


def waves(values: Tensor, octaves: int) -> Tensor:
    """sin and cos of 2^k pi x for k = 0 .. octaves - 1 (NeRF, equation 4): [N, D] -> [N, 2 * D * octaves].

    Octaves of a coordinate lie side by side; :mod:`.positional` has the unit and the order of the papers' code.
    """
    bands = math.pi * 2.0 ** torch.arange(octaves, device=values.device, dtype=values.dtype)
    angles = (values[:, :, None] * bands).flatten(1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], -1)


DIRECTIONS: dict[str, Callable[[], Harmonics]] = {
    "harmonics": Harmonics,
    "frequency": lambda: Plain(lambda d: waves(d, OCTAVES), 6 * OCTAVES),
    "none": lambda: Plain(lambda d: d, 3),
}


def build_directions(name: str) -> Harmonics:
    """The direction encoding of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in DIRECTIONS:
        raise ValueError(f"There is no direction encoding '{name}'; choose one of: {', '.join(DIRECTIONS)}.")
    return DIRECTIONS[name]()
