"""Sines and cosines of positions, at a point (NeRF) and averaged over a Gaussian around it (mip-NeRF).

NeRF's equation 4 has 2^k pi x of positions in [-1, 1]; its code and mip-NeRF's have 2^k x of positions in the units of the
scene, and so it is here: the published figures come of those. The unit is the caller's to choose.
"""

from __future__ import annotations

import torch
from torch import Tensor


def octaves(lowest: int, count: int, like: Tensor) -> Tensor:
    """[count] angular frequencies 2^lowest, 2^(lowest + 1), ..., on the device and in the type of a tensor."""
    return 2.0 ** torch.arange(lowest, lowest + count, device=like.device, dtype=like.dtype)


def n_features(n_dims: int, count: int, identity: bool) -> int:
    """Features of a position of so many dimensions with ``count`` octaves."""
    return n_dims * (2 * count + identity)


def positional_encoding(positions: Tensor, frequencies: Tensor, identity: bool = True) -> Tensor:
    """sin(f x) and cos(f x) of every coordinate and frequency (NeRF, equation 4), with the bare coordinates before them.

    Args:
        positions: [..., D] float.
        frequencies: [K] radians per unit of the positions.
        identity: whether the coordinates themselves are among the features, as in NeRF's code.

    Returns:
        [..., D (2 K + 1)], or [..., 2 D K] without the coordinates: these, all sines, all cosines.
    """
    angles = (positions[..., None, :] * frequencies[:, None]).flatten(-2)
    waves = [torch.sin(angles), torch.cos(angles)]
    return torch.cat([positions, *waves] if identity else waves, -1)


def integrated_positional_encoding(means: Tensor, variances: Tensor, frequencies: Tensor) -> Tensor:
    """Expected sin(f x) and cos(f x) of Gaussians (mip-NeRF, section 3.1): exp(-f^2 var / 2) times those of the mean.

    What varies faster than the Gaussian is wide fades out, where :func:`positional_encoding` would alias. Each coordinate is
    taken by itself, so that the diagonal of the covariance is all that counts.

    Args:
        means: [..., D] float.
        variances: [..., D] diagonals of the covariances, in squared units of the means.
        frequencies: [K] radians per unit of the means.

    Returns:
        [..., 2 D K]: all sines, all cosines.
    """
    angles = (means[..., None, :] * frequencies[:, None]).flatten(-2)
    fading = torch.exp(-0.5 * (variances[..., None, :] * frequencies[:, None].square()).flatten(-2))
    return torch.cat([fading * torch.sin(angles), fading * torch.cos(angles)], -1)
