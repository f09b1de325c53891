"""The radiance field as a plain torch module: encoding -> density MLP; (its outputs, SH of the direction) -> colour MLP.

Source: instant-ngp ``configs/nerf/base.json`` and ``nerf_network.h``; paper section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels import Kernels
from ..kernels.layout import MLPLayout
from ..kernels.samples import PackedSamples
from ..kernels.spherical import SH_DIM
from .encodings import Encoding
from .trained import DueAverage, TrainedVector

GEOMETRY_DIM = 16
"""Outputs of the density MLP; the first is the logarithm of the density, all of them go on to the colour MLP."""


@dataclass
class Weights:
    """One complete set of parameters: the trained ones, or their running average."""

    table: Tensor | None
    density: Tensor
    color: Tensor


class RadianceNetwork(nn.Module):
    """Density and colour of points of the scene box.

    Args:
        encoding: of positions.
        kernels: what computes.
        n_neurons: width of both MLPs.
        n_hidden_layers: hidden layers of the density MLP.
        n_hidden_layers_color: hidden layers of the colour MLP.
    """

    average_density: Tensor
    average_color: Tensor
    average_count: Tensor

    def __init__(
        self,
        encoding: Encoding,
        kernels: Kernels,
        n_neurons: int = 64,
        n_hidden_layers: int = 1,
        n_hidden_layers_color: int = 2,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.kernels = kernels
        self.density_layout = MLPLayout(encoding.n_output_dims, GEOMETRY_DIM, n_neurons, n_hidden_layers)
        self.color_layout = MLPLayout(GEOMETRY_DIM + SH_DIM, 3, n_neurons, n_hidden_layers_color)
        self.density_params = TrainedVector(xavier_uniform(self.density_layout))
        self.color_params = TrainedVector(xavier_uniform(self.color_layout))
        for name, vector in self.vectors().items():
            vector.kernels = kernels
            self.register_buffer(f"average_{name}", vector.detach().clone())
        self.register_buffer("average_count", torch.zeros((), dtype=torch.int64))
        self._averages: int | None = None
        self.register_load_state_dict_post_hook(lambda module, keys: setattr(module, "_averages", None))

    def vectors(self) -> dict[str, TrainedVector]:
        """Everything that is trained: ``table``, where the encoding has one, ``density`` and ``color``."""
        table = self.encoding.table()
        found = {"density": self.density_params, "color": self.color_params}
        return found if table is None else {"table": table, **found}

    def weights(self) -> Weights:
        """The trained parameters while training; their running average otherwise, as instant-ngp renders."""
        if self.training:
            return Weights(self.encoding.table(), self.density_params, self.color_params)
        table = getattr(self, "average_table", None)
        return Weights(table, self.average_density, self.average_color)

    @torch.no_grad()
    def begin_average(self, decay: float) -> None:
        """Before an optimiser's step: leaves with each parameter the average that the step is to bring up to date.

        An optimiser that can (:class:`~.adam.NgpAdam`) does so in the same pass over the table; for any other,
        :meth:`finish_average` does it afterwards. Debiased as it goes: the weight of the newest is (1 - d) / (1 - d^n).
        """
        if self._averages is None:  # waits for the device, so only once
            self._averages = int(self.average_count)
        self._averages += 1
        self.average_count.fill_(self._averages)
        newest = (1.0 - decay) / (1.0 - decay**self._averages) if decay > 0 else 1.0
        for name, vector in self.vectors().items():
            vector.due = DueAverage(getattr(self, f"average_{name}"), newest)

    @torch.no_grad()
    def finish_average(self) -> None:
        """After the optimisers' steps: the averages that are still due."""
        for vector in self.vectors().values():
            vector.take_average()

    def encode(self, positions: Tensor, weights: Weights, features: Tensor | None = None) -> Tensor:
        """Positions [N, 3] in [0, 1] -> features."""
        return self.encoding.encode(self.kernels, positions, weights.table, features)

    def density(self, features: Tensor, weights: Weights, unit: float) -> tuple[Tensor, Tensor]:
        """Features -> densities [N] per world unit, and the density MLP's outputs [N, 16].

        Args:
            unit: world units of an edge of the unit cube (:attr:`~..kernels.scene.SceneGeometry.unit_size`).
        """
        return self.kernels.density_head(self.kernels.mlp([features], weights.density, self.density_layout), unit)

    def density_only(self, features: Tensor, weights: Weights, unit: float) -> Tensor:
        """The densities alone; nothing for the colour MLP is computed."""
        return self.kernels.density_head(self.kernels.mlp([features], weights.density, self.density_layout, rows=1), unit)[0]

    def raw_at(self, positions: Tensor, weights: Weights, rows: int = GEOMETRY_DIM) -> Tensor:
        """Positions [N, 3] in [0, 1] -> the density MLP's first outputs [N, rows], without gradients."""
        return self.encoding.encode_mlp(self.kernels, positions, weights.table, weights.density, self.density_layout, rows)

    def color_along(self, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Weights) -> Tensor:
        """Density outputs [N, 16] of samples along rays with directions [R, 3] -> rgbs [N, 3], without gradients."""
        return torch.sigmoid(self.kernels.sh_mlp(raw, rays_d, samples, weights.color, self.color_layout))

    def color(self, raw: Tensor, harmonics: Tensor, weights: Weights) -> Tensor:
        """Density outputs [N, 16] and spherical harmonics (features, 16) -> rgbs [N, 3] in [0, 1]."""
        return torch.sigmoid(self.kernels.mlp([raw, harmonics], weights.color, self.color_layout))


def xavier_uniform(layout: MLPLayout) -> Tensor:
    """Flat initial weights: U(-a, a) with a = sqrt(6 / (in + out)) per matrix (tiny-cuda-nn's default)."""
    parts = []
    for rows, columns in layout.shapes:
        bound = (6.0 / (rows + columns)) ** 0.5
        parts.append(torch.empty(rows * columns).uniform_(-bound, bound))
    return torch.cat(parts)
