"""Training and rendering without nerfstudio: the product's :class:`~ngp_method.volume.step.Step` in a loop of its own."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ngp_method.fields.adam import L2_REG, LEARNING_RATE, NgpAdam, step_decay
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.kernels import Kernels
from ngp_method.kernels.losses import blend, over_background, psnr
from ngp_method.volume.captured import CapturedStep
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Parts
from ngp_method.volume.rays import Rays
from ngp_method.volume.rendering import RAYS_AT_A_TIME, render_rays
from ngp_method.volume.step import Step, StepSettings
from ngp_method.volume.visibility import seen_cells

from . import gpu_scene
from .gpu_scene import Views


class Training:
    """A field, its occupancy grid and its optimisers on the views of a scene.

    Args:
        kernels: what computes.
        views: training pictures.
        budget: samples of a step.
        settings: the encoding.
        resolution: cells along an edge of the occupancy grid.
        step_scale: finest step as a multiple of instant-ngp's.
        cuda_graph: replay forward and backward pass as a CUDA graph.
    """

    def __init__(
        self,
        kernels: Kernels,
        views: Views,
        budget: int,
        settings: EncodingSettings,
        resolution: int = 128,
        step_scale: float = 1.0,
        cuda_graph: bool = False,
    ) -> None:
        self.kernels, self.views, self.number = kernels, views, 0
        self.device = views.poses.device
        self.pixels, self.table = views.tables()
        self.geometry = replace(gpu_scene.geometry(), step_scale=step_scale)
        network = self.network = RadianceNetwork(build_encoding("hash", settings), kernels).to(self.device)
        self.grid = OccupancyGrid(self.geometry, kernels, resolution).to(self.device)
        self.grid.mark_unseen(seen_cells(views.lens(), self.geometry, resolution).to(self.device))
        parts = Parts([PlainBackground(device=self.device)])
        self.field = Shading(network, self.geometry)
        self.step = Step(self.field, self.grid, parts, StepSettings(sample_budget=budget))
        table = network.encoding.table()
        assert table is not None
        self.captured = CapturedStep(self.step) if cuda_graph else None
        self.optimizers = [NgpAdam([table]), NgpAdam([network.density_params, network.color_params], weight_decay=L2_REG)]
        self.marched = self.kept = self.traced = 0

    def train_step(self) -> None:
        """One training step of the product, on a batch drawn on the device, and statistics."""
        self.step.before(self.number)
        (self.captured or self._as_usual)(*self.batch())
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * step_decay(self.number)
            optimizer.step()
        self.step.after(self.number)
        counts = self.step.counts
        self.number, self.traced = self.number + 1, self.traced + counts["rays"]
        self.marched, self.kept = self.marched + counts["marched"], self.kept + counts["kept"]

    def _as_usual(self, rays: Rays, pixels: Tensor) -> None:
        self.step.compared(rays, pixels).backward()

    def cut(self, o: Tensor, d: Tensor) -> Rays:
        """Rays that may be sampled in the scene box."""
        return Rays(o, *self.kernels.enter_box(o, d, self.geometry.aabb_like(o), 0.0, math.inf))

    def batch(self) -> tuple[Rays, Tensor]:
        """Rays through random pixels, and the pixels [R, C] in [0, 1]."""
        height, width = self.views.size
        chosen = torch.randint(len(self.pixels.pixels), (self.step.budget.rays,), device=self.device)
        views = torch.div(chosen, height * width, rounding_mode="floor")
        colors, indices = self.kernels.pick_pixels(chosen, views, self.pixels)
        rays = self.kernels.table_rays(indices, self.table)
        return self.cut(rays.o, rays.d), colors

    def finite(self) -> bool:
        """Whether all parameters are still numbers."""
        return all(bool(torch.isfinite(param).all()) for param in self.network.parameters())

    @torch.no_grad()
    def picture(self, views: Views, view: int, zoom: float = 1.0) -> Tensor:
        """A view rendered over white, [H * W, 3]."""
        self.network.eval()
        parts = []
        for o, d in zip(*(rays.split(RAYS_AT_A_TIME["other"]) for rays in views.picture_rays(view, zoom))):
            found = render_rays(self.field, self.kernels, self.grid, self.cut(o, d)).gathered
            parts.append(blend(found.rgbs, found.opacities, torch.ones(3, device=self.device)).clamp(0.0, 1.0))
        self.network.train()
        return torch.cat(parts)

    def psnr(self, views: Views, most: int) -> float:
        """Mean over views spread evenly over those given."""
        count = views.poses.shape[0]
        chosen = sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(min(most, count))})
        found = []
        for view in chosen:
            pixels = views.images[view].reshape(-1, views.images.shape[-1]).float() / 255.0
            truth = over_background(pixels, torch.ones(3, device=self.device))
            found.append(float(psnr((self.picture(views, view) - truth).square().mean())))
        return sum(found) / len(found)


def wait(device: torch.device) -> None:
    """Until the device has done all that was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train(
    training: Training, test: Views, seconds: float, curve: Sequence[float], steps: int | None, views_on_the_way: int
) -> dict[str, Any]:
    """Train for so many seconds (or steps), evaluating on the way with the clock stopped; returns the figures."""
    points: list[dict[str, float]] = []
    due = sorted(t for t in curve if t < seconds)
    used, began = 0.0, time.perf_counter()
    while (used + time.perf_counter() - began) < seconds and (steps is None or training.number < steps):
        training.train_step()
        if due and used + time.perf_counter() - began >= due[0]:
            wait(training.device)
            used += time.perf_counter() - began
            points.append({"seconds": round(used, 2), "psnr": round(training.psnr(test, views_on_the_way), 3)})
            print(f"  {used:7.1f} s  {training.number:6d} steps  {points[-1]['psnr']:.2f} dB", flush=True)
            due = [t for t in due if t > used]
            wait(training.device)
            began = time.perf_counter()
    wait(training.device)
    used += time.perf_counter() - began
    psnr = training.psnr(test, test.poses.shape[0] if steps is None else 1)
    points.append({"seconds": round(used, 2), "psnr": round(psnr, 3)})
    return {
        "seconds": round(used, 2),
        "steps": training.number,
        "psnr": round(psnr, 3),
        "steps_per_s": round(training.number / used, 1),
        "samples_per_s": round(training.kept / used),
        "marched_samples_per_s": round(training.marched / used),
        "rays_per_s": round(training.traced / used),
        "curve": points,
    }


def frames(training: Training, test: Views, side: int, most: int) -> dict[str, Any]:
    """Frames a second of pictures ``side`` pixels wide, each waited for; the first is not counted."""
    zoom, times = side / test.size[1], []
    for number in range(most + 1):
        wait(training.device)
        began = time.perf_counter()
        picture = training.picture(test, number % test.poses.shape[0], zoom)
        wait(training.device)
        times.append(time.perf_counter() - began)
    median = statistics.median(times[1:])
    return {"side": side, "frames_per_s": round(1.0 / median, 2), "rays_per_s": round(picture.shape[0] / median)}


def settings(log2_hashmap_size: int = 19, **others: int) -> EncodingSettings:
    """The encoding trained with: 16 levels of 2, N_max 2048."""
    return replace(EncodingSettings(), log2_hashmap_size=log2_hashmap_size, **others)
