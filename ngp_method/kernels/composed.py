"""Operations made of others: for kernel sets that have nothing better."""

from __future__ import annotations

import torch
from torch import Tensor

from ..samples import PackedSamples
from .interface import Kernels
from .layout import HashGridLayout, MLPLayout


@torch.no_grad()
def encode_mlp(
    kernels: Kernels, positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, rows: int
) -> Tensor:
    """The operation ``encode_mlp``."""
    return kernels.mlp([kernels.hash_encode(positions, table, grid)], weights, layout, rows)


@torch.no_grad()
def sh_mlp(kernels: Kernels, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout) -> Tensor:
    """The operation ``sh_mlp``."""
    return kernels.mlp([raw, kernels.spread(kernels.sh_encode(rays_d), samples)], weights, layout)
