"""The frame around nerfstudio's trainer: saving, stopping, resuming, the time budget, the checks before the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.engine.trainer import Trainer
from nerfstudio.scripts.train import _set_random_seed

from ngp_method.studio import checkpoints
from ngp_method.studio.schedulers import Anneal, AnnealConfig
from ngp_method.studio.trainer import InstantHashTrainer
from support.trainer_stub import StubPipeline, stub_config

pytestmark = pytest.mark.usefixtures("clean_writers")
TESTS = Path(__file__).resolve().parents[1]


def run(output_dir: Path, **changes: Any) -> InstantHashTrainer:
    """Trains the stub in this process, as nerfstudio's train_loop does."""
    config = stub_config(output_dir, **changes)
    config.set_timestamp()
    config.save_config()
    _set_random_seed(config.machine.seed)
    trainer: InstantHashTrainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def models(output_dir: Path, timestamp: str = "run") -> Path:
    return output_dir / "line" / "stub" / timestamp / "nerfstudio_models"


def test_trains_to_the_end_and_leaves_one_loadable_checkpoint(tmp_path: Path) -> None:
    trainer = run(tmp_path, steps_per_save=5)
    assert trainer.pipeline.steps == list(range(20))
    assert os.listdir(models(tmp_path)) == ["step-000000019.ckpt"]
    state = checkpoints.read(models(tmp_path) / "step-000000019.ckpt")  # weights_only=True
    assert state["step"] == 19
    assert type(state["training_seconds"]) is float
    assert not [p for p in models(tmp_path).parent.iterdir() if "half" in p.name]


def test_all_checkpoints_are_kept_on_request(tmp_path: Path) -> None:
    run(tmp_path, steps_per_save=5, save_only_latest_checkpoint=False)
    assert checkpoints.steps_in(models(tmp_path)) == [5, 10, 15, 19]


def test_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", steps_per_eval_batch=3)
    run(tmp_path / "parts", steps_per_save=8, save_only_latest_checkpoint=False, steps_per_eval_batch=3)
    first = models(tmp_path / "parts")
    resumed = run(tmp_path / "parts", load_dir=first, load_step=8, timestamp="again", steps_per_eval_batch=3)
    assert resumed.pipeline.steps == list(range(9, 20))  # to 20 in total, not 20 more
    assert resumed.pipeline.rates == whole.pipeline.rates[9:]
    assert torch.equal(resumed.pipeline.weights, whole.pipeline.weights)


def test_resume_at_the_end_trains_nothing_and_keeps_the_state(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path)
    again = run(tmp_path, load_dir=models(tmp_path), timestamp="again")
    assert again.pipeline.steps == []
    assert "nothing is left to train" in " ".join(capsys.readouterr().out.split())
    old, new = (checkpoints.read(models(tmp_path, t) / "step-000000019.ckpt") for t in ("run", "again"))
    assert torch.equal(old["pipeline"]["weights"], new["pipeline"]["weights"])
    assert old["training_seconds"] == new["training_seconds"]


def test_a_failed_save_leaves_the_old_checkpoint_and_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    checkpoints.write({"step": 1}, tmp_path / "m", 1, keep_others=False)
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(SystemExit, match=r"cannot be written .*No space left.* older ones are untouched"):
        checkpoints.write({"step": 2}, tmp_path / "m", 2, keep_others=False)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["step-000000001.ckpt"]


def test_other_files_among_the_checkpoints_are_passed_over(tmp_path: Path) -> None:
    for name in ("step-000000007.ckpt", "step-000000012.ckpt", "notes.txt", ".step-13.ckpt.half"):
        (tmp_path / name).touch()
    assert checkpoints.find(tmp_path, None, None) == tmp_path / "step-000000012.ckpt"
    assert checkpoints.find(tmp_path, 7, None) == tmp_path / "step-000000007.ckpt"
    with pytest.raises(SystemExit, match="holds step 7, 12 only"):
        checkpoints.find(tmp_path, 8, None)
    with pytest.raises(SystemExit, match=r"no step-\*.ckpt in it"):
        checkpoints.find(tmp_path / "nowhere", None, None)
    with pytest.raises(SystemExit, match="no such file"):
        checkpoints.find(None, None, tmp_path / "gone.ckpt")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    whole = checkpoints.write({"step": 1, "pipeline": {}, "optimizers": {}}, tmp_path, 1, keep_others=True)
    assert checkpoints.read(whole)["step"] == 1
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(SystemExit, match=r"cut\.ckpt cannot be read as a checkpoint"):
        checkpoints.read(cut)
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit, match="no checkpoint of a nerfstudio run"):
        checkpoints.read(tmp_path / "other.ckpt")


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    monkeypatch.setattr(StubPipeline, "size", 13)
    with pytest.raises(SystemExit, match=r"does not fit this run's settings \(size mismatch .*config\.yml"):
        run(tmp_path, load_dir=models(tmp_path), timestamp="again")


