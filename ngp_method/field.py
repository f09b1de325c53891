"""The network in world units: what nerfstudio, rendering and the mesh command ask of the field."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from .kernels import Kernels
from .network import RadianceNetwork
from .samples import PackedSamples
from .scene import SceneGeometry

CHUNK = 1 << 18
"""Points evaluated at a time where a caller asks for any number: bounds the memory."""


class InstantHashField(Field):
    """A :class:`~.network.RadianceNetwork` placed in the world by a :class:`~.scene.SceneGeometry`."""

    def __init__(self, network: RadianceNetwork, kernels: Kernels, geometry: SceneGeometry) -> None:
        super().__init__()
        self.network = network
        self.kernels = kernels
        self.geometry = geometry

    def density_in_unit(self, positions: Tensor) -> Tensor:
        """Points [N, 3] in [0, 1] -> densities [N] per edge of the unit cube, without gradients."""
        with torch.no_grad():
            return torch.exp(self.network.raw_at(positions, self.network.weights(), rows=1)[:, 0])

    @torch.no_grad()
    def shade(self, positions: Tensor, rays_d: Tensor, samples: PackedSamples) -> tuple[Tensor, Tensor]:
        """Points [N, 3] in [0, 1] of samples of the rays [R, 3] -> densities [N] per world unit, rgbs [N, 3]."""
        weights = self.network.weights()
        raw = self.network.raw_at(positions, weights)
        return torch.exp(raw[:, 0]) / self.geometry.unit_size, self.network.color_along(raw, rays_d, samples, weights)

    def normals(self, positions: Tensor) -> Tensor:
        """Points [N, 3] in [0, 1] -> unit normals [N, 3]: against the density's gradient through the encoding."""
        if not positions.shape[0]:
            return positions
        with torch.enable_grad():
            at = positions.detach().requires_grad_()
            weights = self.network.weights()
            # The logarithm's gradient has the same direction and does not vanish where the density is small.
            raw = self.network.kernels.mlp(
                [self.network.encode(at, weights)], weights.density, self.network.density_layout, rows=1
            )
            (gradient,) = torch.autograd.grad(raw.sum(), at)
        return -torch.nn.functional.normalize(gradient, dim=-1, eps=1e-12)

    def density_at(self, positions: Tensor) -> Tensor:
        """World points [N, 3] -> densities [N] per world unit; zero outside the scene box."""
        unit = self.geometry.normalize(positions.float())
        inside = ((unit >= 0) & (unit <= 1)).all(-1)
        parts = [self.density_in_unit(part) for part in unit.clamp(0.0, 1.0).split(CHUNK)]
        return torch.cat(parts) * inside / self.geometry.unit_size if parts else unit[:, 0]

    @torch.no_grad()
    def color_at(self, positions: Tensor, directions: Tensor) -> Tensor:
        """World points [N, 3] and unit view directions [N, 3] -> rgbs [N, 3] in [0, 1]."""
        unit = self.geometry.normalize(positions.float()).clamp(0.0, 1.0)
        found, weights = [], self.network.weights()
        for at, towards in zip(unit.split(CHUNK), directions.split(CHUNK)):
            raw = self.network.raw_at(at, weights)
            found.append(self.network.color(raw, self.kernels.sh_encode(towards.contiguous()), weights))
        return torch.cat(found)

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """nerfstudio's interface: densities [..., 1] per world unit and the density MLP's outputs [..., 16]."""
        positions = ray_samples.frustums.get_positions()
        shape = positions.shape[:-1]
        unit = self.geometry.normalize(positions.reshape(-1, 3)).clamp(0.0, 1.0)
        weights = self.network.weights()
        sigmas, raw = self.network.density(self.network.encode(unit, weights), weights)
        return (sigmas / self.geometry.unit_size).view(*shape, 1), raw.reshape(*shape, -1)

    def get_outputs(self, ray_samples: RaySamples, density_embedding: Tensor | None = None) -> dict[FieldHeadNames, Tensor]:
        """nerfstudio's interface: colours [..., 3]."""
        assert density_embedding is not None
        shape = density_embedding.shape[:-1]
        directions = ray_samples.frustums.directions.reshape(-1, 3)
        harmonics = self.kernels.sh_encode(torch.nn.functional.normalize(directions, dim=-1))
        rgbs = self.network.color(density_embedding.reshape(-1, density_embedding.shape[-1]), harmonics, self.network.weights())
        return {FieldHeadNames.RGB: rgbs.view(*shape, 3)}
