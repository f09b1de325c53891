"""Row layouts of the CPU kernels, between torch and numba.

*Rows*: float32 [C, n_padded]; *pairs*: uint32 [C / 2, n_padded], two bfloat16 a word. Both have samples along the row,
padded with BLOCK-aligned zeros or finite leftovers, so that kernels need no tail. To torch they look like [N, C] float32
and [C / 2, N, 2] bfloat16: views of the same memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..layout import round_up
from .hashgrid import BLOCK


def padded(n: int) -> int:
    """Samples per row."""
    return round_up(max(n, 1), BLOCK)


def rows_to_tensor(rows: Tensor, n: int) -> Tensor:
    """float32 [C, n_padded] -> [N, C] view."""
    return rows[:, :n].t()


def tensor_to_rows(values: Tensor) -> Tensor:
    """[N, C] float32 -> float32 [C, n_padded]: the memory itself if it was made by :func:`rows_to_tensor`, else a copy."""
    n, width = values.shape
    size = padded(n)
    ours = values.dtype == torch.float32 and (values.stride(0) == 1 or n <= 1) and width and values.stride(1) == size
    if ours and values.untyped_storage().nbytes() >= 4 * (values.storage_offset() + width * size):
        whole = values.detach().as_strided((width, size), (size, 1))
        # Beyond the last sample may lie somebody else's numbers: zero times NaN would be NaN.
        if torch.isfinite(whole[:, n:]).all():
            return whole
    rows = torch.zeros(width, size)
    rows[:, :n] = values.detach().t()
    return rows


def gradient_to_rows(values: Tensor) -> Tensor:
    """:func:`tensor_to_rows` with zeros beyond the last sample; the caller's memory is not written."""
    rows, n = tensor_to_rows(values), values.shape[0]
    if rows[:, n:].any():
        rows = rows.clone()
        rows[:, n:] = 0
    return rows


def pairs_to_tensor(pairs: Tensor, n: int) -> Tensor:
    """int32 [C / 2, n_padded] -> bfloat16 [C / 2, N, 2] view."""
    return pairs.view(torch.bfloat16).view(pairs.shape[0], pairs.shape[1], 2)[:, :n]


def tensor_to_pairs(features: Tensor) -> Tensor:
    """Features in any layout -> int32 [C / 2, n_padded] pairs: the memory itself where it already is that."""
    if features.ndim == 3:
        count, n, _ = features.shape
        size = padded(n)
        ours = features.stride() == (2 * size, 2, 1) and not features.storage_offset() % 2
        if ours and features.untyped_storage().nbytes() >= 2 * (features.storage_offset() + 2 * count * size):
            whole = features.detach().as_strided((count, size, 2), (2 * size, 2, 1))
            if torch.isfinite(whole[:, n:]).all():
                return whole.view(torch.int32).view(count, size)
        pairs = torch.zeros(count, size, 2, dtype=torch.bfloat16)
        pairs[:, :n] = features.detach()
        return pairs.view(torch.int32).view(count, size)
    n, width = features.shape
    pairs = torch.zeros(width // 2, padded(n), 2, dtype=torch.bfloat16)
    pairs[:, :n] = features.detach().t().reshape(width // 2, 2, n).permute(0, 2, 1)
    return pairs.view(torch.int32).view(width // 2, -1)


def words(tensor: Tensor) -> np.ndarray:
    """int32 or float32 memory as uint32."""
    return np.asarray(tensor.numpy().view(np.uint32))
