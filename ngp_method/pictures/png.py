"""PNG read row by row: pictures of any size take a few megabytes, and samples of 16 bits stay as they are.

Pillow decodes a PNG whole and makes bytes of 16-bit colours. What is read here is the PNG specification's (third edition,
W3C 2023): chunks (section 11), filters (9) and bit depths (13.12); interlaced files (Adam7) are left to others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from numba import njit

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types, as IHDR numbers them."""

_STORED = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_PIECE = 1 << 18
_STRIPE_BYTES = 4 << 20
_LONGEST_TEXT = 64 << 20


@dataclass
class PngHeader:
    """What stands before a PNG's pixels.

    Attributes:
        width, height: of the picture.
        depth: bits a sample as stored: 1, 2, 4, 8 or 16.
        kind: colour type.
        interlaced: whether it is stored by Adam7, which :func:`png_stripes` does not read.
        palette: [entries, 3] uint8, or None.
        clear: contents of tRNS: alpha of the palette's entries, or the colour that stands for see-through.
        profile: its ICC profile, if it has one.
        exif: its EXIF block, if that stands before the pixels.
        animated: whether further frames follow.
    """

    width: int
    height: int
    depth: int
    kind: int
    interlaced: bool = False
    palette: npt.NDArray[np.uint8] | None = None
    clear: bytes | None = None
    profile: bytes | None = None
    exif: bytes | None = None
    animated: bool = False
    start: int = field(default=0, repr=False)
    """Where the first IDAT chunk begins in the file."""

    @property
    def channels(self) -> int:
        """Of the rows that :func:`png_stripes` gives: palettes become colours, see-through colours alpha."""
        if self.kind == PALETTE:
            return 3 if self.clear is None else 4
        return _STORED[self.kind] + (self.clear is not None and self.kind in (GREY, RGB))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """uint16 where the file has 16 bits a sample, else uint8."""
        return np.dtype(np.uint16 if self.depth == 16 else np.uint8)


def is_png(path: Path) -> bool:
    """Whether a file begins as PNGs do."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def read_png_header(path: Path) -> PngHeader:
    """The chunks before the pixels.

    Raises:
        ValueError: no PNG, or a broken one.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            raise ValueError("it is no PNG")
        length, name = _chunk(file)
        if name != b"IHDR" or length != 13:
            raise ValueError("it does not begin with a PNG header")
        width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", file.read(13))
        file.seek(4, 1)
        if kind not in _STORED or depth not in (1, 2, 4, 8, 16) or (depth < 8 and kind not in (GREY, PALETTE)):
            raise ValueError(f"colour type {kind} with {depth} bits a sample is not one of PNG's")
        header = PngHeader(width, height, depth, kind, bool(interlaced))
        while True:
            header.start = file.tell()
            length, name = _chunk(file)
            if name == b"IDAT":
                break
            _take(header, name, file, length)
        if kind == PALETTE and header.palette is None:
            raise ValueError("it has no palette")
    return header


def _chunk(file: BinaryIO) -> tuple[int, bytes]:
    """Length and name of the chunk that begins here."""
    start = file.read(8)
    if len(start) < 8:
        raise ValueError("it is cut short")
    length, name = struct.unpack(">I4s", start)
    return int(length), bytes(name)


