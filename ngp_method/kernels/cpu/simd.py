"""Sixteen-lane vectors for numba: explicit SIMD where the auto-vectoriser gives up (it does on table look-ups).

Two types, ``f32x16`` and ``u32x16``, lowered to LLVM's ``<16 x float>`` and ``<16 x i32>``: LLVM turns them into AVX-512,
pairs of AVX2 or quads of NEON registers, so nothing here is tied to one processor. They live only inside compiled
functions; :mod:`.simd_memory` loads and stores them.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16

_I1 = ir.IntType(1)
_I16 = ir.IntType(16)
_I32 = ir.IntType(32)
_F32 = ir.FloatType()
_VF = ir.VectorType(_F32, LANES)
_VU = ir.VectorType(_I32, LANES)


class _Vector(types.Type):
    """A SIMD register as numba sees it."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


f32x16 = _Vector("f32x16")
u32x16 = _Vector("u32x16")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Vector) -> None:
        super().__init__(dmm, fe_type, _VF if fe_type.name == "f32x16" else _VU)


def _splat(builder: Any, scalar: Any, vector_type: Any) -> Any:
    undef = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(undef, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undef, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _binary(op: Any, vector: _Vector, emit: str) -> None:
    """Register ``vector op vector`` (scalars are spread by hand with :func:`spread_f` / :func:`spread_u`)."""

    @infer_global(op)
    class _Template(ConcreteTemplate):
        cases = [signature(vector, vector, vector)]

    @lower_builtin(op, vector, vector)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if emit.startswith("f"):
            return getattr(builder, emit)(*args, flags=("contract", "nsz", "arcp"))
        return getattr(builder, emit)(*args)


for _op, _emit in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _binary(_op, f32x16, _emit)
for _op, _emit in (
    (operator.add, "add"),
    (operator.mul, "mul"),
    (operator.xor, "xor"),
    (operator.and_, "and_"),
    (operator.rshift, "lshr"),
    (operator.lshift, "shl"),
):
    _binary(_op, u32x16, _emit)


@intrinsic
def spread_f(typingctx: Any, scalar: Any) -> Any:
    """float32 -> f32x16, the same value in every lane."""
    return f32x16(types.float32), lambda c, b, s, a: _splat(b, a[0], _VF)


@intrinsic
def spread_u(typingctx: Any, scalar: Any) -> Any:
    """uint32 -> u32x16, the same value in every lane."""
    return u32x16(types.uint32), lambda c, b, s, a: _splat(b, a[0], _VU)


@intrinsic
def unit(typingctx: Any, vector: Any) -> Any:
    """f32x16 -> the nearest in [0, 1], 0 for NaN: positions decide where memory is read, so none may be anything else."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero, one = (ir.Constant(_VF, [v] * LANES) for v in (0.0, 1.0))
        positive = builder.select(builder.fcmp_ordered(">", args[0], zero), args[0], zero)
        return builder.select(builder.fcmp_ordered("<", positive, one), positive, one)

    return f32x16(f32x16), codegen


@intrinsic
def truncate(typingctx: Any, vector: Any) -> Any:
    """f32x16 -> u32x16 towards zero, for values from 0 to 2^31."""
    return u32x16(f32x16), lambda c, b, s, a: b.fptosi(a[0], _VU)


@intrinsic
def to_float(typingctx: Any, vector: Any) -> Any:
    """u32x16 -> f32x16, for values under 2^31."""
    return f32x16(u32x16), lambda c, b, s, a: b.sitofp(a[0], _VF)


@intrinsic
def wrap(typingctx: Any, index: Any, size: Any) -> Any:
    """index modulo size for u32x16 below 2 * size: the smaller of index and index - size, unsigned."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        less = builder.sub(args[0], args[1])
        return builder.select(builder.icmp_unsigned("<", args[0], less), args[0], less)

    return u32x16(u32x16, u32x16), codegen


@intrinsic
def pair_bf16(typingctx: Any, low: Any, high: Any) -> Any:
    """Two f32x16 rounded to bfloat16 (nearest, ties to even), one in the lower and one in the upper half of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sixteen = ir.Constant(_VU, [16] * LANES)

        def rounded(value: Any) -> Any:
            bits = builder.bitcast(value, _VU)
            odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(_VU, [1] * LANES))
            return builder.add(builder.add(bits, ir.Constant(_VU, [0x7FFF] * LANES)), odd)

        upper = builder.and_(rounded(args[1]), ir.Constant(_VU, [0xFFFF0000] * LANES))
        return builder.or_(builder.lshr(rounded(args[0]), sixteen), upper)

    return u32x16(f32x16, f32x16), codegen


@intrinsic
def low_bf16(typingctx: Any, words: Any) -> Any:
    """bfloat16 in the lower 16 bits of each lane -> f32x16."""
    return f32x16(u32x16), lambda c, b, s, a: b.bitcast(b.shl(a[0], ir.Constant(_VU, [16] * LANES)), _VF)


@intrinsic
def high_bf16(typingctx: Any, words: Any) -> Any:
    """bfloat16 in the upper 16 bits of each lane -> f32x16."""
    return f32x16(u32x16), lambda c, b, s, a: b.bitcast(b.and_(a[0], ir.Constant(_VU, [0xFFFF0000] * LANES)), _VF)


@intrinsic
def sqrt(typingctx: Any, vector: Any) -> Any:
    """Square root of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VF, [_VF]), "llvm.sqrt.v16f32")
        return builder.call(fn, args)

    return f32x16(f32x16), codegen


