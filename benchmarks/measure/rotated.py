"""A hash grid whose levels are turned against one another, for ``benchmarks/experiments.py`` alone.

After R-MHE (Dai and Fan, arXiv 2602.10495): a fixed rotation for each level, so that no axis is favoured by all of them. A
turned cube reaches sqrt(3) as far: positions are drawn together by that much around the middle, and each level is that much
finer. It is composed of one operation a level, and so slower than what it is compared with: its worth is judged by steps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ngp_method.fields.encodings import EncodingSettings, GridEncoding
from ngp_method.kernels.layout import HashGridLayout

SEED = 7


def rotations(count: int) -> Tensor:
    """[count, 3, 3] rotations, the first of them none: of random quaternions."""
    random = torch.Generator().manual_seed(SEED)
    w, x, y, z = torch.nn.functional.normalize(torch.randn(count, 4, generator=random), dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    found = torch.stack(rows, -1).reshape(count, 3, 3)
    found[0] = torch.eye(3)
    return found


class RotatedGrid(GridEncoding):
    """See the module's first lines."""

    def __init__(self, layout: HashGridLayout, turned: bool) -> None:
        super().__init__(layout)
        self.own = [
            HashGridLayout(1, layout.n_features_per_level, layout.log2_hashmap_size, edge, edge)
            for edge in (max(2, round(3**0.5 * (float(level.scale) + 1))) for level in layout.levels)
        ]
        ends = torch.tensor([0, *(one.n_params for one in self.own)]).cumsum(0).tolist()
        self.parts = list(pairwise(ends))
        self.params = type(self.params)(torch.empty(ends[-1]).uniform_(-1e-4, 1e-4))
        self.register_buffer("turns", rotations(layout.n_levels) if turned else torch.eye(3).repeat(layout.n_levels, 1, 1))

    def encode(self, kernels: Any, positions: Tensor, table: Any, footprints: Any = None, features: Any = None) -> Tensor:
        """See the interface; features are made again."""
        centred, found = (positions - 0.5) / 3**0.5, []
        for layout, turn, (begin, end) in zip(self.own, self.turns, self.parts):
            found.append(kernels.dense_features(kernels.hash_encode(centred @ turn.t() + 0.5, table[begin:end], layout)))
        return torch.cat(found, -1)

    def encode_mlp(
        self, kernels: Any, positions: Tensor, table: Any, weights: Any, layout: Any, rows: int, footprints: Any = None
    ) -> Tensor:
        """See the interface: two operations."""
        with torch.no_grad():
            found: Tensor = kernels.mlp([self.encode(kernels, positions, table)], weights, layout, rows)
        return found


def build(turned: bool) -> Callable[[EncodingSettings], RotatedGrid]:
    """What makes such an encoding of settings; without turns: the same grid composed in the same way."""
    return lambda settings: RotatedGrid(settings.grid, turned)
