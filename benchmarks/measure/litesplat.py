"""LiteSplat beside instant-hash: Gaussian splatting in Keras on torch, by Abhas Kumar Sinha (PyPI ``litesplat``).

How it is treated, so that the comparison is fair:

- Cameras and pictures are the project's own. Cameras go through the form it imports (COLMAP text files, PINHOLE, ``images/``
  beside ``sparse/0/``) and through its own converter.
- A pixel is asked for at its middle. LiteSplat's own loop over a picture asks at a corner, and counts y from below in pictures
  it has turned upside down; here its CameraLayer.render_pixel_color is handed the middles with y from below, so that no
  picture is turned, and lenses' distortion holds too. Held-out pictures are compared the right way up.
- It renders over black and has no background, so it is trained on pictures over black and compared with the truth over black.
- Where a scene has no sparse points it starts from 2,200 points, its author's number: random ones of the visual hull, each of
  the mean colour that the training views see there.
- Positions are written in units in which the cameras stand 4 from the points, as in its author's scene. Units are its step
  length at a given learning rate, and these were not tuned: four times as many led by 1.4 dB after 30 s on lego at 100x100 and
  were equal at 50x50, one seed each. The scale it imports, 0.005, is a fifth of what lego's points leave room for: half the
  mean distance to the nearest neighbour is set instead.
- Training is its author's script but for the batch: Adam at 1e-2, mean squared error, the Gaussians sorted anew for all cameras
  after the first and every 10th step. A step is one random training view, where the author's has 15, at half the size of the
  held-out ones (its memory grows with pixels times Gaussians). Each batch of pixels goes backward at once, which adds up to
  the same gradient with less memory.
- Scales stay positive, and opacities and colours within [0, 1], as far as its own code sees to it (it clips weights only).
- A step whose gradient is not finite is left out and counted (``skipped_steps``): its author's notebook ends in NaN after 70.
  Pixels that are not finite in a held-out picture count as black (``broken_pixels``).

What of LiteSplat 0.1.1 limits its quality, and is left as it is: the Gaussians' rotations are multiplied with the camera's
element by element, not as matrices; covariances are not mirrored where positions are; Gaussians are sorted by their distance
from the camera's translation vector, not from its position; colours do not depend on the direction; no Gaussian is added.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import litesplat_scene as scene
from . import machine, training

RATE = 1e-2
"""Adam's learning rate in the author's script."""

SORT_EVERY = 10
"""Steps after which the author's script sorts the Gaussians anew for all cameras."""

PIXELS = 512
"""Pixels rendered at a time: of 128 to 4096 among the fastest on two cores (the author's script takes 128)."""


def require() -> None:
    """Ends with one sentence where LiteSplat is not installed."""
    from ngp_method.errors import fail

    if importlib.util.find_spec("litesplat") is None:
        fail("The peer LiteSplat is not installed: pip install litesplat")


class Splats:
    """LiteSplat's Gaussians with one of its cameras for each view; training views come first, then those held out.

    Args:
        folder: an empty folder for its files.
        splits: nerfstudio Cameras of the training views and of the held-out views.
        points: starting points [N, 3], and colors: [N, 3], world units.
        unit: units LiteSplat is given per world unit.
        size: starting scale of the Gaussians in its units; None: as it imports them.
    """

    def __init__(
        self, folder: Path, splits: list[Any], points: Tensor, colors: Tensor, unit: float, size: float | None
    ) -> None:
        from litesplat.core import GaussianParameterLayer
        from litesplat.io import convert_colmap_to_gaussians

        scene.write_colmap(folder / "colmap", splits, points, colors, unit)
        with redirect_stdout(None):
            convert_colmap_to_gaussians(str(folder / "colmap"), str(folder / "splats"))
            self.gaussians: Any = GaussianParameterLayer(str(folder / "splats"))
        if size is not None:
            self.gaussians.scales.assign(torch.full_like(self.gaussians.scales.value, size))
        self.folder = folder / "splats"
        self.parameters = [variable.value for variable in self.gaussians.trainable_variables]

    def cameras(self, first: int, count: int) -> list[Any]:
        """LiteSplat's cameras of some views, the Gaussians sorted as they lie now."""
        from litesplat.core import CameraLayer

        with torch.no_grad():
            return [CameraLayer(str(self.folder), self.gaussians, camera_index=first + index) for index in range(count)]


def upwards(places: Tensor, camera: Any) -> Tensor:
    """Places in a picture, [N, 2] with y down, as LiteSplat counts them: y from the lower edge."""
    return torch.stack([places[:, 0], camera.height - places[:, 1]], dim=-1)


