"""One timed run of a nerfstudio method through nerfstudio's trainer, and its evaluation."""

from __future__ import annotations

import argparse
import ast
import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import machine
from .clock import StepClock

LONG = 10**9


def configure(method: str, data: Path, scale: float, args: argparse.Namespace, output: Path) -> Any:
    """The method's own config, with logging and saving out of the way."""
    from nerfstudio.configs.method_configs import all_methods

    if method == "hashnerf":
        from . import hashnerf

        config = hashnerf.config()
    else:
        config = copy.deepcopy(all_methods[method])
    config.data = config.pipeline.datamanager.data = data
    config.pipeline.datamanager.camera_res_scale_factor = scale
    in_silence(config, args.seed, output)
    if method.startswith("instant-hash"):
        config.max_train_seconds = args.seconds
        for setting in args.set:
            path, text = setting.split("=", 1)
            assign(config, path, value_of(text))
    else:
        _prepare_peer(config, data, scale)
    config.set_timestamp()
    return config


def in_silence(config: Any, seed: int, output: Path) -> None:
    """Has a run on the processor neither log, save nor evaluate on the way, and go on until it is stopped."""
    config.vis, config.output_dir, config.machine.seed = "tensorboard", output, seed
    config.machine.device_type = "cpu"
    config.mixed_precision = False
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0
    config.steps_per_save = LONG
    config.logging.steps_per_log = LONG
    config.logging.local_writer.enable = False
    config.max_num_iterations = LONG


def assign(config: Any, path: str, value: Any) -> None:
    """Sets what a dotted path names, through attributes and dictionaries; it must be there.

    Raises:
        SystemExit: there is no such setting.
    """
    *parents, name = path.split(".")
    try:
        for parent in parents:
            config = config[parent] if isinstance(config, dict) else getattr(config, parent)
        getattr(config, name)
    except (AttributeError, KeyError):
        raise SystemExit(f"{path}: the method has no such setting; ns-train METHOD --help lists them.") from None
    setattr(config, name, value)


def value_of(text: str) -> Any:
    """What a text stands for: a number, None, a truth value, a tuple, or itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _prepare_peer(config: Any, data: Path, scale: float) -> None:
    """nerfacto as it runs without CUDA: torch implementation, same images and cameras, LPIPS' download left out."""
    import torchmetrics.image.lpip
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig

    from ngp_method.data.auto import AutoDataParserConfig

    # One process: its own data manager starts others, which two cores cannot spare.
    config.pipeline.datamanager = VanillaDataManagerConfig(
        dataparser=AutoDataParserConfig(data=data),
        data=data,
        camera_res_scale_factor=scale,
        train_num_rays_per_batch=config.pipeline.datamanager.train_num_rays_per_batch,
        eval_num_rays_per_batch=config.pipeline.datamanager.eval_num_rays_per_batch,
    )
    if hasattr(config.pipeline.model, "implementation"):
        config.pipeline.model.implementation = "torch"
    # On a processor the default of 32768 rays a chunk spends its time in page faults of huge temporaries.
    config.pipeline.model.eval_num_rays_per_chunk = 4096
    lpips: Any = torchmetrics.image.lpip
    lpips.LearnedPerceptualImagePatchSimilarity = NoLpips


class NoLpips(torch.nn.Module):
    """Stands where nerfacto's constructor would download AlexNet; its value is used nowhere here."""

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        """Zero."""
        return torch.zeros(())


class Clock(StepClock):
    """Counts rays and samples, too, and evaluates on the way, all views or some of them."""

    def __init__(
        self, trainer: Any, seconds: float, curve: list[float], start: float, which: Callable[[int], bool] = lambda index: True
    ) -> None:
        super().__init__(trainer, seconds, start)
        self.which = which
        self.curve_at = sorted(t for t in curve if t < seconds)
        self.curve: list[dict[str, float]] = []
        self.rays = self.kept = self.marched = 0
        self.occupancy_s = 0.0
        grid = getattr(trainer.pipeline.model, "grid", None)
        if grid is not None:
            self._update = grid.count_and_update
            grid.count_and_update = self.update

    def count(self, step: int) -> None:
        """Rays, and samples where they are ours."""
        ours = getattr(self.trainer.pipeline.model, "training_step", None)
        counts = ours.counts if ours else None
        self.rays += counts["rays"] if counts else self.trainer.config.pipeline.datamanager.train_num_rays_per_batch
        if counts:
            self.kept += counts["kept"]
            self.marched += counts["marched"]

    def update(self, *args: Any) -> bool:
        """The occupancy grid's part of an iteration, timed."""
        began = time.monotonic()
        found = self._update(*args)
        self.occupancy_s += time.monotonic() - began
        return found

    def between(self, step: int) -> None:
        """Evaluates where it is due, the clock standing still."""
        super().between(step)
        if self.curve_at and self.used >= self.curve_at[0]:
            self.curve.append({"seconds": round(self.used, 1), "psnr": evaluate(self.trainer.pipeline, self.which)["psnr"]})
            self.curve_at.pop(0)


