"""The radiance field as a plain torch module: encoding -> density MLP; (its outputs, the encoded direction) -> colour MLP.

Source: instant-ngp ``configs/nerf/base.json`` and ``nerf_network.h``; paper section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import Kernels
from ..kernels.layout import MLPLayout
from ..kernels.samples import PackedSamples
from ..kernels.scene import SceneGeometry
from .averaged import Averaged, xavier_uniform
from .directions import build_directions
from .encodings import Encoding
from .trained import TrainedVector

GEOMETRY_DIM = 16
"""Outputs of the density MLP; the first is the logarithm of the density, all of them go on to the colour MLP."""


@dataclass
class Weights:
    """One complete set of parameters: the trained ones, or their running average."""

    table: Tensor | None
    density: Tensor
    color: Tensor


class RadianceNetwork(Averaged):
    """Density and colour of points of the scene box.

    Args:
        encoding: of positions.
        kernels: what computes.
        n_neurons: width of both MLPs.
        n_hidden_layers: hidden layers of the density MLP.
        n_hidden_layers_color: hidden layers of the colour MLP.
        footprints: samples are as wide as their pixels are there, and see less of finer levels
            (:mod:`..kernels.footprints`); without, they are points.
        directions: one of :data:`~.directions.DIRECTIONS`.
    """

    def __init__(
        self,
        encoding: Encoding,
        kernels: Kernels,
        n_neurons: int = 64,
        n_hidden_layers: int = 1,
        n_hidden_layers_color: int = 2,
        footprints: bool = False,
        directions: str = "harmonics",
    ) -> None:
        super().__init__()
        self.encoding, self.footprints, self.directions = encoding, footprints, build_directions(directions)
        features = encoding.wide_output_dims if footprints else encoding.n_output_dims
        if features is None:
            raise ValueError("Footprints need an encoding with levels: hash or dense.")
        self.density_layout = MLPLayout(features, GEOMETRY_DIM, n_neurons, n_hidden_layers)
        self.color_layout = MLPLayout(GEOMETRY_DIM + self.directions.n_output_dims, 3, n_neurons, n_hidden_layers_color)
        self.density_params = TrainedVector(xavier_uniform(self.density_layout))
        self.color_params = TrainedVector(xavier_uniform(self.color_layout))
        self.keep_averages(kernels)

    def vectors(self) -> dict[str, TrainedVector]:
        """Everything that is trained: ``table``, where the encoding has one, ``density`` and ``color``."""
        table = self.encoding.table()
        found = {"density": self.density_params, "color": self.color_params}
        return found if table is None else {"table": table, **found}

    def weights(self) -> Weights:
        """The trained parameters while training; their running average otherwise, as instant-ngp renders."""
        found = self.current()
        return Weights(found.get("table"), found["density"], found["color"])

    def footprints_of(self, radii: Tensor | None, samples: PackedSamples, geometry: SceneGeometry) -> Tensor | None:
        """Footprints [N] of samples, in edges of the scene box; None where all are points.

        Args:
            radii: [R] standard deviation of the rays' footprints at distance 1; None for rays without.
            samples, geometry: N samples of the R rays in the scene box.
        """
        return self.kernels.footprints(radii, samples, geometry) if self.footprints and radii is not None else None

    def encode(
        self, positions: Tensor, weights: Weights, footprints: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """Positions [N, 3] in [0, 1], and their footprints [N] if they have any -> features."""
        return self.encoding.encode(self.kernels, positions, weights.table, self._wide(positions, footprints), features)

    def _wide(self, positions: Tensor, footprints: Tensor | None) -> Tensor | None:
        """Footprints as the encoding takes them: none, or of every position."""
        if not self.footprints:
            return None
        return positions.new_zeros(positions.shape[0]) if footprints is None else footprints

    def density(self, features: Tensor, weights: Weights, unit: float) -> tuple[Tensor, Tensor]:
        """Features -> densities [N] per world unit, and the density MLP's outputs [N, 16].

        Args:
            unit: world units of an edge of the unit cube (:attr:`~..kernels.scene.SceneGeometry.unit_size`).
        """
        return self.kernels.density_head(self.kernels.mlp([features], weights.density, self.density_layout), unit)

    def density_only(self, features: Tensor, weights: Weights, unit: float) -> Tensor:
        """The densities alone; nothing for the colour MLP is computed."""
        return self.kernels.density_head(self.kernels.mlp([features], weights.density, self.density_layout, rows=1), unit)[0]

    def raw_at(self, positions: Tensor, weights: Weights, footprints: Tensor | None = None, rows: int = GEOMETRY_DIM) -> Tensor:
        """Positions [N, 3] in [0, 1], footprints [N] -> the density MLP's first outputs [N, rows], without gradients."""
        found = (weights.table, weights.density, self.density_layout)
        return self.encoding.encode_mlp(self.kernels, positions, *found, rows, self._wide(positions, footprints))

    def color_along(self, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Weights) -> Tensor:
        """Density outputs [N, 16] of samples along rays with directions [R, 3] -> rgbs [N, 3], without gradients."""
        return torch.sigmoid(self.directions.mlp_along(self.kernels, raw, rays_d, samples, weights.color, self.color_layout))

    def encode_directions(self, rays_d: Tensor) -> Tensor:
        """Unit directions [R, 3] -> features."""
        return self.directions.encode(self.kernels, rays_d)

    def color(self, raw: Tensor, directions: Tensor, weights: Weights) -> Tensor:
        """Density outputs [N, 16] and the features of N directions -> rgbs [N, 3] in [0, 1]."""
        return torch.sigmoid(self.kernels.mlp([raw, directions], weights.color, self.color_layout))
