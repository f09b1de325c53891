"""The paper's study of its radiance field: what is varied, one run of it, and the paper's figures beside.

Settings are the paper's (table 1: L = 16, F = 2, N_min = 16, T = 2^19, N_max = 2048, networks 64 wide) but for what is varied;
batch size and learning rates are those of the machine's preset, the same in all runs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import machine
from .training import configure, evaluate, train

MODEL = "pipeline.model."
PAPER = {
    "levels_fit_images": False,
    "n_levels": 16,
    "n_features_per_level": 2,
    "log2_hashmap_size": 19,
    "base_resolution": 16,
    "finest_resolution": 2048,
}
"""Table 1 of the paper, whatever the preset has."""

LARGE = {"n_neurons": 256, "n_hidden_layers": 7, "n_hidden_layers_color": 1}
"""The networks of instant-ngp ``configs/nerf/frequency.json`` and ``none.json``, at their rate of 1e-3."""
RATE = {"optimizers.encoding.optimizer.lr": 1e-3, "optimizers.networks.optimizer.lr": 1e-3}


def _model(**settings: Any) -> dict[str, Any]:
    return {MODEL + name: value for name, value in settings.items()}


Variants = Mapping[str, dict[str, Any]]

EXPERIMENTS: dict[str, Variants] = {
    # Figure 2: encodings, at equal seconds (there at 11,000 steps each, of which the large networks take seven times as long).
    "figure2": {
        "none": _model(encoding="none", direction_encoding="none", **LARGE) | RATE,
        "frequency": _model(encoding="frequency", direction_encoding="frequency", n_frequencies=16, **LARGE) | RATE,
        "dense, single": _model(
            encoding="dense", n_levels=2, n_features_per_level=8, base_resolution=128, finest_resolution=128
        ),
        "dense, multi": _model(encoding="dense", n_levels=8, base_resolution=16, finest_resolution=173),
        "hash 2^14": _model(log2_hashmap_size=14),
        "hash 2^19": _model(log2_hashmap_size=19),
    },
    # Figure 4: the table's size.
    "T": {f"2^{size}": _model(log2_hashmap_size=size) for size in (12, 14, 16, 18, 20, 22)},
    # Figure 5: features and levels at a constant number of parameters, F * L * T.
    "FL": {
        f"F={f}, L={levels}": _model(n_features_per_level=f, n_levels=levels, log2_hashmap_size=size)
        for f, levels, size in (
            (2, 4, 19),
            (2, 8, 18),
            (2, 16, 17),
            (2, 32, 16),
            (4, 8, 17),
            (4, 16, 16),
            (8, 4, 17),
            (8, 8, 16),
        )
    },
    # Figure 10: width and depth of the networks. (A network has at least one hidden layer here: "linear" is not among them.)
    "mlp": {
        f"{width} wide, {density} + {color} layers": _model(
            n_neurons=width, n_hidden_layers=density, n_hidden_layers_color=color
        )
        for width, density, color in ((16, 1, 2), (32, 1, 2), (64, 1, 1), (64, 1, 2), (64, 2, 3), (128, 1, 2))
    },
    # Section 3: a level that fits its table is dense, and the hash costs nothing; one that does not has collisions.
    "dense": {
        f"N_max {finest}, {what}": _model(finest_resolution=finest, log2_hashmap_size=size)
        for finest in (64, 128)
        for what, size in (("all levels dense", 22), ("hashed, 2^14", 14), ("hashed, 2^12", 12))
    },
    # Section 4: the finest resolution.
    "nmax": {f"N_max {finest}": _model(finest_resolution=finest) for finest in (128, 256, 512, 1024, 2048, 4096)},
}
"""What is varied: settings by the name of the variant, by the name of the experiment."""

PRINTED = {
    "none": (411e3, 18.56),
    "frequency": (438e3, 22.90),
    "dense, single": (33.6e6, 22.35),
    "dense, multi": (16.3e6, 23.62),
    "hash 2^14": (494e3, 22.61),
    "hash 2^19": (12.6e6, 24.58),
}
"""Parameters and PSNR of the paper's figure 2: another scene, 11,000 steps on an RTX 3090."""


def run(data: Path, scale: float, experiment: str, variant: str, args: argparse.Namespace, start: float) -> dict[str, Any]:
    """Trains one variant and measures all held-out views.

    Args:
        data, scale: the scene, and the scale of its images.
        experiment, variant: names in :data:`EXPERIMENTS`.
        args: ``steps`` or, for figure 2, ``seconds`` of training; ``seed`` and ``set``, which wins over the variant.
        start: when Python started, by time.monotonic.
    """
    settings, by_time = EXPERIMENTS[experiment][variant], experiment == "figure2"
    given = [f"{path}={value!r}" for path, value in (_model(**PAPER) | settings).items()] + args.set
    with tempfile.TemporaryDirectory() as folder:
        config = configure("instant-hash", data, scale, argparse.Namespace(**{**vars(args), "set": given}), Path(folder))
        trainer, clock = train(config, start, args.seconds, None if by_time else args.steps)
        figures = evaluate(trainer.pipeline)
    model = trainer.pipeline.model
    return {
        "experiment": experiment,
        "variant": variant,
        "n_params": sum(vector.numel() for vector in model.field.network.vectors().values()),
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "steps": clock.steps,
        "seconds": round(clock.used, 1),
        "samples_per_s": round(clock.kept / clock.used),
        "render_rays_per_s": figures["render_rays_per_s"],
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "views": figures["views"],
        "kernels": model.kernels.description,
    }
