"""Our data parser and data manager over data in memory: what comes after the files is what it is for a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from ngp_method.data.auto import AutoDataParser, AutoDataParserConfig, outputs_of
from ngp_method.data.checks import check_box, check_cameras
from ngp_method.data.geometry import geometry_for
from ngp_method.data.images import ByteDataset
from ngp_method.data.manager import InstantHashDataManager
from ngp_method.data.world import place

from .handed import Handed


@dataclass
class HandedParserConfig(AutoDataParserConfig):
    """Data that nerfbaselines hands over, placed by the rule that holds for files."""

    _target: type = field(default_factory=lambda: HandedParser)
    """target class to instantiate"""
    handed: tyro.conf.Suppress[Optional[Handed]] = None
    """The data; None in a run that only renders."""

    def check(self) -> None:
        """Looks whether the data can be trained on.

        Raises:
            UserError: one sentence.
        """
        assert self.handed is not None
        outputs, root = self.setup().get_dataparser_outputs(split="train"), self.handed.capture.file
        check_cameras(outputs, root)
        check_box(outputs, geometry_for(outputs, self), root)


class HandedParser(AutoDataParser):
    """See :class:`HandedParserConfig`."""

    config: HandedParserConfig

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        assert self.config.handed is not None
        capture = self.config.handed.capture
        return outputs_of(capture, range(len(capture.views)), place(capture, self.config))


class HandedDataset(ByteDataset):
    """Images and masks from memory.

    Args:
        outputs: of the parser.
        handed: the data.
    """

    def __init__(self, outputs: DataparserOutputs, handed: Handed) -> None:
        super().__init__(outputs)
        self.handed = handed

    def decoded(self, index: int) -> npt.NDArray[np.uint8]:
        """See :class:`ByteDataset`."""
        return self.handed.pixels(index)

    def mask(self, index: int) -> Tensor | None:
        """See :class:`ByteDataset`."""
        return self.handed.mask(index)


class HandedDataManager(InstantHashDataManager):
    """Ours over data in memory; nothing is held out, as nerfbaselines evaluates by itself."""

    def dataset_of(self, outputs: DataparserOutputs) -> ByteDataset:
        """See :class:`InstantHashDataManager`."""
        config = self.dataparser_config
        assert isinstance(config, HandedParserConfig)
        assert config.handed is not None
        return HandedDataset(outputs, config.handed)

    def create_eval_dataset(self) -> ByteDataset:
        """None, by which nerfstudio knows that there is nothing to set up."""
        return None  # type: ignore[return-value]

    def run_state(self) -> dict[str, Any]:
        """What the next batch depends on, for a checkpoint."""
        return {"train": self.train_batches.run_state()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self.train_batches.load_run_state(state["train"])