View = tuple[Callable[[], Tensor], Tensor]
"""What renders a view, and its true picture [H, W, 3]."""


@torch.no_grad()
def evaluate(pipeline: Any, which: Callable[[int], bool] = lambda index: True) -> dict[str, float]:
    """Mean PSNR and SSIM over held-out views, and rays rendered per second (metrics not counted).

    Args:
        pipeline: the trained one.
        which: of the views, by their number.
    """
    from ngp_method.kernels.losses import over_background
    from ngp_method.studio.model import without_normals

    model = pipeline.model

    def render(camera: Any) -> Tensor:
        with without_normals():  # as ns-eval renders
            found: Tensor = model.get_outputs_for_camera(camera=camera)["rgb"]
        return found

    model.eval()
    figures = score(
        (partial(render, camera), over_background(batch["image"].float(), torch.ones(3)))
        for camera, batch in pipeline.datamanager.fixed_indices_eval_dataloader
        if which(int(batch["image_idx"]))
    )
    model.train()
    return figures


def score(views: Iterable[View]) -> dict[str, float]:
    """Mean PSNR and SSIM, and rays rendered per second, of views."""
    from ngp_method.studio.metrics import psnr, ssim

    sums, rays, seconds, count = {"psnr": 0.0, "ssim": 0.0}, 0, 0.0, 0
    for render, truth in views:
        began = time.monotonic()
        predicted = render()
        seconds += time.monotonic() - began
        a, b = (x.clamp(0, 1).movedim(-1, 0)[None] for x in (predicted, truth))
        sums["psnr"] += float(psnr(a, b))
        sums["ssim"] += float(ssim(a, b))
        rays, count = rays + truth.shape[0] * truth.shape[1], count + 1
    return {
        **{k: round(v / count, 4) for k, v in sums.items()},
        "render_rays_per_s": round(rays / seconds),
        "views": count,
    }


def chosen(views: int | None, count: int) -> Callable[[int], bool]:
    """Which of so many held-out views are measured: all, or some of them, evenly spaced."""
    if views is None or views >= count:
        return lambda index: True
    taken = {round((number + 0.5) * count / views - 0.5) for number in range(views)}
    return lambda index: index in taken


def train(
    config: Any,
    start: float,
    seconds: float | None,
    steps: int | None = None,
    curve: Sequence[float] = (),
    views: int | None = None,
) -> tuple[Any, Clock]:
    """Trains for so many seconds or steps; the trainer, over the test views where a scene has a split of them, and its clock.

    Args:
        config: of the method, as :func:`configure` gives it.
        start: when Python started, by time.monotonic.
        seconds: of training; with ``steps`` it is not looked at.
        steps: instead of seconds.
        curve, views: as :class:`Clock` and :func:`chosen` have them.
    """
    if steps is not None:
        config.max_train_seconds, config.max_num_iterations, seconds = None, steps, None
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup(test_mode="test")
    if not hasattr(config, "max_train_seconds"):
        trainer.save_checkpoint = lambda step: None
    which = chosen(views, len(trainer.pipeline.datamanager.eval_dataset))
    clock = Clock(trainer, math.inf if seconds is None else seconds, list(curve), start, which)
    trainer.train()
    return trainer, clock


def run(method: str, data: Path, scale: float, args: argparse.Namespace, start: float) -> dict[str, Any]:
    """Train for args.seconds, evaluate, and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(method, data, scale, args, Path(folder))
        trainer, clock = train(config, start, args.seconds, None, args.curve, args.views)
        figures = evaluate(trainer.pipeline, clock.which)
    curve = [*clock.curve, {"seconds": round(clock.used, 1), "psnr": figures["psnr"]}]
    return {
        "steps": clock.steps,
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "samples_per_s": round(clock.kept / clock.used),
        "marched_samples_per_s": round(clock.marched / clock.used),
        "rays_per_s": round(clock.rays / clock.used),
        "render_rays_per_s": figures["render_rays_per_s"],
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "first_step_s": round(clock.first_step_s, 1),
        "occupancy_share": round(clock.occupancy_s / clock.used, 3),
        "views": figures["views"],
        "kernels": getattr(getattr(trainer.pipeline.model, "kernels", None), "description", ""),
        "curve": curve,
    }
