"""NeRF and mip-NeRF as nerfstudio models."""

from __future__ import annotations

from typing import Any, Optional, cast

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from ...kernels import load_kernels
from ...kernels.losses import ColorLoss, blend, mse, over_background, psnr
from ...kernels.scene import SceneGeometry
from ...volume.coarse_to_fine import CoarseToFine
from ...volume.coarse_to_fine_step import CoarseToFineStep, PredictedPasses
from ...volume.mipnerf import MipNerf, MipNerfSettings
from ...volume.nerf import Nerf, NerfSettings
from ...volume.parts.background import PlainBackground
from ...volume.rays import Rays
from ...volume.resolution import pixel_width
from ..bundles import rays_of
from ..metrics import ImageMetrics
from ..radiance import RadianceModel
from ..viewer import ViewerComfort
from .model_config import BaselineModelConfig, MipNerfModelConfig, NerfModelConfig

RAYS = {"cpu": 128, "other": 4096}
"""Rays of a training step, by device, where nobody says: a second on two cores; the papers' on a GPU."""

SAMPLES_AT_A_TIME = {"cpu": 1 << 15, "other": 1 << 20}
"""Samples of both passes of the rays that are rendered at a time: a layer of the published width is then 16 MB, which a
processor is fastest at, or half a gigabyte."""

STILL, FIRST_STILL = 64, 32
"""Pixels along the longer side of a still in the viewer on a processor: seconds at the published width."""


