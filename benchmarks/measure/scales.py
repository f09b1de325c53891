"""One timed run on multi-scale data, and what it is worth at each scale."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from . import machine
from .training import Clock, configure


def run(method: str, data: Path, args: argparse.Namespace, start: float) -> dict[str, Any]:
    """Trains for args.seconds and measures every held-out view.

    Args:
        method: a preset of instant-hash.
        data: folder with the ``metadata.json`` of several scales.
        args: seconds, seed, set, train_scales.
        start: when Python started, by time.monotonic.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = configure(method, data, 1.0, args, Path(folder))
        config.pipeline.datamanager.dataparser.train_scales = args.train_scales
        config.max_train_seconds = args.seconds
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup(test_mode="test")
        clock = Clock(trainer, args.seconds, [], start)
        trainer.train()
        figures = by_scale(trainer.pipeline)
    return {
        "steps": clock.steps,
        **figures,
        "samples_per_s": round(clock.kept / clock.used),
        "rays_per_s": round(clock.rays / clock.used),
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "kernels": trainer.pipeline.model.kernels.description,
    }


@torch.no_grad()
def by_scale(pipeline: Any) -> dict[str, float]:
    """Mean PSNR and SSIM of each scale and of all images (scales have as many), and rays a second that each is rendered at."""
    from ngp_method.data.multiscale import SCALES
    from ngp_method.data.multiscale import by_scale as means
    from ngp_method.kernels.losses import over_background
    from ngp_method.studio.metrics import psnr, ssim
    from ngp_method.studio.model import without_normals

    model, manager = pipeline.model.eval(), pipeline.datamanager
    scales, rows, spent = [], [], {}
    of_images = manager.eval_dataset.metadata[SCALES]
    for camera, batch in manager.fixed_indices_eval_dataloader:
        scale = of_images[int(batch["image_idx"])]
        began = time.monotonic()
        with without_normals():
            predicted = model.get_outputs_for_camera(camera=camera)["rgb"]
        seconds, rays = spent.get(scale, (0.0, 0))
        spent[scale] = seconds + time.monotonic() - began, rays + predicted.shape[0] * predicted.shape[1]
        truth = over_background(batch["image"].float(), torch.ones(3))
        a, b = (x.clamp(0, 1).movedim(-1, 0)[None] for x in (predicted, truth))
        rows.append({"psnr": float(psnr(a, b)), "ssim": float(ssim(a, b))})
        scales.append(scale)
    model.train()
    found = {name: round(value, 4) for name, value in means(rows, scales).items()}
    found |= {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in ("psnr", "ssim")}
    return found | {f"render_rays_per_s_{scale}": round(rays / seconds) for scale, (seconds, rays) in sorted(spent.items())}
