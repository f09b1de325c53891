"""A fitted picture: a function of position, as pixels of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import fail
from ...fields.function import FunctionNetwork
from ...kernels.layout import HashGridLayout
from ...pictures.curves import Space, convert
from .writer import Bits, PictureWriter

SHARE = 1 / 8
"""Numbers of the network for each of the picture's, at most, where nothing is asked for: paper figure 6 has 0.01 % to 4 % for a
gigapixel, instant-ngp's 2^24 entries are 30 % of 3 x 470 million."""

LEAST_LOG2 = 16
"""Log2 of the entries of a level that a small picture gets: levels of up to 256 x 256 are then dense."""

POINTS = 1 << 18
"""Evaluated at a time."""

BEHIND = 0.12
"""Grey that shows beside a picture, and through it where it has alpha."""


def suiting_hashmap(width: int, height: int, n_channels: int, n_levels: int, n_features: int, most: int) -> int:
    """Log2 of the entries of a level (T) for a picture: the most with which the table has :data:`SHARE` of its numbers.

    Args:
        width, height, n_channels: the picture's pixels and values of a pixel.
        n_levels, n_features: of the grid.
        most: the largest there may be.
    """
    finest = max(width, height, 32) // 2
    found = LEAST_LOG2
    for size in range(LEAST_LOG2, most + 1):
        layout = HashGridLayout(n_levels, n_features, size, min(16, finest), finest, 2)
        if layout.n_params <= SHARE * width * height * n_channels:
            found = size
    return found


@dataclass(frozen=True)
class Region:
    """A rectangle of the picture, in pixels of it: left edge, top edge, width, height; not only whole numbers."""

    x: float
    y: float
    width: float
    height: float


class PictureField:
    """A network as a picture.

    Args:
        network: [N, 2] positions, x to the right and y downwards, each 0 to 1 -> values of the channels.
        width, height: pixels of the picture that it was fitted to.
        space: what the values are.
        premultiplied: whether colours are multiplied by alpha.
    """

    def __init__(
        self, network: FunctionNetwork, width: int, height: int, space: Space = "srgb", premultiplied: bool = False
    ) -> None:
        self.network, self.width, self.height = network, width, height
        self.space, self.premultiplied = space, premultiplied
        self.n_channels = network.mlp_layout.n_output_dims
        self.has_alpha = self.n_channels % 2 == 0
        self.n_colors = self.n_channels - self.has_alpha

    @property
    def whole(self) -> Region:
        """All of it."""
        return Region(0.0, 0.0, float(self.width), float(self.height))

    def region(self, crop: tuple[int, int, int, int] | None) -> Region:
        """The rectangle of left edge, top edge, width and height in pixels; None: the whole.

        Raises:
            UserError: it is empty or reaches beyond the picture.
        """
        if crop is None:
            return self.whole
        x, y, width, height = crop
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            fail(f"--crop {x} {y} {width} {height}: the picture has {self.width} x {self.height} pixels; stay within them.")
        return Region(float(x), float(y), float(width), float(height))

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Its rows first .. last - 1 at the centres of its pixels: [last - first, width, C] float32 in ``space``."""
        return self._lattice(first, last, self.width, self.height, self.whole, 1, 1).reshape(last - first, self.width, -1)

    def stripes(self, width: int, height: int, region: Region) -> Iterator[npt.NDArray[np.float32]]:
        """A picture of a region in any size, from the top, some rows at a time.

        A pixel that covers more than one of the fitted picture is the mean light of a lattice of points in it, at least one
        for each of those, colours weighted by their alpha: smaller pictures have no sparkle.

        Args:
            width, height: pixels of the new picture.
            region: what it shows.

        Yields:
            [rows, width, C] float32 in ``space``.
        """
        per_x, per_y = (max(1, math.ceil(a - 1e-6)) for a in (region.width / width, region.height / height))
        rows = max(1, POINTS // (width * per_x * per_y))
        for first in range(0, height, rows):
            last = min(first + rows, height)
            values = self._lattice(first, last, width, height, region, per_x, per_y)
            yield values.reshape(last - first, width, -1) if per_x * per_y == 1 else self._mean(values)

    def _lattice(
        self, first: int, last: int, width: int, height: int, region: Region, per_x: int, per_y: int
    ) -> npt.NDArray[np.float32]:
        """[rows, per_y, width, per_x, C]: points of each pixel of rows first .. last - 1."""
        x = (torch.arange(width * per_x, dtype=torch.float64) + 0.5) / (width * per_x) * region.width + region.x
        y = (torch.arange(first * per_y, last * per_y, dtype=torch.float64) + 0.5) / (height * per_y) * region.height + region.y
        device = self.network.mlp_params.device
        x, y = ((a / edge).clamp(0.0, 1.0).float().to(device) for a, edge in ((x, self.width), (y, self.height)))
        positions = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
        values = self.network.value_at(positions).view(last - first, per_y, width, per_x, self.n_channels)
        return np.ascontiguousarray(values.cpu().numpy())

    def _mean(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        light = convert(values, self.space, "linear", self.n_colors)
        if not self.has_alpha or self.premultiplied:
            mean = light.mean((1, 3), dtype=np.float32)
        else:
            alpha = light[..., -1:].clip(0.0)
            weight = alpha.mean((1, 3), dtype=np.float32)
            colors = np.divide((light[..., :-1] * alpha).mean((1, 3), dtype=np.float32), weight, where=weight > 1e-6)
            mean = np.concatenate([np.where(weight > 1e-6, colors, 0.0), weight], -1)
        return convert(mean.astype(np.float32), "linear", self.space, self.n_colors)


def shown(values: Tensor, space: Space = "srgb", premultiplied: bool = False, behind: float = BEHIND) -> Tensor:
    """Values of pixels as a screen has them: sRGB in [0, 1].

    Args:
        values: [N, C] in ``space``: grey or RGB, with alpha where C is even.
        space, premultiplied: what they are.
        behind: grey that shows where they are see-through.

    Returns:
        [N, 3].
    """
    n_colors = values.shape[1] - 1 + values.shape[1] % 2
    found: npt.NDArray[Any] = convert(values.cpu().numpy(), space, "srgb", n_colors)
    colors = np.repeat(found[:, :1], 3, 1) if n_colors == 1 else found[:, :3]
    if values.shape[1] % 2 == 0:
        alpha = found[:, -1:].clip(0.0, 1.0)
        colors = (colors if premultiplied else colors * alpha) + (1.0 - alpha) * behind
    return torch.from_numpy(colors.clip(0.0, 1.0).astype(np.float32)).to(values.device)


def write_picture(
    field: PictureField,
    path: Path,
    bits: Bits | None = None,
    profile: bytes | None = None,
    width: int | None = None,
    region: Region | None = None,
    progress: Callable[[float], object] | None = None,
) -> tuple[int, int]:
    """Writes a fitted picture, whole or in part, in any size.

    Args:
        field: the picture.
        path: its ending says the kind of file.
        bits: of a sample; None: as few as the kind of file has.
        profile: ICC profile to embed.
        width: pixels; the height follows. None: as many as the region has.
        region: what it shows; None: the whole.
        progress: told the share that is done.

    Returns:
        Width and height in pixels.

    Raises:
        UserError: it cannot be written there, or not so.
    """
    region = region or field.whole
    width = width or max(1, round(region.width))
    height = max(1, round(width * region.height / region.width))
    writer = PictureWriter(path, width, height, field.n_channels, bits, field.space, profile, field.premultiplied)
    writer.write(field.stripes(width, height, region), progress)
    return width, height