class BaselineModel(RadianceModel):
    """See :class:`~.model_config.BaselineModelConfig`.

    Attributes:
        geometry: the scene box in the world.
        field: the perceptrons, in the scene.
        training_step: one training step, and what the last one did.
        kernels: what cuts rays to the box and makes batches: plain torch, as all of this model.
        captured_step: there is none of these methods.
    """

    config: BaselineModelConfig
    field: CoarseToFine
    name = "baseline"
    captured_step: None = None

    def populate_modules(self) -> None:
        """Builds the field for the scene the data describe."""
        super().populate_modules()
        config, metadata = self.config, self.kwargs.get("metadata") or {}
        device = torch.device(self.kwargs.get("device", "cpu"))
        kind = "cpu" if device.type == "cpu" else "other"
        self.geometry: SceneGeometry = metadata.get("geometry") or SceneGeometry()
        self.geometry.aabb_like(torch.empty(0, device=device))  # made now, and only looked up where the viewer may interrupt
        cameras = metadata.get("train_cameras")
        self.kernels = load_kernels("reference")
        self.field = self.make_field(cameras)
        self.plain_background = PlainBackground(config.background_color, config.eval_background_color, device)
        self.training_step = CoarseToFineStep(self.field, self.plain_background, config.coarse_loss, RAYS[kind])
        self.rays_at_a_time = max(1, SAMPLES_AT_A_TIME[kind] // self.field.samples_per_ray)
        self.image_metrics = ImageMetrics(config.lpips_weights)
        self.viewer_comfort = ViewerComfort(cameras, device, STILL, FIRST_STILL, self.rays_at_a_time)
        CONSOLE.print(f"{self.name} {self.geometry.describe()}", soft_wrap=True)
        CONSOLE.print(
            f"{self.name} {self.field.n_params:,} numbers in plain torch (float32), {self.field.samples_per_ray} samples a ray",
            soft_wrap=True,
        )

    def make_field(self, cameras: Any) -> CoarseToFine:
        """The configured field; ``cameras`` are those that are trained on, or None."""
        raise NotImplementedError

    @property
    def inverse(self) -> bool:
        """Whether the first pass's steps are equal in 1 / t."""
        spacing = self.config.spacing
        return spacing == "inverse" or (spacing == "auto" and self.geometry.aabb_scale > 1)

    # -- rays in, outputs out

    def rays(self, ray_bundle: RayBundle) -> Rays:
        """Rays of a bundle, one after the other, cut to the scene box."""
        return rays_of(ray_bundle, self.geometry, self.config.near_plane, self.kernels)

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:  # type: ignore[override]
        """Colour, depth and opacity of rays: with gradients while training, else a chunk at a time."""
        shape, rays = ray_bundle.origins.shape[:-1], self.rays(ray_bundle)
        if self.training:
            return self._train_outputs(rays)
        parts = []
        for some in rays.split(self.rays_at_a_time):
            with self.viewer_comfort.undisturbed(some.n_rays):
                parts.append(self._eval_outputs(some))
        # The last size is spelled out: of no rays, -1 could be anything.
        return {
            name: torch.cat([part[name] for part in parts]).view(*shape, first.shape[-1]) for name, first in parts[0].items()
        }

    def _train_outputs(self, rays: Rays) -> dict[str, Any]:
        predicted = self.training_step.predict(rays)
        fine = predicted.fine
        return {
            "rgb": blend(fine.rgbs, fine.opacities, predicted.background),
            "accumulation": fine.opacities[:, None],
            "depth": fine.depths[:, None],
            "predicted": predicted,
        }

    @torch.no_grad()
    def _eval_outputs(self, rays: Rays) -> dict[str, Tensor]:
        found = self.field.trace(rays, random=False)[-1]
        opacities = found.opacities[:, None]
        override = self._other_background(rays.o)
        background = self.plain_background.background(rays) if override is None else override
        # Rays that met next to nothing have a depth behind everything rather than noise.
        solid, nothing = opacities > 1e-3, self.viewer_comfort.depth_of_nothing(rays, self.geometry)
        depths = torch.where(solid, found.depths[:, None] / opacities.clamp(min=1e-3), nothing)
        return {
            "rgb": blend(found.rgbs, found.opacities, background).clamp(0.0, 1.0),
            "accumulation": opacities,
            "depth": depths,
            "normals": self._normals(rays, depths, solid),
        }

    def _normals(self, rays: Rays, depths: Tensor, solid: Tensor) -> Tensor:
        """[R, 3] in [0, 1]: one gradient a ray, at its mean depth. The papers have none; nerfstudio's exports ask for them."""
        normals = torch.full_like(rays.o, 0.5)
        if self.viewer_comfort.wants("normals"):
            seen = torch.nonzero(solid[:, 0])[:, 0]
            at = rays.o[seen] + depths[seen] * rays.d[seen]
            normals[seen] += 0.5 * self.field.normals_at(at)
        return normals

    # -- losses, metrics

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: Optional[dict[str, Tensor]] = None
    ) -> dict[str, Tensor]:
        """The losses of both passes on a batch of rays; for rays that were rendered rather than trained on, that on colours."""
        compared = self._compared(outputs, batch)
        if "predicted" not in outputs:
            return {"rgb_loss": compared[-1].loss}
        return self.training_step.losses(compared)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of a batch, and the sizes of the training step."""
        metrics = {"psnr": psnr(self._compared(outputs, batch)[-1].mse.clamp(min=1e-10))}
        if self.training:
            counts = self.training_step.counts
            metrics["num_rays"] = torch.tensor(float(counts["rays"]))
            metrics["samples_per_ray"] = torch.tensor(counts["kept"] / max(1, counts["rays"]))
        return metrics

    def _compared(self, outputs: dict[str, Any], batch: dict[str, Any]) -> list[ColorLoss]:
        """Rays and their pixels over one background: made once for the metrics and the loss of a step."""
        if "compared" not in outputs:
            image, rgbs = batch["image"].to(self.device), outputs["rgb"]
            if "predicted" in outputs:
                predicted: PredictedPasses = outputs["predicted"]
                outputs["compared"] = self.training_step.compare(predicted, image)
            else:
                loss = mse(rgbs, over_background(image, self.background(rgbs)))
                outputs["compared"] = [ColorLoss(loss, loss.detach())]
        return cast(list[ColorLoss], outputs["compared"])

    # -- training

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """All of it."""
        return {"networks": list(self.field.parameters())}

    def get_training_callbacks(self, training_callback_attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """The viewer's."""
        return self.viewer_comfort.callbacks()

    def occupancy_at(self, positions: Tensor) -> Tensor:
        """World points [N, 3] -> [N] bool: nothing is known to be empty, as there is no occupancy grid."""
        return torch.ones_like(positions[:, 0], dtype=torch.bool)


class MipNerfModel(BaselineModel):
    """See :class:`~.model_config.MipNerfModelConfig`."""

    config: MipNerfModelConfig
    name = "instant-hash-mipnerf"

    def make_field(self, cameras: Any) -> CoarseToFine:
        """See the base class."""
        c = self.config
        settings = MipNerfSettings(
            c.n_frequencies, c.n_frequencies_direction, c.sizes, self.inverse,
            c.n_samples, c.density_shift, c.rgb_padding, c.resample_padding, c.integrated,
        )  # fmt: skip
        return MipNerf(self.geometry, settings, 0.0 if cameras is None else pixel_width(cameras, self.geometry))


class NerfModel(BaselineModel):
    """See :class:`~.model_config.NerfModelConfig`."""

    config: NerfModelConfig
    name = "instant-hash-nerf"

    def make_field(self, cameras: Any) -> CoarseToFine:
        """See the base class."""
        c = self.config
        settings = NerfSettings(
            c.n_frequencies, c.n_frequencies_direction, c.sizes, self.inverse,
            c.n_coarse_samples, c.n_fine_samples, c.density_noise,
        )  # fmt: skip
        return Nerf(self.geometry, settings)
