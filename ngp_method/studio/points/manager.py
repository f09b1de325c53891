"""What nerfstudio asks of a data manager, for what is trained on points: batches of them, and views to look from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Optional

import torch
import tyro
from nerfstudio.data.datamanagers.base_datamanager import DataManager, DataManagerConfig
from torch import Tensor
from torch.nn import Parameter

from ...errors import fail
from ...primitives.growth import BatchGrowth
from .dataset import ViewDataset

GPU_BATCH = 1 << 18
"""Points of a step on a GPU (instant-ngp testbed.h, training batch size)."""


@dataclass(frozen=True)
class PointBatch:
    """Points of a training step.

    Attributes:
        positions: [N, n_dims] float32 in [0, 1].
        targets: [N, C] float32 values that a function should have there.
    """

    positions: Tensor
    targets: Tensor


@dataclass
class PointDataManagerConfig(DataManagerConfig):
    """Points of something that is a file."""

    _target: type = field(default_factory=lambda: PointDataManager)
    """target class to instantiate"""
    data: Optional[Path] = None
    """The file."""
    first_batch: Optional[int] = None
    """Points of the first training step; default: 2^14 on a processor, 2^18 on a GPU, as in instant-ngp."""
    batch: Optional[int] = None
    """Points of a training step when the batch has grown: it doubles until then. Default: 2^17 on a processor, 2^18 on a
    GPU."""
    batch_doubles_every: int = 256
    """Steps after which the batch doubles."""
    SUBJECT: ClassVar[str] = "file"
    """What the file is, in sentences."""
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    """Not used: there are no masks."""
    images_on_gpu: tyro.conf.Suppress[bool] = False
    """Not used: points are made where the subject lies."""

    BATCHES: ClassVar[tuple[int, int]] = (1 << 14, 1 << 17)
    """Points of the first steps and of later ones on a processor, where nothing is asked for."""

    def growth_on(self, device: torch.device) -> BatchGrowth:
        """How the batch grows on a device."""
        first, last = self.BATCHES if device.type == "cpu" else (GPU_BATCH, GPU_BATCH)
        first = self.first_batch or (first if self.batch is None else min(first, self.batch))
        return BatchGrowth(first, max(self.batch or last, first), self.batch_doubles_every)

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = ("first_batch", "batch", "batch_doubles_every")
    """Settings that are counts."""

    def check(self) -> None:
        """Looks whether numbers make sense and the file can be trained on, before anything of a run is written.

        Raises:
            UserError: they do not, or it cannot.
        """
        for name in self.AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                fail(f"--pipeline.datamanager.{name.replace('_', '-')} {value}: give at least 1.")


class PointDataManager(DataManager):
    """See :class:`PointDataManagerConfig`.

    Attributes:
        train_dataset: views of the subject; its metadata is what the model gets.
        next_size: points of the step that comes next, which nerfstudio shows as rays.
    """

    train_dataset: ViewDataset  # type: ignore[assignment] # nerfstudio's hold image files
    eval_dataset: ViewDataset  # type: ignore[assignment]

    def __init__(
        self,
        config: PointDataManagerConfig,
        device: str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        self.config, self.device, self.test_mode = config, device, test_mode
        self.growth = config.growth_on(torch.device(device))
        self.next_size = self.growth.size(0)
        dataset = self.look()
        super().__init__()
        self.train_dataset = self.eval_dataset = dataset

    def look(self) -> ViewDataset:
        """Opens the subject and says what can be seen of it."""
        raise NotImplementedError

    def next_points(self, step: int) -> PointBatch:
        """The points of training step ``step``, counted from 0."""
        raise NotImplementedError

    def run_state(self) -> dict[str, Any]:
        """What the next points depend on, for a checkpoint: plain numbers and tensors."""
        return {}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""

    def setup_train(self) -> None:
        """There is nothing that :meth:`look` has not done."""

    def setup_eval(self) -> None:
        """There is nothing that :meth:`look` has not done."""

    def next_train(self, step: int) -> NoReturn:
        """Rays are not what this is trained on.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("points are trained on, not rays: PointPipeline asks for next_points")

    next_eval = next_train
    next_eval_image = next_train

    def get_train_rays_per_batch(self) -> int:
        """Points of a step, by which nerfstudio tells the speed."""
        return self.next_size

    def get_eval_rays_per_batch(self) -> int:
        """As many."""
        return self.next_size

    def get_datapath(self) -> Path:
        """The folder the file lies in."""
        assert self.config.data is not None
        return self.config.data.parent

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Nothing here is trained."""
        return {}
