"""Intel AMX for numba: bfloat16 tile products, and whether this process may use them.

A tile is 16 rows of 64 bytes; there are eight. ``tile_dot(c, a, b)`` adds to the 16 x 16 float32 tile ``c`` the product of
``a`` (16 rows of 32 bfloat16) and ``b`` (16 rows of 16 pairs: row k holds the values 2k and 2k + 1 of the contraction, side by
side in 32 bits, for each of 16 columns). Products and sums are float32; denormal numbers count as zero (Intel's manual,
TDPBF16PS). Tile numbers must be written as literals. Configuration and contents belong to the thread: a kernel calls
``configure`` on entry and ``release`` on exit.

The operating system saves tile registers only for a process that asked (Linux 5.16, ``arch_prctl``); :func:`usable` asks.
Threads inherit the permission, so ask before starting any. Nothing here is compiled before it is called, so the module imports
on any processor.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import processor

TILE_BYTES = 1024
"""Bytes of a tile stored without gaps."""

_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18  # asm/unistd_64.h, asm/prctl.h, Intel SDM

_I8 = ir.IntType(8)


IN_PROCESSOR = (
    sys.platform == "linux"
    and platform.machine() == "x86_64"
    and processor.has("amx-tile", "amx-bf16", "avx512f", "avx512bw", "avx512bf16")
)
"""Whether the processor has tiles of bfloat16, and numba compiles for them."""


def _permitted() -> bool:
    """Ask Linux for the tile registers; True if it grants them."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (
        ctypes.c_long(_SYS_ARCH_PRCTL),
        ctypes.c_long(_ARCH_REQ_XCOMP_PERM),
        ctypes.c_long(_XFEATURE_XTILEDATA),
    )
    return int(libc.syscall(*arguments)) == 0


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether processor, numba's target and operating system all allow tiles; the first call asks the system for them."""
    return IN_PROCESSOR and _permitted()


def _call(builder: Any, name: str, arguments: list[Any]) -> None:
    """An x86 tile intrinsic of LLVM. It is not marked as leaving memory alone, so loads and stores stay in order around it."""
    function = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.{name}"), arguments)


def _is_tile(*tiles: Any) -> bool:
    return all(isinstance(t, types.IntegerLiteral) and 0 <= t.literal_value < 8 for t in tiles)


def _numbers(*tiles: Any) -> list[Any]:
    return [ir.Constant(_I8, t.literal_value) for t in tiles]


@intrinsic
def configure(typingctx: Any) -> Any:
    """Palette 1: eight tiles of 16 rows of 64 bytes, all zero."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Byte 0: palette; 16..31: bytes per row of each tile, as 16-bit numbers; 48..55: rows of each tile.
        table = bytes([1] + [0] * 15 + [64, 0] * 8 + [0] * 16 + [16] * 8 + [0] * 8)
        constant = ir.Constant(ir.ArrayType(_I8, 64), bytearray(table))
        pointer = cgutils.global_constant(builder.module, "amx_tile_configuration", constant)
        _call(builder, "ldtilecfg", [builder.bitcast(pointer, _I8.as_pointer())])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def release(typingctx: Any) -> Any:
    """Give the tile registers back (a thread that holds none is cheaper to switch)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic(prefer_literal=True)
def tile_zero(typingctx: Any, tile: Any) -> Any:
    """tile = 0."""
    if not _is_tile(tile):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, "tilezero", _numbers(tile))
        return context.get_dummy_value()

    return types.void(tile), codegen


def _move(name: str, tile: Any) -> Any:
    if not _is_tile(tile):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, name, [*_numbers(tile), builder.inttoptr(args[1], _I8.as_pointer()), args[2]])
        return context.get_dummy_value()

    return types.void(tile, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def tile_load(typingctx: Any, tile: Any, address: Any, stride: Any) -> Any:
    """tile = 16 rows of 64 bytes from ``address`` on, ``stride`` bytes apart."""
    return _move("tileloadd64", tile)


@intrinsic(prefer_literal=True)
def tile_store(typingctx: Any, tile: Any, address: Any, stride: Any) -> Any:
    """The same way back."""
    return _move("tilestored64", tile)


@intrinsic(prefer_literal=True)
def tile_dot(typingctx: Any, c: Any, a: Any, b: Any) -> Any:
    """c += a b (bfloat16 products, float32 sums; see the module's text for the layouts)."""
    if not _is_tile(c, a, b):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, "tdpbf16ps", _numbers(c, a, b))
        return context.get_dummy_value()

    return types.void(c, a, b), codegen
