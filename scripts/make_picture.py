"""Makes a structured picture of any size, a stripe of rows at a time: fractal noise, text, gradients and fine rings.

python scripts/make_picture.py 20000 20000 out.png [--seed 0] [--bits 16]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ngp_method.primitives.image.writer import PictureWriter

_ROWS = 256
_GRID = 257
"""Points a side of the lattice that noise is interpolated from; it repeats."""

Floats = npt.NDArray[np.float32]


def _noise(lattice: Floats, y: Floats, x: Floats) -> Floats:
    """Bilinear noise [rows, columns] at lattice coordinates y [rows] and x [columns]."""
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - top)[:, None], x - left
    top, left = top % (_GRID - 1), left % (_GRID - 1)
    upper, lower = lattice[top], lattice[top + 1]
    above = upper[:, left] * (1 - fx) + upper[:, left + 1] * fx
    below = lower[:, left] * (1 - fx) + lower[:, left + 1] * fx
    return np.asarray(above * (1 - fy) + below * fy, np.float32)


def stripes(width: int, height: int, seed: int) -> Iterator[Floats]:
    """Rows of the picture from the top, [rows, width, 3] float32 in [0, 1]; the same for the same size and seed."""
    lattices = np.random.default_rng(seed).random((3, _GRID, _GRID), np.float32)
    longest = max(width, height)
    octaves = max(1, int(np.log2(longest / 4)))
    x = np.arange(width, dtype=np.float32)
    for first in range(0, height, _ROWS):
        y = np.arange(first, min(first + _ROWS, height), dtype=np.float32)
        rows = np.empty((len(y), width, 3), np.float32)
        rows[..., 0] = (x / width)[None]
        rows[..., 1] = (y / height)[:, None]
        rows[..., 2] = 1 - (y / height)[:, None]
        for octave in range(octaves):
            scale = 3 * 2**octave / longest
            rows += (0.6**octave * (_noise(lattices[octave % 3], y * scale, x * scale) - 0.5))[..., None]
        radius = np.hypot(y[:, None] - height * 0.7, x - width * 0.3)
        rows[radius < longest / 12] = (0.5 + 0.5 * np.cos(radius * (2 * np.pi / 9)))[radius < longest / 12][:, None]
        yield _with_text(rows.clip(0, 1), first)


def _with_text(rows: Floats, first: int) -> Floats:
    """A line of text in each stripe."""
    image = Image.new("L", (rows.shape[1], rows.shape[0]))
    words = f"row {first}: the quick brown fox jumps over the lazy dog 0123456789   "
    ImageDraw.Draw(image).text((first % 97, rows.shape[0] // 3), words * (1 + rows.shape[1] // 400), fill=255)
    ink = np.asarray(image, np.float32)[..., None] / 255
    return np.asarray(rows * (1 - ink), np.float32)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("out", type=Path, help="ends in .png, .tif, .exr or .jpg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", type=int, default=None, choices=(8, 16, 32))
    args = parser.parse_args()
    writer = PictureWriter(args.out, args.width, args.height, 3, args.bits)
    writer.write(stripes(args.width, args.height, args.seed), lambda share: print(f"\r{share:.0%}", end="", file=sys.stderr))
    print(f"\n{args.out}: {args.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
