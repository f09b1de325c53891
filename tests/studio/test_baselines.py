"""NeRF and mip-NeRF under nerfstudio's trainer: they learn the built-in scene, resume to the last bit, and are looked at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components import renderers
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor

from ngp_method.demo import demo_scene_path
from ngp_method.kernels.losses import over_background
from ngp_method.method_configs import mipnerf_config, nerf_config
from ngp_method.studio.baselines.model import BaselineModel
from ngp_method.studio.pipeline import InstantHashPipeline
from ngp_method.studio.trainer import InstantHashTrainer
from ngp_method.tools.mesh import MeshSettings, extract_mesh
from support.runs import differ, last_checkpoint, same_end, set_up, stop_after

pytestmark = pytest.mark.usefixtures("clean_writers")

KINDS = ("mipnerf", "nerf")
SMALL: dict[str, Any] = {"n_neurons": 48, "n_hidden_layers": 3, "skip_after": 2, "n_neurons_color": 24}
SAMPLES = {"mipnerf": {"n_samples": 20}, "nerf": {"n_coarse_samples": 14, "n_fine_samples": 14}}
SIZE = 40
"""Pixels a side of the demo scene's pictures here, a fifth of what they have."""


def trainer_for(
    kind: str, out: Path, seed: int = 42, steps: int = 20, rays: int | None = 64, lr: float = 5e-3, load_dir: Path | None = None
) -> InstantHashTrainer:
    """A trainer as ``ns-train`` sets it up, of a small network on small pictures; a rate for a hundred steps, not a million."""
    config = mipnerf_config() if kind == "mipnerf" else nerf_config()
    config.pipeline.datamanager.train_num_rays_per_batch = rays
    config.pipeline.datamanager.camera_res_scale_factor = SIZE / 200  # type: ignore[attr-defined] # ours has it
    config.optimizers["networks"]["optimizer"].lr = lr
    return set_up(config, demo_scene_path(), out, seed, steps, load_dir, {**SMALL, **SAMPLES[kind]})