class Training:
    """Its author's training, one view a step.

    Args:
        splats: what is trained.
        cameras: LiteSplat's, one for each training view.
        dataset: the training views (ByteDataset).
        seed: of the draw of views.
    """

    def __init__(self, splats: Splats, cameras: list[Any], dataset: Any, seed: int) -> None:
        self.splats, self.cameras = splats, cameras
        self.optimizer = torch.optim.Adam(splats.parameters, lr=RATE)
        self.generator = torch.Generator().manual_seed(seed)
        self.views = [self._view(dataset, index) for index in range(len(dataset))]
        self.steps = self.rays = self.skipped = 0

    def _view(self, dataset: Any, index: int) -> tuple[Tensor, Tensor]:
        """Places and colours of a view's pixels, over black; those that a mask leaves out are not among them."""
        places = upwards(scene.pixel_places(dataset.cameras, index), self.cameras[index])
        colors, mask = over_black(dataset.get_image_float32(index)).reshape(-1, 3), dataset.mask(index)
        return (places, colors) if mask is None else (places[mask.reshape(-1)], colors[mask.reshape(-1)])

    def step(self) -> None:
        """One training view: mean squared error over its pixels, in batches whose gradients add up to that of the whole."""
        index = int(torch.randint(len(self.views), (1,), generator=self.generator))
        places, colors = self.views[index]
        self.optimizer.zero_grad()
        try:
            for some, truth in zip(places.split(PIXELS), colors.split(PIXELS)):
                error = self.cameras[index].render_pixel_color(some) - truth
                (error.square().sum() / colors.numel()).backward()
            sound = all(bool(parameter.grad.isfinite().all()) for parameter in self.splats.parameters)
        except torch.linalg.LinAlgError:  # a Gaussian so thin that its covariance has no inverse
            sound = False
        if sound:
            self.optimizer.step()
        self.skipped += not sound
        self.steps, self.rays = self.steps + 1, self.rays + len(places)
        if self.steps == 1 or self.steps % SORT_EVERY == 0:
            with torch.no_grad():
                for camera in self.cameras:
                    camera.get_sorted_keys()


def over_black(image: Tensor) -> Tensor:
    """A picture [H, W, 3 or 4] over black, [H, W, 3]."""
    from ngp_method.kernels.losses import over_background

    return over_background(image.float(), torch.zeros(3))


@torch.no_grad()
def evaluate(cameras: list[Any], dataset: Any, which: Callable[[int], bool] = lambda index: True) -> dict[str, float]:
    """Figures of the held-out views, or of some of them, as :func:`.training.score` has them, and pixels that came out as no
    number.
    """
    broken = 0

    def render(camera: Any, places: Tensor, shape: torch.Size) -> Tensor:
        nonlocal broken
        predicted = torch.cat([camera.render_pixel_color(some) for some in places.split(PIXELS)])
        broken += int((~predicted.isfinite()).any(dim=-1).sum())
        return predicted.nan_to_num(0.0, 0.0, 0.0).reshape(shape)

    def views() -> Iterator[tuple[Callable[[], Tensor], Tensor]]:
        for index, camera in enumerate(cameras):
            if not which(index):
                continue
            truth = over_black(dataset.get_image_float32(index))
            places = upwards(scene.pixel_places(dataset.cameras, index), camera)
            yield partial(render, camera, places, truth.shape), truth

    return {**training.score(views()), "broken_pixels": broken}


def views_of(data: Path, scale: float, args: argparse.Namespace, folder: Path) -> tuple[Any, Any, Any]:
    """The project's own training views at half the size of the held-out ones, the held-out views, and the geometry."""
    from ngp_method.data.images import ByteDataset

    config = training.configure("instant-hash", data, scale, args, folder)
    manager = config.pipeline.datamanager.setup(device="cpu", test_mode="test", world_size=1, local_rank=0)
    half = ByteDataset(manager.train_dataparser_outputs, scale / 2)
    half.load()
    scene.check_lenses(half.cameras, data)
    return half, manager.eval_dataset, manager.geometry


def run(data: Path, scale: float, args: argparse.Namespace, start: float) -> dict[str, Any]:
    """Train for args.seconds, evaluate, and return the figures."""
    require()
    os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
    import keras

    with tempfile.TemporaryDirectory() as name, keras.device("cpu"):
        train, held_out, geometry = views_of(data, scale, args, Path(name))
        points, origin = scene.starting_points(train, geometry, data, args.seed)
        unit = scene.unit_for(train.cameras, points)
        colors = scene.mean_colors(train, points)
        splats = Splats(Path(name), [train.cameras, held_out.cameras], points, colors, unit, unit * scene.half_spacing(points))
        trained = Training(splats, splats.cameras(0, len(train)), train, args.seed)
        views, which = splats.cameras(len(train), len(held_out)), training.chosen(args.views, len(held_out))
        used, first_step_s, curve = 0.0, 0.0, []
        ahead = sorted(t for t in args.curve if t < args.seconds)
        while used < args.seconds:
            began = time.monotonic()
            trained.step()
            used += time.monotonic() - began
            first_step_s = first_step_s or time.monotonic() - start
            if ahead and used >= ahead[0]:
                ahead.pop(0)
                curve.append({"seconds": round(used, 1), "psnr": evaluate(views, held_out, which)["psnr"]})
        figures = evaluate(views, held_out, which)
    return {
        "steps": trained.steps,
        **figures,
        "rays_per_s": round(trained.rays / used),
        "peak_rss_gb": round(machine.peak_rss_gb(), 2),
        "first_step_s": round(first_step_s, 1),
        "skipped_steps": trained.skipped,
        "gaussians": len(points),
        "gaussians_from": origin,
        "background": "black",
        "training_scale": scale / 2,
        "learning_rate": RATE,
        "curve": [*curve, {"seconds": round(used, 1), "psnr": figures["psnr"]}],
    }
