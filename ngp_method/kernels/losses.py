"""Losses on rays, with the background that alpha asks for: what the operation ``color_loss`` computes, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HUBER_DELTA = 0.1
"""instant-ngp configs/nerf/base.json: loss "Huber", whose kink lies at 0.1."""

HUBER_SCALE = 0.2
"""instant-ngp divides this loss by 5 (nerf_device.cuh, loss_and_gradient)."""


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean Huber loss, quadratic below 0.1: [R, 3], [R, 3] -> scalar."""
    return HUBER_SCALE * torch.nn.functional.huber_loss(prediction, target, delta=HUBER_DELTA) / HUBER_DELTA


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return torch.nn.functional.mse_loss(prediction, target)


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in [0, 1], where it was computed; infinite at 0."""
    return -10.0 * torch.log10(mse)


LOSSES = {"huber": huber, "mse": mse}


def blend(rgbs: Tensor, opacities: Tensor, background: Tensor) -> Tensor:
    """Premultiplied colour [..., 3] over a background [..., 3] (or [3]); opacities [...]."""
    return rgbs + (1.0 - opacities)[..., None] * background


def over_background(image: Tensor, background: Tensor) -> Tensor:
    """Pixels [..., 3] as they are, or straight-alpha pixels [..., 4] over a background [..., 3] (or [3])."""
    if image.shape[-1] == 3:
        return image
    alpha = image[..., 3:]
    return image[..., :3] * alpha + (1.0 - alpha) * background


def leave_out(prediction: Tensor, target: Tensor, traced: Tensor | None) -> Tensor:
    """The prediction [R, 3] of rays that were traced ([R] bool; None: all); the others have no error and no gradient."""
    return prediction if traced is None else torch.where(traced[:, None], prediction, target)


class ColorLoss(NamedTuple):
    """Of a batch of rays: the loss, with gradients, and the mean squared error, without."""

    loss: Tensor
    mse: Tensor


def color_loss(
    rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
) -> ColorLoss:
    """The operation ``color_loss`` (see :class:`~.interface.Kernels`)."""
    target = over_background(pixels, background)
    prediction = leave_out(blend(rgbs, opacities, background), target, room)
    return ColorLoss(LOSSES[loss](prediction, target), mse(prediction.detach(), target.detach()))