# -- the time budget


def test_budget_counts_callbacks_but_not_evaluation(tmp_path: Path) -> None:
    trainer = run(
        tmp_path,
        max_num_iterations=10_000,
        max_train_seconds=0.3,
        step_seconds=0.01,
        callback_seconds=0.01,
        eval_seconds=0.05,
        steps_per_eval_batch=2,
    )
    steps = trainer.steps_done
    assert trainer.training_seconds >= 0.3
    # each step sleeps 20 ms within the budget, so it cannot hold more than 15 of them and the one that crosses the line
    assert 2 <= steps <= 16
    assert trainer.progress == 1.0
    assert checkpoints.steps_in(models(tmp_path)) == [steps - 1]
    assert trainer.pipeline.steps[-1] == steps - 1


def test_budget_anneals_the_rate(tmp_path: Path) -> None:
    trainer = run(tmp_path, max_num_iterations=10_000, max_train_seconds=0.3, step_seconds=0.01)
    rates = trainer.pipeline.rates
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    scheduler = trainer.optimizers.schedulers["fields"]
    assert scheduler.progress >= min(1.0, trainer.steps_done * 0.01 / 0.3)  # each step slept for 10 ms at least
    assert scheduler.get_last_lr()[0] == 0.1 * Anneal(AnnealConfig()).factor(trainer.steps_done, scheduler.progress)
    assert scheduler.get_last_lr()[0] < 0.1


def test_budget_is_resumed_not_renewed(tmp_path: Path) -> None:
    first = run(tmp_path, max_num_iterations=10_000, max_train_seconds=0.2, step_seconds=0.01)
    again = run(
        tmp_path,
        max_num_iterations=10_000,
        max_train_seconds=0.3,
        step_seconds=0.01,
        load_dir=models(tmp_path),
        timestamp="again",
    )
    assert again.training_seconds >= 0.3
    assert again.pipeline.steps[0] == first.steps_done
    assert len(again.pipeline.steps) <= 11  # 0.1 s were left


# -- the checks before the start


def test_an_old_run_is_spared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path)
    config_file = tmp_path / "line" / "stub" / "run" / "config.yml"
    before = config_file.read_bytes()
    loaded = yaml.load(config_file.read_text(), Loader=yaml.Loader)  # what --load-config does
    loaded.save_config()
    assert loaded.timestamp != "run"
    assert config_file.read_bytes() == before
    assert checkpoints.steps_in(models(tmp_path)) == [19]
    assert "already holds a run" in capsys.readouterr().out


def test_resuming_within_the_same_folder_is_no_overwriting(tmp_path: Path) -> None:
    run(tmp_path, max_num_iterations=5)
    trainer = run(tmp_path, max_num_iterations=8, load_dir=models(tmp_path))
    assert trainer.config.timestamp == "run"
    assert checkpoints.steps_in(models(tmp_path)) == [7]


def test_config_holds_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = stub_config(Path("out"), data=Path("scene"), experiment_name=None)
    config.save_config()
    saved = yaml.load((tmp_path / "out/scene/stub/run/config.yml").read_text(), Loader=yaml.Loader)
    assert (saved.output_dir, saved.data) == (tmp_path / "out", tmp_path / "scene")
    assert saved.pipeline.datamanager.data == tmp_path / "scene"


