"""EXR, read and written a stripe of rows at a time."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngp_method.errors import fail
from ngp_method.pictures.stored import Stored

_ROWS = 64
_LAYOUTS = (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "A"), ("Y",))
"""Channels that make a picture; the first of these that a file has all of is taken."""


def read_exr(path: Path) -> Stored:
    """An EXR of one part: RGB or Y, with alpha or not, half or float.

    Raises:
        UserError: it has no such channels, or subsampled ones.
        OSError: it is broken.
    """
    import Imath
    import OpenEXR

    with _quiet():
        header = OpenEXR.InputFile(str(path)).header()
    there = header["channels"]
    names = next((names for names in _LAYOUTS if all(name in there for name in names)), None)
    if names is None:
        if not there:
            raise OSError("it has no channels")
        names = (min(there),)
    if any(there[name].xSampling != 1 or there[name].ySampling != 1 for name in names):
        fail(f"{path} has subsampled channels (luminance and chroma); save it as RGB.")
    half = all(there[name].type == Imath.PixelType(Imath.PixelType.HALF) for name in names)
    kind = Imath.PixelType(Imath.PixelType.HALF if half else Imath.PixelType.FLOAT)
    dtype = np.dtype(np.float16 if half else np.float32)
    window = header["dataWindow"]
    width, height = window.max.x - window.min.x + 1, window.max.y - window.min.y + 1
    others = sorted(set(there) - set(names))
    notes = [f"Of its channels {', '.join(names)} are taken, not {', '.join(others)}."] if others else []

    def stripes() -> Iterator[npt.NDArray[Any]]:
        with _quiet():
            file = OpenEXR.InputFile(str(path))
            for top in range(0, height, _ROWS):
                rows = min(_ROWS, height - top)
                first = window.min.y + top
                planes = file.channels(list(names), kind, first, first + rows - 1)
                stacked = [np.frombuffer(plane, dtype).reshape(rows, width) for plane in planes]
                yield np.stack(stacked, axis=-1)
            file.close()

    return Stored(path, (height, width, len(names)), dtype, stripes, notes=notes, premultiplied="A" in names)


class ExrFile:
    """An EXR being written from top to bottom, compressed without loss (ZIP).

    Args:
        path: the file.
        width, height: of the picture.
        n_channels: 1 (Y), 2 (Y, A), 3 (RGB) or 4 (RGBA).
        half: half-precision samples, else float32.
    """

    def __init__(self, path: Path, width: int, height: int, n_channels: int, half: bool) -> None:
        import Imath
        import OpenEXR

        self._names = next(names for names in _LAYOUTS if len(names) == n_channels)
        self._dtype: npt.DTypeLike = np.float16 if half else np.float32
        kind = Imath.PixelType(Imath.PixelType.HALF if half else Imath.PixelType.FLOAT)
        header = OpenEXR.Header(width, height)
        header["channels"] = {name: Imath.Channel(kind) for name in self._names}
        header["compression"] = Imath.Compression(Imath.Compression.ZIP_COMPRESSION)
        self._file = OpenEXR.OutputFile(str(path), header)

    def write(self, rows: npt.NDArray[np.float32]) -> None:
        """The next rows, [rows, width, n_channels], linear light, colours multiplied by alpha."""
        stored = rows.astype(self._dtype)
        planes = {name: np.ascontiguousarray(stored[..., i]).tobytes() for i, name in enumerate(self._names)}
        self._file.writePixels(planes, len(rows))

    def close(self) -> None:
        """Finishes the file."""
        self._file.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenEXR's library prints what it raises as well: what it prints while the block runs is dropped."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
