"""nerfstudio's pipeline, with the number of rays adapted to a budget of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from .data.manager import InstantHashDataManager, InstantHashDataManagerConfig
from .model import InstantHashModel
from .model_config import InstantHashModelConfig

FIRST_SAMPLES_PER_RAY = 256
"""Samples expected of a ray while the occupancy grid is still full."""

RAY_MULTIPLE = 32
"""Rays come in multiples of this."""

MARCHED_WEIGHT = 0.25
"""Cost of a sample that is marched and found to lie behind the opaque, as a share of one that is trained on."""

MAX_GROWTH = 2.0
"""Most growth of the number of rays in one step: an odd batch (nearly all rays empty) must not cause a huge one."""


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
        self._rays = self._round(self.model.sample_budget / FIRST_SAMPLES_PER_RAY)
        if hasattr(self.datamanager, "train_batches"):
            self.datamanager.set_num_rays(self._rays)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training batch; the next one gets as many rays as fill the budget."""
        found = super().get_train_loss_dict(step)
        counts = self.model.counts
        cost = max(counts["kept"], MARCHED_WEIGHT * counts["marched"], 1.0) / max(1, counts["rays"])
        self._rays = self._round(min(self.model.sample_budget / cost, MAX_GROWTH * self._rays))
        self.datamanager.set_num_rays(self._rays)
        return found

    def _round(self, rays: float) -> int:
        return int(min(max(rays // RAY_MULTIPLE, 1) * RAY_MULTIPLE, self.model.config.max_rays))
