"""The occupancy grid as the marcher reads it: one bit a cell, and a coarser level of bits to skip what is empty.

A cascade of 128^3 cells is 256 KiB and 4 KiB: the first stays in the second-level cache whatever is rendered, most of what is
looked at in the first-level one, the second there always.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..derived import Derived
from .aot import FUSED, Variant
from .device import interpreted
from .packing_kernels import variant

SIZES = {"BLOCKS": 4, "num_warps": 4, "num_stages": 1, **FUSED}
"""Blocks of 8^3 cells that a program packs: neighbours along z, 32 bytes side by side, one sector of memory."""


@triton.jit
def pack_grid(occupied, bits, blocks, n, edge, EDGE: tl.constexpr, BLOCKS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The occupancy grid, packed for :func:`.marching_kernels.walk`; a program packs blocks that are neighbours along z.

    Args:
        occupied: uint8 [K, G, G, G], G = 8 * edge; EDGE is the power of two from there. n = K * edge^3.
        bits: uint8 [K, EDGE, EDGE, EDGE, 8, 8]: block, then x and y within it; z within it is the bit. 8^3 cells are 64
            bytes, so that a ray that crosses a block stays in one line of the cache.
        blocks: uint8 [K, EDGE, EDGE, EDGE]: bit 4 x + 2 y + z is set if any cell of that eighth (4^3 cells) is.
    """
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)[None, :]
    real = block < n
    # Level and x in one: both go from the slowest to the next.
    bz, by, bx = block % edge, (block // edge) % edge, block // (edge * edge)
    to = (((bx // edge) * EDGE + bx % edge) * EDGE + by) * EDGE + bz
    row = tl.arange(0, 64)[:, None]
    grid = edge * 8
    # Up to eight cascades of 512^3 cells: 2^30.
    first = ((bx * 8 + (row >> 3)) * grid + by * 8 + (row & 7)) * grid + bz * 8
    byte = tl.zeros([64, BLOCKS], tl.int32)
    for z in tl.static_range(8):
        byte |= tl.load(occupied + first + z, mask=real, other=0).to(tl.int32) << z
    tl.store(bits + to * 64 + row, byte.to(tl.uint8), mask=real)
    # Bit 0: any of the lower four in z, bit 1: any of the upper four.
    halves = ((byte & 15) != 0).to(tl.int32) | (((byte >> 4) != 0).to(tl.int32) << 1)
    flags = tl.zeros([1, BLOCKS], tl.int32)
    for xy in tl.static_range(4):
        inside = ((row >> 5) == xy // 2) & (((row >> 2) & 1) == xy % 2)
        for z in tl.static_range(2):
            some = tl.max(tl.where(inside, (halves >> z) & 1, 0), axis=0)[None, :]
            flags |= some << (2 * xy + z)
    tl.store(blocks + to, flags.to(tl.uint8), mask=real)


def edge_of(grid: int) -> int:
    """Blocks of 8^3 cells along an edge of the packed grid: a power of two, that indices are made of bits."""
    if grid % 8:
        raise ValueError(f"The occupancy grid's resolution must be a multiple of 8, not {grid}.")
    return triton.next_power_of_2(grid // 8)


def _pack(occupied: Tensor, into: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """(bits, blocks) of a grid (:func:`pack_grid`), in place of those of before if there are any."""
    levels, grid = occupied.shape[0], occupied.shape[1]
    edge, padded = grid // 8, edge_of(grid)
    if into is None:
        blocks = torch.empty(levels, padded, padded, padded, dtype=torch.uint8, device=occupied.device)
        into = (torch.empty(*blocks.shape, 8, 8, dtype=torch.uint8, device=occupied.device), blocks)
    n, sizes = levels * edge**3, {**SIZES, "BLOCKS": 512} if interpreted() else SIZES
    pack_grid[(triton.cdiv(n, sizes["BLOCKS"]),)](occupied.contiguous().view(torch.uint8), *into, n, edge, EDGE=padded, **sizes)
    return into


GRIDS = Derived(_pack)
"""Occupancy grids as the marcher reads them: ``GRIDS.of(occupied)`` is (bits, blocks) of bool [K, G, G, G]."""


def variants() -> list[Variant]:
    """Every kernel of this file as it is launched."""
    types = {"*u8": "occupied bits blocks", "i32": "n edge"}
    return [variant("occupancy_pack_grid", pack_grid, types, {"EDGE": 16, **SIZES})]
