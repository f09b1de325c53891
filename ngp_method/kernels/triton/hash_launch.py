"""Launches of the hash-grid kernels on torch's tensors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from ..footprints import wide_output_dims
from ..layout import HashGridLayout
from . import hash_kernels, hash_scatter
from .hash_cells import LEVEL_NUMBERS, OPTIONS
from .runs import empty_runs


@lru_cache(maxsize=16)
def levels(layout: HashGridLayout, device: torch.device) -> Tensor:
    """int64 [L, LEVEL_NUMBERS]: the numbers of each level, for the kernels (see hash_cells.py)."""
    rows = np.zeros((layout.n_levels, LEVEL_NUMBERS), np.int64)
    for row, level in zip(rows, layout.levels):
        row[:5] = level.scale.view(np.int32), level.resolution, level.entries, level.offset, level.dense
    return torch.from_numpy(rows).to(device)


def _gathering(table: Tensor, layout: HashGridLayout, direction: Tensor | None, footprints: Tensor | None) -> dict[str, Any]:
    """What the two kernels that read the table are compiled and launched with."""
    part = hash_kernels.part_of(layout.n_features_per_level, table.element_size())
    sizes = {"F": layout.n_features_per_level, "PART": part, "BLOCK": hash_kernels.BLOCK, "DIMS": layout.n_dims}
    return {**sizes, "DIRECTIONAL": direction is not None, "WEIGHTED": footprints is not None, **OPTIONS}


def wide(x: Tensor, footprints: Tensor | None) -> Tensor:
    """Footprints [N] side by side; without any, something that is not read."""
    return x if footprints is None else footprints.detach().float().contiguous()


def encode(
    x: Tensor, table: Tensor, layout: HashGridLayout, dtype: torch.dtype, footprints: Tensor | None = None,
    direction: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Features (or their derivative along a direction [N, n_dims]) in ``dtype`` from a table of any float type.

    Args:
        footprints: [N] of the samples (see the interface), or None. So in the other launches. With them come the features of
            their width, which do not change along a direction.
    """
    n, v, given = x.shape[0], x if direction is None else direction, _gathering(table, layout, direction, footprints)
    full = footprints is not None and direction is None
    out = empty_runs(n, wide_output_dims(layout) if full else layout.n_output_dims, dtype, x.device)
    if n and full:
        _write_scale(out, wide(x, footprints), layout)
    if n:
        grid = (triton.cdiv(n, given["BLOCK"]), layout.n_output_dims // given["PART"])
        hash_kernels.encode_kernel[grid](
            x, v, wide(x, footprints), table, levels(layout, x.device), out, n, *x.stride(), *v.stride(), *out.stride(), **given
        )
    return out


def _write_scale(out: Tensor, footprints: Tensor, layout: HashGridLayout) -> None:
    """The columns of ``out`` behind the levels'."""
    first, block = layout.n_output_dims, hash_kernels.BLOCK
    hash_kernels.scale_kernel[(triton.cdiv(out.shape[0], block), out.shape[1] - first)](
        footprints, levels(layout, out.device), out, out.shape[0], *out.stride(), L=layout.n_levels, FIRST=first, BLOCK=block,
        **OPTIONS,
    )  # fmt: skip


def position_gradient(
    grad: Tensor, x: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
    direction: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """[N, n_dims] gradient of sum(grad * features), or of its derivative along a direction."""
    n, v, given = x.shape[0], x if direction is None else direction, _gathering(table, layout, direction, footprints)
    out = torch.empty(n, layout.n_dims, device=x.device)
    if n:
        hash_kernels.position_kernel[(triton.cdiv(n, given["BLOCK"]),)](
            x, v, wide(x, footprints), table, levels(layout, x.device), grad, out, n, layout.n_output_dims // given["PART"],
            *x.stride(), *v.stride(), *grad.stride(), **given,
        )  # fmt: skip
    return out


def add_table_gradient(
    target: Tensor, grad: Tensor, x: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
    direction: Tensor | None = None,
) -> None:  # fmt: skip
    """Add the table's gradient to ``target``, float32 [n_params]."""
    n, features = x.shape[0], layout.n_features_per_level
    vectors, v = hash_scatter.packed(), x if direction is None else direction
    for start, count, run in hash_scatter.launches(layout) if n else []:
        part = min(features, hash_scatter.VECTOR)
        block = hash_scatter.block(part, vectors)
        grid = (triton.cdiv(n, block * run), count * features // part)
        hash_scatter.scatter_kernel[grid](
            x, v, wide(x, footprints), levels(layout, x.device), grad, target, n, start, 1,
            *x.stride(), *v.stride(), *grad.stride(),
            F=features, PART=part, BLOCK=block, RUN=run, DIMS=layout.n_dims, PACKED=vectors,
            DIRECTIONAL=direction is not None, WEIGHTED=footprints is not None, **OPTIONS,
        )  # fmt: skip
