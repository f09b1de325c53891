"""mip-NeRF (Barron et al. 2021, arXiv 2103.13415): pieces of cones as Gaussians, and one perceptron that both passes train."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.positional import integrated_positional_encoding, octaves, positional_encoding
from ..kernels.scene import SceneGeometry
from .coarse_to_fine import CUBE, CoarseToFine, FieldSettings
from .frustums import Gaussians, frustum_gaussians
from .intervals import Gathered, blurred, composite, jittered_borders, resampled, spread_along
from .rays import Rays


@dataclass(frozen=True)
class MipNerfSettings(FieldSettings):
    """mip-NeRF's; the published numbers are the defaults.

    Attributes:
        n_samples: intervals of each pass.
        density_shift: added to the raw density before the softplus.
        rgb_padding: how far colours may leave [0, 1], so that none is reached at infinity alone.
        resample_padding: added to the weights of the first pass, so that the second looks everywhere a little.
        integrated: False: the encoding of the means alone (the paper's "w/o IPE").
    """

    n_frequencies: int = 16
    n_samples: int = 128
    density_shift: float = -1.0
    rgb_padding: float = 0.001
    resample_padding: float = 0.01
    integrated: bool = True


class MipNerf(CoarseToFine):
    """See the module's first line.

    Args:
        geometry: of the scene.
        settings: see :class:`MipNerfSettings`.
        pixel: width of a training image's pixel at the scene's centre, world units; 0 where that is not known.
    """

    def __init__(self, geometry: SceneGeometry, settings: MipNerfSettings, pixel: float = 0.0) -> None:
        super().__init__(geometry, settings, identity=False, networks=1)
        self.settings = settings
        self.samples_per_ray = 2 * settings.n_samples
        # The network has seen no position sharper than this, and what it says of finer waves is chance: a point that is asked
        # for alone stands for a first pass's interval with a pixel across it, spread alike over the axes.
        length, width = CUBE / settings.n_samples, pixel * self.scale
        self.point_variance = (length**2 + 2.0 * width**2) / 12.0 / 3.0

    def passes(self, rays: Rays, random: bool) -> list[Gathered]:
        """See the base class."""
        n, unit = self.settings.n_samples, self.in_units(rays)
        shares = jittered_borders(rays.n_rays, n, random, unit.t_min)
        t = spread_along(shares, unit.t_min, unit.t_max, self.settings.inverse)
        views = self.view_features(unit.d)[:, None]
        first = self._pass(unit, t, views)
        t = resampled(t, blurred(first.weights) + self.settings.resample_padding, n + 1, random)
        return [first, self._pass(unit, t, views)]

    def _pass(self, rays: Rays, t: Tensor, views: Tensor) -> Gathered:
        features = self.encode(frustum_gaussians(rays, t))
        raw, raw_rgbs = self.networks[0](features, views.expand(-1, features.shape[1], -1))
        return composite(self.density_from(raw), self.color_from(raw_rgbs), t, 0.5 * (t[:, 1:] + t[:, :-1]))

    def encode(self, gaussians: Gaussians) -> Tensor:
        """Gaussians of any number in the field's units -> their features."""
        frequencies = octaves(self.lowest, self.n_octaves, gaussians.means)
        if not self.settings.integrated:
            return positional_encoding(gaussians.means, frequencies, identity=False)
        return integrated_positional_encoding(gaussians.means, gaussians.variances, frequencies)

    def raw_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        spread = torch.full_like(positions, self.point_variance)
        return self.network(0).density(self.encode(Gaussians(positions, spread)))

    def density_from(self, raw: Tensor) -> Tensor:
        """softplus(x - 1) (mip-NeRF, supplement): never zero, so that gradients never are."""
        return F.softplus(raw + self.settings.density_shift)

    def color_from(self, raw: Tensor) -> Tensor:
        """A sigmoid that reaches a little beyond 0 and 1 (mip-NeRF, supplement)."""
        padding = self.settings.rgb_padding
        return torch.sigmoid(raw) * (1.0 + 2.0 * padding) - padding
