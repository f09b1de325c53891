"""Fused perceptrons of the ``cpu`` kernels in bfloat16: products of bfloat16, float32 sums, activations never leave the cache.

::

    if bfloat16.engines():                                  # AMX tiles or AVX-512 dot products: see bfloat16.py
        mlp = prepare(weights, layout)                      # once for each change of the weights; about 20 microseconds
        forward(x, mlp, out, begin, end)                    # in any thread, for any chunk of samples
        backward(x, mlp, d_out, dx, dw, begin, end)         # recomputes the hidden layers: nothing is kept in between

Arrays have samples along the row, so that sixteen samples are one vector. ``x`` is uint32 [inputs / 2, n_pad]: word [p, n]
holds input 2p of sample n as bfloat16 in its lower half and input 2p + 1 in its upper half. ``out``, ``d_out`` and ``dx`` are
float32 [rows, n_pad]; ``out`` and ``dx`` may be in pairs like ``x`` instead (less memory to move: faster). ``n_pad`` is a
multiple of 32 (:data:`BLOCK`), and so is ``begin``. Rows aligned to 64 bytes are fastest.

Rounding: weights, inputs, hidden activations, ``d_out`` and the gradients that pass between layers are bfloat16; sums, ``out``,
``dx`` and ``dw`` are float32. To nearest; of two that are as near, the even one, but for hidden activations and the gradients
between layers the one away from zero. Denormal numbers count as zero. A ReLU makes zero of what has its sign bit set, also of
not-a-number. A sample's ``out`` and ``dx`` do not depend on the chunks; ``dw`` does, in the order of its float32 sums.

Hidden activations are computed a second time: that is 12,000 multiplications a sample (32-64-16 and 32-64-64-16 together), and
the alternative is to write and read 384 bytes, which takes longer, and 25 MB for 65,536 samples.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from . import pool, tiles
from .amx import TILE_BYTES
from .bf16_mlp_blocks import (
    BLOCK,
    MASKED,
    PAIRS,
    RELU,
    ROWS,
    SUMS_BYTES,
    blank,
    copy_in,
    deep,
    expect_rows,
    gradient_in,
    turn_round,
)
from .bf16_mlp_dots import accumulate as accumulate_dots
from .bf16_mlp_dots import layer as layer_dots
from .bf16_mlp_weights import PreparedMLP, prepare
from .bf16_pairs import address
from .simd import LANES

if tiles.COMPILED:
    from .bf16_mlp_tiles import accumulate as accumulate_tiles
    from .bf16_mlp_tiles import layer as layer_tiles
    from .tiles import configure, release
else:  # never reached: no engine of this process is made of tiles
    accumulate_tiles, layer_tiles = accumulate_dots, layer_dots

    @tiles.jit
    def configure():  # type: ignore[no-untyped-def]
        """Nothing."""

    release = configure

__all__ = ["BLOCK", "PreparedMLP", "backward", "forward", "prepare"]

GROUPS = 2
"""Groups of 32 samples that go through a layer one after the other: with more, weights and their gradients are read less often;
with fewer, activations stay in the first-level cache (what has left it costs four times as much to write). Measured: 2 or 3."""


@tiles.jit
def _layer(tiled, weights, width_in, groups, source, how, width, target, stride, sums):  # type: ignore[no-untyped-def]
    """By the engine that was asked for."""
    if tiled:
        layer_tiles(weights, width_in, groups, source, how, width, target, stride, sums)
    else:
        layer_dots(weights, width_in, groups, source, how, width, target, stride, sums)


@tiles.jit
def _accumulate(tiled, pairs, width, right, n_right, groups, left, totals):  # type: ignore[no-untyped-def]
    """By the engine that was asked for."""
    if tiled:
        accumulate_tiles(pairs, width, right, n_right, groups, left, totals)
    else:
        accumulate_dots(pairs, width, right, n_right, groups, left, totals)


@tiles.jit
def _forward(x, weights, widths, out, n_pad, out_rows, paired, begin, end, scratch, tiled):  # type: ignore[no-untyped-def]
    stride, step, size = 4 * n_pad, GROUPS * BLOCK, deep(widths.max()) * 2 * GROUPS * TILE_BYTES
    sums = address(scratch)
    ping, pong = sums + SUMS_BYTES, sums + SUMS_BYTES + size
    if tiled:
        configure()
    blank(sums + 4 * TILE_BYTES, LANES)  # the zero tile
    for s in range(begin, end, step):
        groups = min(GROUPS, (end - s + BLOCK - 1) // BLOCK)
        copy_in(address(x) + 4 * s, stride, widths[0], groups, end - s, ping)
        expect_rows(address(x) + 4 * (s + step), stride, widths[0] // 2, groups, False)
        expect_rows(address(out) + 4 * s, stride, out_rows // 2 if paired else out_rows, groups, True)
        w, a, b = address(weights), ping, pong
        for i in range(widths.size - 2):
            _layer(tiled, w, widths[i], groups, a, RELU, widths[i + 1], b, 0, sums)
            w += deep(widths[i]) * (widths[i + 1] // LANES) * TILE_BYTES
            a, b = b, a
        _layer(tiled, w, widths[-2], groups, a, PAIRS if paired else ROWS, out_rows, address(out) + 4 * s, stride, sums)
    if tiled:
        release()


@tiles.jit
def _backward(x, weights, transposed, widths, numbers, d_out, d_rows, dx, paired, dw, n_pad, begin, end, scratch, tiled):  # type: ignore[no-untyped-def]
    stride, step, depth = 4 * n_pad, GROUPS * BLOCK, widths.size - 1
    size = deep(widths.max()) * 2 * GROUPS * TILE_BYTES
    totals = scratch[: numbers.size].view(np.float32)
    totals[:] = 0
    sums = address(scratch) + 4 * numbers.size
    left = sums + SUMS_BYTES
    right = left + 2 * GROUPS * TILE_BYTES
    kept = right + size  # the inputs of each layer; on the way back their gradients take their places
    if tiled:
        configure()
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
            _layer(tiled, w, widths[i], groups, kept + i * size, RELU, widths[i + 1], kept + (i + 1) * size, 0, sums)
            w += deep(widths[i]) * (widths[i + 1] // LANES) * TILE_BYTES
        w, total = address(transposed) + 4 * transposed.size, address(totals) + 4 * numbers.size
        for i in range(depth - 1, -1, -1):
            width_in, width, entered = widths[i], widths[i + 1], kept + i * size
            w -= deep(width) * (width_in // LANES) * TILE_BYTES
            total -= 4 * width * width_in
            if width < width_in:  # the narrower is turned round: it is the dearer operand to make
                turn_round(entered + size, width, groups, right)
                _accumulate(tiled, entered, width_in, right, width // LANES, groups, left, total)
            else:
                turn_round(entered, width_in, groups, right)
                _accumulate(tiled, entered + size, width, right, width_in // LANES, groups, left, total)
            if i > 0:
                _layer(tiled, w, width, groups, entered + size, MASKED, width_in, entered, 0, sums)
            elif dx.size > 0:
                how, to = PAIRS if paired else ROWS, address(dx) + 4 * s
                _layer(tiled, w, width, groups, entered + size, how, width_in, to, stride, sums)
    if tiled:
        release()
    for i in range(numbers.size):
        dw[numbers[i]] += totals[i]


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
    scratch = pool.scratch(SUMS_BYTES + 2 * size)
    _forward(flat_x, mlp.weights, mlp.widths, flat_out, x.shape[1], rows, paired, begin, end, scratch, mlp.tiled)


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
    scratch = pool.scratch(fixed + (1 + widths.size) * size)
    sides = (flat_x, mlp.weights, mlp.transposed, widths, mlp.gradient, flat_d, d_out.shape[0], flat_dx, paired, dw)
    _backward(*sides, n_pad, begin, end, scratch, mlp.tiled)
