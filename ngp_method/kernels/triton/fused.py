"""Two operations in one launch, without gradients: hash encoding and perceptron, spherical harmonics and perceptron.

Each falls back on its two operations where the kernel does not take the shape, or does not pay.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from ..footprints import wide_output_dims
from ..layout import PADDING, HashGridLayout, MLPLayout
from ..spherical import SH_DIM
from . import encode, mlp, mlp_launch
from .device import interpreted
from .fused_kernels import encode_mlp_kernel, sh_mlp_kernel
from .hash_launch import levels, wide
from .mlp_launch import PROGRAMS, Blocks, blocks_of, constants, processors
from .runs import empty_runs, in_runs


def encode_blocks(layout: MLPLayout, dtype: torch.dtype) -> Blocks:
    """Block sizes of the encoding with its perceptron: a sample to a thread, for more threads would look up the same entries.

    168 registers a thread on sm_90, 212 on sm_80, with 64 neurons and 16 levels of 2 features: eight levels' look-ups are under
    way at a time, beside the sums of the first layer.
    """
    plain = blocks_of(layout, dtype, backward=False)
    return plain if interpreted() or dtype == torch.float32 else Blocks(128, 4)


@lru_cache(maxsize=16)
def _cache(device: torch.device) -> int:
    """Bytes of the device's L2 cache."""
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))


def encode_pays(table: Tensor) -> bool:
    """Whether the table fits in the L2 cache: if not, going through it level by level is worth more (see fused_kernels.py)."""
    return interpreted() or table.numel() * table.element_size() <= _cache(table.device)


def takes_encode(grid: HashGridLayout, layout: MLPLayout, dtype: torch.dtype, rows: int, wide: bool = False) -> bool:
    """Whether the kernel can compute this: features come in sixteens, as many as the perceptron has inputs."""
    count = wide_output_dims(grid) if wide else grid.n_output_dims
    return (
        grid.n_features_per_level > 1
        and grid.n_output_dims % PADDING == 0
        and count == layout.padded_input
        and mlp_launch.takes(layout, dtype, [count], rows)
    )


@lru_cache(maxsize=64)
def shape_constants(layout: MLPLayout, dtype: torch.dtype, rows: int) -> dict[str, Any]:
    """Constants that both kernels have."""
    shared = constants(layout, dtype, (layout.n_input_dims,), rows)
    return {name: shared[name] for name in ("INPUTS", "WIDTH", "W", "HIDDEN", "ROWS", "OUT", "DTYPE")}


@torch.no_grad()
def encode_mlp(
    positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, dtype: torch.dtype, rows: int,
    footprints: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Perceptron on the hash encoding.

    Args:
        positions: [N, n_dims] float32 in [0, 1], any strides.
        table: [n_params] float32, or its float16 copy.
        weights: [n_params] float32.
        grid, layout: levels and widths.
        dtype: of features and hidden layers.
        rows: outputs wanted, the first ones.
        footprints: [N] of the samples, or None (see the interface).
    Returns:
        [N, rows] float32, samples side by side.
    """
    n, device = positions.shape[0], positions.device
    if not (
        takes_encode(grid, layout, dtype, rows, footprints is not None)
        and mlp.fused(device, layout, dtype, backward=False)
        and encode_pays(table)
    ):
        features = encode.hash_encode(positions, table, None, grid, dtype, footprints)
        return mlp.perceptron([features], weights, layout, dtype, rows)
    out = empty_runs(n, rows, torch.float32, device)
    if n:
        blocks = encode_blocks(layout, dtype)
        # A program for each tile: beside its 16,384 look-ups, to read the matrices is nothing.
        encode_mlp_kernel[(triton.cdiv(n, blocks.samples),)](
            positions, *positions.stride(), wide(positions, footprints), table, levels(grid, device), weights.contiguous(),
            out, n, WEIGHTED=footprints is not None, L=grid.n_levels, F=grid.n_features_per_level, DIMS=grid.n_dims,
            **shape_constants(layout, dtype, rows), BLOCK=blocks.samples, **blocks.options(),
        )  # fmt: skip
    return out


@torch.no_grad()
def sh_mlp(raw: Tensor, rays_d: Tensor, ray_indices: Tensor, weights: Tensor, layout: MLPLayout, dtype: torch.dtype) -> Tensor:
    """Perceptron on features of samples and the spherical harmonics of their rays' directions.

    Args:
        raw: [N, C] features, any float type and strides.
        rays_d: [R, 3] float32 unit directions, any strides.
        ray_indices: [N] int32, contiguous; the ray of each sample.
        weights: [n_params] float32.
        layout: C + 16 inputs.
        dtype: of features and hidden layers.
    Returns:
        [N, n_output_dims] float32, samples side by side.
    """
    n, device, rows = raw.shape[0], raw.device, layout.n_output_dims
    if not (mlp_launch.takes(layout, dtype, [raw.shape[1], SH_DIM], rows) and mlp.fused(device, layout, dtype, backward=False)):
        harmonics = encode.sh_encode(rays_d, dtype)[ray_indices.long()]
        return mlp.perceptron([raw, harmonics], weights, layout, dtype, rows)
    out = empty_runs(n, rows, torch.float32, device)
    if n:
        blocks = blocks_of(layout, dtype, backward=False)
        sh_mlp_kernel[(min(triton.cdiv(n, blocks.samples), PROGRAMS * processors(device)),)](
            raw, *raw.stride(), rays_d, *rays_d.stride(), ray_indices, weights.contiguous(), out, n,
            C=raw.shape[1], P=mlp_launch.power_of_two(raw.shape[1]), RUNS=in_runs(raw),
            **shape_constants(layout, dtype, rows), BLOCK=blocks.samples, **blocks.options(),
        )  # fmt: skip
    return out