def _take(header: PngHeader, name: bytes, file: BinaryIO, length: int) -> None:
    """One chunk before the pixels; the file stands behind it afterwards."""
    if name not in (b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL") or length > _LONGEST_TEXT:
        file.seek(length + 4, 1)
        return
    data = file.read(length)
    file.seek(4, 1)
    if name == b"PLTE":
        header.palette = np.frombuffer(data[: length // 3 * 3], np.uint8).reshape(-1, 3)
    elif name == b"tRNS" and header.kind in (GREY, RGB, PALETTE):
        header.clear = data
    elif name == b"iCCP":
        header.profile = zlib.decompress(data[data.index(b"\0") + 2 :])
    elif name == b"eXIf":
        header.exif = data
    elif name == b"acTL":
        header.animated = True


def png_stripes(path: Path, header: PngHeader) -> Iterator[npt.NDArray[np.generic]]:
    """The picture's rows from top to bottom, some megabytes at a time.

    Yields:
        [rows, width, header.channels] of header.dtype. Samples below 8 bits are scaled to bytes, as the specification asks.

    Raises:
        ValueError, zlib.error: the file is broken or cut short.
    """
    bits = header.depth * _STORED[header.kind]
    n_bytes, pixel_bytes = (header.width * bits + 7) // 8, max(1, bits // 8)
    rows_at_once = max(1, min(header.height, _STRIPE_BYTES // (n_bytes + 1)))
    before = np.zeros(n_bytes, np.uint8)
    left, held = header.height, bytearray()
    for piece in _inflated(path, header.start):
        held += piece
        while left and len(held) >= (rows := min(rows_at_once, left)) * (n_bytes + 1):
            used = rows * (n_bytes + 1)
            filtered = np.frombuffer(bytes(memoryview(held)[:used]), np.uint8).reshape(rows, n_bytes + 1)
            del held[:used]
            plain = np.empty((rows, n_bytes), np.uint8)
            if not _unfilter(filtered, before, plain, pixel_bytes):
                raise ValueError("a row has a filter that PNG does not know")
            before = plain[-1].copy()
            left -= rows
            yield _samples(plain, header)
    if left:
        raise ValueError(f"it is cut short: {left} of {header.height} rows are missing")


def _inflated(path: Path, start: int) -> Iterator[bytes]:
    """The contents of all IDAT chunks, unpacked."""
    unpack = zlib.decompressobj()
    with path.open("rb") as file:
        file.seek(start)
        while True:
            length, name = _chunk(file)
            if name != b"IDAT":
                break
            while length:
                piece = file.read(min(length, _PIECE))
                if not piece:
                    raise ValueError("it is cut short")
                length -= len(piece)
                while piece:
                    yield unpack.decompress(piece, _STRIPE_BYTES)
                    piece = unpack.unconsumed_tail
            file.seek(4, 1)
    yield unpack.flush()
    if not unpack.eof:
        raise ValueError("it is cut short")


@njit(nogil=True, cache=True)
def _unfilter(
    filtered: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8], plain: npt.NDArray[np.uint8], step: int
) -> bool:  # pragma: no cover
    """Undoes the filter of each row: none, left, above, average, Paeth (section 9.2); False for another number."""
    rows, n = plain.shape
    for row in range(rows):
        kind, line, out = filtered[row, 0], filtered[row, 1:], plain[row]
        above = before if row == 0 else plain[row - 1]
        if kind == 0:
            out[:] = line
        elif kind == 1:
            out[:step] = line[:step]
            for i in range(step, n):
                out[i] = line[i] + out[i - step]
        elif kind == 2:
            for i in range(n):
                out[i] = line[i] + above[i]
        elif kind == 3:
            for i in range(n):
                left = np.int32(out[i - step]) if i >= step else np.int32(0)
                out[i] = line[i] + np.uint8((left + np.int32(above[i])) >> 1)
        elif kind == 4:
            for i in range(n):
                a = np.int32(out[i - step]) if i >= step else np.int32(0)
                c = np.int32(above[i - step]) if i >= step else np.int32(0)
                b = np.int32(above[i])
                to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                nearest = a if to_a <= to_b and to_a <= to_c else (b if to_b <= to_c else c)
                out[i] = line[i] + np.uint8(nearest)
        else:
            return False
    return True


def _samples(rows: npt.NDArray[np.uint8], header: PngHeader) -> npt.NDArray[np.generic]:
    """Rows of bytes -> samples, palettes and see-through colours resolved."""
    stored = _STORED[header.kind]
    if header.depth == 16:
        deep = rows.view(">u2").astype(np.uint16).reshape(len(rows), header.width, stored)
        return _with_clear(deep, deep, header)
    if header.depth < 8:
        shifts = np.arange(8 - header.depth, -1, -header.depth, dtype=np.uint8)
        rows = ((rows[..., None] >> shifts) & (2**header.depth - 1)).reshape(len(rows), -1)[:, : header.width]
    plain = rows.reshape(len(rows), header.width, stored)
    if header.palette is not None and header.kind == PALETTE:
        table = np.zeros((256, header.channels), np.uint8)
        table[: len(header.palette), :3] = header.palette
        if header.clear is not None:
            table[:, 3] = 255
            table[: len(header.clear), 3] = np.frombuffer(header.clear, np.uint8)[:256]
        return table[plain[..., 0]]
    scaled = plain if header.depth == 8 else plain * np.uint8(255 // (2**header.depth - 1))
    return _with_clear(scaled, plain, header)


def _with_clear(
    samples: npt.NDArray[np.generic], stored: npt.NDArray[np.generic], header: PngHeader
) -> npt.NDArray[np.generic]:
    """Alpha added where one colour of ``stored`` stands for see-through."""
    if header.clear is None:
        return samples
    colour = np.frombuffer(header.clear[: 2 * _STORED[header.kind]], ">u2")
    full = 2 ** (8 * samples.dtype.itemsize) - 1
    alpha = np.where((stored == colour).all(-1, keepdims=True), 0, full).astype(samples.dtype)
    return np.concatenate([samples, alpha], axis=-1)