def test_bad_data_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ngp_method.data import checks

    def refuse(parser: Any) -> None:
        raise SystemExit(f"{parser.data}: no transforms.")

    monkeypatch.setattr(checks, "check_data", refuse)
    config = stub_config(tmp_path / "out", data=tmp_path / "scene")
    config.pipeline.datamanager.dataparser = type("Parser", (), {"data": Path()})()
    with pytest.raises(SystemExit, match="scene: no transforms"):
        config.save_config()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_devices": 2}, "--machine.num-devices 2: training on several devices needs CUDA"),
        ({"num_devices": 0}, "--machine.num-devices 0: at least one"),
        ({"device_type": "cuda"}, "--machine.device-type cuda: torch sees no CUDA device"),
        ({"max_train_seconds": -1.0}, "--max-train-seconds -1.0"),
        ({"max_num_iterations": 0}, "--max-num-iterations 0"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = stub_config(tmp_path / "out")
    for name, value in changes.items():
        setattr(config.machine if hasattr(config.machine, name) else config, name, value)
    with pytest.raises(SystemExit, match=sentence):
        config.save_config()
    assert not (tmp_path / "out").exists()


def test_mixed_precision_is_off_with_its_scaler_on_a_cpu(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    trainer = stub_config(tmp_path, mixed_precision=True).setup(local_rank=0, world_size=1)
    assert not trainer.mixed_precision
    assert not trainer.grad_scaler.is_enabled()
    assert not [w for w in recwarn if "GradScaler" in str(w.message)]


@pytest.mark.parametrize("rank", [0, 3])
def test_on_gpus_each_process_makes_its_own_the_current_one(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nerfstudio does not, and Triton launches on the current device: rank 1's kernels would run on rank 0's GPU."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    config = stub_config(tmp_path, mixed_precision=True)
    config.machine.device_type = "cuda"
    trainer = config.setup(local_rank=rank, world_size=1)
    assert chosen == [rank]
    assert trainer.device == f"cuda:{rank}"
    assert not trainer.mixed_precision


# -- signals, raised in this process at a chosen moment


def raise_at(monkeypatch: pytest.MonkeyPatch, method: str, step: int, *numbers: signal.Signals) -> None:
    """Lets the stub receive the signals within ``method`` at ``step``."""
    original = getattr(StubPipeline, method)

    def interrupted(self: StubPipeline, step_now: int) -> Any:
        if step_now == step:
            for number in numbers:
                signal.raise_signal(number)
        return original(self, step_now)

    monkeypatch.setattr(StubPipeline, method, lambda self, step: interrupted(self, step))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(number)
    raise_at(monkeypatch, "get_train_loss_dict", 5, number)
    with pytest.raises(SystemExit) as end:
        run(tmp_path)
    assert end.value.code == code
    assert signal.getsignal(number) is before
    state = checkpoints.read(models(tmp_path) / "step-000000005.ckpt")
    # the count of the optimizer's moments is what was really trained
    assert int(state["optimizers"]["fields"]["state"][0]["step"]) == 6


def test_an_interrupted_run_ends_where_the_uninterrupted_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        raise_at(patch, "get_train_loss_dict", 11, signal.SIGINT)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts")
    resumed = run(tmp_path / "parts", load_dir=models(tmp_path / "parts"))
    assert resumed.pipeline.steps == list(range(12, 20))
    assert torch.equal(resumed.pipeline.weights, whole.pipeline.weights)


def test_ctrl_c_does_not_wait_for_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_at(monkeypatch, "get_eval_loss_dict", 3, signal.SIGINT)
    monkeypatch.setattr(time, "sleep", lambda seconds: None if seconds == 0.0 else pytest.fail("evaluated on"))
    with pytest.raises(SystemExit) as end:
        run(tmp_path, steps_per_eval_batch=3, eval_seconds=600.0)
    assert end.value.code == 130
    assert checkpoints.steps_in(models(tmp_path)) == [3]


def test_a_second_ctrl_c_ends_at_once_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raise_at(monkeypatch, "get_train_loss_dict", 5, signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        run(tmp_path, steps_per_save=2)
    assert end.value.code == 130
    assert "in the middle of a step" in capsys.readouterr().out
    assert checkpoints.steps_in(models(tmp_path)) == [4]


def test_ctrl_c_while_paused_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = StubPipeline.get_train_loss_dict

    def pause(self: StubPipeline, step: int) -> Any:
        if step == 4:
            trainer.training_state = "paused"
        return original(self, step)

    def interrupt_when_paused(seconds: float) -> None:
        if trainer.training_state == "paused" and trainer.steps_done == 5:
            signal.raise_signal(signal.SIGINT)

    config = stub_config(tmp_path)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    monkeypatch.setattr(StubPipeline, "get_train_loss_dict", pause)
    monkeypatch.setattr(time, "sleep", interrupt_when_paused)
    with pytest.raises(SystemExit) as end:
        trainer.train()
    assert end.value.code == 130
    assert checkpoints.steps_in(models(tmp_path)) == [4]


def test_ctrl_c_quits_the_finished_viewer_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run(tmp_path)
    monkeypatch.setattr(Trainer, "_train_complete_viewer", lambda self: signal.raise_signal(signal.SIGINT))
    with trainer._signals:
        trainer._signals.hold()
        trainer._train_complete_viewer()  # returns, and the process with it


# -- the same through nerfstudio's launcher, in a process of its own


def start(output_dir: Path, **changes: Any) -> subprocess.Popen[str]:
    arguments = [f"{key}={value}" for key, value in changes.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "support.trainer_stub", str(output_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=TESTS,
    )


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    seen = []
    for text in process.stdout:
        seen.append(text)
        if text.strip() == line:
            return
    pytest.fail(f"never said {line!r}:\n{''.join(seen[-40:])}")


def test_ctrl_c_through_the_launcher_shows_no_traceback(tmp_path: Path) -> None:
    out = tmp_path / "my runs"
    process = start(out, max_num_iterations=100_000, step_seconds=0.02)
    read_until(process, "step 5")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"To go on: --load-dir '{models(out)}'" in output
    (step,) = checkpoints.steps_in(models(out))
    assert step >= 5


def test_a_killed_run_can_be_loaded(tmp_path: Path) -> None:
    process = start(tmp_path, max_num_iterations=100_000, steps_per_save=1)
    read_until(process, "step 25")
    process.kill()
    process.communicate(timeout=120)
    found = checkpoints.find(models(tmp_path), None, None)
    assert found is not None
    assert checkpoints.read(found)["step"] >= 23
