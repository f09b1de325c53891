"""A reader of PNG files for machines without Pillow: 8 bits a channel, RGB or RGBA, not interlaced; numpy alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHANNELS = {2: 3, 6: 4}
"""Channels by colour type."""


def read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Pictures of one size, [V, H, W, C]: with Pillow if it is installed."""
    try:
        from PIL import Image
    except ImportError:
        return read_plain(paths)
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def read_plain(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """The same without Pillow."""
    raw = [_inflate(path) for path in paths]
    if len({lines.shape for _, lines in raw}) != 1:
        raise ValueError("The pictures have different sizes; install Pillow and give them one size.")
    return _unfilter(np.stack([kinds for kinds, _ in raw]), np.stack([lines for _, lines in raw]))


def _inflate(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Filter of each line [H], and the filtered bytes [H, W, C]."""
    data = path.read_bytes()
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if data[:8] != b"\x89PNG\r\n\x1a\n" or depth != 8 or kind not in CHANNELS or interlaced:
        raise ValueError(f"{path}: only PNG with 8 bits a channel, RGB or RGBA, can be read without Pillow.")
    chunks, at = [], 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"IDAT":
            chunks.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(b"".join(chunks)), np.uint8).reshape(height, 1 + width * CHANNELS[kind])
    return lines[:, 0], lines[:, 1:].reshape(height, width, CHANNELS[kind])


def _unfilter(kinds: NDArray[np.uint8], lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the filters (PNG specification, section 9) of all pictures at once, one diagonal of pixels after the other:
    a pixel needs its left, upper and upper left neighbours only.

    Args:
        kinds: [V, H] filter of each line: none, left, up, average, Paeth.
        lines: [V, H, W, C] differences.
    """
    count, height, width, channels = lines.shape
    out = np.zeros((count, height + 1, width + 1, channels), np.int16)
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left, up, corner = out[:, rows + 1, columns], out[:, rows, columns + 1], out[:, rows, columns]
        guess = left + up - corner
        a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        kind = kinds[:, rows, None]
        predicted = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [0, left, up, (left + up) >> 1], paeth)
        out[:, rows + 1, columns + 1] = (lines[:, rows, columns] + predicted) & 255
    return out[:, 1:, 1:].astype(np.uint8)
