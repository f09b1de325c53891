"""NeRF (Mildenhall et al. 2020, arXiv 2003.08934): points along rays, and a perceptron for each of two passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.positional import octaves, positional_encoding
from ..kernels.scene import SceneGeometry
from .coarse_to_fine import CoarseToFine, FieldSettings
from .intervals import Gathered, composite, resampled, spread_along, stratified_points
from .rays import Rays


@dataclass(frozen=True)
class NerfSettings(FieldSettings):
    """NeRF's; the published numbers are the defaults.

    Attributes:
        n_coarse_samples: points of the first pass, at least 3.
        n_fine_samples: points that the second has beside them.
        density_noise: deviation of the noise on raw densities in training (1 for the paper's real scenes).
    """

    n_frequencies: int = 10
    n_coarse_samples: int = 64
    n_fine_samples: int = 128
    density_noise: float = 0.0


class Nerf(CoarseToFine):
    """See the module's first line.

    A point stands for the way to the next one, and the last for that to the border of the box; NeRF's code lets it reach to
    infinity, but here nothing lies beyond.

    Args:
        geometry: of the scene.
        settings: see :class:`NerfSettings`.
    """

    def __init__(self, geometry: SceneGeometry, settings: NerfSettings) -> None:
        super().__init__(geometry, settings, identity=True, networks=2)
        self.settings = settings
        self.samples_per_ray = 2 * settings.n_coarse_samples + settings.n_fine_samples

    def passes(self, rays: Rays, random: bool) -> list[Gathered]:
        """See the base class."""
        unit, s = self.in_units(rays), self.settings
        shares = stratified_points(rays.n_rays, s.n_coarse_samples, random, unit.t_min)
        coarse = spread_along(shares, unit.t_min, unit.t_max, s.inverse)
        views = self.view_features(unit.d)[:, None]
        first = self._pass(0, unit, coarse, views)
        middles = 0.5 * (coarse[:, 1:] + coarse[:, :-1])
        new = resampled(middles, first.weights[:, 1:-1], s.n_fine_samples, random)
        return [first, self._pass(1, unit, torch.cat([coarse, new], -1).sort(-1).values, views)]

    def _pass(self, number: int, rays: Rays, at: Tensor, views: Tensor) -> Gathered:
        positions = rays.o[:, None] + at[..., None] * rays.d[:, None]
        raw, raw_rgbs = self.networks[number](self.encode(positions), views.expand(-1, at.shape[1], -1))
        if self.training and self.settings.density_noise > 0.0:
            raw = raw + self.settings.density_noise * torch.randn_like(raw)
        return composite(self.density_from(raw), self.color_from(raw_rgbs), torch.cat([at, rays.t_max[:, None]], -1), at)

    def encode(self, positions: Tensor) -> Tensor:
        """Positions [..., 3] in the field's units -> features."""
        return positional_encoding(positions, octaves(self.lowest, self.n_octaves, positions))

    def raw_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        return self.network(1).density(self.encode(positions))

    def density_from(self, raw: Tensor) -> Tensor:
        """A ReLU (NeRF, section 5.3)."""
        return torch.relu(raw)

    def color_from(self, raw: Tensor) -> Tensor:
        """A sigmoid."""
        return torch.sigmoid(raw)
