"""A picture written from top to bottom: PNG, TIFF, EXR or JPEG, whatever size it has."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ngp_method.errors import fail
from ngp_method.pictures.curves import Space, convert
from ngp_method.pictures.exr import ExrFile
from ngp_method.pictures.png_writer import PngFile

Bits = Literal[8, 16, 32]
_DEPTHS: dict[str, tuple[Bits, ...]] = {
    ".png": (8, 16), ".tif": (8, 16, 32), ".tiff": (8, 16, 32), ".exr": (16, 32), ".jpg": (8,), ".jpeg": (8,),
}  # fmt: skip
"""Bits a sample of each kind; those of EXR, and TIFF's 32, are floats in linear light."""
_JPEG_LONGEST = 65_500
_JPEG_QUALITY = 95
_STRIP_BYTES = 1 << 20
_LEVEL = 4
"""Of zlib, as for PNG."""
Rows = npt.NDArray[np.float32]


def depths(path: Path) -> tuple[Bits, ...]:
    """Bits a sample that a kind of file has; none where there is no such kind."""
    return _DEPTHS.get(path.suffix.casefold(), ())


class PictureWriter:
    """Writes a picture from stripes of float rows; nothing stands at ``path`` before it is whole.

    Integers are display values on sRGB's curve, clipped to [0, 1] and rounded, so that 8 and 16-bit samples of a source come
    back exactly; floats are linear light and are not clipped. TIFFs are deflated, and BigTIFFs where they could exceed 4 GB;
    JPEGs are held in memory, 4 bytes a pixel.

    Args:
        path: ends in .png, .tif, .tiff, .exr, .jpg or .jpeg.
        width, height: of the picture.
        n_channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        bits: a sample; default: the least that the kind has (EXR: 16, half floats).
        space: of the values that are handed over.
        profile: ICC profile to embed, where the kind has a place for it (EXR has none).
        premultiplied: whether colours are multiplied by alpha already, in linear light; written as the kind wants it.

    Raises:
        UserError: before any work: an ending that is not known, bits or alpha that the kind has not, a folder that is missing
            or cannot be written to, a disk that is too small.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        n_channels: int,
        bits: Bits | None = None,
        space: Space = "srgb",
        profile: bytes | None = None,
        premultiplied: bool = False,
    ) -> None:
        self.path, self.width, self.height, self.n_channels = path, width, height, n_channels
        self.kind = path.suffix.casefold()
        if self.kind not in _DEPTHS:
            fail(f"{path} does not end in one of {', '.join(_DEPTHS)}; name the output so.")
        depths = _DEPTHS[self.kind]
        self.bits = bits or depths[0]
        if self.bits not in depths:
            fail(f"{path}: {self.kind} has no {self.bits} bits a sample; take {' or '.join(map(str, depths))}.")
        if self.kind.startswith(".jp") and (n_channels % 2 == 0 or max(width, height) > _JPEG_LONGEST):
            why = "alpha" if n_channels % 2 == 0 else f"more than {_JPEG_LONGEST} pixels a side"
            fail(f"{path}: a JPEG cannot have {why}; write a PNG or TIFF.")
        self.space, self.profile, self.premultiplied = space, profile, premultiplied
        self.is_float = self.kind == ".exr" or self.bits == 32
        self._check_place()

    @property
    def n_colors(self) -> int:
        """Channels without alpha."""
        return self.n_channels - 1 + self.n_channels % 2

    def write(self, stripes: Iterable[Rows], progress: Callable[[float], object] | None = None) -> None:
        """Writes the whole picture.

        Args:
            stripes: [rows, width, n_channels] float32 in ``space``, from the top, any number of rows each.
            progress: told the share of rows that is written.

        Raises:
            UserError: the disk is full.
            ValueError: more or fewer rows than the picture has, or of another shape.
        """
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self._write(part, self._samples(stripes, progress))
            part.replace(self.path)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                fail(f"{self.path}: the disk is full; name an output on a larger one.")
            raise
        finally:
            part.unlink(missing_ok=True)

    def _check_place(self) -> None:
        folder = self.path.parent
        if not folder.is_dir():
            fail(f"{self.path} cannot be written: {folder} is no folder; make it first.")
        if self.path.is_dir():
            fail(f"{self.path} is a folder; name a file.")
        if not os.access(folder, os.W_OK):
            fail(f"{self.path} cannot be written: {folder} is not yours to write to; name another place.")
        needed, free = self.width * self.height * self.n_channels * self.bits // 8, shutil.disk_usage(folder).free
        if self.kind.startswith(".jp"):
            needed //= 2
        if needed > free:
            fail(
                f"{self.path} may take {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB free; name an output on a "
                "larger one."
            )

    def _samples(self, stripes: Iterable[Rows], progress: Callable[[float], object] | None) -> Iterator[npt.NDArray[Any]]:
        """Stripes as the file's samples, counted."""
        done = 0
        for rows in stripes:
            if rows.shape[1:] != (self.width, self.n_channels) or done + len(rows) > self.height:
                raise ValueError(f"rows {[*rows.shape]} after {done} of a {self.width}x{self.height}x{self.n_channels} picture")
            yield self._encoded(np.asarray(rows, np.float32))
            done += len(rows)
            if progress is not None:
                progress(done / self.height)
        if done != self.height:
            raise ValueError(f"{done} rows of {self.height}")

    def _encoded(self, rows: Rows) -> npt.NDArray[Any]:
        wanted: Space = "linear" if self.is_float else "srgb"
        if self.n_channels % 2 == 0 and (self.kind == ".exr") != self.premultiplied:
            light = convert(rows, self.space, "linear", self.n_colors)
            alpha = light[..., -1:]
            if self.kind == ".exr":
                color = light[..., :-1] * alpha
            else:
                color = np.divide(light[..., :-1], alpha, out=np.zeros_like(light[..., :-1]), where=alpha > 0)
            rows = convert(np.concatenate([color, alpha], axis=-1), "linear", wanted, self.n_colors)
        else:
            rows = convert(rows, self.space, wanted, self.n_colors)
        if self.is_float:
            return rows
        top = 2**self.bits - 1
        return np.rint(np.clip(rows, 0, 1) * np.float64(top)).astype(np.uint8 if self.bits == 8 else np.uint16)

    def _write(self, part: Path, samples: Iterator[npt.NDArray[Any]]) -> None:
        if self.kind == ".exr":
            exr = ExrFile(part, self.width, self.height, self.n_channels, self.bits == 16)
            try:
                for rows in samples:
                    exr.write(rows)
            finally:
                exr.close()
        elif self.kind == ".png":
            with part.open("wb") as file:
                png = PngFile(file, self.width, self.height, self.n_channels, self.bits, self.profile)
                for rows in samples:
                    png.write(rows)
                png.close()
        elif self.kind.startswith(".tif"):
            self._write_tiff(part, samples)
        else:
            self._write_jpeg(part, samples)

    def _write_tiff(self, part: Path, samples: Iterator[npt.NDArray[Any]]) -> None:
        import tifffile

        dtype = np.dtype(np.float32 if self.is_float else f"u{self.bits // 8}")
        row_bytes = self.width * self.n_channels * dtype.itemsize
        tall = max(1, min(self.height, _STRIP_BYTES // row_bytes))
        squeezed = (self.height, self.width, self.n_channels)[: 3 if self.n_channels > 1 else 2]
        with tifffile.TiffWriter(part, bigtiff=row_bytes * self.height > 3 << 30) as tif:
            tif.write(
                (_deflated(rows.astype(dtype)) for rows in _of_height(samples, tall)),
                shape=squeezed,
                dtype=dtype,
                photometric="rgb" if self.n_channels >= 3 else "minisblack",
                planarconfig="contig" if self.n_channels > 1 else None,
                extrasamples=["unassalpha"] if self.n_channels % 2 == 0 else None,
                compression="zlib",
                predictor=None if self.is_float else 2,
                rowsperstrip=tall,
                iccprofile=self.profile,
                software="instant-hash",
                metadata=None,
            )
        for _ in samples:  # what is left, if too many came: the count is looked at
            pass

    def _write_jpeg(self, part: Path, samples: Iterator[npt.NDArray[Any]]) -> None:
        image = Image.new("L" if self.n_channels == 1 else "RGB", (self.width, self.height))
        top = 0
        for rows in samples:
            image.paste(Image.fromarray(rows.squeeze(-1) if self.n_channels == 1 else rows), (0, top))
            top += len(rows)
        image.save(part, "JPEG", quality=_JPEG_QUALITY, subsampling=0, icc_profile=self.profile)


def _deflated(rows: npt.NDArray[Any]) -> bytes:
    """A strip as TIFF packs it: integers less their left neighbour (predictor 2), then deflated."""
    if rows.dtype.kind == "u":
        rows = np.concatenate([rows[:, :1], np.diff(rows, axis=1)], axis=1)
    return zlib.compress(rows.data, _LEVEL)


def _of_height(stripes: Iterator[npt.NDArray[Any]], tall: int) -> Iterator[npt.NDArray[Any]]:
    """The same rows in stripes of ``tall`` each, the last one shorter."""
    held: npt.NDArray[Any] | None = None
    for rows in stripes:
        held = rows if held is None or not len(held) else np.concatenate([held, rows])
        while len(held) >= tall:
            yield np.ascontiguousarray(held[:tall])
            held = held[tall:]
    if held is not None and len(held):
        yield np.ascontiguousarray(held)
