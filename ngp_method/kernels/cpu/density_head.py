"""The operation ``density_head`` on rows: the gradient stays in the layout that the perceptron's backward pass takes."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import density_head
from . import buffers, pool


def with_slope(d_raw: Tensor, d_sigma: Tensor, raw: Tensor, unit: float) -> Tensor:
    """See :func:`..density_head.with_slope`."""
    n, width = raw.shape
    rows = torch.empty(width, buffers.padded(n))
    rows[:, n:] = 0.0
    ranges = pool.chunks(n, buffers.BLOCK)

    def task(chunk: int) -> None:
        part = slice(*ranges[chunk])
        rows[:, part] = d_raw[part].t()
        rows[0, part] += density_head.slope_of(d_sigma[part], raw[part], unit)

    with torch.no_grad():
        pool.run(task, len(ranges))
    return buffers.rows_to_tensor(rows, n)