class Trained:
    """A run of 180 steps."""

    def __init__(self, kind: str, out: Path) -> None:
        self.trainer = trainer_for(kind, out, steps=180, rays=256)
        self.losses: list[float] = []
        plain = self.trainer.train_iteration

        def noted(step: int) -> Any:
            found = plain(step)
            self.losses.append(float(found[1]["rgb_loss"]))
            return found

        self.trainer.train_iteration = noted  # type: ignore[method-assign]
        self.trainer.train()
        self.pipeline: InstantHashPipeline = self.trainer.pipeline  # type: ignore[assignment]
        self.pipeline.eval()
        model: Any = self.pipeline.model
        self.model: BaselineModel = model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """One of each."""
    return {kind: Trained(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_the_built_in_scene(kind: str, runs: dict[str, Trained]) -> None:
    """The loss falls to less than half; held-out views are 3 dB better than the best picture of one colour (some 12.5 dB)."""
    run = runs[kind]
    first, last = (sum(some) / 10 for some in (run.losses[:10], run.losses[-10:]))
    assert last < 0.5 * first
    found, plain = [], []
    views = list(run.pipeline.datamanager.fixed_indices_eval_dataloader)[:4]
    for camera, batch in views:
        truth = over_background(batch["image"].float(), torch.ones(3))
        rgb = run.model.get_outputs_for_camera(camera)["rgb"]
        assert rgb.shape == (SIZE, SIZE, 3)
        found.append(-10 * math.log10(float((rgb - truth).square().mean())))
        plain.append(-10 * math.log10(float((truth - truth.mean((0, 1))).square().mean())))
    assert sum(found) / 4 > sum(plain) / 4 + 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by Ctrl-C and resumed with another seed: the same to the last bit."""
    whole = trainer_for(kind, tmp_path / "whole")
    whole.train()
    parts = trainer_for(kind, tmp_path / "parts")
    stop_after(parts, 11, monkeypatch)
    resumed = trainer_for(kind, tmp_path / "resumed", seed=7, load_dir=parts.checkpoint_dir)
    resumed.train()
    expected = same_end(whole, resumed, 20)
    assert len(differ(expected["pipeline"], last_checkpoint(parts)["pipeline"])) > 3, "it went on"
    again = eval_setup(whole.base_dir / "config.yml", test_mode="inference")[1]
    state = whole.pipeline.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_a_budget_of_seconds_ends_a_run_with_its_last_rate(tmp_path: Path) -> None:
    trainer = trainer_for("mipnerf", tmp_path, steps=10**6, rays=32, lr=1.0)
    trainer.config.max_train_seconds = 0.5
    trainer.train()
    assert 0 < trainer.steps_done < 10**6
    (rate,) = trainer.optimizers.schedulers["networks"].get_last_lr()
    assert rate < 0.02, "5e-6 of 5e-4 at the end, less a step"


def test_rays_of_a_step_are_as_many_as_asked_for(runs: dict[str, Trained], tmp_path: Path) -> None:
    assert runs["nerf"].model.training_step.counts["rays"] == 256
    trainer = trainer_for("mipnerf", tmp_path, steps=2, rays=None)
    trainer.train()
    model: Any = trainer.pipeline.model
    counts = model.training_step.counts
    assert counts["rays"] == 128, "the default of a processor"
    assert 0.3 * 128 * 40 < counts["kept"] <= 128 * 40, "some rays miss the box"


# -- looking


def bundle(n: int = 30, **more: Any) -> RayBundle:
    """Rays towards the scene from all sides, of pixels of a thousandth; every sixth looks away."""
    rng = torch.Generator().manual_seed(2)
    origins = 4.0 * torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    directions = torch.nn.functional.normalize(0.5 * torch.randn(n, 3, generator=rng) - origins, dim=-1)
    directions[::6] *= -1.0
    area = torch.full((n, 1), 1e-6)
    return RayBundle(origins=origins, directions=directions, **{"pixel_area": area, **more})


def looked(model: BaselineModel, rays: RayBundle) -> dict[str, Tensor]:
    """Outputs of a bundle."""
    with torch.no_grad():
        return dict(model.get_outputs(rays))


@pytest.mark.parametrize("kind", KINDS)
def test_bundles_of_any_shape_and_chunk(kind: str, runs: dict[str, Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    model = runs[kind].model
    rays = bundle()
    whole = looked(model, rays)
    assert {name: value.shape[-1] for name, value in whole.items()} == {"rgb": 3, "accumulation": 1, "depth": 1, "normals": 3}
    assert all(torch.isfinite(value).all() for value in whole.values())
    assert 0.0 <= float(whole["rgb"].min()) <= float(whole["rgb"].max()) <= 1.0
    assert not whole["accumulation"][::6].any(), "nothing behind a camera"
    assert (whole["rgb"][::6] == 1.0).all(), "white"
    seen = whole["accumulation"][:, 0] > 0.5
    assert seen.any()
    assert ((2 * whole["normals"][seen] - 1).norm(dim=-1) - 1).abs().max() < 1e-4
    assert ((whole["depth"][seen] > 1.0) & (whole["depth"][seen] < 7.0)).all()
    monkeypatch.setattr(model, "rays_at_a_time", 7)
    for name, value in looked(model, rays).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-4)
    square = looked(model, rays.reshape((5, 6)))
    assert square["rgb"].shape == (5, 6, 3)
    none = looked(model, bundle(0))
    assert none["rgb"].shape == (0, 3)
    assert none["depth"].shape == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_backgrounds_crops_and_alpha(kind: str, runs: dict[str, Trained]) -> None:
    model, rays = runs[kind].model, bundle()
    white = looked(model, rays)
    with renderers.background_color_override_context(torch.tensor([0.0, 1.0, 0.0])):
        green = looked(model, rays)
    clear = 1 - white["accumulation"]
    difference = white["rgb"] - green["rgb"]
    # mip-NeRF's colours may leave [0, 1] by a thousandth, which is cut off of each picture by itself
    torch.testing.assert_close(difference, clear * torch.tensor([1.0, 0.0, 1.0]), atol=2.1e-3, rtol=0)
    rgba = model.get_rgba_image(white)
    torch.testing.assert_close(rgba[..., 3:], white["accumulation"])
    cropped = looked(model, bundle(nears=torch.full((30, 1), 50.0), fars=torch.full((30, 1), 60.0)))
    assert not cropped["accumulation"].any()


def test_pictures_see_the_pixels_size_and_the_placeholder_is_none(runs: dict[str, Trained]) -> None:
    model = runs["mipnerf"].model
    rgbs = [looked(model, bundle(pixel_area=area))["rgb"] for area in (torch.full((30, 1), 5e-3), torch.ones(30, 1), None)]
    assert float((rgbs[0] - rgbs[1]).abs().max()) > 1e-2
    assert torch.equal(rgbs[1], rgbs[2])


def test_held_out_batches_and_pictures_are_measured(runs: dict[str, Trained]) -> None:
    """What nerfstudio logs on the way."""
    pipeline = runs["mipnerf"].pipeline
    _, losses, metrics = pipeline.get_eval_loss_dict(1)
    assert set(losses) == {"rgb_loss"}
    assert float(metrics["psnr"]) == pytest.approx(-10 * math.log10(float(losses["rgb_loss"])), abs=1e-3)
    found, images = pipeline.get_eval_image_metrics_and_images(1)
    assert found["psnr"] > 13.0
    assert images["img"].shape == (SIZE, 2 * SIZE, 3)
    pipeline.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_its_surface_is_a_mesh(kind: str, runs: dict[str, Trained]) -> None:
    """So few steps leave a fog: of what is densest in it there is a surface, within the cube and in colours."""
    model = runs[kind].model
    points = 2.4 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 1.2
    densest = float(model.field.density_at(points).quantile(0.9)) * model.geometry.unit_size
    mesh = extract_mesh(model, MeshSettings(resolution=24, threshold=densest))  # type: ignore[arg-type]
    assert len(mesh.faces) > 50
    assert float(abs(mesh.vertices).max()) < 1.6
    assert mesh.visual.vertex_colors[:, :3].std() > 1
