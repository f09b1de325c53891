"""Stored: how the readers of single formats hand over a picture file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Stored:
    """What a picture file holds, before it is turned upright.

    Attributes:
        path: the file.
        shape: height, width and channels of the pixels as they are stored; channels are grey, grey and alpha, RGB or RGBA.
        dtype: uint8, uint16, float16 or float32. Integers are display values (sRGB), floats linear light.
        stripes: makes an iterator over the rows from top to bottom, each [rows, width, channels] of dtype; of planes, where
            ``planar``, each [rows, width, 1], one plane after the other.
        mapped: [height, width, channels], the pixels where they lie in the file; None where they must be decoded.
        orientation: EXIF's number from 1 to 8.
        profile: ICC profile, if any.
        notes: sentences on what was chosen or converted.
        premultiplied: whether colours are multiplied by alpha already, as EXR asks for.
        planar: whether ``stripes`` gives planes.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    stripes: Callable[[], Iterator[npt.NDArray[Any]]]
    mapped: npt.NDArray[Any] | None = None
    orientation: int = 1
    profile: bytes | None = None
    notes: list[str] = field(default_factory=list)
    premultiplied: bool = False
    planar: bool = False

    @property
    def height(self) -> int:
        """Rows as they are stored."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns as they are stored."""
        return self.shape[1]

    @property
    def linear_light(self) -> bool:
        """Whether samples are proportional to light; else they follow sRGB's curve."""
        return self.dtype.kind == "f"

    @property
    def n_bytes(self) -> int:
        """Of all pixels, decoded."""
        return self.shape[0] * self.shape[1] * self.shape[2] * self.dtype.itemsize


def upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of [H, W, C] turned and mirrored as a value of EXIF's Orientation asks for; 5 to 8 exchange H and W."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
