"""Sixteen-lane vectors for numba: explicit SIMD where the auto-vectoriser gives up (it does on table look-ups).

Two types, ``f32x16`` and ``u32x16``, lowered to LLVM's ``<16 x float>`` and ``<16 x i32>``: LLVM turns them into AVX-512,
pairs of AVX2 or quads of NEON registers, so nothing here is tied to one processor. They live only inside compiled
functions; arrays are loaded and stored sixteen consecutive elements at a time, without bounds checks.
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
    class _Template(ConcreteTemplate):  # noqa: N801 - numba keys on the class
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


def _element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


@intrinsic
def spread_f(typingctx: Any, scalar: Any) -> Any:
    """float32 -> f32x16, the same value in every lane."""
    return f32x16(types.float32), lambda c, b, s, a: _splat(b, a[0], _VF)


@intrinsic
def spread_u(typingctx: Any, scalar: Any) -> Any:
    """uint32 -> u32x16, the same value in every lane."""
    return u32x16(types.uint32), lambda c, b, s, a: _splat(b, a[0], _VU)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16] of a contiguous 1-D float32 or uint32 array."""
    vector, llvm = (f32x16, _VF) if array.dtype == types.float32 else (u32x16, _VU)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.load(builder.bitcast(pointer, llvm.as_pointer()), align=4)

    return vector(array, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] = vector, for a contiguous 1-D array of the lane's type."""
    llvm = _VF if vector == f32x16 else _VU

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(pointer, llvm.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def store_bf16(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] (uint16) = the upper halves of vector's bits, rounded to nearest even: bfloat16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[2], _VU)
        sixteen = ir.Constant(_VU, [16] * LANES)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(_VU, [1] * LANES))
        rounded = builder.add(builder.add(bits, ir.Constant(_VU, [0x7FFF] * LANES)), odd)
        short = builder.trunc(builder.lshr(rounded, sixteen), ir.VectorType(_I16, LANES))
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(short, builder.bitcast(pointer, short.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, f32x16), codegen


@intrinsic
def load_bf16(typingctx: Any, array: Any, index: Any) -> Any:
    """bfloat16 array[index : index + 16] (as uint16) -> f32x16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vs = ir.VectorType(_I16, LANES)
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        bits = builder.zext(builder.load(builder.bitcast(pointer, vs.as_pointer()), align=2), _VU)
        return builder.bitcast(builder.shl(bits, ir.Constant(_VU, [16] * LANES)), _VF)

    return f32x16(array, types.int64), codegen


@intrinsic
def gather(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index[k]] for each lane k, of a contiguous 1-D uint32 array shorter than 2^31."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        base = builder.ptrtoint(data, ir.IntType(64))
        wide = ir.VectorType(ir.IntType(64), LANES)
        offset = builder.shl(builder.zext(args[1], wide), ir.Constant(wide, [2] * LANES))
        address = builder.add(_splat(builder, base, wide), offset)
        pointers = builder.inttoptr(address, ir.VectorType(_I32.as_pointer(), LANES))
        fnty = ir.FunctionType(_VU, [pointers.type, _I32, ir.VectorType(_I1, LANES), _VU])
        fn = cgutils.get_or_insert_function(builder.module, fnty, "llvm.masked.gather.v16i32.v16p0")
        every = ir.Constant(ir.VectorType(_I1, LANES), [1] * LANES)
        return builder.call(fn, [pointers, ir.Constant(_I32, 4), every, ir.Constant(_VU, ir.Undefined)])

    return u32x16(array, u32x16), codegen


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
def load_u16(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16] of a contiguous 1-D uint16 array -> u32x16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        short = ir.VectorType(_I16, LANES)
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.zext(builder.load(builder.bitcast(pointer, short.as_pointer()), align=2), _VU)

    return u32x16(array, types.int64), codegen


@intrinsic
def store_u16(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] (uint16) = the lower halves of a u32x16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        short = builder.trunc(args[2], ir.VectorType(_I16, LANES))
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(short, builder.bitcast(pointer, short.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, u32x16), codegen


@intrinsic
def store_half(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] (uint16) = float16 bits of a f32x16, rounded to nearest."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half = builder.fptrunc(args[2], ir.VectorType(ir.HalfType(), LANES))
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(half, builder.bitcast(pointer, half.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, f32x16), codegen


@intrinsic
def minimum_u(typingctx: Any, first: Any, second: Any) -> Any:
    """The smaller of each pair of lanes, unsigned."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.icmp_unsigned("<", args[0], args[1]), args[0], args[1])

    return u32x16(u32x16, u32x16), codegen


@intrinsic
def as_float(typingctx: Any, vector: Any) -> Any:
    """The bits of a u32x16 read as float32."""
    return f32x16(u32x16), lambda c, b, s, a: b.bitcast(a[0], _VF)


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


@intrinsic
def add_pair(typingctx: Any, array: Any, index: Any, first: Any, second: Any) -> Any:
    """array[index] += first; array[index + 1] += second: one 8-byte load and store (float32, no bounds check)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = ir.VectorType(_F32, 2)
        pointer = _element_pointer(context, builder, sig.args[0], args[0], args[1])
        pointer = builder.bitcast(pointer, pair.as_pointer())
        value = builder.insert_element(ir.Constant(pair, ir.Undefined), args[2], ir.Constant(_I32, 0))
        value = builder.insert_element(value, args[3], ir.Constant(_I32, 1))
        builder.store(builder.fadd(builder.load(pointer, align=4), value), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float32, types.float32), codegen
