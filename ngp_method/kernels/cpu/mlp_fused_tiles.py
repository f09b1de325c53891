"""Register tiles of the fused float32 perceptrons, as LLVM code of :mod:`.simd` vectors: a product, and a transpose.

A product's sums stay in registers while its depth is walked. Of how many sums it is made, its tile, is known when it is
compiled, and the processor decides which is best: 8 rows of 2 vectors where there are 32 registers of 16 floats (AVX-512);
6 rows of 1 vector where a vector takes two of 16 (AVX2: 12 sums, 2 for the vector, 1 for the broadcast) or four of 32 (NEON).
A tile's rows and vectors are told by types, as tuples of so many zeros, so that compiled functions can be handed either tile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import processor
from .bf16_pairs import _shuffle
from .simd import _F32, _VF, LANES, _splat

Tile = tuple[tuple[int, ...], tuple[int, ...]]
"""(rows zeros, vectors zeros)."""

WIDE: Tile = ((0,) * 8, (0,) * 2)
NARROW: Tile = ((0,) * 6, (0,))

RELU, MASKED, PLAIN, ADDED = 0, 1, 2, 3
"""What becomes of a product: its ReLU; itself where the target was positive and zero elsewhere; itself; added to the target."""

ROW = 4 * LANES
"""Bytes of a vector."""

_I64 = ir.IntType(64)
_QUARTER = ir.VectorType(_F32, 4)
_FAST = ("contract", "nsz")


def best_tile() -> Tile:
    """The tile for what numba compiles for."""
    return WIDE if processor.wide_registers() else NARROW


def _count(kind: Any) -> int | None:
    """A number known by its type: a literal, or the length of a tuple."""
    if isinstance(kind, types.IntegerLiteral):
        return int(kind.literal_value)
    return len(kind) if isinstance(kind, types.BaseTuple) else None


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _finish(builder: Any, how: Any, found: list[tuple[Any, Any]]) -> None:
    """Write vectors of sums, each to its pointer, as ``how`` says."""
    zero, end = ir.Constant(_VF, [0.0] * LANES), builder.append_basic_block("written")
    blocks = [builder.append_basic_block(name) for name in ("relu", "masked", "plain", "added")]
    switch = builder.switch(how, blocks[PLAIN])
    for number, block in enumerate(blocks):
        if number != PLAIN:
            switch.add_case(ir.Constant(_I64, number), block)
        builder.position_at_end(block)
        for total, pointer in found:
            value = total
            if number == RELU:  # not a number stays that
                value = builder.select(builder.fcmp_ordered("<", total, zero), zero, total)
            elif number == MASKED:
                value = builder.select(builder.fcmp_ordered(">", builder.load(pointer, align=4), zero), total, zero)
            elif number == ADDED:
                value = builder.fadd(total, builder.load(pointer, align=4))
            builder.store(value, pointer, align=4)
        builder.branch(end)
    builder.position_at_end(end)


@intrinsic(prefer_literal=True)
def multiply(
    typingctx: Any, rows: Any, vectors: Any, how: Any, a: Any, a_step: Any, a_row: Any, b: Any, b_step: Any, depth: Any,
    target: Any, target_row: Any,
) -> Any:  # fmt: skip
    """target[r, v] = sum over k below ``depth`` of a[k, r] * b[k, v], for a tile of rows r of float32 vectors v.

    Args:
        rows, vectors: how many: literals, or tuples of that length.
        how: RELU, MASKED, PLAIN or ADDED.
        a: address of float32 numbers, a_step bytes from one k to the next and a_row from row to row.
        b: address of vectors, b_step bytes from one k to the next; those of one k lie side by side.
        depth: terms of each sum.
        target: address of the tile, target_row bytes from row to row.
    """
    n_rows, n_vectors = _count(rows), _count(vectors)
    if n_rows is None or n_vectors is None:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        how, a, a_step, a_row, b, b_step, depth, target, target_row = args[2:]
        zero = ir.Constant(_VF, [0.0] * LANES)
        sums = [[cgutils.alloca_once(builder, _VF) for _ in range(n_vectors)] for _ in range(n_rows)]
        for row in sums:
            for place in row:
                builder.store(zero, place)
        with cgutils.for_range(builder, depth) as loop:
            left = builder.add(a, builder.mul(loop.index, a_step))
            right = builder.add(b, builder.mul(loop.index, b_step))
            found = [
                builder.load(_at(builder, builder.add(right, ir.Constant(_I64, ROW * v)), _VF), align=4)
                for v in range(n_vectors)
            ]
            for r, row in enumerate(sums):
                at = builder.add(left, builder.mul(a_row, ir.Constant(_I64, r)))
                factor = _splat(builder, builder.load(_at(builder, at, _F32)), _VF)
                for place, vector in zip(row, found):
                    product = builder.fmul(factor, vector, flags=_FAST)
                    builder.store(builder.fadd(builder.load(place), product, flags=_FAST), place)
        results = []
        for r, row in enumerate(sums):
            at = builder.add(target, builder.mul(target_row, ir.Constant(_I64, r)))
            for v, place in enumerate(row):
                pointer = _at(builder, builder.add(at, ir.Constant(_I64, ROW * v)), _VF)
                results.append((builder.load(place), pointer))
        _finish(builder, how, results)
        return context.get_dummy_value()

    return types.void(rows, vectors, *[types.int64] * 9), codegen


@intrinsic
def transpose(typingctx: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
    """16 x 16 float32 at ``source`` turned round to ``target``; rows are so many bytes apart.

    Loads gather quarters of rows 4 m + i (m = 0 ... 3) to one vector; four of those (i = 0 ... 3) are turned round within
    their quarters by two stages of two-source shuffles, which every processor has.
    """

    def quarters(builder: Any, start: Any, row: Any, i: int, quad: int) -> Any:
        found = []
        for m in range(4):
            at = builder.add(start, builder.mul(row, ir.Constant(_I64, 4 * m + i)))
            found.append(builder.load(_at(builder, builder.add(at, ir.Constant(_I64, 16 * quad)), _QUARTER), align=4))
        halves = [_shuffle(builder, found[k], found[k + 1], list(range(8))) for k in (0, 2)]
        return _shuffle(builder, halves[0], halves[1], list(range(16)))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, source_row, target, target_row = args
        low = [4 * q + o for q in range(4) for o in (0, 16, 1, 17)]
        high = [4 * q + o for q in range(4) for o in (2, 18, 3, 19)]
        first = [4 * q + o for q in range(4) for o in (0, 1, 16, 17)]
        second = [4 * q + o for q in range(4) for o in (2, 3, 18, 19)]
        for quad in range(4):
            v = [quarters(builder, source, source_row, i, quad) for i in range(4)]
            column = 4 * quad
            for half in (low, high):
                a, b = (_shuffle(builder, v[i], v[i + 1], half) for i in (0, 2))
                for order in (first, second):
                    at = builder.add(target, builder.mul(target_row, ir.Constant(_I64, column)))
                    builder.store(_shuffle(builder, a, b, order), _at(builder, at, _VF), align=4)
                    column += 1
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
