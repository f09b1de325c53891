"""Bytes and operations that each kernel cannot do without: its floor, given what the chip can do.

Each number is read or written once, in the type it has between kernels: positions 3 float32, features and spherical
harmonics ``low`` bytes each, everything else float32. What an implementation reads twice is its own affair.

Entries of the hash grid are counted by the sectors of memory they lie in, as they are fetched: the two corners of one (y, z)
are neighbours in a level, and in one sector but for the pairs that begin at its end. A level is looked up at a time, so that
the ceiling is that of a table of one level. Samples of rays come back to what their neighbours have just fetched, and can be
faster than such a floor, which is that of positions at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ngp_method.kernels.layout import HashGridLayout, MLPLayout

from .gpu_ceilings import Ceilings

PAIRS = 4
"""Pairs of corners along x."""

SECTOR = 32
"""Bytes that memory is fetched in."""


@dataclass(frozen=True)
class Work:
    """What one call does at least.

    Attributes:
        bytes: streamed from and to memory.
        flops: of matrix products.
        gathers: sectors read at random, for entries of ``entry_bytes`` out of ``table_bytes``.
        scatters: float32 added at random, ``width`` neighbours at a time, to a table of ``table_bytes``; what goes to one
            sector together counts once.
    """

    bytes: float = 0.0
    flops: float = 0.0
    gathers: float = 0.0
    scatters: float = 0.0
    entry_bytes: int = 4
    width: int = 1
    table_bytes: float = 0.0

    def floor_ms(self, ceilings: Ceilings, low: str) -> float:
        """The longest of its parts, each at its measured ceiling."""
        seconds = [self.bytes / ceilings.copy, self.flops / ceilings.matmul[low]]
        if self.gathers:
            seconds.append(self.gathers / ceilings.gather_rate(self.entry_bytes, self.table_bytes))
        if self.scatters:
            seconds.append(self.scatters / ceilings.scatter_rate(self.width, self.table_bytes))
        return 1e3 * max(seconds)

    def rates(self, ms: float) -> str:
        """What was reached: the rates of what the work consists of."""
        parts = []
        if self.gathers:
            parts.append(f"{self.gathers / ms / 1e6:.1f} G sectors/s")
        if self.scatters:
            parts.append(f"{self.scatters / ms / 1e6:.1f} G float adds/s")
        if self.flops:
            parts.append(f"{self.flops / ms / 1e9:.1f} TFLOP/s")
        return ", ".join(parts) or f"{self.bytes / ms / 1e6:.0f} GB/s"


def _sectors(n: int, layout: HashGridLayout, entry_bytes: int) -> float:
    """Sectors that n samples' entries lie in, on all levels."""
    return n * layout.n_levels * PAIRS * (1.0 + entry_bytes / SECTOR)


def _level_bytes(layout: HashGridLayout, entry_bytes: int) -> float:
    return float(max(level.entries for level in layout.levels) * entry_bytes)


def hash_forward(n: int, layout: HashGridLayout, low: int) -> Work:
    """Positions in, features out; eight entries of F numbers a level."""
    entry = layout.n_features_per_level * low
    stream = n * (12 + low * layout.n_output_dims)
    return Work(stream, 0, _sectors(n, layout, entry), 0, entry, 1, _level_bytes(layout, entry))


def hash_table_gradient(n: int, layout: HashGridLayout, low: int) -> Work:
    """Positions and the features' gradient in; eight entries of F float32 added to a level."""
    f = layout.n_features_per_level
    stream = n * (12 + low * layout.n_output_dims)
    return Work(stream, 0, 0, f * _sectors(n, layout, 4 * f), 4, f, _level_bytes(layout, 4 * f))


def hash_position_gradient(n: int, layout: HashGridLayout, low: int) -> Work:
    """Positions, the features' gradient and the entries in; the positions' gradient out."""
    alone = hash_forward(n, layout, low)
    return replace(alone, bytes=alone.bytes + 12.0 * n)


def mlp_forward(n: int, layout: MLPLayout, low: int, rows: int | None = None) -> Work:
    """Inputs in, ``rows`` float32 out; two operations a weight."""
    return Work(n * (low * layout.n_input_dims + 4 * (rows or layout.n_output_dims)), 2.0 * n * layout.n_params)


def mlp_backward(n: int, layout: MLPLayout, low: int) -> Work:
    """Inputs and the outputs' gradient in, the inputs' gradient out; a product for the inputs and one for the weights."""
    return Work(n * (2 * low * layout.n_input_dims + 4 * layout.n_output_dims), 4.0 * n * layout.n_params)


def encode_mlp(n: int, grid: HashGridLayout, layout: MLPLayout, low: int, rows: int) -> Work:
    """Positions in, outputs out; entries and products of the two, features nowhere."""
    alone = hash_forward(n, grid, low)
    return replace(alone, bytes=n * (12.0 + 4 * rows), flops=mlp_forward(n, layout, low, rows).flops)


def sh_mlp(n: int, n_rays: int, layout: MLPLayout) -> Work:
    """Density outputs, rays and directions in, colours out; products."""
    return Work(n * (4.0 * 16 + 4 + 4 * layout.n_output_dims) + n_rays * 12, 2.0 * n * layout.n_params)


def march(n: int, n_rays: int) -> Work:
    """Rays (origin, direction, begin, end, jitter) in; intervals and their ray out. Steps through air count for nothing."""
    return Work(n_rays * (12 + 12 + 4 + 4 + 4 + 8 + 4) + n * 12)


def points(n: int, n_rays: int) -> Work:
    """Intervals and their ray in, positions out."""
    return Work(n * (12 + 12) + n_rays * 24)


def visible_counts(n: int, n_rays: int) -> Work:
    """Densities and intervals in, a count for each ray out."""
    return Work(n * 12 + n_rays * 12)


def keep_first(n: int, kept: int, n_rays: int, feature_bytes: int) -> Work:
    """Intervals, rays, positions and features of the kept ones in and out."""
    return Work(2 * kept * (12 + 12 + feature_bytes) + n_rays * 20)


def composite_forward(n: int, n_rays: int) -> Work:
    """Densities, colours and intervals in; weights, and sums of each ray out."""
    return Work(n * (4 + 12 + 8 + 4) + n_rays * (8 + 20))


def composite_backward(n: int, n_rays: int) -> Work:
    """The same in, with the sums' gradients; gradients of densities and colours out."""
    return Work(n * (4 + 12 + 8 + 16) + n_rays * (8 + 40))


def adam(n_params: int, touched: int, low_copy: int, average: bool = False) -> Work:
    """All gradients in; of the touched: value, moments and count in and out, the gradient cleared, the copy written. With the
    average: all values in, all averages in and out."""
    everywhere = 4.0 + (12.0 if average else 0.0)
    return Work(everywhere * n_params + touched * (2 * (4 + 4 + 4 + 2) + 4 + low_copy - (4 if average else 0)))


def average(n_params: int) -> Work:
    """Average and value in, average out."""
    return Work(12.0 * n_params)