@intrinsic
def where_nonzero(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Lanes of ``yes`` where the f32x16 ``condition`` is not zero, else of ``no``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(_VF, [0.0] * LANES)
        return builder.select(builder.fcmp_unordered("!=", args[0], zero), args[1], args[2])

    return yes(f32x16, yes, yes), codegen


@intrinsic
def any_nonzero(typingctx: Any, vector: Any) -> Any:
    """Whether any lane of a f32x16 is not zero (minus zero counts as zero)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        flags = builder.fcmp_unordered("!=", args[0], ir.Constant(_VF, [0.0] * LANES))
        mask = builder.bitcast(flags, _I16)
        return builder.icmp_unsigned("!=", mask, ir.Constant(_I16, 0))

    return types.boolean(f32x16), codegen


@intrinsic
def minimum_u(typingctx: Any, first: Any, second: Any) -> Any:
    """The smaller of each pair of lanes, unsigned."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.icmp_unsigned("<", args[0], args[1]), args[0], args[1])

    return u32x16(u32x16, u32x16), codegen


@intrinsic
def maximum_f(typingctx: Any, first: Any, second: Any) -> Any:
    """The greater of each pair of lanes, the second where the first is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return f32x16(f32x16, f32x16), codegen


@intrinsic
def as_float(typingctx: Any, vector: Any) -> Any:
    """The bits of a u32x16 read as float32."""
    return f32x16(u32x16), lambda c, b, s, a: b.bitcast(a[0], _VF)


@intrinsic
def as_words(typingctx: Any, vector: Any) -> Any:
    """The bits of a f32x16 as uint32."""
    return u32x16(f32x16), lambda c, b, s, a: b.bitcast(a[0], _VU)


def _half(builder: Any, words: Any, shift: int) -> Any:
    shifted = builder.lshr(words, ir.Constant(_VU, [shift] * LANES))
    short = builder.trunc(shifted, ir.VectorType(_I16, LANES))
    return builder.fpext(builder.bitcast(short, ir.VectorType(ir.HalfType(), LANES)), _VF)


@intrinsic
def low_half(typingctx: Any, words: Any) -> Any:
    """float16 in the lower 16 bits of each lane -> f32x16."""
    return f32x16(u32x16), lambda c, b, s, a: _half(b, a[0], 0)


@intrinsic
def high_half(typingctx: Any, words: Any) -> Any:
    """float16 in the upper 16 bits of each lane -> f32x16."""
    return f32x16(u32x16), lambda c, b, s, a: _half(b, a[0], 16)
