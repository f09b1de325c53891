"""The tile instructions of :mod:`.amx` as ordinary code: they compute the same on any processor, some ten times slower.

For tests, as Triton's interpreter is for Triton's kernels (:mod:`.bfloat16` says when it is used). Eight tiles of 1 KiB belong
to each thread, as the registers do; the system's thread-local storage holds them and gives them back when the thread ends.

``tile_dot`` adds as Intel's manual says (TDPBF16PS): products of the even and of the odd members of the pairs are summed apart,
in float32 and in order, then added to each other and to the tile; denormal operands and results count as zero.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .amx import TILE_BYTES
from .bf16_pairs import ROW, load_floats, load_pairs, store_at
from .simd import _VF, _VU, LANES, f32x16, high_bf16, low_bf16, spread_f, spread_u

N_TILES = 8

_EXPONENT = 0x7F800000

# Compiled anew in each process: addresses of this process's C library are part of the code, and what is compiled for the
# registers must never be found in numba's cache by a process that emulates them, nor the other way round.
jit = njit(nogil=True, error_model="numpy")


def _c_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the C library that numba can call."""
    function = getattr(ctypes.CDLL(None), name)
    function.restype, function.argtypes = result, arguments
    return function


def _new_key() -> int:
    """A key of thread-local storage, whose memory is freed when its thread ends (pthread_key_create)."""
    key = ctypes.c_ulong()  # an unsigned int on Linux, an unsigned long elsewhere: the lower half is written first
    library = ctypes.CDLL(None)
    error = library.pthread_key_create(ctypes.byref(key), ctypes.cast(library.free, ctypes.c_void_p))
    if error:
        raise OSError(error, "no thread-local storage is left for emulated tiles")
    return key.value


_KEY = np.uint64(_new_key())
_getspecific = _c_function("pthread_getspecific", ctypes.c_int64, ctypes.c_uint64)
_setspecific = _c_function("pthread_setspecific", ctypes.c_int64, ctypes.c_uint64, ctypes.c_int64)
_malloc = _c_function("malloc", ctypes.c_int64, ctypes.c_int64)


@intrinsic
def _flush(typingctx: Any, vector: Any) -> Any:
    """Denormal lanes of a f32x16 -> zero."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], _VU), ir.Constant(_VU, [_EXPONENT] * LANES))
        normal = builder.icmp_unsigned("!=", bits, ir.Constant(_VU, [0] * LANES))
        return builder.select(normal, args[0], ir.Constant(_VF, [0.0] * LANES))

    return f32x16(f32x16), codegen


@intrinsic
def _word(typingctx: Any, at: Any) -> Any:
    """The 32 bits at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(32).as_pointer()), align=4)

    return types.uint32(types.int64), codegen


@jit
def _tile(number):  # type: ignore[no-untyped-def]
    """Address of one of this thread's tiles."""
    return _getspecific(_KEY) + number * TILE_BYTES


@jit
def configure():  # type: ignore[no-untyped-def]
    """Eight tiles of this thread, all zero."""
    start = _getspecific(_KEY)
    if start == 0:
        start = _malloc(N_TILES * TILE_BYTES)
        _setspecific(_KEY, start)
    for row in range(N_TILES * LANES):
        store_at(start + row * ROW, spread_u(np.uint32(0)))


@jit
def release():  # type: ignore[no-untyped-def]
    """What the tiles hold is undefined from here on: ones in every bit, which are not a number to all that read it."""
    for row in range(N_TILES * LANES):
        store_at(_getspecific(_KEY) + row * ROW, spread_u(np.uint32(0xFFFFFFFF)))


@jit
def tile_zero(tile):  # type: ignore[no-untyped-def]
    """tile = 0."""
    for row in range(LANES):
        store_at(_tile(tile) + row * ROW, spread_u(np.uint32(0)))


@jit
def tile_load(tile, address, stride):  # type: ignore[no-untyped-def]
    """tile = 16 rows of 64 bytes from ``address`` on, ``stride`` bytes apart."""
    for row in range(LANES):
        store_at(_tile(tile) + row * ROW, load_pairs(address + row * stride))


@jit
def tile_store(tile, address, stride):  # type: ignore[no-untyped-def]
    """The same way back."""
    for row in range(LANES):
        store_at(address + row * stride, load_pairs(_tile(tile) + row * ROW))


@jit
def tile_dot(c, a, b):  # type: ignore[no-untyped-def]
    """c += a b (bfloat16 products, float32 sums)."""
    to, left, right = _tile(c), _tile(a), _tile(b)
    for row in range(LANES):
        even, odd = spread_f(np.float32(0.0)), spread_f(np.float32(0.0))
        for k in range(LANES):
            factor, pairs = spread_u(_word(left + row * ROW + 4 * k)), load_pairs(right + k * ROW)
            even = even + _flush(low_bf16(factor)) * _flush(low_bf16(pairs))
            odd = odd + _flush(high_bf16(factor)) * _flush(high_bf16(pairs))
        at = to + row * ROW
        store_at(at, _flush(_flush(load_floats(at)) + (even + odd)))


__all__ = ["configure", "release", "tile_dot", "tile_load", "tile_store", "tile_zero"]
