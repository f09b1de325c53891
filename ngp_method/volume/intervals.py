"""The same number of intervals on every ray: where they lie, where more of them are wanted, and what they gather.

What the occupancy grid finds is packed, as rays differ; NeRF and mip-NeRF give each ray as many, and arrays are [R, S].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAST_MASS = 1e-5
"""Least total of a histogram that is drawn from; what is missing is given to all of its intervals alike (mip-NeRF's code)."""

NEAREST = 1e-3
"""Share of a ray's end that its begin counts as at least where distances are spaced by their inverse, which 0 has none of."""


class Gathered(NamedTuple):
    """What rays have gathered.

    Attributes:
        rgbs: [R, 3] colours, premultiplied by opacity (no background).
        opacities: [R] sums of the weights, at most 1.
        depths: [R] sums of weight times distance (not divided by the opacity).
        weights: [R, S] transmittance times alpha (NeRF, equation 3).
    """

    rgbs: Tensor
    opacities: Tensor
    depths: Tensor
    weights: Tensor


def spread_along(shares: Tensor, t_min: Tensor, t_max: Tensor, inverse: bool) -> Tensor:
    """Shares of the way, [R, S] in [0, 1], as distances [R, S] between t_min and t_max [R].

    Args:
        inverse: equal steps of 1 / t instead of t: near things get more of them, where a scene has a far background.
    """
    near, far = t_min[:, None], t_max[:, None]
    if not inverse:
        return near + shares * (far - near)
    near = torch.maximum(near, NEAREST * far)
    return (near * far / (far + shares * (near - far))).clamp(min=near, max=far)


def jittered_borders(n_rays: int, n_intervals: int, random: bool, like: Tensor) -> Tensor:
    """Borders of intervals as shares of the way, [R, S + 1], ascending (mip-NeRF's code, ``sample_along_rays``).

    Evenly spaced; at random each is drawn anew between the middles of the intervals at its sides.
    """
    even = torch.linspace(0.0, 1.0, n_intervals + 1, device=like.device, dtype=like.dtype)
    if not random:
        return even.expand(n_rays, -1)
    middles = 0.5 * (even[1:] + even[:-1])
    low, high = torch.cat([even[:1], middles]), torch.cat([middles, even[-1:]])
    return low + (high - low) * torch.rand(n_rays, n_intervals + 1, device=like.device, dtype=like.dtype)


def stratified_points(n_rays: int, n_points: int, random: bool, like: Tensor) -> Tensor:
    """One point in each of n equal parts of the way, as shares, [R, n]: at random in it (NeRF, equation 2), or its middle."""
    part = torch.arange(n_points, device=like.device, dtype=like.dtype)
    within: Tensor | float = torch.rand(n_rays, n_points, device=like.device, dtype=like.dtype) if random else 0.5
    return ((part + within) / n_points).expand(n_rays, -1)


def blurred(weights: Tensor) -> Tensor:
    """Weights [R, S] widened to their neighbours: the larger of each two, then the mean of these (mip-NeRF, section 3.2)."""
    ends = torch.cat([weights[:, :1], weights, weights[:, -1:]], -1)
    larger = torch.maximum(ends[:, :-1], ends[:, 1:])
    return 0.5 * (larger[:, :-1] + larger[:, 1:])


@torch.no_grad()
def resampled(t: Tensor, weights: Tensor, n: int, random: bool) -> Tensor:
    """Distances drawn from a histogram along each ray by inverting its sum, ascending, without gradients (NeRF, section 5.2).

    One in each of n parts of equal mass, at random within it; or, for pictures, evenly spaced by mass from end to end.

    Args:
        t: [R, S + 1] borders of the histogram's bins, ascending.
        weights: [R, S] mass of each, not negative; none at all counts as the same everywhere.
        n: how many.

    Returns:
        [R, n] between the first and the last border.
    """
    total = weights.sum(-1, keepdim=True)
    weights = weights + (LEAST_MASS - total).clamp(min=0.0) / weights.shape[-1]
    mass = (weights / weights.sum(-1, keepdim=True)).cumsum(-1)[:, :-1].clamp(max=1.0)
    below = torch.cat([torch.zeros_like(total), mass, torch.ones_like(total)], -1)
    top = 1.0 - torch.finfo(t.dtype).eps
    if random:
        part = torch.arange(n, device=t.device, dtype=t.dtype)
        u = ((part + torch.rand(t.shape[0], n, device=t.device, dtype=t.dtype)) / n).clamp(max=top)
    else:
        u = torch.linspace(0.0, top, n, device=t.device, dtype=t.dtype).expand(t.shape[0], -1)
    index = (torch.searchsorted(below, u.contiguous(), right=True) - 1).clamp(0, weights.shape[-1] - 1)
    low, high = below.gather(-1, index), below.gather(-1, index + 1)
    within = ((u - low) / (high - low).clamp(min=torch.finfo(t.dtype).tiny)).clamp(0.0, 1.0)
    start, end = t.gather(-1, index), t.gather(-1, index + 1)
    return start + within * (end - start)


def composite(sigmas: Tensor, rgbs: Tensor, t: Tensor, at: Tensor) -> Gathered:
    """Volume rendering (NeRF, equation 3) of S intervals on each ray; what lies behind the last is nothing.

    Args:
        sigmas: [R, S] densities, not negative, per unit of t.
        rgbs: [R, S, 3].
        t: [R, S + 1] borders of the intervals, ascending.
        at: [R, S] distance that an interval counts as, for depths.
    """
    thickness = sigmas * (t[:, 1:] - t[:, :-1])
    before = torch.cat([torch.zeros_like(thickness[:, :1]), thickness[:, :-1].cumsum(-1)], -1)
    weights = torch.exp(-before) * -torch.expm1(-thickness)
    # each is rounded by itself: their sum may pass 1 by as much
    return Gathered((weights[..., None] * rgbs).sum(1), weights.sum(-1).clamp(max=1.0), (weights * at).sum(-1), weights)
