"""The products of :mod:`.bf16_mlp` by dot products of pairs (layouts: :mod:`.bf16_mlp_blocks`)."""

from __future__ import annotations

from .amx import TILE_BYTES
from .bf16_dots import dot_block
from .bf16_mlp_blocks import deep, left_operands, put_layer
from .bf16_pairs import ROW
from .simd import LANES
from .tiles import jit


@jit
def _rows(count, target, left, right, column_step, steps):  # type: ignore[no-untyped-def]
    """The first ``count`` (1 to 16) rows of a 16 x 32 tile of sums; eight at a time, the rest by halves."""
    row = 0
    while count - row >= 8:
        dot_block(8, 2, target + row * ROW, TILE_BYTES, left + row * ROW, TILE_BYTES, right, TILE_BYTES, column_step, steps, 0)
        row += 8
    if count - row >= 4:
        dot_block(4, 2, target + row * ROW, TILE_BYTES, left + row * ROW, TILE_BYTES, right, TILE_BYTES, column_step, steps, 0)
        row += 4
    while row < count:
        dot_block(1, 2, target + row * ROW, TILE_BYTES, left + row * ROW, TILE_BYTES, right, TILE_BYTES, column_step, steps, 0)
        row += 1


@jit
def layer(weights, width_in, groups, source, how, width, target, stride, sums):  # type: ignore[no-untyped-def]
    """The first ``width`` rows of W source; see :func:`.bf16_mlp_tiles.layer`, which this does by other means."""
    n_k, n_k_out, n_rows = deep(width_in), deep(width), (width + LANES - 1) // LANES
    for g in range(groups):
        for r in range(n_rows):
            left, right = weights + r * n_k * TILE_BYTES, source + 2 * g * n_k * TILE_BYTES
            _rows(min(LANES, width - LANES * r), sums, left, right, n_k * TILE_BYTES, n_k)
            for c in range(2):
                put_layer(how, sums + c * TILE_BYTES, target, stride, width, n_k_out, g, r, c)


@jit
def accumulate(pairs, width, right, n_right, groups, left, totals):  # type: ignore[no-untyped-def]
    """totals (float32 16 x 16 tiles [width / 16, n_right]) += activations times right operands, over all samples."""
    n_k, across = deep(width), n_right * TILE_BYTES
    for i in range(width // LANES):
        left_operands(pairs, n_k, groups, i, left)
        for j in range(0, n_right, 2):
            at, b = totals + (i * n_right + j) * TILE_BYTES, right + j * TILE_BYTES
            for row in range(0, LANES, 8):
                to, a = at + row * ROW, left + row * ROW
                if j + 1 < n_right:
                    dot_block(8, 2, to, TILE_BYTES, a, TILE_BYTES, b, across, TILE_BYTES, groups, 1)
                else:
                    dot_block(8, 1, to, TILE_BYTES, a, TILE_BYTES, b, across, TILE_BYTES, groups, 1)
