"""The spine: march -> field -> composite -> loss, and nerfstudio's hooks around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Optional

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from ..errors import fail
from ..fields.encodings import EncodingSettings, build_encoding
from ..fields.network import RadianceNetwork
from ..kernels import choose_kernels
from ..kernels.losses import ColorLoss, blend, color_loss, psnr
from ..kernels.scene import SceneGeometry
from ..volume.captured import CapturedStep
from ..volume.footprints import probes_of
from ..volume.occupancy import OccupancyGrid
from ..volume.parts.background import PlainBackground
from ..volume.parts.part import Parts
from ..volume.rays import Rays
from ..volume.rendering import RAYS_AT_A_TIME, render_rays
from ..volume.resolution import resolved_levels, step_scale_for
from ..volume.step import Step, StepSettings
from ..volume.visibility import seen_cells
from .bundles import rays_of
from .field import InstantHashField
from .metrics import ImageMetrics
from .model_config import InstantHashModelConfig
from .radiance import RadianceModel
from .viewer import ViewerComfort

_normals_wanted: ContextVar[bool] = ContextVar("normals_wanted", default=True)


@contextmanager
def without_normals() -> Iterator[None]:
    """Within it, this thread's pictures have normals of a uniform grey: for those who look at colours or depths alone.

    Normals are about half the work near a surface. nerfstudio asks for all outputs and says of none that it is needed.
    """
    token = _normals_wanted.set(False)
    try:
        yield
    finally:
        _normals_wanted.reset(token)


class InstantHashModel(RadianceModel):
    """See :class:`~.model_config.InstantHashModelConfig`.

    Attributes:
        geometry: the scene box in the world.
        field: the radiance field.
        grid: the occupancy grid.
        parts: optional ideas, and the background.
        unmarked: the training cameras, until the grid's cells that none of them sees are marked; None where they are, as they
            are in a checkpoint.
        captured_step: its forward and backward pass as a CUDA graph, which a pipeline that trains puts here; None without one.
        training_step: one training step, and what the last one did (nerfstudio's models keep a number under the name ``step``).
    """

    config: InstantHashModelConfig

    def populate_modules(self) -> None:
        """Builds field and grid for the scene the data describe."""
        super().populate_modules()
        config, metadata = self.config, self.kwargs.get("metadata") or {}
        device = torch.device(self.kwargs.get("device", "cpu"))
        self.geometry: SceneGeometry = metadata.get("geometry") or SceneGeometry()
        cameras = metadata.get("train_cameras")
        if config.step_scale is None and cameras is not None:
            config.step_scale = step_scale_for(cameras, self.geometry)  # settled: from now on that of the run
        self.geometry = replace(self.geometry, step_scale=config.step_scale or 1.0)
        try:
            self.kernels, line = choose_kernels(config.kernels, device)
        except ImportError as error:
            fail(str(error))  # a sentence that says what is missing
        self.geometry.aabb_like(torch.empty(0, device=device))  # made now, and only looked up where the viewer may interrupt
        CONSOLE.print(f"instant-hash {line}", soft_wrap=True)
        for done in self.kernels.warm_up():
            CONSOLE.print(f"instant-hash {self.kernels.name} {done}", soft_wrap=True)
        CONSOLE.print(f"instant-hash {self.geometry.describe()}", soft_wrap=True)
        encoding = build_encoding(config.encoding, self._encoding_settings(cameras))
        widths = (config.n_neurons, config.n_hidden_layers, config.n_hidden_layers_color)
        network = RadianceNetwork(encoding, self.kernels, *widths, config.footprints, config.direction_encoding)
        self.field = InstantHashField(network, self.geometry)
        self.grid = OccupancyGrid(self.geometry, self.kernels, config.grid_resolution, config.grid_update_share)
        self.unmarked = cameras if config.mark_unseen else None
        self.register_load_state_dict_post_hook(lambda module, keys: setattr(module, "unmarked", None))
        self.plain_background = PlainBackground(config.background_color, config.eval_background_color, device)
        self.parts = Parts([self.plain_background])
        budget = config.sample_budget or (1 << 16 if device.type == "cpu" else StepSettings.sample_budget)
        self.training_step = Step(
            self.field, self.grid, self.parts,
            StepSettings(config.loss, budget, config.max_rays, config.average_decay, config.average_interval),
            probes_of(cameras, self.geometry) if config.footprints else None,
        )  # fmt: skip
        self.captured_step: CapturedStep | None = None
        self.image_metrics = ImageMetrics(config.lpips_weights)
        self.viewer_comfort = ViewerComfort(cameras, device)

    def _encoding_settings(self, cameras: Any) -> EncodingSettings:
        """The configured ones. Levels that fit the images are settled in the config: from then on they are those of the run."""
        config = self.config
        settings = EncodingSettings(
            n_levels=config.n_levels,
            n_features_per_level=config.n_features_per_level,
            log2_hashmap_size=config.log2_hashmap_size,
            base_resolution=config.base_resolution,
            finest_resolution=config.finest_resolution or self.geometry.nmax,
            n_frequencies=config.n_frequencies,
        )
        if not config.levels_fit_images or config.finest_resolution or config.encoding != "hash" or cameras is None:
            return settings
        levels, finest = resolved_levels(cameras, self.geometry, settings.grid)
        CONSOLE.print(
            f"instant-hash hash grid: {levels} of {config.n_levels} levels, the finest {finest} cells wide: as fine as the "
            "training images resolve",
            soft_wrap=True,
        )
        config.n_levels, config.finest_resolution = levels, finest
        return replace(settings, n_levels=levels, finest_resolution=finest)

    # -- rays in, outputs out

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:  # type: ignore[override]
        """Colour, depth and opacity of rays: with gradients while training, else rendered with early termination."""
        shape = ray_bundle.origins.shape[:-1]
        with self.viewer_comfort.undisturbed(0):  # a kernel set's first call may compile
            rays = self.rays(ray_bundle)
        if self.training:
            return self._train_outputs(rays)
        device = "cpu" if rays.o.device.type == "cpu" else "other"
        parts, chunk = [], self.viewer_comfort.rays_at_a_time(RAYS_AT_A_TIME[device])
        for some in rays.split(chunk):
            with self.viewer_comfort.undisturbed(some.n_rays):
                parts.append(self._eval_outputs(some))
        # The last size is spelled out: of no rays, -1 could be anything.
        return {
            name: torch.cat([part[name] for part in parts]).view(*shape, first.shape[-1]) for name, first in parts[0].items()
        }

    def rays(self, ray_bundle: RayBundle) -> Rays:
        """Rays of a bundle, one after the other, cut to the scene box."""
        return rays_of(ray_bundle, self.geometry, self.config.near_plane, self.kernels)

    def _train_outputs(self, rays: Rays) -> dict[str, Any]:
        predicted = self.training_step.predict(rays)
        found = predicted.traced.found
        return {
            "rgb": predicted.rgbs,
            "accumulation": found.opacities[:, None],
            "depth": found.depths[:, None],
            "predicted": predicted,
        }

    def _eval_outputs(self, rays: Rays) -> dict[str, Tensor]:
        rays = self.parts.rays(rays)
        rendered = render_rays(self.field, self.kernels, self.grid, rays, with_normals=self.wants_normals())
        found, opacities = rendered.gathered, rendered.gathered.opacities[:, None]
        override = self._other_background(rays.o)
        background = self.parts.background(rays) if override is None else override
        # Rays that met next to nothing have a depth behind everything rather than noise.
        solid, nothing = opacities > 1e-3, self.viewer_comfort.depth_of_nothing(rays, self.geometry)
        outputs = {
            "rgb": blend(self.parts.colors(found.rgbs, rays), found.opacities, background).clamp(0.0, 1.0),
            "accumulation": opacities,
            "depth": torch.where(solid, found.depths[:, None] / opacities.clamp(min=1e-3), nothing),
            "median_depth": found.median_depths[:, None],
            **self.parts.outputs(rendered),
        }
        if rendered.normals is not None:
            outputs["normals"] = 0.5 * torch.nn.functional.normalize(rendered.normals, dim=-1, eps=1e-6) + 0.5
        else:
            outputs["normals"] = torch.full_like(found.rgbs, 0.5)  # so that the viewer offers them
        return outputs

    def wants_normals(self) -> bool:
        """Whether normals are rendered along: not within :func:`without_normals`, and as the viewer wants them."""
        return _normals_wanted.get() and self.viewer_comfort.wants("normals")

    # -- losses, metrics

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: Optional[dict[str, Tensor]] = None
    ) -> dict[str, Tensor]:
        """The losses of a batch of rays; for rays that were rendered rather than trained on, that on colours."""
        compared = self._compared(outputs, batch)
        if "predicted" not in outputs:
            return {"rgb_loss": compared.loss}
        return self.training_step.losses(outputs["predicted"], compared)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of a batch, and the sizes of the training step."""
        return self.step_metrics(self._compared(outputs, batch).mse)

    def step_metrics(self, mse: Tensor) -> dict[str, Tensor]:
        """Those of a batch with so large an error."""
        metrics = {"psnr": psnr(mse.clamp(min=1e-10))}
        if self.training:
            counts = self.training_step.counts
            metrics["num_rays"] = torch.tensor(float(counts["rays"]))
            metrics["samples_per_ray"] = torch.tensor(counts["kept"] / max(1, counts["rays"]))
        return metrics

    def _compared(self, outputs: dict[str, Any], batch: dict[str, Any]) -> ColorLoss:
        """Rays and their pixels over one background: made once for the metrics and the loss of a step."""
        if "compared" not in outputs:
            image, rgbs = batch["image"].to(self.device), outputs["rgb"]
            if "predicted" in outputs:
                outputs["compared"] = self.training_step.compare(outputs["predicted"], image)
            else:
                # A rendered colour has its background already: nothing of it shows through.
                full = torch.ones_like(rgbs[..., 0])
                outputs["compared"] = color_loss(rgbs, full, image, self.background(rgbs), None, self.config.loss)
        found: ColorLoss = outputs["compared"]
        return found

    # -- training

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The table, and the matrices: only these are regularised."""
        network = self.field.network
        table = network.encoding.table()
        return {
            "encoding": [table if table is not None else self.device_indicator_param],
            "networks": [network.density_params, network.color_params],
            **self.parts.groups(),
        }

    def get_training_callbacks(self, training_callback_attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """Around each step: see :class:`~..volume.step.Step`."""
        before = TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before)
        after = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.training_step.after)
        return [*self.viewer_comfort.callbacks(), before, after]

    def _before(self, step: int) -> None:
        self.mark_unseen()
        self.training_step.before(step)

    def mark_unseen(self) -> None:
        """Keeps cells empty from now on that no training camera sees, if that has not been done: it takes a second or more."""
        cameras, self.unmarked = self.unmarked, None
        if cameras is not None:
            self.grid.mark_unseen(seen_cells(cameras, self.geometry, self.config.grid_resolution))

    def occupancy_at(self, positions: Tensor) -> Tensor:
        """World points [N, 3] -> whether their cell holds anything, [N] bool."""
        return self.grid.occupied_at(positions)
