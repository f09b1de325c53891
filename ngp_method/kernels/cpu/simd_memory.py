"""Sixteen-lane loads, stores and look-ups for the vectors of :mod:`.simd`: consecutive elements, no bounds checks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .processor import wide_registers
from .simd import _F32, _I1, _I16, _I32, _VF, _VU, LANES, f32x16, u32x16


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


class _Elements(ir.Instruction):
    """Pointers to elements of a uint32 array, for a vector of indices: what llvmlite's own ``gep`` does not build.

    LLVM knows them for one base and 32-bit offsets, which is what the look-up instructions take.
    """

    def __init__(self, parent: Any, base: Any, index: Any) -> None:
        super().__init__(parent, ir.VectorType(base.type, LANES), "getelementptr", [base, index])

    def descr(self, buf: list[str]) -> None:
        """The instruction as LLVM reads it."""
        base, index = self.operands
        operands = f"{base.type} {base.get_reference()}, {index.type} {index.get_reference()}"
        buf.append(f"{self.opname} {_I32}, {operands}\n")


def _look_up(builder: Any, data: Any, index: Any) -> Any:
    pointers = _Elements(builder.block, data, index)
    builder._insert(pointers)
    fnty = ir.FunctionType(_VU, [pointers.type, _I32, ir.VectorType(_I1, LANES), _VU])
    fn = cgutils.get_or_insert_function(builder.module, fnty, "llvm.masked.gather.v16i32.v16p0")
    every = ir.Constant(ir.VectorType(_I1, LANES), [1] * LANES)
    return builder.call(fn, [pointers, ir.Constant(_I32, 4), every, ir.Constant(_VU, ir.Undefined)])


def _one_by_one(builder: Any, data: Any, index: Any) -> Any:
    found = ir.Constant(_VU, ir.Undefined)
    for lane in range(LANES):
        number = ir.Constant(_I32, lane)
        offset = builder.zext(builder.extract_element(index, number), ir.IntType(64))
        found = builder.insert_element(found, builder.load(builder.gep(data, [offset])), number)
    return found


def _gather(array: Any, how: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return how(builder, cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data, args[1])

    return u32x16(array, u32x16), codegen


@intrinsic
def gather_at_once(typingctx: Any, array: Any, index: Any) -> Any:
    """:func:`gather` by the processor's own instruction, where LLVM thinks it has a fast one."""
    return _gather(array, _look_up)


@intrinsic
def gather_one_by_one(typingctx: Any, array: Any, index: Any) -> Any:
    """:func:`gather` by sixteen loads."""
    return _gather(array, _one_by_one)


@intrinsic
def gather(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index[k]] for each lane k, of a contiguous 1-D uint32 array shorter than 2^31.

    The instruction where registers hold sixteen lanes (AVX-512); else loads. Processors that look up eight at once (AVX2) are
    no faster that way, and much slower where a leak had to be mended (Gather Data Sampling).
    """
    return _gather(array, _look_up if wide_registers() else _one_by_one)


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
