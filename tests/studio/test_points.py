"""Pictures and meshes under nerfstudio's trainer: resumed to the last bit, measured, looked at, read again."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image
from torch import Tensor

from ngp_method.errors import UserError
from ngp_method.method_configs import image_config, sdf_config
from ngp_method.primitives.growth import BatchGrowth
from ngp_method.studio.points.image_model import ImageModel
from ngp_method.studio.points.sdf_model import SdfModel
from ngp_method.studio.trainer import InstantHashTrainer
from support.runs import differ, last_checkpoint, same_end, set_up, stop_after

pytestmark = pytest.mark.usefixtures("clean_writers")

STEPS, STOPPED = 40, 21
WIDTH, HEIGHT = 90, 60


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small picture with a bright corner, and a ball in millimetres far from the origin."""
    folder = tmp_path_factory.mktemp("points")
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], -1)
    rgb[:10, :10] = 1.0
    Image.fromarray((255 * rgb).astype(np.uint8)).save(folder / "a picture.png")
    ball = trimesh.creation.icosphere(3, 250.0)
    ball.apply_translation([5000.0, -800.0, 30.0])
    ball.export(folder / "ball.ply")
    return {"image": folder / "a picture.png", "sdf": folder / "ball.ply"}


def trainer_of(
    kind: str, data: Path, out: Path, seed: int = 42, steps: int = STEPS, load_dir: Path | None = None, **model: Any
) -> InstantHashTrainer:
    """A trainer as ``ns-train`` sets it up, of a small model."""
    config = copy.deepcopy(image_config() if kind == "image" else sdf_config())
    manager: Any = config.pipeline.datamanager
    manager.first_batch, manager.batch, manager.batch_doubles_every = 512, 1024, 16
    if kind == "sdf":
        manager.pool_size, manager.uses = 1 << 18, 0.2  # a part is renewed with every few batches
    return set_up(config, data, out, seed, steps, load_dir, {"n_levels": 6, "log2_hashmap_size": 12, **model})


