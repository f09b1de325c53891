"""Compiled loops over the pixels of a picture: samples -> float32 by table, at points, in rows, and averaged over blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]


@njit(nogil=True, cache=True, error_model="numpy")
def _curved(value: np.float32) -> np.float32:  # pragma: no cover
    """sRGB's curve for one number, as curves.to_srgb has it."""
    if value <= np.float32(0.0031308):
        return np.float32(value * np.float32(12.92))
    return np.float32(1.055 * np.float64(value) ** (1 / 2.4) - 0.055)


@njit(nogil=True, cache=True, error_model="numpy")
def points_by_table(
    pixels: npt.NDArray[Any], rows: Any, columns: Any, color: Floats, alpha: Floats, n_colors: int, out: Floats
) -> None:  # pragma: no cover
    """out[i] = the pixel at (rows[i], columns[i]); pixels [H, W, C] uint8 or uint16 in any strides, out [N, C]."""
    n_channels = out.shape[1]
    for i in range(len(rows)):
        row, column = rows[i], columns[i]
        for channel in range(n_colors):
            out[i, channel] = color[pixels[row, column, channel]]
        for channel in range(n_colors, n_channels):
            out[i, channel] = alpha[pixels[row, column, channel]]


@njit(nogil=True, cache=True, error_model="numpy")
def points_of_floats(
    pixels: Floats, rows: Any, columns: Any, curve: bool, n_colors: int, out: Floats
) -> None:  # pragma: no cover
    """The same of float32 samples, with sRGB's curve or without."""
    for i in range(len(rows)):
        row, column = rows[i], columns[i]
        for channel in range(out.shape[1]):
            value = pixels[row, column, channel]
            out[i, channel] = _curved(value) if curve and channel < n_colors else value


@njit(nogil=True, cache=True, error_model="numpy")
def rows_by_table(
    pixels: npt.NDArray[Any], color: Floats, alpha: Floats, n_colors: int, out: Floats
) -> None:  # pragma: no cover
    """out[r, c] = the pixel there; pixels [rows, W, C] uint8 or uint16, out the same shape."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for channel in range(n_colors):
                out[row, column, channel] = color[pixels[row, column, channel]]
            for channel in range(n_colors, out.shape[2]):
                out[row, column, channel] = alpha[pixels[row, column, channel]]


@njit(nogil=True, cache=True, error_model="numpy")
def rows_of_floats(pixels: Floats, curve: bool, n_colors: int, out: Floats) -> None:  # pragma: no cover
    """The same of float32 samples, with sRGB's curve or without."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for channel in range(out.shape[2]):
                value = pixels[row, column, channel]
                out[row, column, channel] = _curved(value) if curve and channel < n_colors else value


@njit(nogil=True, cache=True, error_model="numpy")
def add_blocks(light: Floats, columns: Any, multiply: bool, sums: npt.NDArray[np.float64]) -> None:  # pragma: no cover
    """Adds rows to one row of block sums.

    Args:
        light: [rows, W, C], linear light.
        columns: [W], the block that each column belongs to.
        multiply: colours count as much as their alpha, the last channel.
        sums: [blocks, C], added to.
    """
    last = light.shape[2] - 1
    for row in range(light.shape[0]):
        for column in range(light.shape[1]):
            weight = light[row, column, last] if multiply else np.float32(1)
            block = columns[column]
            for channel in range(last):
                sums[block, channel] += light[row, column, channel] * weight
            sums[block, last] += light[row, column, last]
