"""Weights of :mod:`.bf16_mlp` as bfloat16 tiles, and where each number of their gradient's tiles belongs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from ..layout import MLPLayout
from . import bfloat16, pool
from .simd import LANES


def _tiles(matrix: np.ndarray, columns: int) -> np.ndarray:
    """[rows, columns] -> flat tiles of 16 rows by ``columns`` columns, row-major; -1 beyond the last column."""
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % columns)), constant_values=-1)
    return padded.reshape(-1, LANES, padded.shape[1] // columns, columns).swapaxes(1, 2).reshape(-1)


@lru_cache(maxsize=64)
def _tables(layout: MLPLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameter numbers in the order of: W's bfloat16 tiles, W^T's, and dW's float32 tiles, of dW^T where it is taller
    (-1: padding)."""
    matrices = [o + np.arange(r * c).reshape(r, c) for o, (r, c) in zip(layout.offsets, layout.shapes)]
    return (
        np.concatenate([_tiles(m, 2 * LANES) for m in matrices]).astype(np.int32),
        np.concatenate([_tiles(m.T, 2 * LANES) for m in matrices]).astype(np.int32),
        np.concatenate([_tiles(m.T if m.shape[0] < m.shape[1] else m, LANES) for m in matrices]).astype(np.int32),
    )


@dataclass(frozen=True)
class PreparedMLP:
    """Weights as bfloat16 tiles.

    Attributes:
        layout: the perceptron.
        widths: int64 [n_hidden_layers + 2]; inputs, hidden widths, outputs, each padded to 16.
        weights: uint32, two bfloat16 each; 16 x 32 tiles of each matrix, all columns of 16 rows, then the next rows.
        transposed: the same of the transposed matrices.
        gradient: int32 [n_params]; the parameter of each element of the 16 x 16 float32 tiles of the gradient.
        tiled: whether AMX tiles multiply; otherwise dot products do.
    """

    layout: MLPLayout
    widths: np.ndarray
    weights: np.ndarray
    transposed: np.ndarray
    gradient: np.ndarray
    tiled: bool


@njit(nogil=True, cache=True, error_model="numpy")
def _round(values, numbers, target):  # type: ignore[no-untyped-def]
    """target (uint16) = bfloat16 of values[numbers], to nearest even; 0 where the number is negative."""
    bits = values.view(np.uint32)
    for i in range(numbers.size):
        number = numbers[i]
        word = bits[number] if number >= 0 else np.uint32(0)
        target[i] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def prepare(weights: np.ndarray, layout: MLPLayout, engine: str | None = None) -> PreparedMLP:
    """Round the weights to bfloat16 and lay them out as tiles.

    Args:
        weights: float32 [layout.n_params], contiguous, finite; matrices [out, in] one after the other.
        layout: the perceptron; any width, depth and padded sizes that are multiples of 16 (multiples of 32 are fastest).
        engine: ``tiles`` or ``dots``; default: the fastest there is.

    Raises:
        RuntimeError: this processor has no such engine, and none is emulated.
        ValueError: weights of another type or length.
    """
    engines = bfloat16.engines()
    if not engines or (engine is not None and engine not in engines):
        why = f"there are {' and '.join(engines)} alone" if engines else bfloat16.why_not()
        raise RuntimeError(f"No {engine or 'bfloat16'} here: {why}.")
    if weights.dtype != np.float32 or weights.shape != (layout.n_params,) or not weights.flags.c_contiguous:
        raise ValueError(f"weights must be contiguous float32 [{layout.n_params}].")
    forward_table, backward_table, gradient = _tables(layout)
    buffers = []
    for table in (forward_table, backward_table):
        words = pool.aligned(2 * table.size)
        _round(weights, table, words.view(np.uint16))
        buffers.append(words)
    widths = np.array([layout.shapes[0][1]] + [rows for rows, _ in layout.shapes], np.int64)
    return PreparedMLP(layout, widths, buffers[0], buffers[1], gradient, (engine or engines[0]) == "tiles")
