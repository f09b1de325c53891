"""A function of position as a plain torch module: encoding -> one MLP. Pictures, distances, cached radiance are such functions.

Source: paper section 4 (two hidden layers of 64 neurons, linear output, for everything but radiance fields) and appendix D;
instant-ngp ``configs/image/base.json``, ``configs/sdf/base.json``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import Kernels
from ..kernels.layout import MLPLayout
from .averaged import Averaged, xavier_uniform
from .encodings import Encoding
from .trained import TrainedVector

POINTS_AT_A_TIME = 1 << 18
"""Points evaluated at once where a caller asks for any number: bounds the memory."""


class FunctionNetwork(Averaged):
    """Values of points of the unit square or cube.

    Args:
        encoding: of positions [N, encoding.n_dims] in [0, 1].
        kernels: what computes.
        n_output_dims: values of a point.
        n_extra_dims: inputs of the MLP beside the encoding's features, such as encoded directions.
        n_neurons: width of the hidden layers.
        n_hidden_layers: their number.
        averaged: whether the running average of the parameters is kept, and rendered.
    """

    def __init__(
        self,
        encoding: Encoding,
        kernels: Kernels,
        n_output_dims: int,
        n_extra_dims: int = 0,
        n_neurons: int = 64,
        n_hidden_layers: int = 2,
        averaged: bool = True,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.n_extra_dims = n_extra_dims
        self.mlp_layout = MLPLayout(encoding.n_output_dims + n_extra_dims, n_output_dims, n_neurons, n_hidden_layers)
        self.mlp_params = TrainedVector(xavier_uniform(self.mlp_layout))
        self.keep_averages(kernels, averaged)

    def vectors(self) -> dict[str, TrainedVector]:
        """Everything that is trained: ``table``, where the encoding has one, and ``mlp``."""
        table = self.encoding.table()
        return {"mlp": self.mlp_params} if table is None else {"table": table, "mlp": self.mlp_params}

    @property
    def n_params(self) -> int:
        """Trained numbers."""
        return sum(vector.numel() for vector in self.vectors().values())

    def forward(self, positions: Tensor, extra: Tensor | None = None) -> Tensor:
        """Values [N, n_output_dims] float32, with gradients.

        Args:
            positions: [N, n_dims] in [0, 1].
            extra: [N, n_extra_dims] further inputs; None where there are none.
        """
        found = self.current()
        features = self.encoding.encode(self.kernels, positions, found.get("table"))
        return self.kernels.mlp([features] if extra is None else [features, extra], found["mlp"], self.mlp_layout)

    @torch.no_grad()
    def value_at(self, positions: Tensor, extra: Tensor | None = None) -> Tensor:
        """Values of any number of points [N, n_dims] -> [N, n_output_dims] float32, without gradients and within little memory.

        Args:
            positions, extra: as in :meth:`forward`.
        """
        rows = self.mlp_layout.n_output_dims
        out = torch.empty(positions.shape[0], rows, device=positions.device)
        for first in range(0, positions.shape[0], POINTS_AT_A_TIME):
            some = slice(first, first + POINTS_AT_A_TIME)
            if extra is not None:
                out[some] = self(positions[some], extra[some])
            else:
                found = self.current()
                out[some] = self.encoding.encode_mlp(
                    self.kernels, positions[some], found.get("table"), found["mlp"], self.mlp_layout, rows
                )
        return out

    def value_and_gradient(self, positions: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first value of points and its gradient by their positions: a distance and its normal, unscaled.

        Args:
            positions, extra: as in :meth:`forward`.

        Returns:
            Values [N, n_output_dims] and gradients [N, n_dims], both float32 and detached.
        """
        values, gradients = [], []
        for first in range(0, positions.shape[0], POINTS_AT_A_TIME):
            some = slice(first, first + POINTS_AT_A_TIME)
            with torch.enable_grad():
                points = positions[some].detach().requires_grad_()
                value = self(points, None if extra is None else extra[some].detach())
                (gradient,) = torch.autograd.grad(value[:, 0].sum(), points)
            values.append(value.detach())
            gradients.append(gradient)
        if not values:
            return positions.new_empty(0, self.mlp_layout.n_output_dims), torch.empty_like(positions)
        return torch.cat(values), torch.cat(gradients)

    @torch.no_grad()
    def value_of_levels(self, positions: Tensor, n_levels: int) -> Tensor:
        """Values [N, n_output_dims] as the coarsest ``n_levels`` levels of a grid have them: the others' features are zero.

        Args:
            positions: [N, n_dims] in [0, 1]; any number.
            n_levels: levels that count; encodings without levels give the value itself.
        """
        layout = getattr(self.encoding, "layout", None)
        if layout is None or n_levels >= layout.n_levels:
            return self.value_at(positions)
        found, per_level, parts = self.current(), layout.n_features_per_level, []
        for some in positions.split(POINTS_AT_A_TIME):
            features = self.kernels.dense_features(self.encoding.encode(self.kernels, some, found.get("table"))).clone()
            features[:, n_levels * per_level :] = 0.0
            parts.append(self.kernels.mlp([features], found["mlp"], self.mlp_layout))
        return torch.cat(parts) if parts else self.value_at(positions)
