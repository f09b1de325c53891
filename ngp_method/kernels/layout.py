"""Where each parameter lies: the flat float32 vectors of tiny-cuda-nn, as integers.

Every kernel set computes from the same vectors, so that a checkpoint trained with one renders with any other. Sources:
tiny-cuda-nn ``grid.h`` (level sizes, hashing), ``fully_fused_mlp`` (row-major weights, padding to 16, no biases).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

PRIMES = (1, 2654435761, 805459861)
"""Per-axis factors of the spatial hash (paper equation 4; unsigned 32-bit arithmetic)."""

PADDING = 16
"""MLP inputs and last-layer outputs are padded to a multiple of this (tensor-core tiles)."""

INIT_RANGE = 1e-4
"""Hash-table entries start from U(-INIT_RANGE, INIT_RANGE) (paper section 4)."""


def round_up(value: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is no less than ``value``."""
    return -(-value // multiple) * multiple


class Sized2D(Protocol):
    """An array or tensor: it has a shape."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sides."""
        ...


@dataclass(frozen=True)
class Level:
    """One level of the grid.

    Attributes:
        scale: float32; a position x in [0, 1] lies at x * scale + 0.5 in this level's lattice.
        resolution: lattice points along an edge.
        entries: feature vectors stored.
        offset: index of the first of them in the table, in entries.
        dense: True: entry x + y * resolution + z * resolution^2, without z where there is none. False: hashed, modulo
            ``entries``.
    """

    scale: np.float32
    resolution: int
    entries: int
    offset: int
    dense: bool


@dataclass(frozen=True)
class HashGridLayout:
    """Multiresolution hash grid (paper section 3; tiny-cuda-nn's names in JSON, the paper's letters in brackets).

    Attributes:
        n_levels: number of levels (L).
        n_features_per_level: features per entry (F).
        log2_hashmap_size: log2 of the most entries a level stores (log2 T).
        base_resolution: resolution of the coarsest level (N_min).
        finest_resolution: resolution of the finest level (N_max).
        n_dims: of positions (d), 2 or 3. Two dimensions have entries, corners and primes of their own (tiny-cuda-nn ``grid.h``,
            N_POS_DIMS), not those of a plane in three.
    """

    n_levels: int = 16
    n_features_per_level: int = 2
    log2_hashmap_size: int = 19
    base_resolution: int = 16
    finest_resolution: int = 2048
    n_dims: int = 3

    def __post_init__(self) -> None:
        if self.n_dims not in (2, 3):
            raise ValueError(f"A hash grid has positions of 2 or 3 dimensions, not {self.n_dims}.")
        if self.n_levels < 1 or self.n_features_per_level not in (1, 2, 4, 8):
            raise ValueError("A hash grid needs at least one level and 1, 2, 4 or 8 features per level.")
        if not 3 <= self.log2_hashmap_size <= 28:  # under 8 entries a table would not consist of whole vectors
            raise ValueError(f"log2_hashmap_size must be from 3 to 28, not {self.log2_hashmap_size}.")
        if not 1 <= self.base_resolution <= self.finest_resolution:
            raise ValueError("base_resolution must be at least 1 and at most finest_resolution.")

    @property
    def per_level_scale(self) -> float:
        """Growth b from level to level (paper equation 3)."""
        if self.n_levels == 1:
            return 1.0
        return math.exp(math.log(self.finest_resolution / self.base_resolution) / (self.n_levels - 1))

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels, coarsest first."""
        found, offset, largest = [], 0, 1 << self.log2_hashmap_size
        for index in range(self.n_levels):
            scale = np.float32(self.base_resolution * self.per_level_scale**index - 1.0)
            resolution = math.ceil(scale) + 1
            points = resolution**self.n_dims
            entries = min(round_up(points, 8), largest)
            found.append(Level(scale, resolution, entries, offset, points <= largest))
            offset += entries
        return tuple(found)

    def check(self, positions: Sized2D) -> None:
        """Positions must be of the grid's dimensions.

        Raises:
            ValueError: they are not [N, n_dims].
        """
        if len(positions.shape) != 2 or positions.shape[1] != self.n_dims:
            raise ValueError(f"This hash grid takes positions [N, {self.n_dims}], not {list(positions.shape)}.")

    @property
    def n_entries(self) -> int:
        """Entries over all levels."""
        return self.levels[-1].offset + self.levels[-1].entries

    @property
    def n_params(self) -> int:
        """Length of the flat table: entry-major, features of one entry side by side."""
        return self.n_entries * self.n_features_per_level

    @property
    def n_output_dims(self) -> int:
        """Features of one position, level-major: L * F."""
        return self.n_levels * self.n_features_per_level


@dataclass(frozen=True)
class MLPLayout:
    """A small perceptron without biases: ReLU between layers, none after the last.

    Attributes:
        n_input_dims: inputs that carry information; padded to a multiple of 16 with zeros.
        n_output_dims: outputs that are read; computed in a multiple of 16.
        n_neurons: width of the hidden layers.
        n_hidden_layers: number of hidden layers, at least one.
    """

    n_input_dims: int
    n_output_dims: int
    n_neurons: int = 64
    n_hidden_layers: int = 1

    def __post_init__(self) -> None:
        if self.n_hidden_layers < 1 or self.n_neurons % PADDING or self.n_neurons < PADDING:
            raise ValueError("An MLP needs at least one hidden layer and a width that is a multiple of 16.")

    @property
    def padded_input(self) -> int:
        """Columns of the first matrix."""
        return round_up(self.n_input_dims, PADDING)

    @property
    def padded_output(self) -> int:
        """Rows of the last matrix."""
        return round_up(self.n_output_dims, PADDING)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """[out, in] of each matrix, first layer first."""
        widths = [self.padded_input] + [self.n_neurons] * self.n_hidden_layers + [self.padded_output]
        return tuple((rows, columns) for columns, rows in pairwise(widths))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each matrix begins in the flat vector (row-major, one after the other)."""
        sizes = [0] + [rows * columns for rows, columns in self.shapes]
        return tuple(int(v) for v in np.cumsum(sizes)[:-1])

    @property
    def n_params(self) -> int:
        """Length of the flat vector."""
        return sum(rows * columns for rows, columns in self.shapes)
