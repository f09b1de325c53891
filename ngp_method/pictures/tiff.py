"""TIFF: mapped where it lies in the file, else decoded strip by strip or tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngp_method.errors import fail
from ngp_method.pictures.stored import Stored

_KEPT = ("|u1", "<u2", "<f2", "<f4")
_ORIENTATION, _PROFILE = 274, 34675


class NotOurs(Exception):
    """A TIFF that another reader must decode whole.

    Args:
        deep: it has more than 8 bits a sample.
        notes: what there is to say of it.
    """

    def __init__(self, deep: bool, notes: list[str]) -> None:
        super().__init__()
        self.deep, self.notes = deep, notes


def read_tiff(path: Path) -> Stored:
    """The first picture of a TIFF or BigTIFF: grey or RGB, with alpha or not, in any layout that tifffile unpacks.

    Raises:
        NotOurs: palettes, printing colours, YCbCr, 1-bit, and packings that tifffile cannot undo without imagecodecs.
        UserError: samples that are neither of 8 or 16 bits nor floats.
        ValueError, OSError: broken.
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page: Any = tif.pages[0]
        notes = [f"Of {len(tif.pages)} pictures in the file the first is taken."] if len(_full_pages(tif)) > 1 else []
        kinds = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
        dtype, samples = page.dtype, page.samplesperpixel
        if page.photometric not in kinds or page.bitspersample == 1 or page.imagedepth > 1:
            raise NotOurs(page.bitspersample > 8, notes)
        kept = _kept(page, path, notes)
        if dtype is None or dtype.kind + str(dtype.itemsize) not in ("u1", "u2", "f2", "f4", "f8"):
            fail(f"{path} has samples of {dtype or f'{page.bitspersample} bits'}; save it with 8 or 16 bits, or as floats.")
        if page.bitspersample not in (8, 16, 32, 64):
            raise NotOurs(True, notes)
        if not _unpacks(page):
            raise NotOurs(page.bitspersample > 8, notes)
        planar = page.planarconfig == 2 and samples > 1
        height, width = page.imagelength, page.imagewidth
        orientation = page.tags.valueof(_ORIENTATION, 1)
        profile = page.tags.valueof(_PROFILE)
        associated = 1 in tuple(page.extrasamples or ())[:1]
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        offset = page.dataoffsets[0] if page.is_contiguous else None
        stored_dtype = np.dtype(f"{tif.byteorder}{dtype.kind}{dtype.itemsize}")
    out = np.dtype(np.float32) if dtype == np.float64 else np.dtype(dtype).newbyteorder("=")
    if dtype == np.float64:
        notes.append("Samples of 64 bits are taken as 32.")
    straighten = associated and dtype.kind == "u"
    if straighten:
        notes.append("Colours that were multiplied by alpha are divided by it.")
    mapped: npt.NDArray[Any] | None = None
    if offset is not None and stored_dtype.str in _KEPT and not (inverted or straighten):
        shape = (samples, height, width) if planar else (height, width, samples)
        if offset + int(np.prod(shape)) * stored_dtype.itemsize > path.stat().st_size:
            raise ValueError("it is cut short")
        mapped = np.memmap(path, stored_dtype, "r", offset, shape)
        mapped = (np.moveaxis(mapped, 0, -1) if planar else mapped)[..., :kept]

    def stripes() -> Iterator[npt.NDArray[Any]]:
        for rows in _rows(path, planar and not straighten, kept):
            rows = rows.astype(out, copy=False)
            if inverted:
                rows = (1 if out.kind == "f" else 2 ** (8 * out.itemsize) - 1) - rows
            yield _straight(rows) if straighten else rows

    shape = (height, width, kept)
    premultiplied = associated and out.kind == "f"
    return Stored(path, shape, out, stripes, mapped, orientation, profile, notes, premultiplied, planar and not straighten)


def _kept(page: Any, path: Path, notes: list[str]) -> int:
    """How many of a pixel's samples are its colours and alpha; what else there is is told.

    Raises:
        UserError: bands of which nothing says what they are.
    """
    import tifffile

    samples, extra = page.samplesperpixel, tuple(page.extrasamples or ())
    colors = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    if colors == 1 and samples == 3:
        notes.append("Its three bands are taken for red, green and blue.")
        return 3
    if samples <= colors:
        return int(samples)
    if colors == 1 and samples > 3:
        fail(f"{path} has {samples} bands and does not say which are red, green and blue; save those as an RGB picture.")
    kept = colors + (1 if extra[:1] in ((1,), (2,)) or (not extra and samples == colors + 1) else 0)
    if samples > kept:
        notes.append(f"Of {samples} samples a pixel {samples - kept} have no stated meaning and are left out.")
    return kept


def _full_pages(tif: Any) -> list[Any]:
    """Pages that are pictures of their own: no smaller copies, no masks."""
    return [page for page in tif.pages[:16] if not getattr(page, "is_reduced", False) and not getattr(page, "is_mask", False)]


def _unpacks(page: Any) -> bool:
    """Whether tifffile decodes the page here; imagecodecs, where installed, lets it decode more."""
    try:
        page.decode  # noqa: B018  (looking it up finds the decoders)
        data, index = next(iter(page.parent.filehandle.read_segments(page.dataoffsets[:1], page.databytecounts[:1])))[:2]
        if data is None:
            return True
        decoded = page.decode(data, index)[0]
    except (ValueError, ImportError, NotImplementedError) as error:
        if "imagecodecs" in str(error) or "requires" in str(error):
            return False
        raise
    return decoded is not None


def _rows(path: Path, planar: bool, kept: int) -> Iterator[npt.NDArray[Any]]:
    """Rows of strips or tiles put together, plane after plane where ``planar``; of each pixel the first ``kept`` samples."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page: Any = tif.pages[0]
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        separate = page.planarconfig == 2 and samples > 1
        if separate and not planar:
            yield np.moveaxis(page.asarray(), 0, -1)[..., :kept]
            return
        tall = page.tilelength if page.is_tiled else page.rowsperstrip
        tall, done = min(tall, height), 0
        buffer = None
        for segment, (plane, _, top, left, _), shape in page.segments(maxworkers=2, sort=True):
            if separate and plane >= kept:
                break
            key = plane * height + top
            if buffer is None or key != done:
                if buffer is not None:
                    yield buffer[..., :kept]
                done = key
                buffer = np.zeros((min(tall, height - top), width, 1 if separate else samples), page.dtype)
            if segment is not None:
                rows, columns = min(shape[1], height - top), min(shape[2], width - left)
                buffer[:rows, left : left + columns] = segment[0, :rows, :columns]
        if buffer is not None:
            yield buffer[..., :kept]


def _straight(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integer colours divided by their alpha, rounded."""
    top = np.iinfo(rows.dtype).max
    alpha = rows[..., -1:].astype(np.float64)
    colour = np.divide(rows[..., :-1] * float(top), alpha, out=np.zeros(rows[..., :-1].shape), where=alpha > 0)
    return np.concatenate([np.clip(np.rint(colour), 0, top).astype(rows.dtype), rows[..., -1:]], axis=-1)
