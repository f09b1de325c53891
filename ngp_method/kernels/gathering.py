"""What rays gather from round to round while a picture is rendered, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .interface import Gathered, Kernels
from .samples import PackedSamples, sums_before


def nothing_gathered(n_rays: int, device: torch.device) -> Gathered:
    """Zeros."""
    return Gathered(torch.zeros(n_rays, 3, device=device), *(torch.zeros(n_rays, device=device) for _ in range(4)))


@torch.no_grad()
def accumulate(
    kernels: Kernels, gathered: Gathered, rays: Tensor, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples,
    resume: Tensor, t: Tensor, t_max: Tensor, least: float, median: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The operation ``accumulate``."""
    found = kernels.composite(sigmas, rgbs, samples)
    old = gathered.opacities[rays]
    left = 1.0 - old
    weights = found.weights * left[samples.ray_indices.long()]
    now = old + left * found.opacities
    gathered.rgbs[rays] += left[:, None] * found.rgbs
    gathered.depths[rays] += left * found.depths
    gathered.n_samples[rays] += samples.packed_info[:, 1].to(left.dtype)
    gathered.opacities[rays] = now
    crossing = (now >= median) & (old < median)
    if bool(crossing.any()):
        gathered.median_depths[rays] += _crossing_depths(samples, weights, old, crossing, median)
    t[rays] = resume
    return weights, (resume < t_max[rays]) & (1.0 - now > least)


def _crossing_depths(samples: PackedSamples, weights: Tensor, opacities: Tensor, crossing: Tensor, median: float) -> Tensor:
    """Middle of the sample in which each crossing ray's accumulated weight passes ``median``, [R]; 0 for the others."""
    index = torch.nonzero(crossing[samples.ray_indices.long()])[:, 0]
    found, weights = samples.take(index, samples.packed_info[:, 1] * crossing), weights[index]
    rays = found.ray_indices.long()
    before = sums_before(weights, found) + opacities[rays]
    # The last sample that begins under the median: there is one on every crossing ray, however the sums were rounded.
    begins = (before < median) & (weights > 0)
    middles = torch.where(begins, 0.5 * (found.t_starts + found.t_ends), 0.0)
    return torch.zeros(samples.n_rays, device=weights.device).scatter_reduce_(0, rays, middles, "amax")
