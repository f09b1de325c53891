"""nerfstudio's pipeline, with the number of rays adapted to a budget of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor

from ..data.manager import InstantHashDataManager, InstantHashDataManagerConfig
from ..data.multiscale import SCALES
from . import captured
from .metrics import MEASURES, by_scale, means_of
from .model import InstantHashModel, without_normals
from .model_config import InstantHashModelConfig
from .settled import settled_in


@dataclass
class InstantHashPipelineConfig(VanillaPipelineConfig):
    """Data manager and model of instant-hash."""

    _target: type = field(default_factory=lambda: InstantHashPipeline)
    """target class to instantiate"""
    datamanager: DataManagerConfig = field(default_factory=InstantHashDataManagerConfig)
    """Images, cameras and batches of rays"""
    model: ModelConfig = field(default_factory=InstantHashModelConfig)
    """The radiance field and how it is trained and rendered"""


class InstantHashPipeline(VanillaPipeline):
    """See :class:`InstantHashPipelineConfig`."""

    model: InstantHashModel
    datamanager: InstantHashDataManager

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.datamanager, InstantHashDataManager):
            self.datamanager.use_kernels(self.model.kernels)
        if self.test_mode == "val" and getattr(self.model.config, "cuda_graph", False):  # it trains
            self.model.captured_step = captured.captured_step(self.model.training_step, self.model.device, self.world_size)
        first_rays, budget = getattr(self.config.datamanager, "train_num_rays_per_batch", None), self.model.training_step.budget
        if first_rays is not None:
            budget.begin(first_rays)
        if hasattr(self.datamanager, "train_batches"):
            self.datamanager.set_num_rays(budget.rays)

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on beside the state_dict, and what the run has settled: plain numbers and tensors."""
        found: dict[str, Any] = {"settled": settled_in(self.config), "step": self.model.training_step.run_state()}
        if isinstance(self.datamanager, InstantHashDataManager):
            found["batches"] = self.datamanager.run_state()
        return found

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave; ``settled`` has been seen to before the pipeline was built."""
        self.model.training_step.load_run_state(state["step"])
        if isinstance(self.datamanager, InstantHashDataManager):
            if "batches" in state:
                self.datamanager.load_run_state(state["batches"])
            self.datamanager.set_num_rays(self.model.training_step.budget.rays)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training batch; the next one gets as many rays as fill the budget."""
        bundle, batch = self.datamanager.next_train(step)
        found = captured.train(self.model, bundle, batch)
        if found is not None:
            losses, metrics = found
            outputs: dict[str, Any] = {}
        else:  # as nerfstudio has it
            outputs = self._model(bundle)
            metrics = self.model.get_metrics_dict(outputs, batch)
            losses = self.model.get_loss_dict(outputs, batch, metrics)
        self.datamanager.set_num_rays(self.model.training_step.budget.rays)
        return outputs, losses, metrics

    def get_average_image_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """nerfstudio's, over all held-out views, and beside it those of each scale where there are several.

        What it measures and saves has no normals.
        """
        rows: list[dict[str, float]] = []
        images_of: list[int] = []
        plain = self.model.get_image_metrics_and_images

        def noted(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
            metrics, images = plain(outputs, batch)
            images_of.append(int(batch.get("image_idx", len(rows))))
            rows.append(dict(metrics))
            # nerfstudio wants the first picture's measures of every other; a small or hidden one has fewer
            return {name: metrics.get(name, math.nan) for name in MEASURES}, images

        self.model.get_image_metrics_and_images = noted  # type: ignore[method-assign]
        try:
            with without_normals():
                found = dict(super().get_average_image_metrics(*args, **kwargs))
        finally:
            del self.model.get_image_metrics_and_images
        found |= means_of(rows, f"{MEASURES[0]}_std" in found)
        scales = getattr(self.datamanager.eval_dataset, "metadata", {}).get(SCALES)
        if scales is not None:
            found |= by_scale(rows, [scales[i] for i in images_of])
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[Any, Any]:
        """nerfstudio's, of one held-out view."""
        with without_normals():
            metrics, images = super().get_eval_image_metrics_and_images(step)
        return metrics, images
