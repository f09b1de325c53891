"""Fused perceptrons of the ``cpu`` kernels on Intel AMX: bfloat16 products, float32 sums, activations never leave the cache.

::

    if amx.available():                                     # asks Linux for the tile registers: before threads start
        mlp = prepare(weights, layout)                      # once for each change of the weights; about 20 microseconds
        forward(x, mlp, out, begin, end)                    # in any thread, for any chunk of samples
        backward(x, mlp, d_out, dx, dw, begin, end)         # recomputes the hidden layers: nothing is kept in between

Arrays are samples-last, so that sixteen samples are one vector: ``x`` is uint32 [inputs / 2, n_pad], word [p, n] holding input
2p of sample n as bfloat16 in its lower half and input 2p + 1 in its upper half; ``out``, ``d_out`` and ``dx`` are float32
[rows, n_pad]; ``out`` and ``dx`` may be in pairs like ``x`` instead. ``n_pad`` is a multiple of 32 (:data:`BLOCK`), and so is ``begin``. Rows aligned to 64 bytes are fastest.

Rounding, all to nearest even: weights, inputs, hidden activations, ``d_out`` and the gradients that pass between layers are
bfloat16; sums, ``out``, ``dx`` and ``dw`` are float32. Denormal numbers count as zero. A sample's ``out`` and ``dx`` do not
depend on the chunks; ``dw`` does, in the order of its float32 sums.

Hidden activations are computed a second time because that is 12,000 multiplications and the alternative is to write and read
384 bytes a sample (32-64-16 and 32-64-64-16 together), which takes longer and 25 MB for 65,536 samples.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

import numpy as np
from numba import njit

from ngp_method.kernels.cpu import amx
from ngp_method.kernels.cpu.amx import TILE_BYTES
from ngp_method.kernels.cpu.bf16_pairs import address
from ngp_method.kernels.cpu.mlp_amx_kernels import (
    BLOCK,
    MASKED,
    PAIRS,
    RELU,
    ROWS,
    SUMS_BYTES,
    accumulate,
    blank,
    copy_in,
    deep,
    expect_rows,
    gradient_in,
    layer,
    turn_round,
)
from ngp_method.kernels.cpu.simd import LANES
from ngp_method.kernels.layout import MLPLayout

GROUPS = 2
"""Groups of 32 samples that go through a layer one after the other: more read the weights less often, fewer stay in L1."""


def _tiles(matrix: np.ndarray, columns: int) -> np.ndarray:
    """[rows, columns] -> flat tiles of 16 rows by ``columns`` columns, row-major; -1 beyond the last column."""
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % columns)), constant_values=-1)
    return padded.reshape(-1, LANES, padded.shape[1] // columns, columns).swapaxes(1, 2).reshape(-1)


@lru_cache(maxsize=64)
def _tables(layout: MLPLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameter numbers in the order of: W's bfloat16 tiles, W^T's, and dW's float32 tiles (-1: padding)."""
    matrices = [o + np.arange(r * c).reshape(r, c) for o, (r, c) in zip(layout.offsets, layout.shapes)]
    return (
        np.concatenate([_tiles(m, 2 * LANES) for m in matrices]).astype(np.int32),
        np.concatenate([_tiles(m.T, 2 * LANES) for m in matrices]).astype(np.int32),
        np.concatenate([_tiles(m, LANES) for m in matrices]).astype(np.int32),
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
    """

    layout: MLPLayout
    widths: np.ndarray
    weights: np.ndarray
    transposed: np.ndarray
    gradient: np.ndarray


@njit(nogil=True, cache=True, error_model="numpy")
def _round(values, numbers, target):  # type: ignore[no-untyped-def]
    """target (uint16) = bfloat16 of values[numbers], to nearest even; 0 where the number is negative."""
    bits = values.view(np.uint32)
    for i in range(numbers.size):
        number = numbers[i]
        word = bits[number] if number >= 0 else np.uint32(0)
        target[i] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def _aligned(n_bytes: int) -> np.ndarray:
    """uint32 [n_bytes / 4] on a cache line, contents undefined."""
    raw = np.empty(n_bytes // 4 + LANES, np.uint32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n_bytes // 4]


def prepare(weights: np.ndarray, layout: MLPLayout) -> PreparedMLP:
    """Round the weights to bfloat16 and lay them out as tiles.

    Args:
        weights: float32 [layout.n_params], contiguous, finite; matrices [out, in] one after the other.
        layout: the perceptron; any width, depth and padded sizes that are multiples of 16 (multiples of 32 are fastest).

    Raises:
        RuntimeError: without AMX.
        ValueError: weights of another type or length.
    """
    if not amx.available():
        raise RuntimeError(f"AMX is not available here: the processor or the system lacks it, or {amx.SWITCH} is set.")
    if weights.dtype != np.float32 or weights.shape != (layout.n_params,) or not weights.flags.c_contiguous:
        raise ValueError(f"weights must be contiguous float32 [{layout.n_params}].")
    forward_table, backward_table, gradient = _tables(layout)
    buffers = []
    for table in (forward_table, backward_table):
        words = _aligned(2 * table.size)
        _round(weights, table, words.view(np.uint16))
        buffers.append(words)
    widths = np.array([layout.shapes[0][1]] + [rows for rows, _ in layout.shapes], np.int64)
    return PreparedMLP(layout, widths, buffers[0], buffers[1], gradient)


@njit(nogil=True, cache=True, error_model="numpy")
def _forward(x, weights, widths, out, n_pad, out_rows, paired, begin, end, scratch):  # type: ignore[no-untyped-def]
    stride, step, size = 4 * n_pad, GROUPS * BLOCK, deep(widths.max()) * 2 * GROUPS * TILE_BYTES
    sums = address(scratch)
    ping, pong = sums + SUMS_BYTES, sums + SUMS_BYTES + size
    amx.configure()
    blank(sums + 4 * TILE_BYTES, LANES)  # the zero tile
    for s in range(begin, end, step):
        groups = min(GROUPS, (end - s + BLOCK - 1) // BLOCK)
        copy_in(address(x) + 4 * s, stride, widths[0], groups, end - s, ping)
        expect_rows(address(x) + 4 * (s + step), stride, widths[0] // 2, groups, False)
        expect_rows(address(out) + 4 * s, stride, out_rows // 2 if paired else out_rows, groups, True)
        w, a, b = address(weights), ping, pong
        for i in range(widths.size - 2):
            layer(w, widths[i], groups, a, RELU, widths[i + 1], b, 0, sums)
            w += deep(widths[i]) * (widths[i + 1] // LANES) * TILE_BYTES
            a, b = b, a
        layer(w, widths[-2], groups, a, PAIRS if paired else ROWS, out_rows, address(out) + 4 * s, stride, sums)
    amx.release()


@njit(nogil=True, cache=True, error_model="numpy")
def _backward(x, weights, transposed, widths, numbers, d_out, d_rows, dx, paired, dw, n_pad, begin, end, scratch):  # type: ignore[no-untyped-def]
    stride, step, depth = 4 * n_pad, GROUPS * BLOCK, widths.size - 1
    size = deep(widths.max()) * 2 * GROUPS * TILE_BYTES
    totals = scratch[: numbers.size].view(np.float32)
    totals[:] = 0
    sums = address(scratch) + 4 * numbers.size
    left = sums + SUMS_BYTES
    right = left + 2 * GROUPS * TILE_BYTES
    kept = right + size  # the inputs of each layer; on the way back their gradients take their places
    amx.configure()
    blank(sums + 4 * TILE_BYTES, LANES)  # the zero tile
    for s in range(begin, end, step):
        groups = min(GROUPS, (end - s + BLOCK - 1) // BLOCK)
        copy_in(address(x) + 4 * s, stride, widths[0], groups, end - s, kept)
        gradient_in(address(d_out) + 4 * s, stride, d_rows, widths[-1], groups, end - s, kept + depth * size)
        expect_rows(address(x) + 4 * (s + step), stride, widths[0] // 2, groups, False)
        expect_rows(address(d_out) + 4 * (s + step), stride, d_rows, groups, False)
        if dx.size > 0:
            expect_rows(address(dx) + 4 * s, stride, widths[0] // 2 if paired else widths[0], groups, True)
        w = address(weights)
        for i in range(depth - 1):
            layer(w, widths[i], groups, kept + i * size, RELU, widths[i + 1], kept + (i + 1) * size, 0, sums)
            w += deep(widths[i]) * (widths[i + 1] // LANES) * TILE_BYTES
        w, total = address(transposed) + 4 * transposed.size, address(totals) + 4 * numbers.size
        for i in range(depth - 1, -1, -1):
            width_in, width, entered = widths[i], widths[i + 1], kept + i * size
            w -= deep(width) * (width_in // LANES) * TILE_BYTES
            total -= 4 * width * width_in
            turn_round(entered, width_in, groups, right)
            accumulate(entered + size, width, right, width_in // LANES, groups, left, total)
            if i > 0:
                layer(w, width, groups, entered + size, MASKED, width_in, entered, 0, sums)
            elif dx.size > 0:
                how, to = PAIRS if paired else ROWS, address(dx) + 4 * s
                layer(w, width, groups, entered + size, how, width_in, to, stride, sums)
    amx.release()
    for i in range(numbers.size):
        dw[numbers[i]] += totals[i]


_local = threading.local()


def _scratch(n_bytes: int) -> np.ndarray:
    """This thread's working memory, at least n_bytes of it (fresh memory each call would cost page faults)."""
    found = getattr(_local, "words", None)
    if found is None or 4 * found.size < n_bytes:
        found = _local.words = _aligned(n_bytes)
    return found


def _flat(name: str, array: np.ndarray, dtype: type, n_pad: int, least: int, most: int) -> np.ndarray:
    """The array as one vector, or a ValueError that says what is wanted."""
    good = array.ndim == 2 and array.shape[1] == n_pad and least <= array.shape[0] <= most
    if array.dtype != dtype or not good or not array.flags.c_contiguous:
        rows = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(
            f"{name} must be contiguous {np.dtype(dtype).name} [{rows}, {n_pad}], not {array.dtype} {list(array.shape)}."
        )
    return array.reshape(-1)


def _target(name: str, array: np.ndarray, n_pad: int, least: int, most: int) -> tuple[np.ndarray, int, bool]:
    """The array as one vector, features that it has room for, True if in pairs of bfloat16."""
    if array.dtype == np.uint32:
        flat = _flat(name, array, np.uint32, n_pad, (least + 1) // 2, most // 2)
        return flat.view(np.float32), 2 * array.shape[0], True
    return _flat(name, array, np.float32, n_pad, least, most), array.shape[0], False


def _inputs(x: np.ndarray, mlp: PreparedMLP, begin: int, end: int) -> np.ndarray:
    rows = int(mlp.widths[0]) // 2
    flat = _flat("x", x, np.uint32, x.shape[-1], rows, rows)
    if x.shape[1] % BLOCK or begin % BLOCK or not 0 <= begin <= end <= x.shape[1]:
        raise ValueError(
            f"Samples {begin} to {end} of {x.shape[1]}: the row length and begin must be multiples of {BLOCK}, in order."
        )
    return flat


def forward(x: np.ndarray, mlp: PreparedMLP, out: np.ndarray, begin: int, end: int) -> None:
    """Outputs of samples begin to end - 1.

    Args:
        x: uint32 [inputs / 2, n_pad], pairs of bfloat16 inputs (module text); inputs padded to 16.
        mlp: the weights.
        out: float32 [rows, n_pad], written: the first ``rows`` outputs, 1 to the padded number of them; or uint32
            [rows / 2, n_pad]: the same in pairs of bfloat16, as the next perceptron's ``x``.
        begin: first sample, a multiple of 32.
        end: one past the last; from there to the next multiple of 32, zeros are written, whatever ``x`` holds.

    Raises:
        ValueError: an array of another shape, type or layout, or samples outside it.
    """
    flat_x = _inputs(x, mlp, begin, end)
    flat_out, rows, paired = _target("out", out, x.shape[1], 1, int(mlp.widths[-1]))
    size = -(-int(mlp.widths.max()) // 32) * 2 * GROUPS * TILE_BYTES
    scratch = _scratch(SUMS_BYTES + 2 * size)
    _forward(flat_x, mlp.weights, mlp.widths, flat_out, x.shape[1], rows, paired, begin, end, scratch)


def backward(
    x: np.ndarray,
    mlp: PreparedMLP,
    d_out: np.ndarray,
    dx: Optional[np.ndarray],
    dw: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Gradients of samples begin to end - 1.

    Args:
        x: as in :func:`forward`.
        mlp: the weights.
        d_out: float32 [rows, n_pad], gradient of the first ``rows`` outputs; that of the others is zero.
        dx: float32 [inputs, n_pad], written (zeros from end to the next multiple of 32), or uint32 [inputs / 2, n_pad]
            in pairs of bfloat16, or None.
        dw: float32 [layout.n_params], added to; give each thread its own.
        begin: first sample, a multiple of 32.
        end: one past the last.

    Raises:
        ValueError: an array of another shape, type or layout, or samples outside it.
    """
    flat_x, n_pad, widths = _inputs(x, mlp, begin, end), x.shape[1], mlp.widths
    flat_d = _flat("d_out", d_out, np.float32, n_pad, 1, int(widths[-1]))
    flat_dx, paired = np.empty(0, np.float32), False
    if dx is not None:
        flat_dx, _, paired = _target("dx", dx, n_pad, int(widths[0]), int(widths[0]))
    if dw.dtype != np.float32 or dw.shape != mlp.gradient.shape or not dw.flags.c_contiguous:
        raise ValueError(f"dw must be contiguous float32 [{mlp.gradient.size}].")
    size = -(-int(widths.max()) // 32) * 2 * GROUPS * TILE_BYTES
    fixed = 4 * mlp.gradient.size + SUMS_BYTES + 2 * GROUPS * TILE_BYTES
    scratch = _scratch(fixed + (1 + widths.size) * size)
    sides = (flat_x, mlp.weights, mlp.transposed, widths, mlp.gradient, flat_d, d_out.shape[0], flat_dx, paired, dw)
    _backward(*sides, n_pad, begin, end, scratch)
