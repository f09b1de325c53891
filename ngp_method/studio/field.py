"""The network in world units: what nerfstudio, rendering and the mesh command ask of the field."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from ..fields.network import RadianceNetwork
from ..fields.shading import Shading
from ..kernels.scene import SceneGeometry

CHUNK = 1 << 18
"""Points evaluated at a time where a caller asks for any number: bounds the memory."""


class InstantHashField(Field, Shading):
    """A :class:`~..fields.network.RadianceNetwork` placed in the world by a :class:`~..kernels.scene.SceneGeometry`."""

    def __init__(self, network: RadianceNetwork, geometry: SceneGeometry) -> None:
        super().__init__()
        Shading.__init__(self, network, geometry)

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
            found.append(self.network.color(raw, self.network.encode_directions(towards.contiguous()), weights))
        return torch.cat(found)

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """nerfstudio's interface: densities [..., 1] per world unit and the density MLP's outputs [..., 16]."""
        positions = ray_samples.frustums.get_positions()
        shape = positions.shape[:-1]
        unit = self.geometry.normalize(positions.reshape(-1, 3)).clamp(0.0, 1.0)
        weights = self.network.weights()
        sigmas, raw = self.network.density(self.network.encode(unit, weights), weights, self.geometry.unit_size)
        return sigmas.view(*shape, 1), raw.reshape(*shape, -1)

    def get_outputs(self, ray_samples: RaySamples, density_embedding: Tensor | None = None) -> dict[FieldHeadNames, Tensor]:
        """nerfstudio's interface: colours [..., 3]."""
        assert density_embedding is not None
        shape = density_embedding.shape[:-1]
        directions = ray_samples.frustums.directions.reshape(-1, 3)
        towards = self.network.encode_directions(torch.nn.functional.normalize(directions, dim=-1))
        rgbs = self.network.color(density_embedding.reshape(-1, density_embedding.shape[-1]), towards, self.network.weights())
        return {FieldHeadNames.RGB: rgbs.view(*shape, 3)}
