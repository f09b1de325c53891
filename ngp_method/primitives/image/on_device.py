"""The pixels of a picture in the memory of a GPU, so that a batch of them never leaves it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ngp_method.pictures.curves import alpha_table, sample_table, to_srgb
from ngp_method.primitives.image.source import PictureSource

SHARE = 0.5
"""Of a GPU's free memory that pixels may take; the network, its optimiser and a batch need the rest."""

ROWS_AT_A_TIME = 256
"""Copied at once: a picture that is mapped from a file is not read into memory whole."""


def fits(source: PictureSource, device: torch.device) -> bool:
    """Whether there is room for the pixels beside everything else."""
    if device.type != "cuda":
        return False
    return source.pixels.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


class PixelsOnDevice:
    """A picture's samples on a device, and the same values of them as :meth:`PictureSource.gather`'s.

    Args:
        source: the picture.
        device: where its pixels are to lie.
    """

    def __init__(self, source: PictureSource, device: torch.device) -> None:
        self.width, self.n_colors, self.space = source.width, source.n_colors, source.space
        signed = {2: np.int16}.get(source.dtype.itemsize)  # by their bits: torch has little for uint16
        kind = torch.from_numpy(np.empty(0, signed or source.dtype)).dtype
        self.samples = torch.empty((source.height * source.width, source.n_channels), dtype=kind, device=device)
        for first in range(0, source.height, ROWS_AT_A_TIME):
            rows = np.ascontiguousarray(source.pixels[first : first + ROWS_AT_A_TIME])
            part = torch.from_numpy(rows.view(signed) if signed else rows).reshape(-1, source.n_channels)
            self.samples[first * source.width : first * source.width + len(part)] = part.to(device)
        color, alpha = sample_table(source.dtype, source.space), alpha_table(source.dtype)
        self.color = None if color is None else torch.from_numpy(color).to(device)
        self.alpha = None if alpha is None else torch.from_numpy(alpha).to(device)

    def gather(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The pixels at some points, in the space they are trained in.

        Args:
            rows: [N] int64 in [0, height), on the device; not checked, as that would wait for it.
            columns: [N] int64 in [0, width).

        Returns:
            [N, n_channels] float32.
        """
        found = self.samples[rows * self.width + columns]
        if self.color is None or self.alpha is None:
            colors = to_srgb(found[:, : self.n_colors]) if self.space == "srgb" else found[:, : self.n_colors]
            return torch.cat([colors, found[:, self.n_colors :]], -1)
        index = found.long() & (len(self.color) - 1)
        colors = self.color[index[:, : self.n_colors]]
        return colors if found.shape[1] == self.n_colors else torch.cat([colors, self.alpha[index[:, self.n_colors :]]], -1)