@pytest.mark.parametrize("kind", ["image", "sdf"])
def test_a_resumed_run_is_the_run(kind: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by Ctrl-C and resumed: points, averages and sizes go on to the last bit, also over a batch that doubled."""
    whole = trainer_of(kind, files[kind], tmp_path / "whole")
    whole.train()
    parts = trainer_of(kind, files[kind], tmp_path / "parts")
    stop_after(parts, STOPPED, monkeypatch)
    resumed = trainer_of(kind, files[kind], tmp_path / "resumed", load_dir=parts.checkpoint_dir)
    resumed.train()
    expected = same_end(whole, resumed, STEPS)
    assert len(differ(expected["pipeline"], last_checkpoint(parts)["pipeline"])) >= 2, "it went on"
    if kind == "sdf":
        assert expected["run"]["points"]["renewals"] > last_checkpoint(parts)["run"]["points"]["renewals"] > 0
        assert "_model.network.average_table" in expected["pipeline"]
    else:
        assert not [name for name in expected["pipeline"] if "average" in name]


@pytest.fixture(scope="module")
def image_run(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> InstantHashTrainer:
    """A picture after some hundred steps; its sizes are left open."""
    out = tmp_path_factory.mktemp("image")
    trainer = trainer_of("image", files["image"], out, steps=150, log2_hashmap_size=None, n_levels=16)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def sdf_run(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> InstantHashTrainer:
    """A ball after some hundred steps."""
    trainer = trainer_of("sdf", files["sdf"], tmp_path_factory.mktemp("sdf"), steps=600, finest_resolution=64)
    trainer.pipeline.datamanager.growth = BatchGrowth(2048, 2048, 1)  # type: ignore[union-attr]
    trainer.train()
    return trainer


def view(trainer: InstantHashTrainer, width: int, height: int) -> dict[str, Tensor]:
    """What the first camera sees, in another size."""
    camera = copy.deepcopy(trainer.pipeline.datamanager.train_dataset.cameras[0:1])
    scale = height / float(camera.height[0])
    camera.fx, camera.fy, camera.cx, camera.cy = (v * scale for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    camera.width, camera.height = torch.full_like(camera.width, width), torch.full_like(camera.height, height)
    trainer.pipeline.eval()
    return dict(trainer.pipeline.model.get_outputs_for_camera(camera))


def test_the_first_view_of_a_picture_is_the_picture(image_run: InstantHashTrainer, files: dict[str, Path]) -> None:
    """Pixel for pixel where the view has as many: the reference is the file, and the fit is near it."""
    truth = torch.from_numpy(np.asarray(Image.open(files["image"])).copy()).float() / 255.0
    outputs = view(image_run, WIDTH, HEIGHT)
    assert set(outputs) == {"rgb", "error", "reference", "levels", "accumulation", "depth"}
    assert bool((outputs["accumulation"] == 1).all())
    torch.testing.assert_close(outputs["reference"], truth, atol=2e-3, rtol=0)
    error = (outputs["rgb"] - truth).abs()
    assert float(error.mean()) < 0.03
    torch.testing.assert_close(outputs["error"], (8 * (outputs["rgb"] - outputs["reference"]).abs()).clamp(max=1.0))
    assert float((outputs["levels"] - truth).abs().mean()) > float(error.mean())


def test_a_small_view_of_a_picture_has_no_sparkle(image_run: InstantHashTrainer) -> None:
    """A pixel that covers nine is nearer to their mean than one of them is."""
    outputs = view(image_run, WIDTH // 3, HEIGHT // 3)
    whole = view(image_run, WIDTH, HEIGHT)["reference"]
    means = whole.view(HEIGHT // 3, 3, WIDTH // 3, 3, 3).mean((1, 3))
    middles = whole.view(HEIGHT // 3, 3, WIDTH // 3, 3, 3)[:, 1, :, 1]
    corner = (slice(0, 5), slice(0, 5))  # where the bright square ends
    assert float((outputs["reference"] - means)[corner].abs().mean()) < 0.7 * float((middles - means)[corner].abs().mean())


def test_near_to_it_a_pixel_of_the_picture_is_a_square(image_run: InstantHashTrainer) -> None:
    """Sixty-four times nearer, where nerfstudio's viewer goes with its wheel: eight pixels are what fills the view."""
    camera = copy.deepcopy(image_run.pipeline.datamanager.train_dataset.cameras[0:1])
    camera.camera_to_worlds[0, 2, 3] /= 64
    image_run.pipeline.eval()
    outputs = image_run.pipeline.model.get_outputs_for_camera(camera)
    assert bool((outputs["accumulation"] == 1).all())
    reference = outputs["reference"]
    assert 1 <= len(reference.view(-1, 3).unique(dim=0)) <= 9
    changes = (reference.diff(dim=1) != 0).any(-1).float().sum(1)
    assert float(changes.max()) <= 2, "squares, as WIDTH / 64 of them are seen"
    assert float(outputs["rgb"].diff(dim=1).abs().max()) < 0.02, "between pixels the function goes on smoothly"


def test_a_picture_is_measured_pixel_by_pixel(image_run: InstantHashTrainer, files: dict[str, Path], tmp_path: Path) -> None:
    pipeline: Any = image_run.pipeline
    found = pipeline.get_average_eval_image_metrics(output_path=tmp_path / "pictures", get_std=True)
    truth = np.asarray(Image.open(files["image"])).astype(np.float64) / 255
    fitted = view(image_run, WIDTH, HEIGHT)["rgb"].double().numpy()
    assert found["psnr"] == pytest.approx(-10 * np.log10(((truth - fitted) ** 2).mean()), abs=0.05)
    assert found["num_pixels"] == WIDTH * HEIGHT
    assert 0.5 < found["ssim"] < 1.0
    written = np.asarray(Image.open(tmp_path / "pictures" / "a picture.png")).astype(np.float64) / 255
    assert np.abs(written - fitted).max() < 0.02


def test_what_was_left_open_is_the_runs_from_then_on(image_run: InstantHashTrainer) -> None:
    config, settled = image_run.config.pipeline.model, last_checkpoint(image_run)["run"]["settled"]
    assert isinstance(config, type(image_config().pipeline.model))
    assert config.log2_hashmap_size == settled["log2_hashmap_size"] == 16
    assert config.finest_resolution == settled["finest_resolution"] == WIDTH // 2
    assert "log2_hashmap_size: 16" in (image_run.base_dir / "config.yml").read_text()
    assert image_run.base_dir.parts[-3:] == ("a picture", "instant-image", "run"), "named by the file"


@pytest.mark.parametrize("kind", ["image", "sdf"])
def test_a_run_is_read_again_where_it_and_its_file_have_moved(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Folder and file go to another place together; the values are the same."""
    trainer: InstantHashTrainer = request.getfixturevalue(f"{kind}_run")
    source, model = trainer.config.data, trainer.pipeline.model
    assert source is not None
    points = torch.rand(50, 2 if kind == "image" else 3, generator=torch.Generator().manual_seed(0))
    expected = model.eval().network.value_at(points)  # type: ignore[union-attr]
    shutil.copytree(trainer.base_dir, tmp_path / "moved" / "run")
    shutil.copy(source, tmp_path / "moved" / source.name)
    config = (tmp_path / "moved" / "run" / "config.yml").read_text()
    assert config.count(str(source)) == 1, "named once, in plain text"
    (tmp_path / "moved" / "run" / "config.yml").write_text(config.replace(str(source), f"../{source.name}"))
    _, pipeline, _, step = eval_setup(tmp_path / "moved" / "run" / "config.yml", test_mode="inference")
    assert step == trainer.steps_done - 1
    assert torch.equal(pipeline.model.network.value_at(points), expected)  # type: ignore[union-attr, operator]


def test_a_missing_file_is_said_by_its_kind(image_run: InstantHashTrainer, tmp_path: Path) -> None:
    shutil.copytree(image_run.base_dir, tmp_path / "run")
    file = tmp_path / "run" / "config.yml"
    file.write_text(file.read_text().replace(str(image_run.config.data), "/nowhere/picture.png"))
    with pytest.raises(UserError, match=r"The picture /nowhere/picture.png of the run .* 'data: FILE'"):
        eval_setup(file, test_mode="inference")


def test_a_distance_is_that_of_the_ball_in_its_own_units(sdf_run: InstantHashTrainer) -> None:
    pipeline: Any = sdf_run.pipeline
    draw = torch.Generator().manual_seed(1)
    center = torch.tensor([5000.0, -800.0, 30.0], dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.randn(2000, 3, generator=draw, dtype=torch.float64), dim=-1)
    radius = 150.0 + 130.0 * torch.rand(2000, 1, generator=draw, dtype=torch.float64)
    found, gradient = pipeline.sdf_at(center + radius * direction, gradient=True)
    expected = (radius[:, 0] - 250.0).float()
    assert float((found - expected).abs().mean()) < 6.0  # of a diameter of 500
    towards = (torch.nn.functional.normalize(gradient, dim=-1) * direction.float()).sum(-1)
    assert float(towards.median()) > 0.95
    assert torch.equal(pipeline.sdf_at((center + radius * direction).numpy()), found)
    far = center + torch.tensor([[3000.0, 0.0, 0.0], [0.0, -900.0, 0.0]], dtype=torch.float64)
    assert pipeline.sdf_at(far).tolist() == pytest.approx([2750.0, 650.0], rel=0.05)


def test_a_ball_is_seen_as_one(sdf_run: InstantHashTrainer) -> None:
    outputs = view(sdf_run, 96, 96)
    assert set(outputs) == {"rgb", "shaded", "accumulation", "depth", "normals", "steps", "slice", "error"}
    hit = outputs["accumulation"][..., 0] > 0
    truth = sdf_run.pipeline.datamanager.train_dataset[0]["image"]
    assert truth.shape == (200, 200, 3)
    seen = (truth.mean(-1) < 1.0).float()[None, None]
    share = torch.nn.functional.interpolate(seen, (96, 96), mode="area")[0, 0]
    assert bool(hit[share > 0.99].all())
    assert not bool(hit[share < 0.01].any())
    assert float(outputs["error"][hit].median()) < 0.6
    normals = 2 * outputs["normals"] - 1
    torch.testing.assert_close(normals[hit].norm(dim=-1), torch.ones(int(hit.sum())), atol=1e-3, rtol=0)
    assert bool((outputs["rgb"][~hit] == 1).all())
    inside = (outputs["slice"][..., 0] > outputs["slice"][..., 2] + 0.1).float().mean()  # orange
    assert 0.3 < float(inside) < 0.8, "a disc that nearly fills the view"


def test_a_distance_is_measured_against_its_mesh(sdf_run: InstantHashTrainer, tmp_path: Path) -> None:
    pipeline: Any = sdf_run.pipeline
    found = pipeline.get_average_eval_image_metrics(output_path=tmp_path)
    assert 0.9 < found["iou"] < 1.0
    assert found["surface_error"] < 0.02
    assert found["surface_error_world"] == pytest.approx(found["surface_error"] / pipeline.model.shape.mesh.scale)
    assert found["chamfer"] < 0.02
    mesh = trimesh.load(tmp_path / "mesh.ply", process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 250.0**3, rel=0.1)


@pytest.mark.parametrize("kind", ["image", "sdf"])
def test_without_a_file_nothing_is_written(kind: str, tmp_path: Path) -> None:
    config = copy.deepcopy(image_config() if kind == "image" else sdf_config())
    config.output_dir, config.timestamp = tmp_path, "run"
    with pytest.raises(UserError, match="give one with --data FILE"):
        config.save_config()
    assert not list(tmp_path.iterdir())


def test_models_are_of_their_kind(image_run: InstantHashTrainer, sdf_run: InstantHashTrainer) -> None:
    assert isinstance(image_run.pipeline.model, ImageModel)
    assert isinstance(sdf_run.pipeline.model, SdfModel)
    for run in (image_run, sdf_run):
        with pytest.raises(NotImplementedError, match="points are trained on, not rays"):
            run.pipeline.datamanager.next_train(0)
