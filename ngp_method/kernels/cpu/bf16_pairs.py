"""Vectors of bfloat16 pairs for numba, and the two operands that a tile product over samples wants.

A *pair* is two bfloat16 in 32 bits, the first in the lower half; a vector (``u32x16``) holds sixteen. Addresses are plain
int64 (:func:`address`): helpers that take arrays would count references, and an atomic counter shared by threads is slow.
Two instructions stand here by name, as LLVM finds nothing as good. A processor without AVX-512 BF16 gets the same bits from
operations that every processor has (only where bfloat16 is emulated, see :mod:`.bfloat16`).
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import processor
from .simd import _I16, _I32, _VF, _VU, LANES, _splat, f32x16, u32x16

ROW = 64
"""Bytes of a vector."""

IN_PROCESSOR = processor.has("avx512f", "avx512bw", "avx512bf16")
"""Whether the instructions are there."""

# Here and not where the assembly is written: numba's cache brings back functions that contain it and compiles them anew into
# their callers, and LLVM ends the process if no parser is there.
llvmlite.binding.initialize_native_asmparser()

_I8 = ir.IntType(8)
_I64 = ir.IntType(64)
_HALVES = ir.VectorType(_I16, 2 * LANES)
_QUARTER = ir.VectorType(_I32, 4)


def _pointer(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), kind.as_pointer())


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(order)), order))


def instruction(builder: Any, kind: Any, text: str, constraints: str, *operands: Any) -> Any:
    """One vector instruction of a fixed name: LLVM's intrinsics for these change name and type between versions."""
    function = ir.FunctionType(kind, [operand.type for operand in operands])
    return builder.asm(function, text, constraints, list(operands), side_effect=False)


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """Address of the first element of an array, int64. The caller keeps the array alive."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        return builder.ptrtoint(data, _I64)

    return types.int64(array), codegen


def _load(vector: Any, kind: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], 0, kind), align=4)

    return vector(types.int64), codegen


@intrinsic
def load_floats(typingctx: Any, at: Any) -> Any:
    """Sixteen float32 at an address."""
    return _load(f32x16, _VF)


@intrinsic
def load_pairs(typingctx: Any, at: Any) -> Any:
    """Sixteen pairs at an address."""
    return _load(u32x16, _VU)


@intrinsic
def store_at(typingctx: Any, at: Any, vector: Any) -> Any:
    """Write a vector to an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0], 0, args[1].type), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


def _prefetch(write: int, locality: int) -> Any:
    """LLVM's hint: prefetchw, or prefetcht1 for a locality of 2 (the second-level cache), where a processor has them."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        hint = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0")
        data = [ir.Constant(_I32, value) for value in (write, locality, 1)]
        builder.call(prefetch, [_pointer(builder, args[0], 0, _I8), *data])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def expect_load(typingctx: Any, at: Any) -> Any:
    """Fetch the cache line at an address into the second-level cache, to be read soon; any address will do."""
    return _prefetch(0, 2)


@intrinsic
def expect_store(typingctx: Any, at: Any) -> Any:
    """Fetch the cache line at an address, to be written soon; any address will do."""
    return _prefetch(1, 3)


@intrinsic
def lanes_below(typingctx: Any, count: Any) -> Any:
    """All bits set in lanes 0 to count - 1, none in the others; count is an int64 of any size."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.VectorType(_I64, LANES)
        below = builder.icmp_signed("<", ir.Constant(wide, list(range(LANES))), _splat(builder, args[0], wide))
        return builder.sext(below, _VU)

    return u32x16(types.int64), codegen


def _round_to_even(builder: Any, value: Any) -> Any:
    """VCVTNE2PS2BF16 of one f32x16, in the lower halves: nearest even, denormals to zero, not-a-number stays so."""
    bits = builder.bitcast(value, _VU)

    def constant(word: int) -> Any:
        return ir.Constant(_VU, [word] * LANES)

    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    rounded = builder.add(builder.add(bits, constant(0x7FFF)), odd)
    rounded = builder.select(builder.fcmp_unordered("uno", value, value), builder.or_(bits, constant(0x400000)), rounded)
    tiny = builder.icmp_unsigned("<", builder.and_(bits, constant(0x7FFFFFFF)), constant(0x00800000))
    rounded = builder.select(tiny, builder.and_(bits, constant(0x80000000)), rounded)
    return builder.lshr(rounded, constant(16))


