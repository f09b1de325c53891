"""One timed run on multi-scale data, and what it is worth at each scale."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from . import machine
from .training import chosen, configure, evaluate, train


def run(method: str, data: Path, args: argparse.Namespace, start: float) -> dict[str, Any]:
    """Trains for args.seconds, or args.steps, and measures every held-out view.

    Args:
        method: a preset of instant-hash.
        data: folder with the ``metadata.json`` of several scales.
        args: seconds or steps, seed, set, train_scales, and views, how many are measured at each scale (None: all).
        start: when Python started, by time.monotonic.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = configure(method, data, 1.0, args, Path(folder))
        config.pipeline.datamanager.dataparser.train_scales = args.train_scales
        trainer, clock = train(config, start, args.seconds, args.steps)
        figures = by_scale(trainer.pipeline, args.views)
    return {
        "steps": clock.steps,
        **figures,
        "samples_per_s": round(clock.kept / clock.used),
        "rays_per_s": round(clock.rays / clock.used),
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "kernels": trainer.pipeline.model.kernels.description,
    }


def by_scale(pipeline: Any, views: int | None = None) -> dict[str, float]:
    """Mean PSNR and SSIM of each scale and of all images, and rays a second that each is rendered at.

    Args:
        views: of each scale, evenly spaced; None: all.
    """
    from ngp_method.data.multiscale import SCALES

    scales = pipeline.datamanager.eval_dataset.metadata[SCALES]
    found: dict[str, float] = {}
    of_scale = {scale: [index for index, other in enumerate(scales) if other == scale] for scale in set(scales)}
    sums, count = {"psnr": 0.0, "ssim": 0.0}, 0.0
    for scale in sorted(set(scales)):
        which = chosen(views, len(of_scale[scale]))
        taken = {index for number, index in enumerate(of_scale[scale]) if which(number)}
        figures = evaluate(pipeline, taken.__contains__)
        found |= {f"{name}_{scale}": figures[name] for name in (*sums, "render_rays_per_s")}
        for name in sums:
            sums[name] += figures[name] * figures["views"]
        count += figures["views"]
    return found | {name: round(total / count, 4) for name, total in sums.items()} | {"views": count}
