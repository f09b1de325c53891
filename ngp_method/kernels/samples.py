"""PackedSamples: the one definition of the packed layout.

The samples of all rays lie one after the other, ray by ray and front to back along each ray. ``packed_info[r]`` is
(first sample, number of samples) of ray r, as nerfacc has it; ``ray_indices[n]`` is the ray of sample n. A ray without
samples has a count of zero; no rays and no samples are legal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PackedSamples:
    """Intervals along rays.

    Attributes:
        t_starts: [N] float32, distance from the ray's origin to the interval's begin, world units along a unit direction.
        t_ends: [N] float32, the same for its end.
        ray_indices: [N] int32, non-decreasing.
        packed_info: [R, 2] int32, (first sample, count) of each ray.
    """

    t_starts: Tensor
    t_ends: Tensor
    ray_indices: Tensor
    packed_info: Tensor

    @property
    def n_samples(self) -> int:
        """Number of samples, N."""
        return int(self.t_starts.shape[0])

    @property
    def n_rays(self) -> int:
        """Number of rays, R."""
        return int(self.packed_info.shape[0])

    def real(self) -> Tensor:
        """[N] bool: all but padding, the slots behind the last run that ``march`` may return with a capacity."""
        used = self.packed_info[-1:].sum()  # a tensor: no wait for the device
        return torch.arange(self.n_samples, device=self.t_starts.device) < used

    def take(self, index: Tensor, counts: Tensor) -> PackedSamples:
        """A subset that keeps the order.

        Args:
            index: [M] int64, increasing positions of the samples to keep.
            counts: [R] number of kept samples per ray (any integer type).
        """
        return PackedSamples(self.t_starts[index], self.t_ends[index], self.ray_indices[index], packed_info_from_counts(counts))


def first_rays(samples: PackedSamples, capacity: int) -> tuple[PackedSamples, Tensor]:
    """As many rays as ``capacity`` samples have room for, counted from the first; those behind them are left without samples.

    Returns:
        The samples, and [R] bool: whether there was room for the ray and all in front of it.
    """
    ends = samples.packed_info.sum(-1)
    room = ends <= capacity
    used = int((ends * room).amax()) if samples.n_rays else 0
    info = packed_info_from_counts(samples.packed_info[:, 1] * room)
    return PackedSamples(samples.t_starts[:used], samples.t_ends[:used], samples.ray_indices[:used], info), room


def counts_within(counts: Tensor, capacity: int | None) -> Tensor:
    """[R] samples of each ray, none for the first ray whose samples end beyond a capacity and for every ray behind it."""
    return counts if capacity is None else torch.where(torch.cumsum(counts, 0) <= capacity, counts, 0)


def sums_before(values: Tensor, samples: PackedSamples) -> Tensor:
    """Sum of the values of the samples in front of each on its ray, [N] -> [N], in their type; differentiable.

    By pairs, then pairs of pairs, within each ray: what one ray holds, infinity too, never reaches another ray's sums, and the
    rounding grows with the logarithm of a ray's length.
    """
    place = torch.arange(values.shape[0], device=values.device) - samples.packed_info[:, 0].long()[samples.ray_indices.long()]

    def shifted(sums: Tensor, by: int) -> Tensor:
        """Those of the sample so many places before, zero where that is another ray's."""
        moved = torch.cat([sums.new_zeros(by), sums[:-by]])
        return torch.where(place >= by, moved, 0.0)

    longest = int(samples.packed_info[:, 1].max()) if samples.n_rays else 0
    if not values.shape[0] or not longest:
        return torch.zeros_like(values)
    sums, by = shifted(values, 1), 1
    while by < longest:
        sums = sums + shifted(sums, by)
        by *= 2
    return sums


def packed_info_from_counts(counts: Tensor) -> Tensor:
    """[R] samples per ray -> [R, 2] int32 (first sample, count)."""
    counts = counts.to(torch.int32)
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    return torch.stack([ends - counts, counts], -1)


def ray_indices_from_counts(counts: Tensor) -> Tensor:
    """[R] samples per ray -> [N] int32 ray of each sample."""
    rays = torch.arange(counts.shape[0], dtype=torch.int32, device=counts.device)
    return torch.repeat_interleave(rays, counts.to(torch.int64))
