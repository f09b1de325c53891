"""The picture that is fitted: its pixels wherever they lie, and what they are as numbers to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ngp_method.kernels.cpu import pool
from ngp_method.pictures.curves import Space, alpha_table, sample_table, to_srgb
from ngp_method.pictures.picture import read_picture
from ngp_method.pictures.stored import upright
from ngp_method.primitives.image import gathering
from ngp_method.primitives.image.decoded import Progress, decode, default_budget, default_cache_dir

_THUMB_ROWS = 256


@dataclass(frozen=True)
class PictureSource:
    """A picture, upright, with pixels as the file has them.

    Attributes:
        path: the file.
        pixels: [height, width, n_channels], uint8, uint16, float16 or float32, in any strides; in memory or mapped.
        space: what ``gather`` and ``stripe`` give: display values (sRGB's curve) or linear light.
        profile: the file's ICC profile, to be written back with it.
        notes: sentences on what was chosen or converted, for the user.
        premultiplied: whether colours are multiplied by alpha in the file, as in EXR; they stay so.
    """

    path: Path
    pixels: npt.NDArray[Any]
    space: Space = "srgb"
    profile: bytes | None = None
    notes: list[str] = field(default_factory=list)
    premultiplied: bool = False

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[1]

    @property
    def n_channels(self) -> int:
        """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
        return self.pixels.shape[2]

    @property
    def n_colors(self) -> int:
        """Channels without alpha."""
        return self.n_channels - 1 + self.n_channels % 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples as the file has them."""
        return self.pixels.dtype

    @property
    def is_float(self) -> bool:
        """Whether the file holds linear light, which may be brighter than 1."""
        return self.dtype.kind == "f"

    def gather(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The pixels at some points, in the space they are trained in.

        Args:
            rows: [N] int64 or int32 in [0, height), on the processor.
            columns: [N] of the same type, in [0, width).

        Returns:
            [N, n_channels] float32; integers over 255 or 65535, floats as they are, then the curve of ``space``.

        Raises:
            IndexError: a point outside the picture.
        """
        at, along = rows.numpy(), columns.numpy()
        for index, size in ((at, self.height), (along, self.width)):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise IndexError(f"points from {index.min()} to {index.max()} on an axis of {size} pixels")
        out = np.empty((len(at), self.n_channels), np.float32)
        ranges = pool.chunks(len(at), 16)
        run = self._loop(gathering.points_by_table, gathering.points_of_floats, self.space)

        def part(index: int) -> None:
            begin, end = ranges[index]
            run(self._samples(), at[begin:end], along[begin:end], out[begin:end])

        pool.run(part, len(ranges))
        return torch.from_numpy(out)

    def stripe(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Rows first to last - 1 in the space they are trained in, [last - first, width, n_channels] float32."""
        return self._rows(first, last, self.space)

    def display_stripe(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """The same rows as display values, whatever the training space: what is measured and looked at."""
        return self._rows(first, last, "srgb")

    def thumbnail(self, longest: int = 512, progress: Progress | None = None) -> npt.NDArray[np.uint8]:
        """The picture made small: the mean light of each block of pixels, its colours weighted by their alpha.

        Args:
            longest: pixels of the longer side; a smaller picture keeps its size.
            progress: told the share of rows that is done.

        Returns:
            [h, w, n_channels] uint8, sRGB, straight alpha; light above 1 is clipped.
        """
        shrink = max(1.0, max(self.height, self.width) / longest)
        h, w = max(1, round(self.height / shrink)), max(1, round(self.width / shrink))
        columns = np.arange(self.width) * w // self.width
        edges = -(-np.arange(h + 1) * self.height // h)
        alpha = self.n_channels % 2 == 0
        sums = np.zeros((h, w, self.n_channels))
        for row in range(h):
            for top in range(edges[row], edges[row + 1], _THUMB_ROWS):
                light = self._rows(top, min(top + _THUMB_ROWS, edges[row + 1]), "linear")
                gathering.add_blocks(light, columns, alpha and not self.premultiplied, sums[row])
            if progress is not None:
                progress((row + 1) / h)
        counts = np.diff(edges)[:, None, None] * np.bincount(columns, minlength=w)[None, :, None]
        if alpha:
            weight = sums[..., -1:]
            sums[..., :-1] = np.divide(sums[..., :-1], weight, out=np.zeros_like(sums[..., :-1]), where=weight > 0)
            sums[..., -1:] = weight / counts
        else:
            sums /= counts
        sums[..., : self.n_colors] = to_srgb(sums[..., : self.n_colors])
        return np.rint(np.clip(sums, 0, 1) * 255).astype(np.uint8)

    def _samples(self) -> npt.NDArray[Any]:
        """Pixels as the loops take them: half floats by their bits, which stand in the tables."""
        samples = np.asarray(self.pixels)
        return samples.view(np.uint16) if samples.dtype == np.float16 else samples

    def _loop(self, by_table: Callable[..., None], of_floats: Callable[..., None], space: Space) -> Callable[..., None]:
        """A loop with what it needs to know of samples; called with arrays, the last of which is written to."""
        color, alpha = sample_table(self.dtype, space), alpha_table(self.dtype)
        if color is None:
            return lambda *arrays: of_floats(*arrays[:-1], space == "srgb", self.n_colors, arrays[-1])
        return lambda *arrays: by_table(*arrays[:-1], color, alpha, self.n_colors, arrays[-1])

    def _rows(self, first: int, last: int, space: Space) -> npt.NDArray[np.float32]:
        out = np.empty((last - first, self.width, self.n_channels), np.float32)
        run, samples = self._loop(gathering.rows_by_table, gathering.rows_of_floats, space), self._samples()
        ranges = pool.chunks(last - first, 1, at_least=4)

        def part(index: int) -> None:
            begin, end = ranges[index]
            run(samples[first + begin : first + end], out[begin:end])

        pool.run(part, len(ranges))
        return out


def open_picture(
    path: Path,
    cache_dir: Path | None = None,
    linear: bool = False,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
) -> PictureSource:
    """A picture file of any size and kind as targets to train on.

    Samples of 8 and 16 bits are sRGB display values; floats (EXR, HDR, float TIFF) are linear light, which is trained on
    sRGB's curve too, as instant-ngp does (src/testbed_image.cu): the curve goes on above 1 and nothing is clipped. Grey
    stays one channel, alpha is one more. EXIF's orientation is followed.

    Args:
        path: the file.
        cache_dir: where a picture larger than the budget is decoded to; default: the user's cache folder.
        linear: train on linear light instead of display values.
        budget_bytes: of decoded pixels that are held in memory; default: a quarter of what is free, 1 GB at most.
        progress: told the share of rows that is decoded.

    Raises:
        UserError: one sentence for what cannot be read, is not finite, or does not fit on the disk.
    """
    stored = read_picture(path)
    budget = default_budget() if budget_bytes is None else budget_bytes
    pixels = upright(decode(stored, cache_dir or default_cache_dir(), budget, progress), stored.orientation)
    notes = list(stored.notes)
    if stored.linear_light and linear:
        notes.append("Its samples are linear light and are trained as they are.")
    elif stored.linear_light:
        notes.append("Its samples are linear light; they are trained on sRGB's curve, which goes on above 1: none is clipped.")
    return PictureSource(path, pixels, "linear" if linear else "srgb", stored.profile, notes, stored.premultiplied)
