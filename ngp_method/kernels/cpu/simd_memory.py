"""Sixteen-lane loads, stores and look-ups for the vectors of :mod:`.simd`: consecutive elements, no bounds checks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import _F32, _I1, _I16, _I32, _VF, _VU, LANES, _splat, f32x16, u32x16


def _element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


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
