"""The products of :mod:`.bf16_mlp` on AMX tiles (layouts: :mod:`.bf16_mlp_blocks`)."""

from __future__ import annotations

from .amx import TILE_BYTES
from .bf16_mlp_blocks import ROWS, deep, left_operands, put_layer
from .bf16_pairs import ROW
from .simd import LANES
from .tiles import jit, tile_dot, tile_load, tile_store


@jit
def _start(odd, zero):  # type: ignore[no-untyped-def]
    """Tiles 0 and 1 = 0, or 2 and 3 in odd turns."""
    if odd:
        tile_load(2, zero, 64)
        tile_load(3, zero, 64)
    else:
        tile_load(0, zero, 64)
        tile_load(1, zero, 64)


@jit
def _multiply(odd, weights, first, second, fresh):  # type: ignore[no-untyped-def]
    """Add 16 rows of 32 weights times 2 x 16 samples, whose tiles are in 6 and 7 already unless ``fresh``."""
    if fresh:
        tile_load(6, first, 64)
        tile_load(7, second, 64)
    if odd:
        tile_load(5, weights, 64)
        tile_dot(2, 5, 6)
        tile_dot(3, 5, 7)
    else:
        tile_load(4, weights, 64)
        tile_dot(0, 4, 6)
        tile_dot(1, 4, 7)


@jit
def put_sums(odd, column, target, stride):  # type: ignore[no-untyped-def]
    """One of the two tiles to memory."""
    if odd:
        if column == 0:
            tile_store(2, target, stride)
        else:
            tile_store(3, target, stride)
    elif column == 0:
        tile_store(0, target, stride)
    else:
        tile_store(1, target, stride)


@jit
def layer(weights, width_in, groups, source, how, width, target, stride, sums):  # type: ignore[no-untyped-def]
    """The first ``width`` rows of W source.

    ``how``: RELU, written as activations; MASKED, written over activations where they are positive (elsewhere zero); ROWS
    (float32) or PAIRS, written as rows ``stride`` bytes apart.

    Sixteen rows of 32 samples a turn. Each turn multiplies, rounds what the turn before last multiplied and writes to memory
    what the last one did, all in small portions: the processor looks ahead a few hundred instructions, and only what lies as
    near as that runs side by side.
    """
    n_k, n_k_out, n_rows = deep(width_in), deep(width), (width + LANES - 1) // LANES
    total, zero = groups * n_rows, sums + 4 * TILE_BYTES
    g, r, g1, r1, g2, r2 = 0, 0, 0, 0, 0, 0  # group and row of tiles of this turn, of the last one, of the one before
    for turn in range(total + 2):
        odd = turn % 2 == 1
        ours, other = (sums + 2 * TILE_BYTES, sums) if odd else (sums, sums + 2 * TILE_BYTES)
        at, first = weights + r * n_k * TILE_BYTES, source + 2 * g * n_k * TILE_BYTES
        if turn < total:
            _start(odd, zero)
        for c in range(2):
            if turn < total:
                for k in range((n_k + 1) // 2 * c, n_k if c else (n_k + 1) // 2):
                    b = first + k * TILE_BYTES
                    _multiply(odd, at + k * TILE_BYTES, b, b + n_k * TILE_BYTES, n_k > 1 or r == 0)
            # Whole rows of outputs went to memory as they were stored.
            if turn > 1 and (how != ROWS or LANES * (r2 + 1) > width):
                put_layer(how, ours + c * TILE_BYTES, target, stride, width, n_k_out, g2, r2, c)
            if 0 < turn <= total:
                if how == ROWS and LANES * (r1 + 1) <= width:
                    put_sums(not odd, c, target + LANES * r1 * stride + (2 * g1 + c) * ROW, stride)
                else:
                    put_sums(not odd, c, other + c * TILE_BYTES, ROW)
        g2, r2, g1, r1 = g1, r1, g, r
        r += 1
        if r == n_rows:
            g, r = g + 1, 0


@jit
def accumulate(pairs, width, right, n_right, groups, left, totals):  # type: ignore[no-untyped-def]
    """totals (float32 16 x 16 tiles [width / 16, n_right]) += activations times right operands, over all samples.

    ``left``: scratch of 2 * groups tiles: left operands are made one turn of rows ahead, so that they have reached the cache.
    Turns as in :func:`layer`: 16 rows by 32 columns each.
    """
    n_k, before, two_before, odd = deep(width), totals, False, False
    left_operands(pairs, n_k, groups, 0, left)
    for i in range(width // LANES):
        a = left + (i % 2) * groups * TILE_BYTES
        if i + 1 < width // LANES:
            left_operands(pairs, n_k, groups, i + 1, left + ((i + 1) % 2) * groups * TILE_BYTES)
        for j in range(0, n_right, 2):
            at, b, two = totals + (i * n_right + j) * TILE_BYTES, right + j * TILE_BYTES, j + 1 < n_right
            if odd:
                tile_load(2, at, 64)
                if two:
                    tile_load(3, at + TILE_BYTES, 64)
            else:
                tile_load(0, at, 64)
                if two:
                    tile_load(1, at + TILE_BYTES, 64)
            for g in range(groups):
                _accumulate(odd, two, a + g * TILE_BYTES, b + g * n_right * TILE_BYTES)
            if i + j > 0:
                _put_totals(not odd, two_before, before)
            before, two_before, odd = at, two, not odd
    _put_totals(not odd, two_before, before)


@jit
def _accumulate(odd, two, left, right):  # type: ignore[no-untyped-def]
    """Tiles 0 and 1, or 2 and 3 in odd turns, += one left operand times one or two right ones."""
    tile_load(6, right, 64)
    if two:
        tile_load(7, right + TILE_BYTES, 64)
    if odd:
        tile_load(5, left, 64)
        tile_dot(2, 5, 6)
        if two:
            tile_dot(3, 5, 7)
    else:
        tile_load(4, left, 64)
        tile_dot(0, 4, 6)
        if two:
            tile_dot(1, 4, 7)


@jit
def _put_totals(odd, two, target):  # type: ignore[no-untyped-def]
    """One or two tiles to memory."""
    put_sums(odd, 0, target, ROW)
    if two:
        put_sums(odd, 1, target + TILE_BYTES, ROW)
