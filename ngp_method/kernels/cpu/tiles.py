"""The tile instructions that the perceptrons of :mod:`.mlp_amx` are made of: the processor's own, or emulated by name.

The processor's where it has them. Elsewhere only in a process that asks with ``INSTANT_HASH_AMX=emulate``, so that every line
of those perceptrons runs, and is tested, on every machine.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from . import amx

jit: Any
if amx.EMULATED:
    from .tile_emulation import configure, jit, release, tile_dot, tile_load, tile_store, tile_zero
else:
    from .amx import configure, release, tile_dot, tile_load, tile_store, tile_zero

    jit = njit(nogil=True, cache=True, error_model="numpy")

__all__ = ["configure", "jit", "release", "tile_dot", "tile_load", "tile_store", "tile_zero"]
