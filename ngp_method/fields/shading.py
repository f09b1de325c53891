"""What rendering and the occupancy grid ask of a radiance field, in a scene; torch alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.samples import PackedSamples
from ..kernels.scene import SceneGeometry
from .network import RadianceNetwork


class Shading:
    """A network placed in the world; :class:`~..studio.field.InstantHashField` is one that nerfstudio knows as a field, too."""

    def __init__(self, network: RadianceNetwork, geometry: SceneGeometry) -> None:
        self.network, self.geometry = network, geometry
        self.kernels = network.kernels

    @torch.no_grad()
    def density_in_unit(self, positions: Tensor, footprints: Tensor | None = None) -> Tensor:
        """Points [N, 3] in [0, 1] -> densities [N] per edge of the unit cube, without gradients.

        Args:
            footprints: [N] how wide each of them is, in edges of the scene box (see ``hash_encode``); None: points.
        """
        raw = self.network.raw_at(positions, self.network.weights(), footprints, rows=1)
        return self.kernels.density_head(raw, 1.0)[0]

    @property
    def footprints(self) -> bool:
        """Whether samples are as wide as their pixels; points otherwise."""
        return self.network.footprints

    def footprints_of(self, radii: Tensor | None, samples: PackedSamples) -> Tensor | None:
        """See :meth:`~.network.RadianceNetwork.footprints_of`."""
        return self.network.footprints_of(radii, samples, self.geometry)

    @torch.no_grad()
    def shade(
        self, positions: Tensor, rays_d: Tensor, samples: PackedSamples, footprints: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Points [N, 3] in [0, 1] of samples of the rays [R, 3] -> densities [N] per world unit, rgbs [N, 3]."""
        weights = self.network.weights()
        sigmas, raw = self.kernels.density_head(self.network.raw_at(positions, weights, footprints), self.geometry.unit_size)
        return sigmas, self.network.color_along(raw, rays_d, samples, weights)

    def normals(self, positions: Tensor, footprints: Tensor | None = None) -> Tensor:
        """Points [N, 3] in [0, 1] -> unit normals [N, 3]: against the density's gradient through the encoding."""
        if not positions.shape[0]:
            return positions
        with torch.enable_grad():
            at = positions.detach().requires_grad_()
            weights = self.network.weights()
            # The logarithm's gradient has the same direction and does not vanish where the density is small.
            features = self.network.encode(at, weights, footprints)
            raw = self.kernels.mlp([features], weights.density, self.network.density_layout, rows=1)
            (gradient,) = torch.autograd.grad(raw.sum(), at)
        return -torch.nn.functional.normalize(gradient, dim=-1, eps=1e-12)