@intrinsic
def pair_bf16(typingctx: Any, even: Any, odd: Any) -> Any:
    """Two f32x16 -> pairs (even, odd), rounded to nearest even; denormals become zero."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not IN_PROCESSOR:
            low, high = (_round_to_even(builder, value) for value in args)
            return builder.or_(low, builder.shl(high, ir.Constant(_VU, [16] * LANES)))
        # The instruction sets the sixteen of one operand below the sixteen of the other: bring lanes together after.
        both = instruction(builder, _VU, "vcvtne2ps2bf16 $2, $1, $0", "=v,v,v", args[1], args[0])
        halves = builder.bitcast(both, _HALVES)
        order = [lane + LANES * odd for lane in range(LANES) for odd in (0, 1)]
        return builder.bitcast(_shuffle(builder, halves, halves, order), _VU)

    return u32x16(f32x16, f32x16), codegen


def _merge(builder: Any, shifted: Any, kept: Any, mask: int) -> Any:
    """shifted | (kept & mask). Written as such, LLVM makes it a permutation of two sources: three times the work."""
    constant = ir.Constant(_VU, [mask] * LANES)
    if not IN_PROCESSOR:
        return builder.or_(shifted, builder.and_(kept, constant))
    return instruction(builder, _VU, "vpternlogd $$0xF8, $3, $2, $0", "=v,0,v,v", shifted, kept, constant)


@intrinsic
def pair_quickly(typingctx: Any, even: Any, odd: Any) -> Any:
    """Two f32x16 -> pairs (even, odd), rounded to nearest, ties away from zero; denormals are kept.

    Three quarters of the time of :func:`pair_bf16`, and almost nothing for the one port that tile stores need too.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half = ir.Constant(_VU, [0x8000] * LANES)
        low, high = (builder.add(builder.bitcast(value, _VU), half) for value in args)
        return _merge(builder, builder.lshr(low, ir.Constant(_VU, [16] * LANES)), high, 0xFFFF0000)

    return u32x16(f32x16, f32x16), codegen


def _where_positive(builder: Any, condition: Any, pairs: Any) -> Any:
    zero = ir.Constant(_HALVES, [0] * (2 * LANES))
    positive = builder.icmp_signed(">", builder.bitcast(condition, _HALVES), zero)
    return builder.bitcast(builder.select(positive, builder.bitcast(pairs, _HALVES), zero), _VU)


@intrinsic
def relu_pairs(typingctx: Any, pairs: Any) -> Any:
    """max(0, x) of both members; whatever has its sign bit set becomes zero."""
    return u32x16(u32x16), lambda c, b, s, a: _where_positive(b, a[0], a[0])


@intrinsic
def mask_pairs(typingctx: Any, pairs: Any, active: Any) -> Any:
    """Members of ``pairs`` where those of ``active`` are positive, else zero."""
    return u32x16(u32x16, u32x16), lambda c, b, s, a: _where_positive(b, a[1], a[0])


@intrinsic
def features_by_samples(typingctx: Any, target: Any, first: Any, second: Any) -> Any:
    """The left operand of a product over 32 samples, from pairs of 16 features.

    Reads 8 vectors at ``first`` (pairs of features 0 and 1, 2 and 3, ...; samples 0 to 15) and 8 at ``second`` (samples 16 to
    31); writes the 16 rows of a tile at ``target``: row i is feature i, its word n the samples n and n + 16.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sixteen = ir.Constant(_VU, [16] * LANES)
        for p in range(8):
            a, b = (builder.load(_pointer(builder, args[k], ROW * p, _VU), align=4) for k in (1, 2))
            for row, shifted, kept, mask in (
                (2 * p, builder.shl(b, sixteen), a, 0xFFFF),
                (2 * p + 1, builder.lshr(a, sixteen), b, 0xFFFF0000),
            ):
                merged = _merge(builder, shifted, kept, mask)
                builder.store(merged, _pointer(builder, args[0], ROW * row, _VU), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _four_rows(builder: Any, start: Any, offsets: list[int]) -> Any:
    """The 16 bytes at each of four offsets, one after the other."""
    quarters = [builder.load(_pointer(builder, start, offset, _QUARTER), align=4) for offset in offsets]
    halves = [_shuffle(builder, quarters[k], quarters[k + 1], list(range(8))) for k in (0, 2)]
    return _shuffle(builder, halves[0], halves[1], list(range(16)))


@intrinsic
def samples_by_features(typingctx: Any, target: Any, first: Any, second: Any) -> Any:
    """The right operand: reads like :func:`features_by_samples`; row n holds samples n and n + 16, word i is feature i.

    A transpose of 8 by 16 by 2 by 2 halfwords: four quarters of rows are gathered by the loads, the rest is two stages of
    unpacking within quarters.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for quad in range(4):  # samples 4 * quad ... and those + 16
            low: list[Any] = []
            high: list[Any] = []
            for parity in (0, 1):  # pairs of features 0, 2, 4, 6, then 1, 3, 5, 7: they alternate in the result
                offsets = [ROW * p + 16 * quad for p in range(parity, 8, 2)]
                a, b = (builder.bitcast(_four_rows(builder, args[k], offsets), _HALVES) for k in (1, 2))
                for found, half in ((low, 0), (high, 4)):
                    order = [8 * q + half + k + member for q in range(4) for k in range(4) for member in (0, 32)]
                    found.append(builder.bitcast(_shuffle(builder, a, b, order), ir.VectorType(_I64, 8)))
            for sample, (even, odd) in enumerate((low, low, high, high)):
                order = [2 * q + sample % 2 + member for q in range(4) for member in (0, 8)]
                row = builder.bitcast(_shuffle(builder, even, odd, order), _VU)
                builder.store(row, _pointer(builder, args[0], ROW * (4 * quad + sample), _VU), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen
