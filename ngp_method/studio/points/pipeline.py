"""nerfstudio's pipeline for what is trained on points, and measured as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE

from ..settled import settled_in
from .manager import PointDataManager, PointDataManagerConfig
from .model import PointModel, PointModelConfig


@dataclass
class PointPipelineConfig(VanillaPipelineConfig):
    """Data manager and model of a function of position."""

    _target: type = field(default_factory=lambda: PointPipeline)
    """target class to instantiate"""
    datamanager: DataManagerConfig = field(default_factory=PointDataManagerConfig)
    """Points to train on"""
    model: ModelConfig = field(default_factory=PointModelConfig)
    """The function, how it is trained and looked at"""


class PointPipeline(VanillaPipeline):
    """See :class:`PointPipelineConfig`."""

    model: PointModel
    datamanager: PointDataManager

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training step's losses."""
        batch = self.datamanager.next_points(step)
        losses, metrics = self.model.compare(batch.positions, batch.targets)
        return {}, losses, metrics

    def get_training_callbacks(self, training_callback_attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """Those of the model, and at the end what the whole of it is worth."""
        found: list[TrainingCallback] = super().get_training_callbacks(training_callback_attributes)
        return [*found, TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], lambda step: self.say_measures())]

    def say_measures(self) -> None:
        """Measures the whole and says it in one line."""
        CONSOLE.print(self.model.sentence(self.get_average_eval_image_metrics()), soft_wrap=True)

    def get_average_eval_image_metrics(
        self, step: Optional[int] = None, output_path: Optional[Path] = None, get_std: bool = False
    ) -> dict[str, Any]:
        """What ``ns-eval`` writes: measures of the whole, not of views of it.

        Args:
            step: not used.
            output_path: folder for pictures; made if need be.
            get_std: not used: there is one subject, and nothing to deviate from.
        """
        was_training = self.training
        self.eval()
        try:
            if output_path is not None:
                output_path.mkdir(parents=True, exist_ok=True)
            return dict(self.model.measure(output_path))
        finally:
            self.train(was_training)

    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """There are no points held out, of which the next is not known: nothing to log."""
        return {}, {}, {}

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The measures of the whole, for the log; no pictures."""
        return self.get_average_eval_image_metrics(step), {}

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on beside the state_dict, and what the run has settled: plain numbers and tensors."""
        return {"settled": settled_in(self.config), "points": self.datamanager.run_state()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self.datamanager.load_run_state(state["points"])
