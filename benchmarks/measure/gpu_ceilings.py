"""What the chip itself can do, measured in the same run: a large copy, large matrix products, random gathers and scatters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl

from .gpu_time import device_ms

LANES, ROUNDS = 1 << 22, 8
"""Threads, and accesses of each: as many under way at a time as a cell has corners; 2^25 accesses, as 2^18 samples of 16
levels have."""

TABLE_MIB = (2, 8, 32, 64)
"""One level of 2^19 entries of 4 bytes, up to more than the second-level cache of an H100 (50 MB)."""


@triton.jit
def gather_entries(table, out, mask, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sum of ROUNDS entries at pseudo-random places (the 24 upper bits of a linear congruential generator)."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    h = i.to(tl.uint32) * 2654435761
    total = tl.zeros([BLOCK], table.dtype.element_ty)
    for _ in tl.static_range(ROUNDS):
        h = h * 1664525 + 1013904223
        total += tl.load(table + ((h >> 8) & mask).to(tl.int32))
    tl.store(out + i, total.to(out.dtype.element_ty))


@triton.jit
def scatter_floats(table, mask, ROUNDS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add 1 to WIDTH neighbouring float32 at ROUNDS pseudo-random places."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    h = i.to(tl.uint32) * 2654435761
    ones = tl.full([BLOCK, WIDTH], 1.0, tl.float32)
    for _ in tl.static_range(ROUNDS):
        h = h * 1664525 + 1013904223
        at = ((h >> 8) & mask).to(tl.int32) * WIDTH
        tl.atomic_add(table + at[:, None] + tl.arange(0, WIDTH)[None, :], ones, sem="relaxed")


@dataclass
class Ceilings:
    """Rates per second.

    Attributes:
        copy: bytes read and written by a large copy.
        matmul: floating-point operations, by dtype.
        gather: entries, by (bytes of an entry, MiB of the table).
        scatter: float32 added atomically, by (neighbours added at a time, MiB of the table).
    """

    copy: float = 0.0
    matmul: dict[str, float] = field(default_factory=dict)
    gather: dict[tuple[int, int], float] = field(default_factory=dict)
    scatter: dict[tuple[int, int], float] = field(default_factory=dict)

    def gather_rate(self, entry_bytes: int, table_bytes: float) -> float:
        """Of the smallest measured table that holds as much (the largest where none does)."""
        return self._of(self.gather, min(max(entry_bytes, 4), 8), table_bytes)

    def scatter_rate(self, width: int, table_bytes: float) -> float:
        """The same for scatters of ``width`` neighbours."""
        return self._of(self.scatter, min(width, 4), table_bytes)

    def _of(self, rates: dict[tuple[int, int], float], first: int, table_bytes: float) -> float:
        size = next((mib for mib in TABLE_MIB if mib * 2**20 >= table_bytes), TABLE_MIB[-1])
        return rates[first, size]

    def record(self) -> dict[str, Any]:
        """For the results file, in 10^9 a second."""
        return {
            "copy_GB_s": round(self.copy / 1e9),
            "matmul_TFLOP_s": {name: round(rate / 1e12, 1) for name, rate in self.matmul.items()},
            "gather_G_s": {f"{b} bytes, {mib} MiB": round(rate / 1e9, 1) for (b, mib), rate in self.gather.items()},
            "scatter_Gfloat_s": {f"{w} wide, {mib} MiB": round(rate / 1e9, 1) for (w, mib), rate in self.scatter.items()},
        }


def measure(device: torch.device, low: torch.dtype) -> Ceilings:
    """All of them, in a few seconds."""
    found = Ceilings()
    halves = torch.zeros(2, 2**27, device=device)
    found.copy = halves.nbytes / _seconds(lambda i: halves[0].copy_(halves[1]))
    for dtype in (low, torch.float32):
        a = torch.randn(8192, 8192, device=device, dtype=dtype)
        found.matmul[str(dtype).removeprefix("torch.")] = 2 * 8192**3 / _seconds(lambda i, a=a: a @ a, 5)  # type: ignore[misc]
    block, grid = 256, (LANES // 256,)
    out = torch.empty(LANES, device=device, dtype=torch.int32)
    for mib in TABLE_MIB:
        for dtype in (torch.int32, torch.int64):
            table = torch.zeros(mib * 2**20 // dtype.itemsize, device=device, dtype=dtype)
            seconds = _seconds(lambda i, t=table: gather_entries[grid](t, out, t.numel() - 1, ROUNDS, block))  # type: ignore[misc]
            found.gather[dtype.itemsize, mib] = LANES * ROUNDS / seconds
        for width in (1, 2, 4):
            floats = torch.zeros(mib * 2**18, device=device)
            places, lanes = floats.numel() // width - 1, (LANES // 256 // width,)
            seconds = _seconds(lambda i, t=floats, p=places, g=lanes, w=width: scatter_floats[g](t, p, ROUNDS, w, block))  # type: ignore[misc]
            found.scatter[width, mib] = LANES * ROUNDS / seconds
    return found


def _seconds(run: Callable[[int], object], repeats: int = 10) -> float:
    return device_ms(run, 1, repeats) / 1e3
