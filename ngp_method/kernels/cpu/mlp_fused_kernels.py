"""The inner loops of :mod:`.mlp_fused`: a block of samples at a time, activations in the first-level cache.

Everything is given by address (int64). *Activations* are float32 [width, STRIDE], samples along the row; a block fills the
first ``size`` of each row, a multiple of 32. Weights are packed (:func:`.mlp_fused.prepare`): the rows of one tile side by
side for the first input, then for the second, and so on.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .bf16_pairs import address, expect_load, load_floats, store_at
from .mlp_fused_tiles import ADDED, MASKED, PLAIN, RELU, ROW, multiply, transpose
from .simd import LANES, spread_f

STRIDE = 64
"""Samples of a block: four layers of 64 neurons and two matrices take 96 KB, of which the innermost loop sees 18. From 32 to
128 the speed is the same within 2 % (measured on Zen 4)."""

STEP = 4 * STRIDE
"""Bytes from one row of activations to the next."""

jit = njit(nogil=True, cache=True, error_model="numpy")
"""How every kernel here is compiled."""


@jit
def layer(tile, weights, depth, source, size, how, width, target, target_row):  # type: ignore[no-untyped-def]
    """``width`` rows of W source, written as ``how`` says: rows in tiles, what is left in tiles of four, two and one."""
    rows, vectors = tile
    count, step = len(rows), ROW * len(vectors)
    row = 0
    while row < width:
        left = width - row
        taken = count if left >= count else 4 if left >= 4 else 2 if left >= 2 else 1
        to = target + row * target_row
        for s in range(0, 4 * size, step):
            if taken == count:
                multiply(rows, vectors, how, weights, 4 * count, 4, source + s, STEP, depth, to + s, target_row)
            elif taken == 4:
                multiply(4, vectors, how, weights, 16, 4, source + s, STEP, depth, to + s, target_row)
            elif taken == 2:
                multiply(2, vectors, how, weights, 8, 4, source + s, STEP, depth, to + s, target_row)
            else:
                multiply(1, vectors, how, weights, 4, 4, source + s, STEP, depth, to + s, target_row)
        weights += 4 * taken * depth
        row += taken


@jit
def turn_round(source, width, size, target):  # type: ignore[no-untyped-def]
    """Activations -> float32 [size, width]; width a multiple of 16."""
    for i in range(0, width, LANES):
        for s in range(0, size, LANES):
            transpose(source + i * STEP + 4 * s, STEP, target + 4 * (s * width + i), 4 * width)


@jit
def accumulate(tile, activations, width, turned, width_turned, size, totals):  # type: ignore[no-untyped-def]
    """totals (float32 [width, width_turned]) += activations times ``turned`` (float32 [size, width_turned])."""
    rows, vectors = tile
    count, across, step = len(rows), LANES * len(vectors), 4 * width_turned
    column = 0
    while column < width_turned:
        whole = column + across <= width_turned
        row = 0
        while row < width:
            a, b, to = activations + row * STEP, turned + 4 * column, totals + 4 * (row * width_turned + column)
            left = width - row  # an even number
            taken = count if left >= count else 4 if left >= 4 else 2
            if taken == count and whole:
                multiply(rows, vectors, ADDED, a, 4, STEP, b, step, size, to, step)
            elif taken == count:
                multiply(rows, 1, ADDED, a, 4, STEP, b, step, size, to, step)
            elif taken == 4:
                multiply(4, 1, ADDED, a, 4, STEP, b, step, size, to, step)
            else:
                multiply(2, 1, ADDED, a, 4, STEP, b, step, size, to, step)
            row += taken
        column += across if whole else LANES


@jit
def _copy(source, target, size):  # type: ignore[no-untyped-def]
    for s in range(0, 4 * size, ROW):
        store_at(target + s, load_floats(source + s))


@jit
def _copy_in(source, target, size):  # type: ignore[no-untyped-def]
    """The same, and the row's block after the next one is fetched: dozens of rows at once are more than the processor foresees,
    and one block ahead is too late (measured)."""
    for s in range(0, 4 * size, ROW):
        store_at(target + s, load_floats(source + s))
        expect_load(source + s + 2 * STEP)


@jit
def _clear(target, rows):  # type: ignore[no-untyped-def]
    for s in range(0, rows * STEP, ROW):
        store_at(target + s, spread_f(np.float32(0.0)))


@jit
def forward(tile, inputs, weights, widths, out, rows, n_pad, begin, end, scratch):  # type: ignore[no-untyped-def]
    """See :func:`.mlp_fused.forward`; inputs: int64 addresses of the inputs' rows."""
    buffer = widths.max() * STEP
    ping, pong, depth = address(scratch), address(scratch) + buffer, widths.size - 1
    for s in range(begin, end, STRIDE):
        size = min(STRIDE, end - s)
        for k in range(inputs.size):
            _copy_in(inputs[k] + 4 * s, ping + k * STEP, size)
        w, a, b, width = address(weights), ping, pong, inputs.size
        for i in range(1, depth):
            layer(tile, w, width, a, size, RELU, widths[i], b, STEP)
            w += 4 * width * widths[i]
            a, b, width = b, a, widths[i]
        layer(tile, w, width, a, size, PLAIN, rows, address(out) + 4 * s, 4 * n_pad)


@jit
def backward(tile, inputs, weights, turned, widths, d_out, rows, n_pad, d_inputs, totals, begin, end, scratch):  # type: ignore[no-untyped-def]
    """See :func:`.mlp_fused.backward`; d_inputs: int64 addresses of the rows of the inputs' gradients that are wanted.

    ``turned``: packed transposed matrices, last layer first. A layer's inputs are kept until its weights' gradient is
    made; then the gradient of those inputs takes their place.
    """
    buffer, depth = widths.max() * STEP, widths.size - 1
    kept, across = address(scratch), address(scratch) + (depth + 1) * buffer
    last = kept + depth * buffer
    _clear(kept + inputs.size * STEP, widths[0] - inputs.size)
    for s in range(begin, end, STRIDE):
        size = min(STRIDE, end - s)
        for k in range(inputs.size):
            _copy_in(inputs[k] + 4 * s, kept + k * STEP, size)
        for k in range(rows):
            _copy_in(address(d_out) + 4 * (k * n_pad + s), last + k * STEP, size)
        if rows < widths[depth]:
            _clear(last + rows * STEP, widths[depth] - rows)
        w, width = address(weights), inputs.size
        for i in range(1, depth):
            layer(tile, w, width, kept + (i - 1) * buffer, size, RELU, widths[i], kept + i * buffer, STEP)
            w += 4 * width * widths[i]
            width = widths[i]
        w, total, width = address(turned), address(totals) + 4 * totals.size, rows
        for i in range(depth - 1, -1, -1):
            below, above = kept + i * buffer, kept + (i + 1) * buffer
            total -= 4 * widths[i] * widths[i + 1]
            if widths[i + 1] < widths[i]:  # the narrower is turned round: it is what costs
                turn_round(above, widths[i + 1], size, across)
                accumulate(tile, below, widths[i], across, widths[i + 1], size, total)
            else:
                turn_round(below, widths[i], size, across)
                accumulate(tile, above, widths[i + 1], across, widths[i], size, total)
            if i > 0:
                layer(tile, w, width, above, size, MASKED, widths[i], below, STEP)
                w += 4 * width * widths[i]
                width = widths[i]
        if d_inputs.size > 0:
            layer(tile, w, width, kept + buffer, size, PLAIN, d_inputs.size, kept, STEP)
            for k in range(d_inputs.size):
                _copy(kept + k * STEP, d_inputs[k] + 4 * s, size)
