"""The points of a picture: its pixels, stratified; and the one view that shows the whole of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Optional

import torch
from nerfstudio.utils.rich_utils import CONSOLE, get_progress

from ...errors import fail
from ...pictures.picture import read_picture
from ...primitives.image.field import shown
from ...primitives.image.on_device import PixelsOnDevice, fits
from ...primitives.image.plane import Plane
from ...primitives.image.points import Drawing, draw_points
from ...primitives.image.source import PictureSource, open_picture
from .dataset import ViewDataset, view_cameras
from .manager import PointBatch, PointDataManager, PointDataManagerConfig

THUMBNAIL = 512
"""Pixels along the longer side of what nerfstudio is given as the training image."""


@dataclass
class PictureDataManagerConfig(PointDataManagerConfig):
    """Pixels of a picture."""

    _target: type = field(default_factory=lambda: PictureDataManager)
    """target class to instantiate"""
    SUBJECT: ClassVar[str] = "picture"
    data: Optional[Path] = None
    """The picture: PNG, JPEG, TIFF, EXR, or whatever else can be read."""
    linear: bool = False
    """Fit linear light instead of the sRGB values that a screen is sent."""
    drawing: Drawing = "stratified"
    """How a step's pixels are drawn: one from each field of a lattice over the picture, or anywhere."""
    memory: Optional[float] = None
    """Gigabytes that the picture may take in memory; a larger one is decoded once into a file that is mapped. Default: a
    quarter of what is free."""
    cache_dir: Optional[Path] = None
    """Folder for decoded pictures that do not fit in memory; default: instant-hash in the user's cache."""

    def check(self) -> None:
        """See the base class: the file is a picture; its pixels are not decoded."""
        super().check()
        if self.memory is not None and not self.memory >= 0:
            fail(f"--pipeline.datamanager.memory {self.memory:g}: give gigabytes, 0 or more.")
        if self.data is None:
            fail("A picture is needed: give one with --data FILE.")
        read_picture(self.data)


class PictureDataManager(PointDataManager):
    """See :class:`PictureDataManagerConfig`.

    Attributes:
        source: the picture.
        pixels: what a batch is gathered from: on a GPU, a copy of the picture in its memory, where there is room for it.
    """

    config: PictureDataManagerConfig
    source: PictureSource

    def look(self) -> ViewDataset:
        """Opens the picture; the view has it fill the window."""
        config = self.config
        if config.data is None:
            fail("A picture is needed: give one with --data FILE.")
        budget = None if config.memory is None else int(config.memory * 1e9)
        with get_progress(f"Decoding {config.data.name}") as progress:
            task = progress.add_task("", total=1.0)
            self.source = source = open_picture(
                config.data, config.cache_dir, config.linear, budget, lambda share: progress.update(task, completed=share)
            )
        for note in source.notes:
            CONSOLE.print(f"{config.data.name}: {note}", soft_wrap=True)
        # nerfstudio seeds torch before it builds the pipeline: these points' own seed follows from that one
        seed = int(torch.randint(2**62, (1,)))
        device = torch.device(self.device)
        self.pixels: PictureSource | PixelsOnDevice = PixelsOnDevice(source, device) if fits(source, device) else source
        self.drawn_on = device if isinstance(self.pixels, PixelsOnDevice) else torch.device("cpu")
        self.generator = torch.Generator(self.drawn_on).manual_seed(seed)
        plane = Plane(source.width, source.height)
        small = source.thumbnail(THUMBNAIL)
        height, width = small.shape[:2]
        thumbnail = shown(torch.from_numpy(small).float().reshape(height * width, -1) / 255.0).view(height, width, 3)
        pose = torch.eye(4)[None, :3].clone()
        pose[0, 2, 3] = plane.viewing_distance
        cameras = view_cameras(pose, plane.viewing_distance * height, width, height)
        box = 0.5 * torch.tensor([[-plane.aspect, -1.0, -0.1], [plane.aspect, 1.0, 0.1]])
        return ViewDataset(cameras, [thumbnail], {"source": source, "train_cameras": cameras}, box)

    def next_points(self, step: int) -> PointBatch:
        """The pixels of training step ``step``, at their centres, with their values."""
        n = self.growth.size(step)
        self.next_size = self.growth.size(step + 1)
        drawn = draw_points(n, self.source.width, self.source.height, self.generator, self.config.drawing, self.drawn_on)
        targets = self.pixels.gather(drawn.rows, drawn.columns)
        return PointBatch(drawn.positions.to(self.device), targets.to(self.device))

    def run_state(self) -> dict[str, Any]:
        """The generator's state, as the next points depend on it."""
        return {"generator": self.generator.get_state(), "drawn_on": self.drawn_on.type}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        if state["drawn_on"] == self.drawn_on.type:
            self.generator.set_state(state["generator"])
        else:
            CONSOLE.print(f"The run drew its pixels on {state['drawn_on']}, this machine draws others on {self.drawn_on.type}.")
