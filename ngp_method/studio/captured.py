"""Training steps as CUDA graphs under nerfstudio's loop, which asks for losses and differentiates them itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ..errors import fail
from ..volume.captured import CapturedStep
from ..volume.step import Step

if TYPE_CHECKING:
    from .model import InstantHashModel


def captured_step(step: Step, device: torch.device, world_size: int) -> CapturedStep:
    """The step as a CUDA graph; ends with a sentence where that cannot be had."""
    kernels = step.field.kernels
    if device.type != "cuda":
        fail(f"--pipeline.model.cuda-graph True needs a GPU, and training is on device '{device.type}'; leave it out.")
    if not kernels.capturable:
        fail(f"--pipeline.model.cuda-graph True needs the triton kernels, and these are {kernels.name}; leave it out.")
    if world_size > 1:
        fail(f"--pipeline.model.cuda-graph True is for one GPU, and training is on {world_size}; leave it out.")
    return CapturedStep(step)


def train(
    model: InstantHashModel, ray_bundle: RayBundle, batch: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Losses and metrics of a batch whose gradients have been added to the parameters' already; None without a graph.

    A backward pass of these losses does nothing, so that nerfstudio's own loop can go on with them.
    """
    if model.captured_step is None:
        return None
    found = model.captured_step(model.rays(ray_bundle), batch["image"].to(model.device))
    return {name: loss.detach().requires_grad_() for name, loss in found.losses.items()}, model.step_metrics(found.mse)
