"""What every model of a radiance field has: a background, and its pictures beside the true ones."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.model_components import renderers
from nerfstudio.models.base_model import Model
from nerfstudio.utils import colormaps
from torch import Tensor

from ..kernels.losses import over_background
from ..volume.parts.background import PlainBackground
from .metrics import ImageMetrics


class RadianceModel(Model):
    """A model whose pictures are colours over a background.

    Attributes:
        plain_background: the configured one.
        image_metrics: what measures pictures.
    """

    plain_background: PlainBackground
    image_metrics: ImageMetrics

    def background(self, like: Tensor) -> Tensor:
        """[3] background of pictures that are compared or cut out: the configured one, or nerfstudio's override.

        Args:
            like: gives device and type.
        """
        override = self._other_background(like)
        return self.plain_background.color(like) if override is None else override

    @staticmethod
    def _other_background(like: Tensor) -> Tensor | None:
        """[3] nerfstudio's override (crop in ns-render), or None."""
        override = renderers.BACKGROUND_COLOR_OVERRIDE
        return None if override is None else override.to(like)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR, SSIM and, where its weights are there, LPIPS of what a picture's mask leaves; pictures for the log."""
        predicted = outputs["rgb"]
        truth = over_background(batch["image"].to(predicted), self.background(predicted))
        images = {
            "img": torch.cat([truth, predicted], dim=1),
            "accumulation": colormaps.apply_colormap(outputs["accumulation"]),
            "depth": colormaps.apply_depth_colormap(outputs["depth"], accumulation=outputs["accumulation"]),
        }
        return self.image_metrics(predicted, truth, batch.get("mask")), images

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Straight-alpha picture [..., 4]: the background is taken out again, whatever it was."""
        rgb, alpha = outputs[output_name], outputs["accumulation"]
        if output_name != "rgb":
            return torch.cat([rgb, torch.ones_like(rgb[..., :1])], -1)
        color = (rgb - (1.0 - alpha) * self.background(rgb)) / alpha.clamp(min=1e-6)
        return torch.cat([color.clamp(0.0, 1.0), alpha], -1)
