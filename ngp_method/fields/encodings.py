"""Position encodings: values of one interface, so that one can be put in another's place (the paper's first figure).

An encoding owns its parameters as flat float32 vectors, if it has any, and turns positions in [0, 1]^d into features
(see :mod:`..kernels.interface`). ``build_encoding`` is the table from names to values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels import Kernels
from ..kernels.footprints import wide_output_dims
from ..kernels.layout import INIT_RANGE, HashGridLayout, MLPLayout
from .directions import waves
from .trained import TrainedVector


@dataclass(frozen=True)
class EncodingSettings:
    """What the command line says about the encoding (tiny-cuda-nn's names, the paper's letters in brackets)."""

    n_levels: int = 16
    n_features_per_level: int = 2
    log2_hashmap_size: int = 19
    base_resolution: int = 16
    finest_resolution: int = 2048
    n_frequencies: int = 12
    n_dims: int = 3

    @property
    def grid(self) -> HashGridLayout:
        """The multiresolution hash grid of these settings."""
        return HashGridLayout(
            self.n_levels,
            self.n_features_per_level,
            self.log2_hashmap_size,
            self.base_resolution,
            self.finest_resolution,
            self.n_dims,
        )


class Encoding(nn.Module):
    """Positions [N, n_dims] in [0, 1] -> features, ``n_output_dims`` of them."""

    n_dims: int
    n_output_dims: int
    wide_output_dims: int | None = None
    """Features of samples with footprints, of an encoding with levels."""
    differentiable = True

    def table(self) -> TrainedVector | None:
        """The parameters, flat, or None."""
        return None

    def encode(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Features of positions.

        Args:
            kernels: what computes.
            positions: [N, n_dims].
            table: the parameters to use (the trained ones or their average); None where there are none.
            footprints: [N] how wide each sample is (see ``hash_encode``); an encoding that has no levels takes none.
            features: features of just these positions, computed before: only gradients are wanted.
        """
        raise NotImplementedError

    def encode_mlp(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, weights: Tensor, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Positions [N, n_dims] -> the first ``rows`` outputs of a perceptron on their features, without gradients."""
        with torch.no_grad():
            return kernels.mlp([self.encode(kernels, positions, table, footprints)], weights, layout, rows)


class GridEncoding(Encoding):
    """Multiresolution grid: hashed where a level does not fit its table, dense where it does."""

    def __init__(self, layout: HashGridLayout) -> None:
        super().__init__()
        self.layout, self.n_dims = layout, layout.n_dims
        self.n_output_dims, self.wide_output_dims = layout.n_output_dims, wide_output_dims(layout)
        self.params = TrainedVector(torch.empty(layout.n_params).uniform_(-INIT_RANGE, INIT_RANGE))

    def table(self) -> TrainedVector:
        """The entries of all levels."""
        return self.params

    def encode(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        assert table is not None
        return kernels.hash_encode(positions, table, self.layout, footprints, features)

    def encode_mlp(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, weights: Tensor, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface: one kernel, where the kernel set has it."""
        assert table is not None
        return kernels.encode_mlp(positions, table, weights, self.layout, layout, rows, footprints)


class FrequencyEncoding(Encoding):
    """sin and cos of 2^k pi x for k = 0 .. n - 1 (NeRF, equation 4)."""

    def __init__(self, n_frequencies: int, n_dims: int = 3) -> None:
        super().__init__()
        self.n_frequencies, self.n_dims = n_frequencies, n_dims
        self.n_output_dims = 2 * n_dims * n_frequencies

    def encode(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        return waves(positions, self.n_frequencies)


class IdentityEncoding(Encoding):
    """The bare coordinates, moved to [-1, 1]."""

    def __init__(self, n_dims: int = 3) -> None:
        super().__init__()
        self.n_dims = self.n_output_dims = n_dims

    def encode(
        self, kernels: Kernels, positions: Tensor, table: Tensor | None, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        return positions * 2.0 - 1.0


def _hash(s: EncodingSettings) -> Encoding:
    return GridEncoding(s.grid)


DENSE_POINTS, MOST_DENSE_POINTS = 1 << 21, 1 << 24
"""Points of the finest level of a dense grid, where the resolution asked for would have more than the second, as those of hash
grids have: 128^3 as in the paper's figure 2 (c), 1448^2 in a plane. (Figure 2 (d) has 173^3.)"""


def _dense(s: EncodingSettings) -> Encoding:
    # Every level dense: the table may be as large as the finest level.
    fits = s.finest_resolution**s.n_dims <= MOST_DENSE_POINTS
    most = s.finest_resolution if fits else int(DENSE_POINTS ** (1 / s.n_dims) + 1e-9)
    finest = max(s.base_resolution, most)
    size = math.ceil(s.n_dims * math.log2(finest + 1)) + 1
    return GridEncoding(HashGridLayout(s.n_levels, s.n_features_per_level, size, s.base_resolution, finest, s.n_dims))


ENCODINGS: dict[str, Callable[[EncodingSettings], Encoding]] = {
    "hash": _hash,
    "dense": _dense,
    "frequency": lambda s: FrequencyEncoding(s.n_frequencies, s.n_dims),
    "none": lambda s: IdentityEncoding(s.n_dims),
}


def build_encoding(name: str, settings: EncodingSettings) -> Encoding:
    """The encoding of that name.

    Raises:
        ValueError: no such name, or sizes that make no grid.
    """
    if name not in ENCODINGS:
        raise ValueError(f"There is no encoding '{name}'; choose one of: {', '.join(ENCODINGS)}.")
    return ENCODINGS[name](settings)
