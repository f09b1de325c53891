"""Products of bfloat16 matrices by AVX-512's dot products of pairs (vdpbf16ps), for the perceptrons of :mod:`.bf16_mlp`.

A dot product of pairs adds two products of bfloat16 to each of sixteen float32 sums: twice the work of a float32 multiplication
and addition. AMD has it from Zen 4 on, Intel in Cooper Lake and from Sapphire Rapids on. The layouts are those of tiles (see
:mod:`.amx`), so that one driver serves both. The sums live in registers from the first product to the last.

Rounding (Intel's instruction set reference, VDPBF16PS): the product of the upper members is added first, then that of the lower
ones, each sum rounded to float32; denormal numbers count as zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .bf16_pairs import IN_PROCESSOR, ROW, _pointer, instruction
from .simd import _I32, _VF, _VU, LANES, _splat


def _dot(builder: Any, sums: Any, pairs: Any, factor: Any) -> Any:
    """sums + the dot product of each lane's pairs; where the instruction is missing, by two float32 products."""
    if IN_PROCESSOR:
        return instruction(builder, _VF, "vdpbf16ps $3, $2, $0", "=v,0,v,v", sums, pairs, factor)
    upper, sixteen = ir.Constant(_VU, [0xFFFF0000] * LANES), ir.Constant(_VU, [16] * LANES)
    for half in (lambda v: builder.and_(v, upper), lambda v: builder.shl(v, sixteen)):
        a, b = (builder.bitcast(half(v), _VF) for v in (pairs, factor))
        sums = builder.fadd(sums, builder.fmul(a, b, flags=("contract",)), flags=("contract",))
    return sums


@intrinsic(prefer_literal=True)
def dot_block(
    typingctx: Any, rows: Any, columns: Any, target: Any, target_step: Any, left: Any, left_step: Any, right: Any,
    right_step: Any, column_step: Any, steps: Any, add: Any,
) -> Any:  # fmt: skip
    """target[row, column] (+)= sum over steps and pairs p of left[row, p] times right[p, column]; addresses and bytes.

    Args:
        rows: literal, 1 to 8: words of ``left``, 64 bytes apart, each spread over the lanes.
        columns: literal, 1 or 2: vectors of ``right``.
        target: sums: vectors ``target_step`` bytes apart by column, 64 by row.
        target_step: see there.
        left: word p of a row at 4 p; the next tile ``left_step`` bytes on.
        left_step: see there.
        right: vector p at 64 p; the next tile ``right_step`` bytes on, the next column ``column_step`` bytes on.
        right_step: see there.
        column_step: see there.
        steps: tiles, each of 16 pairs.
        add: literal, 1: begin with what ``target`` holds, 0: with zero.
    """
    numbers = (rows, columns, add)
    if not all(isinstance(n, types.IntegerLiteral) for n in numbers):
        return None
    n_rows, n_columns, begin = (n.literal_value for n in numbers)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, target, target_step, left, left_step, right, right_step, column_step, steps, _ = args
        places = [
            [builder.add(target, builder.add(builder.mul(target_step, target_step.type(c)), target_step.type(ROW * r)))
             for c in range(n_columns)] for r in range(n_rows)
        ]  # fmt: skip
        sums = [[cgutils.alloca_once(builder, _VF) for _ in range(n_columns)] for _ in range(n_rows)]
        for r in range(n_rows):
            for c in range(n_columns):
                zero = ir.Constant(_VF, [0.0] * LANES)
                value = builder.load(_pointer(builder, places[r][c], 0, _VF), align=4) if begin else zero
                builder.store(value, sums[r][c])
        with cgutils.for_range(builder, steps) as step:
            a = builder.add(left, builder.mul(left_step, step.index))
            b = builder.add(right, builder.mul(right_step, step.index))
            for p in range(LANES):
                vectors = []
                for c in range(n_columns):
                    at = builder.add(b, builder.mul(column_step, column_step.type(c)))
                    vectors.append(builder.load(_pointer(builder, at, ROW * p, _VU), align=4))
                for r in range(n_rows):
                    word = builder.load(_pointer(builder, a, ROW * r + 4 * p, _I32), align=4)
                    factor = _splat(builder, word, _VU)
                    for c in range(n_columns):
                        builder.store(_dot(builder, builder.load(sums[r][c]), vectors[c], factor), sums[r][c])
        for r in range(n_rows):
            for c in range(n_columns):
                builder.store(builder.load(sums[r][c]), _pointer(builder, places[r][c], 0, _VF), align=4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(rows, columns, i, i, i, i, i, i, i, i, add), codegen
