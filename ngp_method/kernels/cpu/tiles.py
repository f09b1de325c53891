"""The tile instructions: the processor's own, or emulated (:mod:`.bfloat16` says when)."""

from __future__ import annotations

from typing import Any

from numba import njit

from . import amx, bfloat16

COMPILED = amx.IN_PROCESSOR or bfloat16.EMULATED
"""Whether code with tile instructions is compiled at all; it depends on the processor alone but for the emulation, which numba
does not cache: what one process has cached must be right for any other."""

jit: Any
if bfloat16.EMULATED and not bfloat16.TILES:
    from .tile_emulation import configure, jit, release, tile_dot, tile_load, tile_store, tile_zero
else:
    from .amx import configure, release, tile_dot, tile_load, tile_store, tile_zero

    jit = njit(nogil=True, cache=True, error_model="numpy")

__all__ = ["COMPILED", "configure", "jit", "release", "tile_dot", "tile_load", "tile_store", "tile_zero"]
