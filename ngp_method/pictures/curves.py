"""sRGB's curve and its inverse, on numbers and as tables of all samples of a type."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Values = TypeVar("Values", npt.NDArray[Any], Tensor)

Space = Literal["srgb", "linear"]
"""What a number means: proportional to light, or to what a display is sent."""


def to_srgb(light: Values) -> Values:
    """Linear light -> sRGB (IEC 61966-2-1), any float type; the curve goes on above 1, and below 0 as a line."""
    if isinstance(light, Tensor):
        return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
    with np.errstate(invalid="ignore"):
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(np.maximum(light, 0), 1 / 2.4) - 0.055)


def to_linear(display: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The inverse of :func:`to_srgb`."""
    with np.errstate(invalid="ignore"):
        return np.where(display <= 0.04045, display / 12.92, np.power((np.maximum(display, 0) + 0.055) / 1.055, 2.4))


def convert(values: npt.NDArray[np.float32], source: Space, target: Space, n_colors: int) -> npt.NDArray[np.float32]:
    """Values [..., C] of one space in another; channels from ``n_colors`` on are alpha and stay.

    Returns:
        float32, ``values`` itself where there is nothing to do.
    """
    if source == target:
        return values
    curve = to_srgb if target == "srgb" else to_linear
    out = values.copy()
    out[..., :n_colors] = curve(values[..., :n_colors].astype(np.float64))
    return out


@cache
def sample_table(dtype: np.dtype[Any], space: Space) -> npt.NDArray[np.float32] | None:
    """What each stored colour sample means in a space.

    Args:
        dtype: of the samples; integers are display values, floats linear light.
        space: of the result.

    Returns:
        float32 [256] for uint8, [65536] for uint16 and float16 (by its bits); None for float32, which has no table.
    """
    if dtype == np.float32:
        return None
    if dtype == np.float16:
        light = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
        with np.errstate(all="ignore"):  # NaN and infinity are among the 65536
            return (to_srgb(light) if space == "srgb" else light).astype(np.float32)
    display = np.arange(np.iinfo(dtype).max + 1, dtype=np.float64) / np.iinfo(dtype).max
    return (to_linear(display) if space == "linear" else display).astype(np.float32)


def alpha_table(dtype: np.dtype[Any]) -> npt.NDArray[np.float32] | None:
    """What each stored sample of alpha means: the same without a curve."""
    return sample_table(dtype, "linear" if dtype.kind == "f" else "srgb")
