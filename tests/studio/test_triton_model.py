"""The whole model on the Triton kernels and on (emulated) AMX tiles, and checkpoints from one kernel set to another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_model import bundle, rays, trainer_for
from torch import Tensor

from measure import gpu_counts
from measure.gpu_steps import LONG
from ngp_method.data.rays import CachedRayGenerator
from ngp_method.errors import UserError
from ngp_method.studio import captured
from ngp_method.studio.trainer import InstantHashTrainer
from ngp_method.volume.captured import CapturedStep
from support import scenes
from support.kernel_cases import kernels_of
from support.replays import Again

pytestmark = pytest.mark.usefixtures("clean_writers")

SMALL = {"n_levels": 4, "log2_hashmap_size": 12, "sample_budget": 1024, "grid_resolution": 16, "step_scale": 6.0}
STEPS = {"triton": 6, "triton-float32": 6, "cpu-bfloat16": 60, "cpu-float32": 60}
"""Triton's interpreter takes a second or two for a step."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, RGBA."""
    return scenes.write_blender(tmp_path_factory.mktemp("triton"), train=8, test=2, size=(32, 32))


@pytest.fixture(scope="module", params=STEPS)
def saved(request: pytest.FixtureRequest, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """A checkpoint of a run with a kernel set, and what its own model renders."""
    trainer = trainer_for(
        scene, tmp_path_factory.mktemp(request.param), 42, STEPS[request.param], **SMALL, kernels=request.param
    )
    before = [p.detach().clone() for p in trainer.pipeline.model.field.parameters()]
    trainer.train()
    for param, old in zip(trainer.pipeline.model.field.parameters(), before):
        assert torch.isfinite(param).all()
        assert not torch.equal(param.detach(), old), "it was trained"
    assert trainer.pipeline.model.training_step.counts["kept"] > 0
    (path,) = sorted(trainer.checkpoint_dir.glob("*.ckpt"))[-1:]
    return path, rendered(trainer)


def rendered(trainer: InstantHashTrainer) -> Tensor:
    """Colours of rays from all around."""
    model = trainer.pipeline.model.eval()
    with torch.no_grad():
        return model.get_outputs(bundle(*rays(150)))["rgb"]


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10((first - second).double().square().mean().clamp(min=1e-20)))


@pytest.mark.parametrize(("kernel_set", "least"), [
    ("triton-float32", 60.0), ("cpu-float32", 60.0), ("reference", 60.0),
    # bfloat16: a colour is off by no more than 2^-9 on average (see test_cli_eval.py).
    ("triton", 54.0), ("cpu-bfloat16", 54.0),
])  # fmt: skip
def test_a_checkpoint_of_one_set_is_the_same_picture_with_another(
    kernel_set: str, least: float, saved: tuple[Path, Tensor], scene: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, own = saved
    other = trainer_for(scene, tmp_path, 7, 1, **SMALL, kernels=kernel_set)
    assert psnr(rendered(other), own) < 50, "another seed is another field, until the checkpoint is loaded"
    state = torch.load(path, weights_only=True)
    other.pipeline.load_pipeline(state["pipeline"], state["step"])
    if request.node.callspec.params["saved"] in ("triton", "cpu-bfloat16"):
        least = 54.0
    assert float(own.std()) > 1e-3
    assert (found := psnr(rendered(other), own)) > least, found


def test_a_captured_step_goes_through_nerfstudios_trainer(scene: Path, tmp_path: Path) -> None:
    """Losses, metrics and gradients are those of a step done the usual way, and so is what comes of a run."""
    trainers = [trainer_for(scene, tmp_path / name, 42, 5, **SMALL, kernels="cpu-float32") for name in ("usual", "captured")]
    model = trainers[1].pipeline.model
    recorder = Again(lambda: [grad for param in model.field.parameters() if (grad := param.grad) is not None])
    model.captured_step = CapturedStep(model.training_step, recorder)
    lines = []
    for trainer in trainers:
        trainer.pipeline.model.training_step.budget.hold = 1e9
        torch.manual_seed(5)
        found = []
        for number in range(8):
            trainer.pipeline.model.training_step.before(number)
            loss, losses, metrics = trainer.train_iteration(number)
            trainer.pipeline.model.training_step.after(number)
            found.append([float(loss), float(losses["rgb_loss"]), float(metrics["psnr"])])
        lines.append(found)
    assert recorder.recorded
    torch.testing.assert_close(torch.tensor(lines[1]), torch.tensor(lines[0]), atol=1e-6, rtol=1e-4)
    for mine, theirs in zip(model.field.parameters(), trainers[0].pipeline.model.field.parameters()):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "kernels", "world_size", "said"),
    [
        ("cpu", "triton", 1, "needs a GPU"),
        ("cuda", "cpu-float32", 1, "needs the triton kernels"),
        ("cuda", "triton", 2, "is for one GPU"),
    ],
)
def test_a_graph_that_cannot_be_had_is_refused(kind: str, kernels: str, world_size: int, said: str) -> None:
    step = SimpleNamespace(field=SimpleNamespace(kernels=kernels_of(kernels)))
    with pytest.raises(UserError, match=f"cuda-graph True {said}.*leave it out"):
        captured.captured_step(step, torch.device(kind), world_size)  # type: ignore[arg-type]


def test_a_graph_is_refused_before_training_on_a_processor(scene: Path, tmp_path: Path) -> None:
    """And not where a run of such a config is evaluated."""
    with pytest.raises(SystemExit, match="needs a GPU"):
        trainer_for(scene, tmp_path, 42, 1, **SMALL, kernels="cpu-float32", cuda_graph=True)


def test_a_step_of_nerfstudios_trainer_waits_once(scene: Path, tmp_path: Path) -> None:
    """Batch, metrics and optimisers included, with what lies on a GPU there (images, and rays looked up in a table)."""
    trainer = trainer_for(scene, tmp_path, 42, 6, **SMALL, kernels="triton")
    model, data = trainer.pipeline.model, trainer.pipeline.datamanager
    data.train_ray_generator = CachedRayGenerator(data.train_dataset.cameras, pinhole_table=True)
    data.use_kernels(model.kernels)
    for number in range(4):
        model.training_step.before(number)
        trainer.train_iteration(number)
        model.training_step.after(number)
    model.grid.update_interval = LONG
    trainer.train_iteration(4)  # the step after a change of the grid waits for the marched samples too
    with gpu_counts.counting() as counts:
        model.training_step.before(5)
        trainer.train_iteration(5)
        model.training_step.after(5)
    assert counts.waits == {"_local_scalar_dense": 1}, counts.record()
    assert counts.launches <= 53, counts.record()
