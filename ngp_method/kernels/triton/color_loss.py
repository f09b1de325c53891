"""The operation ``color_loss``: pixel and prediction over the background, the loss and its gradients, one launch each way.

As plain torch it is some ten launches forward and as many backward on a few thousand numbers each, which take the host longer
than the device.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import losses
from ..gradients import first_order_only
from . import packing_kernels
from .aot import Variant
from .packing_kernels import PLAIN, variant

DELTA: tl.constexpr = tl.constexpr(losses.HUBER_DELTA)
HUBER: tl.constexpr = tl.constexpr(losses.HUBER_SCALE / losses.HUBER_DELTA)


@triton.jit
def error(  # type: ignore[no-untyped-def]
    rgbs, opacities, pixels, background, room, n_rays,
    CHANNELS: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """(ray, offsets [BLOCK, 4] of colours, mask, prediction less target, background) of this program's rays.

    The fourth channel is padding. A ray for which there was no room has no error.
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, 4)[None, :]
    at = 3 * ray[:, None] + channel
    there = (ray < n_rays)[:, None] & (channel < 3)
    behind = tl.load(background + at, mask=there, other=0.0)
    left = 1.0 - tl.load(opacities + ray, mask=ray < n_rays, other=1.0)
    target = tl.load(pixels + CHANNELS * ray[:, None] + channel, mask=there, other=0.0)
    if CHANNELS == 4:
        alpha = tl.load(pixels + 4 * ray + 3, mask=ray < n_rays, other=1.0)[:, None]
        target = target * alpha + (1.0 - alpha) * behind
    off = tl.load(rgbs + at, mask=there, other=0.0) + left[:, None] * behind - target
    if ROOM:
        off = tl.where((tl.load(room + ray, mask=ray < n_rays, other=0) != 0)[:, None], off, 0.0)
    return ray, at, there, off, behind


@triton.jit(do_not_specialize=PLAIN)
def color_loss_forward(  # type: ignore[no-untyped-def]
    rgbs, opacities, pixels, background, room, out, n_rays,
    LOSS: tl.constexpr, CHANNELS: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds the means of the loss and of the squared error to out[0] and out[1]."""
    _, _, there, off, _ = error(
        rgbs, opacities, pixels, background, room, n_rays, CHANNELS, ROOM, BLOCK
    )  # fmt: skip
    count = n_rays * 3.0
    square = tl.where(there, off * off, 0.0)
    squares = tl.sum(square) / count
    if LOSS == "huber":
        size = tl.abs(off)
        each = tl.where(size < DELTA, 0.5 * square, (size - 0.5 * DELTA) * DELTA)
        tl.atomic_add(out, tl.sum(tl.where(there, each, 0.0)) * HUBER / count)
    else:
        tl.atomic_add(out, squares)
    tl.atomic_add(out + 1, squares)


@triton.jit(do_not_specialize=PLAIN)
def color_loss_backward(  # type: ignore[no-untyped-def]
    rgbs, opacities, pixels, background, room, d_loss, d_rgbs, d_opacities, n_rays,
    LOSS: tl.constexpr, CHANNELS: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of colours [R, 3] and opacities [R] from that of the loss, a scalar in memory."""
    ray, at, there, off, behind = error(
        rgbs, opacities, pixels, background, room, n_rays, CHANNELS, ROOM, BLOCK
    )  # fmt: skip
    up = tl.load(d_loss) / (n_rays * 3.0)
    if LOSS == "huber":
        slope = tl.minimum(tl.maximum(off, 0.0 - DELTA), DELTA) * HUBER
    else:
        slope = 2.0 * off
    slope = tl.where(there, slope * up, 0.0)
    tl.store(d_rgbs + at, slope, mask=there)
    tl.store(d_opacities + ray, 0.0 - tl.sum(slope * behind, axis=1), mask=ray < n_rays)


def _launch(n_rays: int, loss: str, pixels: Tensor, room: Tensor | None) -> tuple[tuple[int], dict[str, Any]]:
    """Grid and constants of both kernels, one ray to a thread."""
    grid, sizes = packing_kernels.launch(n_rays)
    return grid, {"LOSS": loss, "CHANNELS": pixels.shape[1], "ROOM": room is not None, **sizes}


class Loss(torch.autograd.Function):
    """(rgbs, opacities, pixels, background, room, name of the loss) -> [2]: loss, mean squared error."""

    @staticmethod
    def forward(
        ctx: Any, rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
    ) -> tuple[Tensor, Tensor]:
        """Both sums in one launch."""
        mask = rgbs if room is None else room.view(torch.uint8)
        given = (rgbs.contiguous(), opacities.contiguous(), pixels.contiguous(), background, mask)
        ctx.save_for_backward(*given)
        ctx.loss, ctx.room, out = loss, room, torch.zeros(2, device=rgbs.device)
        grid, sizes = _launch(rgbs.shape[0], loss, pixels, room)
        color_loss_forward[grid](*given, out, rgbs.shape[0], **sizes)
        total, squares = out.unbind()
        ctx.mark_non_differentiable(squares)
        return total, squares

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """See :func:`color_loss_backward`."""
        up, given = grad_outputs[0], ctx.saved_tensors
        if up is None:
            return (None,) * 6
        rgbs, opacities, pixels = given[:3]
        d_rgbs, d_opacities = torch.empty_like(rgbs), torch.empty_like(opacities)
        grid, sizes = _launch(rgbs.shape[0], ctx.loss, pixels, ctx.room)
        color_loss_backward[grid](*given, up, d_rgbs, d_opacities, rgbs.shape[0], **sizes)
        return d_rgbs, d_opacities, None, None, None, None


def color_loss(
    rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
) -> losses.ColorLoss:
    """The operation ``color_loss``; in plain torch where there are no rays, or where what is behind them is trained."""
    if not rgbs.shape[0] or background.requires_grad or pixels.requires_grad:
        return losses.color_loss(rgbs, opacities, pixels, background, room, loss)
    behind = background.expand_as(rgbs).contiguous()
    total, squares = Loss.apply(rgbs, opacities, pixels.float(), behind, room, loss)
    return losses.ColorLoss(total, squares)


def variants() -> list[Variant]:
    """With and without alpha and rays left out, for each loss."""
    names = "rgbs opacities pixels background out d_loss d_rgbs d_opacities"
    found = []
    for loss in losses.LOSSES:
        for channels in (3, 4):
            for room in (False, True):
                types = {"*fp32": names if room else names + " room", "*u8": "room" if room else "", "i32": "n_rays"}
                given = {"LOSS": loss, "CHANNELS": channels, "ROOM": room, **packing_kernels.SIZES}
                name = f"/{loss}/{channels}{'/room' if room else ''}"
                found.append(variant("color_loss_forward" + name, color_loss_forward, types, given))
                found.append(variant("color_loss_backward" + name, color_loss_backward, types, given))
    return found
