"""How far a fitted picture is from its source: PSNR over all pixels and SSIM of the whole, a stripe of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from ngp_method.kernels.cpu import pool
from ngp_method.pictures.curves import convert
from ngp_method.primitives.image.source import PictureSource

WINDOW = 11
"""Pixels a side of SSIM's Gaussian window, whose deviation is 1.5 (Wang et al. 2004)."""

_HALF = WINDOW // 2
_OFFSETS = np.arange(WINDOW) - _HALF
_WEIGHTS = np.exp(-0.5 * (_OFFSETS / 1.5) ** 2)
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)
_C1, _C2 = np.float32(0.01**2), np.float32(0.03**2)
_STRIPE_PIXELS = 1 << 20

Predict = Callable[[int, int], npt.NDArray[np.float32]]
"""(first row, last row) -> [last - first, width, n_channels] float32 in the source's space."""


@dataclass(frozen=True)
class PictureMeasures:
    """Measures of a whole picture, on display values (sRGB's curve), over all channels, alpha included.

    Attributes:
        mse: mean squared error; predictions are clipped to [0, 1] where the file holds integers, not where it holds floats.
        psnr: dB, peak 1: of a picture in floating point, relative to the display's white. Infinite for equal pictures.
        ssim: mean over all pixels, as torchmetrics and nerfstudio have it; None where a side is below 11 pixels.
        n_pixels: of the picture.
    """

    mse: float
    psnr: float
    ssim: float | None
    n_pixels: int


def measure(
    source: PictureSource,
    predict: Predict,
    quantised: bool = False,
    progress: Callable[[float], object] | None = None,
) -> PictureMeasures:
    """Compares what a function says with the picture, in stripes of about a million pixels.

    Args:
        source: the picture.
        predict: the function's rows; each row is asked for once, from the top.
        quantised: round predictions to bytes first, as an 8-bit file of them would have them.
        progress: told the share of rows that is done.

    Raises:
        ValueError: rows of another shape.
    """
    rows_at_once = max(WINDOW, _STRIPE_PIXELS // source.width)
    wide_enough = min(source.height, source.width) >= WINDOW
    error, similarity = 0.0, 0.0
    before: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    for first in range(0, source.height, rows_at_once):
        last = min(first + rows_at_once, source.height)
        truth, said = source.display_stripe(first, last), predict(first, last)
        if said.shape != truth.shape:
            raise ValueError(f"Rows {first} to {last} were predicted as {[*said.shape]}, not {[*truth.shape]}.")
        said = convert(np.asarray(said, np.float32), source.space, "srgb", source.n_colors)
        if not source.is_float:
            said = said.clip(0.0, 1.0)
        if quantised:
            said = np.rint(said * np.float32(255)) / np.float32(255)
        error += _sum_of_squares(said, truth)
        if wide_enough:
            above = before if before is not None else (said[_HALF:0:-1], truth[_HALF:0:-1])
            said, truth = (np.concatenate(pair) for pair in zip(above, (said, truth), strict=True))
            before = said[1 - WINDOW :], truth[1 - WINDOW :]
            if last == source.height:
                said, truth = (np.concatenate([x, x[-2 : -2 - _HALF : -1]]) for x in (said, truth))
            similarity += sum_of_ssim(said, truth)
        if progress is not None:
            progress(last / source.height)
    mse = error / (source.height * source.width * source.n_channels)
    windows = source.height * source.width * source.n_channels
    psnr = math.inf if mse == 0.0 else -10.0 * math.log10(mse)
    return PictureMeasures(mse, psnr, similarity / windows if wide_enough else None, source.height * source.width)


def _sum_of_squares(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    total = 0.0
    for row in range(len(first)):  # rows, so that the float64 copies stay in the cache
        difference = np.subtract(first[row], second[row], dtype=np.float64).ravel()
        total += float(difference @ difference)
    return total


def sum_of_ssim(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Structural similarity added up over channels and the rows of [H, W, C] that have five more above and below them.

    The definition is that of torchmetrics and so of nerfstudio: Gaussian window of 11 pixels and deviation 1.5, data range
    1, constants (0.01, 0.03), and the picture mirrored at its borders: here at the left and right, by the caller above and
    below.
    """
    ranges = pool.chunks(len(first) - WINDOW + 1, 1, at_least=8)
    sums = np.zeros(len(ranges))

    def part(index: int) -> None:
        begin, end = ranges[index]
        rows = slice(begin, end + WINDOW - 1)
        sums[index] = sum(_ssim_plane(*_planes(first[rows], second[rows], c), _WEIGHTS) for c in range(first.shape[2]))

    pool.run(part, len(ranges))
    return float(sums.sum())


def _planes(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], channel: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One channel of each, mirrored at the sides, less 0.5: variances stay and lose fewer digits to cancellation."""
    sides, half = ((0, 0), (_HALF, _HALF)), np.float32(0.5)
    return np.pad(first[..., channel], sides, "reflect") - half, np.pad(second[..., channel], sides, "reflect") - half


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _ssim_plane(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> float:  # pragma: no cover
    """Sum of SSIM over windows in two planes [H, W] of values less 0.5: columns are summed first, then rows of the sums."""
    height, width = x.shape
    sums = np.empty((5, width), np.float32)
    total = 0.0
    for row in range(height - WINDOW + 1):
        sums[:] = np.float32(0)
        for k in range(WINDOW):
            w, a, b = weights[k], x[row + k], y[row + k]
            for i in range(width):
                wa, wb = w * a[i], w * b[i]
                sums[0, i] += wa
                sums[1, i] += wb
                sums[2, i] += wa * a[i]
                sums[3, i] += wb * b[i]
                sums[4, i] += wa * b[i]
        for i in range(width - WINDOW + 1):
            mx = my = xx = yy = xy = np.float32(0)
            for k in range(WINDOW):
                w = weights[k]
                mx += w * sums[0, i + k]
                my += w * sums[1, i + k]
                xx += w * sums[2, i + k]
                yy += w * sums[3, i + k]
                xy += w * sums[4, i + k]
            vx, vy, cov = max(xx - mx * mx, np.float32(0)), max(yy - my * my, np.float32(0)), xy - mx * my
            mx, my = mx + np.float32(0.5), my + np.float32(0.5)
            luminance = (2 * mx * my + _C1) / (mx * mx + my * my + _C1)
            total += float(luminance * (2 * cov + _C2) / (vx + vy + _C2))
    return total
