"""One timed run of instant-image or instant-sdf through nerfstudio's trainer, and what the result is worth."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import machine
from .clock import StepClock
from .training import assign, in_silence

STILL = 512
"""Pixels along the sides of the still that is timed."""

STILLS = 3
"""How often; the median counts."""

MESH = 512
"""Samples along an edge of the cube for the mesh that is timed."""


class PointClock(StepClock):
    """Counts points, too."""

    points = 0

    def count(self, step: int) -> None:
        """Points of the step."""
        self.points += self.trainer.pipeline.datamanager.growth.size(step)


def configure(method: str, data: Path, seconds: float, settings: Mapping[str, Any], seed: int, output: Path) -> Any:
    """The method's own config with ``settings`` (dotted paths), with logging and saving out of the way."""
    from nerfstudio.configs.method_configs import all_methods

    config: Any = copy.deepcopy(all_methods[method])
    in_silence(config, seed, output)
    config.data, config.max_train_seconds = data, seconds
    for path, value in settings.items():
        assign(config, path, value)
    config.make_paths_absolute()
    config.set_timestamp()
    config.set_experiment_name()
    return config


def run(
    method: str, data: Path, seconds: float, settings: Mapping[str, Any], seed: int, start: float, uses: bool
) -> dict[str, Any]:
    """Trains, measures the whole, and returns the figures.

    Args:
        method: instant-image or instant-sdf.
        data: the file.
        seconds: of training.
        settings: of the method's config, by dotted path.
        start: when Python started, by time.monotonic.
        uses: whether what a result is used for is timed too: a still, and the picture or a mesh written to a file.
    """
    from nerfstudio.scripts.train import _set_random_seed

    with tempfile.TemporaryDirectory() as folder:
        config = configure(method, data, seconds, settings, seed, Path(folder))
        _set_random_seed(seed)
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        trainer.save_checkpoint = lambda step: None
        trainer.pipeline.say_measures = lambda: None  # measured below, and timed
        clock = PointClock(trainer, seconds, start)
        trainer.train()
        pipeline = trainer.pipeline.eval()
        began = time.monotonic()
        found = pipeline.get_average_eval_image_metrics()
        figures = {name: round(float(value), 7) for name, value in found.items()}
        figures["measuring_s"] = round(time.monotonic() - began, 2)
        if uses:
            figures |= time_uses(pipeline, Path(folder))
    model = pipeline.model
    return {
        "steps": clock.steps,
        **figures,
        "points_per_s": round(clock.points / clock.used),
        "points": clock.points,
        "n_params": model.network.n_params,
        "encoding": model.config.encoding,
        "log2_hashmap_size": model.config.log2_hashmap_size if model.config.encoding == "hash" else None,
        "first_step_s": round(clock.first_step_s, 1),
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "kernels": model.kernels.description,
    }


def time_uses(pipeline: Any, folder: Path) -> dict[str, float]:
    """Seconds of a still of 512 x 512 pixels (colour alone; shaded), and of the whole picture as PNG, or of a mesh at 512^3."""
    figures: dict[str, float] = {"still_s": _still(pipeline)}
    model, began = pipeline.model, time.monotonic()
    if hasattr(model, "picture"):
        from ngp_method.primitives.image.field import write_picture

        write_picture(model.picture, folder / "picture.png", 8, model.source.profile)
        figures["written_s"] = round(time.monotonic() - began, 2)
    else:
        from ngp_method.tools.mesh import MeshSettings, distance_mesh

        mesh = distance_mesh(model, MeshSettings(resolution=MESH))
        figures["mesh_s"] = round(time.monotonic() - began, 2)
        figures |= {"mesh_watertight": bool(mesh.is_watertight), "mesh_euler": int(mesh.euler_number)}
    return figures


def _still(pipeline: Any) -> float:
    """Median seconds of a picture from the first view, of what the viewer shows by default."""
    camera = copy.deepcopy(pipeline.datamanager.train_dataset.cameras[0:1])
    camera.rescale_output_resolution(STILL / max(int(camera.width[0]), int(camera.height[0])))
    comfort = pipeline.model.viewer_comfort
    plain, comfort.wants = comfort.wants, lambda output: output in ("rgb", "shaded")
    try:
        seconds = []
        for _ in range(STILLS):
            began = time.monotonic()
            pipeline.model.get_outputs_for_camera(camera)
            seconds.append(time.monotonic() - began)
    finally:
        comfort.wants = plain
    return round(sorted(seconds)[STILLS // 2], 3)
