"""A training step's way from rays to colours: march, the density of everything, gradients of what is seen, compositing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .kernels import Composited
from .network import RadianceNetwork
from .occupancy import OccupancyGrid
from .rendering import T_MIN
from .samples import PackedSamples


@dataclass
class Traced:
    """Rays of a training step, and what they cost.

    Attributes:
        found: colours, opacities and depths of the rays, with gradients.
        marched: samples in occupied cells.
        kept: those of them before the transmittance ran out, trained on.
    """

    found: Composited
    marched: int
    kept: int


def trace(
    network: RadianceNetwork, grid: OccupancyGrid, rays_o: Tensor, rays_d: Tensor, t_min: Tensor, t_max: Tensor
) -> Traced:
    """Trace rays with gradients, each begun at a random part of its first step.

    Args:
        network: the field.
        grid: occupied cells.
        rays_o: [R, 3] world units; rays_d: [R, 3] unit vectors.
        t_min, t_max: [R] interval of each ray, cut to the scene box.
    """
    samples, _ = grid.march(rays_o, rays_d, t_min, t_max, jitter=torch.rand_like(t_min))
    found, kept = _shade_and_composite(network, grid, rays_o, rays_d, samples)
    return Traced(found, samples.n_samples, kept)


def _shade_and_composite(
    network: RadianceNetwork, grid: OccupancyGrid, o: Tensor, d: Tensor, samples: PackedSamples
) -> tuple[Composited, int]:
    """Density of every sample without gradients, then everything of those in front of the opaque."""
    kernels, weights, unit = network.kernels, network.weights(), grid.geometry.unit_size
    positions = kernels.points(o, d, samples, grid.geometry)
    with torch.no_grad():
        features = network.encode(positions, weights)
        sigmas = network.density_only(features, weights) / unit
        counts = kernels.visible_counts(sigmas, samples, T_MIN)
        samples, (features, positions) = kernels.keep_first(samples, counts, [features, positions])
        harmonics = kernels.spread(kernels.sh_encode(d), samples)
    features = network.encode(positions, weights, features)
    sigmas, raw = network.density(features, weights)
    rgbs = network.color(raw, harmonics, weights)
    return kernels.composite(sigmas / unit, rgbs, samples), samples.n_samples
