"""NeRF and mip-NeRF: a perceptron asked twice along each ray, first everywhere, then where the first pass found something.

Both encode positions in a unit of their own, so that one setting suits every scene: the unit cube of the scene's geometry is 3
wide and centred, as the box +-1.5 of NeRF's synthetic scenes is in the coordinates that the papers' code encodes. There all is
as published. Densities are per such unit, and so is mip-NeRF's softplus(x - 1), which in another unit would begin as a fog
or as a wall. Beyond the unit cube the lowest published wave, 2 pi long, would repeat: a scene of 2^k unit cubes has k octaves
below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fields.nerf_mlp import MLPSizes, NerfMLP
from ..fields.positional import n_features, octaves, positional_encoding
from ..kernels.constants import constant
from ..kernels.scene import SceneGeometry
from .intervals import Gathered
from .rays import Rays

CUBE = 3.0
"""Edge of the unit cube in the field's units: that of NeRF's synthetic scenes."""

POINTS_AT_A_TIME = 1 << 16
"""Points whose density is asked for at a time: bounds the memory."""


@dataclass(frozen=True)
class FieldSettings:
    """What both methods have.

    Attributes:
        n_frequencies: octaves of the encoding of positions from 2^0 on.
        n_frequencies_direction: those of directions.
        sizes: of the perceptron.
        inverse: the first pass's intervals equal in 1 / t instead of t.
    """

    n_frequencies: int
    n_frequencies_direction: int = 4
    sizes: MLPSizes = field(default_factory=MLPSizes)
    inverse: bool = False


class CoarseToFine(nn.Module):
    """What both have: positions in the field's unit, directions, and what a point is.

    Args:
        geometry: of the scene.
        settings: see :class:`FieldSettings`.
        identity: whether the bare coordinates are among the features of positions.
        networks: one perceptron for both passes, or two.
    """

    samples_per_ray: int
    """Evaluations of a perceptron for each ray."""

    def __init__(self, geometry: SceneGeometry, settings: FieldSettings, identity: bool, networks: int) -> None:
        super().__init__()
        self.geometry, self.identity = geometry, identity
        self.scale = CUBE / geometry.unit_size
        self.lowest = -int(math.log2(geometry.aabb_scale))
        self.n_octaves = settings.n_frequencies - self.lowest
        self.n_octaves_direction = settings.n_frequencies_direction
        sizes = n_features(3, self.n_octaves, identity), n_features(3, self.n_octaves_direction, True)
        self.networks = nn.ModuleList(NerfMLP(*sizes, settings.sizes) for _ in range(networks))

    @property
    def n_params(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.parameters())

    def network(self, number: int) -> NerfMLP:
        """The perceptron of that number."""
        return cast(NerfMLP, self.networks[number])

    # -- units

    def in_units(self, rays: Rays) -> Rays:
        """Rays of the world in the field's units; a pixel's area is an angle and stays."""
        return replace(rays, o=self.positions_in_units(rays.o), t_min=rays.t_min * self.scale, t_max=rays.t_max * self.scale)

    def positions_in_units(self, positions: Tensor) -> Tensor:
        """World positions [..., 3] in the field's units."""
        return (positions - constant(self.geometry.center, positions)) * self.scale

    # -- rays

    def passes(self, rays: Rays, random: bool) -> list[Gathered]:
        """Both passes along R rays of the world that each cross the box: distances and densities in the field's units.

        Args:
            rays: with t_min < t_max.
            random: samples drawn at random, as in training.
        """
        raise NotImplementedError

    def trace(self, rays: Rays, random: bool) -> list[Gathered]:
        """The same of any rays, depths in world units; those that miss the box have gathered nothing.

        The weights are those of the rays that cross it.
        """
        hit = torch.nonzero(rays.t_min < rays.t_max)[:, 0]
        found = self.passes(rays[hit], random)

        def of_all(value: Tensor) -> Tensor:
            return value.new_zeros(rays.n_rays, *value.shape[1:]).index_copy(0, hit, value)

        return [
            Gathered(of_all(one.rgbs), of_all(one.opacities), of_all(one.depths / self.scale), one.weights) for one in found
        ]

    def view_features(self, rays_d: Tensor) -> Tensor:
        """Unit directions [R, 3] -> features [R, V], with the coordinates themselves (NeRF, section 5.1; mip-NeRF's code)."""
        return positional_encoding(rays_d, octaves(0, self.n_octaves_direction, rays_d))

    # -- points

    def raw_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Points [N, 3] in the field's units -> raw densities of the second pass [N], and what the colour goes on from."""
        raise NotImplementedError

    def density_from(self, raw: Tensor) -> Tensor:
        """Raw densities -> densities, the same shape."""
        raise NotImplementedError

    def color_from(self, raw: Tensor) -> Tensor:
        """Raw colours -> rgbs, the same shape."""
        raise NotImplementedError

    @torch.no_grad()
    def density_at(self, positions: Tensor) -> Tensor:
        """World points [N, 3] -> densities [N] per world unit; zero outside the scene box."""
        unit = self.geometry.normalize(positions.float())
        inside = ((unit >= 0) & (unit <= 1)).all(-1)
        points = self.positions_in_units(positions.float())
        parts = [self.density_from(self.raw_at(part)[0]) for part in points.split(POINTS_AT_A_TIME)]
        return torch.cat(parts) * inside * self.scale

    @torch.no_grad()
    def color_at(self, positions: Tensor, directions: Tensor) -> Tensor:
        """World points [N, 3] and unit view directions [N, 3] -> rgbs [N, 3] in [0, 1]."""
        points, found = self.positions_in_units(positions.float()), []
        for at, towards in zip(points.split(POINTS_AT_A_TIME), directions.split(POINTS_AT_A_TIME), strict=True):
            raw = self.network(-1).color(self.raw_at(at)[1], self.view_features(towards))
            found.append(self.color_from(raw).clamp(0.0, 1.0))
        return torch.cat(found)

    def normals_at(self, positions: Tensor) -> Tensor:
        """World points [N, 3] -> unit normals [N, 3]: against the gradient of the raw density, which no activation flattens."""
        with torch.enable_grad():
            at = self.positions_in_units(positions.detach().float()).requires_grad_()
            (gradient,) = torch.autograd.grad(self.raw_at(at)[0].sum(), at)
        return -F.normalize(gradient, dim=-1, eps=1e-12)
