"""A resumed run of the real model is the run, and stays where it was begun when its data change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup
from test_model import trainer_for

from ngp_method.studio import model as model_module
from support import scenes
from support.runs import differ, last_checkpoint, same_end, stop_after

pytestmark = pytest.mark.usefixtures("clean_writers")

STEPS, STOPPED = 60, 31
OPEN: dict[str, Any] = {"finest_resolution": None, "n_levels": 8}
"""Settings that the data settle: the step, and the levels that the images resolve."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, RGBA."""
    return scenes.write_blender(tmp_path_factory.mktemp("resume"), train=12, test=2, size=(32, 32))


@pytest.mark.parametrize("kernels", ["cpu", "reference"])
def test_a_resumed_run_is_the_run(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    """Stopped by Ctrl-C and resumed with another seed and from other settings of the command line: the same to the last bit."""
    whole = trainer_for(scene, tmp_path / "whole", steps=STEPS, kernels=kernels, **OPEN)
    whole.train()
    parts = trainer_for(scene, tmp_path / "parts", steps=STEPS, kernels=kernels, **OPEN)
    stop_after(parts, STOPPED, monkeypatch)
    assert last_checkpoint(parts)["step"] == STOPPED - 1
    resumed = trainer_for(
        scene, tmp_path / "resumed", seed=7, steps=STEPS, load_dir=parts.checkpoint_dir, kernels=kernels, **OPEN
    )
    resumed.train()
    expected = same_end(whole, resumed, STEPS)
    assert expected["run"]["step"]["grid"]["cursor"] > 0, "the grid was walked"
    assert len(differ(expected["pipeline"], last_checkpoint(parts)["pipeline"])) > 3, "it went on"


def test_what_the_data_settle_goes_into_config_and_checkpoint(scene: Path, tmp_path: Path) -> None:
    trainer = trainer_for(scene, tmp_path, steps=2, **OPEN)
    trainer.train()
    settled, config = last_checkpoint(trainer)["run"]["settled"], trainer.config.pipeline
    assert settled["n_levels"] == config.model.n_levels < 8
    assert settled["finest_resolution"] == config.model.finest_resolution
    assert settled["step_scale"] == trainer.pipeline.model.geometry.step_scale > 1.0
    assert tuple(settled["placement"]) == config.datamanager.placement
    text = (trainer.base_dir / "config.yml").read_text()
    for number in (repr(settled["step_scale"]), repr(settled["placement"][15]), "n_levels: 4"):
        assert number in text


def test_cells_are_marked_once_a_run(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the start of a command that loads the grid."""
    calls = []
    plain = model_module.seen_cells
    monkeypatch.setattr(model_module, "seen_cells", lambda *args: calls.append(0) or plain(*args))
    trainer = trainer_for(scene, tmp_path / "first", steps=3)
    assert not calls, "nor before the first step"
    trainer.train()
    assert len(calls) == 1
    resumed = trainer_for(scene, tmp_path / "second", steps=6, load_dir=trainer.checkpoint_dir)
    resumed.train()
    eval_setup(trainer.base_dir / "config.yml", test_mode="inference")
    assert len(calls) == 1
    unseen = [run.pipeline.model.grid.occs < 0 for run in (trainer, resumed)]
    assert torch.equal(*unseen)


def _changed(folder: Path, change: str) -> None:
    """Edits a nerfstudio scene in place."""
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    if change == "removed":
        del meta["frames"][3:6]
    elif change == "renamed":
        for frame in meta["frames"][1:2]:
            image = folder / frame["file_path"]
            frame["file_path"] = frame["file_path"].replace(image.stem, image.stem + "x")
            image.rename(folder / frame["file_path"])
    elif change == "moved":
        for frame in meta["frames"]:
            pose = np.array(frame["transform_matrix"])
            pose[0, 3] += 1.5
            frame["transform_matrix"] = pose.tolist()
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nothing", None),
        ("removed", r"\d+ training images then, \d+ now.*another box.*its frame and box are kept"),
        ("renamed", "training images of other names"),
        ("moved", "cameras stand elsewhere.*another box"),
    ],
)
def test_changed_data_are_told_and_stay_in_the_runs_box(
    tmp_path: Path, capsys: pytest.CaptureFixture, change: str, said: str | None
) -> None:
    data = scenes.write_nerfstudio(tmp_path / "data")
    trainer = trainer_for(data, tmp_path / "out", steps=2)
    trainer.train()
    before = trainer.pipeline
    _changed(data, change)
    capsys.readouterr()
    after = eval_setup(trainer.base_dir / "config.yml", test_mode="inference")[1]
    out = " ".join(capsys.readouterr().out.split())
    if said is None:
        assert "have changed" not in out
    else:
        import re

        assert re.search(f"The data have changed since the run began .*{said}", out), out
    for name in ("center", "unit_size", "aabb_scale", "near", "step_scale"):
        assert getattr(after.model.geometry, name) == getattr(before.model.geometry, name)
    cameras = {}
    for pipeline in (before, after):
        dataset = pipeline.datamanager.train_dataset
        poses = dataset.cameras.camera_to_worlds.double()
        cameras[pipeline is after] = {path.name: pose for path, pose in zip(dataset.image_filenames, poses)}
    shared = cameras[True].keys() & cameras[False].keys()
    assert len(shared) > 3
    if change == "nothing":
        assert all(torch.equal(cameras[True][name], cameras[False][name]) for name in shared)
    elif change == "moved":
        world = [after.datamanager.train_dataparser_outputs, before.datamanager.train_dataparser_outputs]
        assert torch.allclose(world[0].dataparser_transform, world[1].dataparser_transform)
        step = 1.5 * world[1].dataparser_scale * world[1].dataparser_transform[:, 0].double()
        for name in shared:
            moved = cameras[True][name][:, 3] - cameras[False][name][:, 3]
            assert torch.allclose(moved, step, atol=1e-4)
    else:
        for name in shared:
            assert torch.allclose(cameras[True][name], cameras[False][name], atol=1e-5)
