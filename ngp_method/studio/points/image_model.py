"""A picture as a function of position: fitted, looked at from anywhere, measured pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import torch
import tyro
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from nerfstudio.viewer.viewer_elements import ViewerSlider
from torch import Tensor

from ...kernels.losses import psnr
from ...primitives.image.field import BEHIND, PictureField, shown, suiting_hashmap, write_picture
from ...primitives.image.measures import measure
from ...primitives.image.plane import Plane
from ...primitives.image.source import PictureSource
from ..flags import first
from .model import PointModel, PointModelConfig

ERROR_SCALE = 8.0
"""How many times larger than it is the error is shown."""


@first("kernels", "encoding", "log2_hashmap_size", "n_levels", "n_features_per_level", "base_resolution", "finest_resolution")
@dataclass
class ImageModelConfig(PointModelConfig):
    """A picture, fitted as instant-ngp does."""

    _target: type = field(default_factory=lambda: ImageModel)
    """target class to instantiate"""
    log2_hashmap_size: Optional[int] = None
    """Log2 of the most entries of a level (T); default: so many that the table holds about an eighth as many numbers as the
    picture has, from 2^16 up to 2^22 on a processor and 2^24 on a GPU."""
    finest_resolution: Optional[int] = None
    """Resolution of the finest level (N_max); default: half the longer side in pixels, as in instant-ngp."""
    average_decay: tyro.conf.Suppress[float] = 0.0
    """Not used: pictures are rendered from the trained parameters, without an average, as in instant-ngp."""


class ImageModel(PointModel):
    """See :class:`ImageModelConfig`.

    Attributes:
        source: the picture.
        field: the fitted one.
        level: what the viewer's slider says.
    """

    config: ImageModelConfig
    name = "instant-image"
    resolution = 512

    def populate_modules(self) -> None:
        """Builds the network for the picture."""
        super().populate_modules()
        self.source: PictureSource = self.kwargs["metadata"]["source"]
        source, config = self.source, self.config
        most = 24 if torch.device(self.kwargs.get("device", "cpu")).type == "cuda" else 22
        shape = source.width, source.height, source.n_channels
        size = suiting_hashmap(*shape, config.n_levels, config.n_features_per_level, most)
        self.make_network(2, source.n_channels, size, max(source.width, source.height) // 2, averaged=False)
        self.plane = Plane(source.width, source.height)
        self.picture = PictureField(self.network, source.width, source.height, source.space, source.premultiplied)
        values = source.width * source.height * source.n_channels
        CONSOLE.print(
            f"{self.name} {source.width} x {source.height} pixels of {source.n_channels} channels in "
            f"{self.network.n_params:,} numbers, {100 * self.network.n_params / values:.3g} % of the picture's; levels of "
            f"{config.base_resolution} to {config.finest_resolution} cells, 2^{config.log2_hashmap_size} entries",
            soft_wrap=True,
        )
        self.level = ViewerSlider(
            "Levels", config.n_levels // 2, 1, config.n_levels, 1, hint="Of the hash grid, for the output 'levels'"
        )
        self.make_comfort(self.kwargs["metadata"].get("train_cameras"))

    def compare(self, positions: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The mean squared error (instant-ngp ``configs/image/base.json``: L2)."""
        loss = (self.network(positions) - targets).square().mean()
        return {"l2_loss": loss}, {"psnr": psnr(loss.detach().clamp(min=1e-10)), "num_points": torch.tensor(len(positions))}

    def look_along(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """The fitted picture, its error, the picture, and what the coarse levels have of it, on the plane."""
        met = self.plane.meet(ray_bundle.origins, ray_bundle.directions, ray_bundle.pixel_area)
        hit, wants = met.hit, self.viewer_comfort.wants
        positions = self.plane.samples(met)[:, hit]
        shape, flat = positions.shape[:2], positions.reshape(-1, 2)
        colors: dict[str, Tensor] = {}
        if wants("rgb") or wants("error"):
            colors["rgb"] = self._shown(self.network.value_at(flat))
        if wants("reference") or wants("error"):
            colors["reference"] = self._shown(self._pixels_at(flat))
        if wants("error"):
            colors["error"] = ((colors["rgb"] - colors["reference"]).abs() * ERROR_SCALE).clamp(max=1.0)
        if wants("levels"):
            colors["levels"] = self._shown(self.network.value_of_levels(flat, int(self.level.value)))
        outputs = {}
        for name in ("rgb", "error", "reference", "levels"):
            outputs[name] = torch.full((len(hit), 3), BEHIND, device=hit.device)
            if name in colors:
                outputs[name][hit] = colors[name].view(*shape, 3).mean(0)
        return {**outputs, "accumulation": hit.float()[:, None], "depth": met.distances[:, None]}

    def _shown(self, values: Tensor) -> Tensor:
        return shown(values, self.source.space, self.source.premultiplied)

    def _pixels_at(self, positions: Tensor) -> Tensor:
        """[N, C] the picture's pixels that positions [N, 2] lie in."""
        at, source = positions.cpu(), self.source
        rows = (at[:, 1] * source.height).long().clamp(max=source.height - 1)
        columns = (at[:, 0] * source.width).long().clamp(max=source.width - 1)
        return source.gather(rows, columns).to(positions.device)

    def measure(self, folder: Optional[Path]) -> Mapping[str, float]:
        """PSNR and SSIM over all pixels; with a folder the fitted picture goes there, in the kind of file that it came from."""
        with get_progress("Measuring all pixels") as progress:
            task = progress.add_task("", total=1.0)
            found = measure(self.source, self.picture.rows, progress=lambda share: progress.update(task, completed=share))
        if folder is not None:
            path = folder / f"{self.source.path.stem}.png"
            write_picture(self.picture, path, 16 if self.source.dtype.itemsize > 1 else 8, self.source.profile)
            CONSOLE.print(f"The fitted picture: {path}", soft_wrap=True)
        return {"psnr": found.psnr, **({} if found.ssim is None else {"ssim": found.ssim}), "num_pixels": found.n_pixels}

    def sentence(self, measures: Mapping[str, float]) -> str:
        """What was measured, in one line."""
        pixels = self.source.width * self.source.height
        text = f"{self.name} PSNR {measures['psnr']:.2f} dB"
        if "ssim" in measures:
            text += f", SSIM {measures['ssim']:.4f}"
        return f"{text} over all {pixels:,} pixels"
