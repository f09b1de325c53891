"""Settings of a training run of what is trained on points."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..flags import first
from ..moved import Use
from ..trainer_config import InstantHashTrainerConfig
from .manager import PointDataManagerConfig
from .pipeline import PointPipelineConfig
from .unsuited import refuse


@first("data", "max_train_seconds", "max_num_iterations", "vis", "output_dir", "experiment_name", "timestamp")
@dataclass
class PointTrainerConfig(InstantHashTrainerConfig):
    """A training run of a function of position."""

    data: Optional[Path] = None
    """The file that is fitted."""
    pipeline: PointPipelineConfig = field(default_factory=PointPipelineConfig)
    """Points and model"""

    @property
    def subject(self) -> str:
        """See the base class: the data manager knows its kind of file."""
        return str(getattr(self.pipeline.datamanager, "SUBJECT", "file"))

    def set_experiment_name(self) -> None:
        """Takes the file's name for that of the experiment, where nerfstudio takes its folder's."""
        data = self.data or self.pipeline.datamanager.data
        if self.experiment_name is None and data is not None:
            self.experiment_name = data.stem
        super().set_experiment_name()

    def check_data(self) -> None:
        """See the base class: the data manager knows its kind of file."""
        manager = self.pipeline.datamanager
        assert isinstance(manager, PointDataManagerConfig)
        manager.check()

    def was_read(self, file: Path, use: Use) -> None:
        """See the base class.

        Raises:
            UserError: the command that loads the run can do nothing with one of this kind.
        """
        if use == "run":
            refuse(sys.argv, self.subject)
        super().was_read(file, use)
