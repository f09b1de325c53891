"""``ns-train instant-hash``, the command itself: it trains, shows, saves, stops and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ngp_method.studio import checkpoints
from support import scenes
from support.cli import SMALL, STEPS, Background, Forks, Run, free_port, train

pytest_plugins = ["support.cli_fixtures"]


def test_a_run_says_what_it_does(trained: Run) -> None:
    words = trained.done.words
    assert "data: blender (it has transforms_train.json)" in words
    assert "instant-hash kernels: cpu (auto" in words
    assert "instant-hash scene: box 3 world units wide" in words
    assert "Training Finished" in words
    assert "Traceback" not in words


def test_a_run_leaves_one_checkpoint_and_a_config_good_from_anywhere(trained: Run, blender: Path) -> None:
    assert os.listdir(trained.models) == [f"step-{STEPS - 1:09d}.ckpt"]
    assert not list(trained.base.glob(".*"))
    config = yaml.load(trained.config.read_text(), Loader=yaml.Loader)
    assert config.pipeline.datamanager.data == config.pipeline.datamanager.dataparser.data == blender
    assert config.output_dir.is_absolute()
    assert config.machine.device_type == "cpu"
    assert config.pipeline.model.kernels == "auto"
    state = torch.load(trained.models / f"step-{STEPS - 1:09d}.ckpt", weights_only=True)  # nothing of numpy in it
    assert all(torch.isfinite(v).all() for v in state["pipeline"].values() if v.is_floating_point())


def test_tensorboard_is_told_that_it_learns(trained: Run) -> None:
    log = EventAccumulator(str(trained.base))
    log.Reload()
    tags = log.Tags()["scalars"]
    curve = [point.value for point in log.Scalars(next(tag for tag in tags if tag.endswith("psnr")))]
    assert curve[-1] > curve[0] + 10.0  # from grey to a picture
    rays = [point.value for point in log.Scalars(next(tag for tag in tags if tag.endswith("num_rays")))]
    assert rays[0] == 128  # 32,768 samples, 256 a ray while the grid is full
    assert max(rays) > 4 * rays[0]  # and more as it empties


def test_the_viewer_runs_along_and_ends(workspace: Path, blender: Path) -> None:
    flags = (f"--viewer.websocket-port={free_port()}", "--viewer.quit-on-train-completion=True")
    shown = train(None, blender, workspace / "shown", *SMALL, *flags, "--vis=viewer", "--max-num-iterations=30")
    shown.done.check()
    assert os.listdir(shown.models) == ["step-000000029.ckpt"]
    assert "viewer" in shown.done.words
    assert "Traceback" not in shown.done.words


def test_evaluation_on_the_way(workspace: Path, forks: Forks) -> None:
    """Pictures at half size are evaluated while training goes on; what the log says is what ns-eval says.

    In instant-ngp's layout, where both look at the same held-out pictures (Blender's has val for one, test for the other).
    """
    scene = scenes.write_ngp(workspace / "watched_scene")
    flags = ("--steps-per-eval-batch=20", "--steps-per-eval-image=20", "--steps-per-eval-all-images=59",
             "--pipeline.datamanager.camera-res-scale-factor=0.5")  # fmt: skip
    watched = train(forks, scene, workspace / "watched", *SMALL, *flags, "--vis=tensorboard", "--max-num-iterations=60")
    assert "Traceback" not in watched.done.check().words
    log = EventAccumulator(str(watched.base))
    log.Reload()
    tags = log.Tags()
    scalars = {tag: [point.value for point in log.Scalars(tag)] for tag in tags["scalars"]}
    losses = next(values for tag, values in scalars.items() if tag.startswith("Eval Loss"))
    assert losses[-1] < losses[0]
    assert {"Eval Images/img", "Eval Images/depth"} <= set(tags["images"])
    on_the_way = next(v for tag, v in scalars.items() if "psnr" in tag and "all" in tag.lower())[-1]
    out = workspace / "watched.json"
    forks.run("ns-eval", "--load-config", watched.config, "--output-path", out, cwd=workspace).check()
    assert json.loads(out.read_text())["results"]["psnr"] == pytest.approx(on_the_way, abs=1e-3)


def test_a_run_goes_on_from_its_folder(workspace: Path, blender: Path, trained: Run) -> None:
    flags = ("--vis=tensorboard", f"--max-num-iterations={STEPS + 20}", f"--load-dir={trained.models}")
    again = train(None, blender, workspace / "again", *SMALL, *flags)
    again.done.check()
    assert f"Resuming at step {STEPS} " in again.done.words
    assert os.listdir(again.models) == [f"step-{STEPS + 19:09d}.ckpt"]
    before, after = (checkpoints.read(next(r.models.iterdir())) for r in (trained, again))
    assert after["training_seconds"] > before["training_seconds"]
    counts = [int(state["optimizers"]["encoding"]["state"][0]["steps"].max()) for state in (before, after)]
    assert counts[1] > counts[0]  # Adam's step counts go on too
    weights = [state["pipeline"]["_model.field.network.color_params"] for state in (before, after)]
    assert not torch.equal(*weights)


def test_a_run_goes_on_from_one_file(workspace: Path, blender: Path, trained: Run, forks: Forks) -> None:
    file = trained.models / f"step-{STEPS - 1:09d}.ckpt"
    flags = ("--vis=tensorboard", f"--max-num-iterations={STEPS + 10}", f"--load-checkpoint={file}")
    again = train(forks, blender, workspace / "from_file", *SMALL, *flags)
    again.done.check()
    assert f"Resuming at step {STEPS} " in again.done.words
    assert os.listdir(again.models) == [f"step-{STEPS + 9:09d}.ckpt"]


def test_other_settings_are_refused_in_a_sentence(workspace: Path, blender: Path, trained: Run, forks: Forks) -> None:
    flags = ("--vis=tensorboard", f"--load-dir={trained.models}", "--pipeline.model.n-levels=4")
    again = train(forks, blender, workspace / "other", *SMALL, *flags)
    assert again.done.rc == 1
    assert "does not fit this run's settings" in again.done.words
    assert "Traceback" not in again.done.words


def test_ctrl_c_saves_and_the_line_it_prints_goes_on(workspace: Path, blender: Path, forks: Forks) -> None:
    out = workspace / "stopped"
    flags = ("--output-dir", out, "--experiment-name", "x", "--timestamp", "run", *SMALL, "--vis=tensorboard")
    with Background(
        workspace / "stopped.log", "ns-train", "instant-hash", "--data", blender, *flags, "--logging.local-writer.enable=False",
        "--max-num-iterations=100000", cwd=workspace,
    ) as training:  # fmt: skip
        training.wait_for("logging events to")
        models = out / "x" / "instant-hash" / "run"
        wait_for_steps(models)
        done = training.interrupt(signal.SIGINT)
    assert done.rc == 128 + signal.SIGINT
    assert "Traceback" not in done.text
    found = re.search(r"Stopped after (\d+) steps and saved. To go on: --load-dir (\S+)", done.words)
    assert found, done.text[-2000:]
    steps, folder = int(found[1]), Path(found[2])
    assert checkpoints.steps_in(folder) == [steps - 1]
    again = train(forks, blender, workspace / "went_on", *SMALL, "--vis=tensorboard",
                  f"--max-num-iterations={steps + 5}", f"--load-dir={folder}")  # fmt: skip
    again.done.check()
    assert f"Resuming at step {steps} " in again.done.words
    assert checkpoints.steps_in(again.models) == [steps + 4]


def wait_for_steps(base: Path) -> None:
    """Waits until tensorboard's file shows that the run is past its first steps."""
    for _ in range(3000):
        files = list(base.glob("events.*"))
        if files and files[0].stat().st_size > 2000:
            return
        time.sleep(0.05)
    raise AssertionError(f"no steps were logged in {base}")


def test_a_run_is_not_overwritten(workspace: Path, blender: Path, trained: Run, forks: Forks) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.base.rglob("*") if p.is_file()}
    done = forks.run(
        "ns-train", "instant-hash", "--data", blender, "--output-dir", trained.base.parents[2], "--experiment-name", "x",
        "--timestamp", "run", *SMALL, "--vis=tensorboard", "--max-num-iterations=2", cwd=workspace,
    )  # fmt: skip
    done.check()
    assert "already holds a run, which is left as it is" in done.words
    assert {p: p.stat().st_mtime_ns for p in trained.base.rglob("*") if p.is_file()} == before
    assert len(list(trained.base.parent.iterdir())) == 2
