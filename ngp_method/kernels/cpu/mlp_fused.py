"""Fused float32 perceptrons of the ``cpu`` kernels, for any processor: activations never leave the cache.

::

    plan = prepare(weights, layout, widths_of_parts, rows)   # once for each change of the weights; some 20 microseconds
    forward(addresses(parts), plan, out, begin, end)          # in any thread, for any chunk of samples
    backward(addresses(parts), plan, d_out, addresses(d_parts), totals, begin, end)      # computes the hidden layers again
    in_order(totals, layout)                                  # the weights' gradient

Arrays are float32 [rows, n_pad] with samples along the row, so that sixteen samples are one vector; ``n_pad``, ``begin`` and
``end`` are multiples of 32. A block of samples goes through all layers before the next one does (tiny-cuda-nn's fully fused
perceptron does the same in a GPU's shared memory). The inputs may come in several parts, which are never joined in memory.

All numbers are float32; products and sums are fused where the processor has that instruction. A sample's outputs and the
gradient of its inputs depend neither on the chunk nor on the number of threads; ``totals`` depends on the chunk, in the order
of its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..layout import MLPLayout
from . import mlp_fused_kernels, pool
from .mlp_fused_kernels import STRIDE
from .mlp_fused_tiles import Tile, best_tile


def _groups(width: int, count: int) -> list[tuple[int, int]]:
    """Rows of each tile, first and one past the last, as :func:`.mlp_fused_kernels.layer` walks them."""
    found, row = [], 0
    while row < width:
        taken = next(size for size in (count, 4, 2, 1) if row + size <= width)
        found.append((row, row + taken))
        row += taken
    return found


def _packed(numbers: np.ndarray, count: int) -> np.ndarray:
    """Parameter numbers [width, depth] in the order in which a layer reads them."""
    return np.concatenate([numbers[a:b].T.reshape(-1) for a, b in _groups(numbers.shape[0], count)])


@lru_cache(maxsize=64)
def _tables(layout: MLPLayout, inputs: int, rows: int, wanted: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameter numbers in the order of the packed matrices, and of the packed transposed ones, last layer first.

    Args:
        inputs: columns of the first matrix that there are inputs for.
        rows: rows of the last matrix that are computed.
        wanted: inputs whose gradient is.
        count: rows of a tile.
    """
    matrices = [o + np.arange(r * c).reshape(r, c) for o, (r, c) in zip(layout.offsets, layout.shapes)]
    matrices[0], matrices[-1] = matrices[0][:, :inputs], matrices[-1][:rows]
    turned = [matrix.T for matrix in matrices]
    turned[0] = turned[0][list(wanted)]
    pieces = [_packed(matrix, count) for matrix in reversed(turned) if matrix.size]
    return np.concatenate([_packed(matrix, count) for matrix in matrices]), np.concatenate(pieces)


@dataclass(frozen=True)
class Plan:
    """Packed weights, and what they were packed for.

    Attributes:
        layout: the perceptron.
        tile: rows and vectors of a register tile.
        rows: outputs computed, the first of the padded ones.
        widths: int64 [n_hidden_layers + 2]; inputs, hidden widths, outputs, each padded to 16.
        weights: float32; packed matrices.
        turned: float32; packed transposed matrices, last layer first.
    """

    layout: MLPLayout
    tile: Tile
    rows: int
    widths: np.ndarray
    weights: np.ndarray
    turned: np.ndarray


def prepare(
    weights: np.ndarray,
    layout: MLPLayout,
    parts: Sequence[int],
    rows: int,
    wanted: Sequence[bool] | None = None,
    tile: Tile | None = None,
) -> Plan:
    """Pack the weights.

    Args:
        weights: float32 [layout.n_params]; matrices [out, in] one after the other.
        layout: the perceptron.
        parts: width of each part of the inputs; together no more than ``layout.padded_input`` (what is missing is zero).
        rows: outputs to compute.
        wanted: whether the gradient of each part will be asked for; default: of none.
        tile: rows and vectors of a register tile; default: what suits the processor.

    Raises:
        ValueError: weights of another type or length, or more inputs or outputs than the layout has.
    """
    if weights.dtype != np.float32 or weights.shape != (layout.n_params,):
        raise ValueError(f"weights must be float32 [{layout.n_params}], not {weights.dtype} {list(weights.shape)}.")
    if not (0 < sum(parts) <= layout.padded_input and 0 < rows <= layout.padded_output):
        raise ValueError(f"{sum(parts)} inputs and {rows} outputs do not fit {layout}.")
    tile = tile or best_tile()
    ends = np.cumsum(parts)
    columns: list[int] = []
    for width, end, asked in zip(parts, ends, wanted or [False] * len(parts)):
        columns += range(end - width, end) if asked else ()
    plain, turned = _tables(layout, int(ends[-1]), rows, tuple(columns), len(tile[0]))
    widths = np.array([layout.padded_input] + [count for count, _ in layout.shapes], np.int64)
    return Plan(layout, tile, rows, widths, weights[plain], weights[turned])


def addresses(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Where each row of float32 [C_i, n_pad] parts begins: int64 [sum of C_i]. The caller keeps the parts alive."""
    found = [part.ctypes.data + np.arange(part.shape[0]) * part.strides[0] for part in parts]
    return np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int64)


def forward(inputs: np.ndarray, plan: Plan, out: np.ndarray, begin: int, end: int) -> None:
    """Outputs of samples begin to end - 1.

    Args:
        inputs: :func:`addresses` of the parts.
        plan: the weights, packed for parts of these widths.
        out: float32 [plan.rows, n_pad], written.
        begin, end: multiples of 32.
    """
    scratch = pool.scratch(4 * 2 * int(plan.widths.max()) * STRIDE).view(np.float32)
    sides = (plan.tile, inputs, plan.weights, plan.widths, out.reshape(-1), plan.rows, out.shape[1])
    mlp_fused_kernels.forward(*sides, begin, end, scratch)


def backward(
    inputs: np.ndarray,
    plan: Plan,
    d_out: np.ndarray,
    d_inputs: np.ndarray,
    totals: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Gradients of samples begin to end - 1.

    Args:
        inputs: as in :func:`forward`.
        plan: as in :func:`forward`, and made for the gradients that are wanted.
        d_out: float32 [plan.rows, n_pad], gradient of the outputs computed.
        d_inputs: :func:`addresses` of the gradients of the parts that are wanted, in order; float32 [C_i, n_pad], written.
        totals: float32 [layout.n_params], added to: the weights' gradient as :func:`in_order` takes it.
        begin, end: multiples of 32.
    """
    widths = [int(width) for width in plan.widths]
    across = max(min(pair) for pair in pairwise(widths))
    scratch = pool.scratch(4 * (len(widths) * max(widths) + across) * STRIDE).view(np.float32)
    sides = (plan.tile, inputs, plan.weights, plan.turned, plan.widths, d_out.reshape(-1), plan.rows)
    mlp_fused_kernels.backward(*sides, d_out.shape[1], d_inputs, totals, begin, end, scratch)


def in_order(totals: np.ndarray, layout: MLPLayout) -> np.ndarray:
    """The weights' gradient in the order of the weights: sums of matrices with fewer rows than columns lie transposed."""
    found = np.empty_like(totals)
    for offset, (rows, columns) in zip(layout.offsets, layout.shapes):
        piece = slice(offset, offset + rows * columns)
        found[piece] = totals[piece].reshape(columns, rows).T.reshape(-1) if rows < columns else totals[piece]
    return found
