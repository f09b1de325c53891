"""Runs of the real trainer in the tests' own process: stopped, resumed and compared to the last bit."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.scripts.train import _set_random_seed
from torch import Tensor

from ngp_method.studio import checkpoints
from ngp_method.studio.trainer import InstantHashTrainer


def set_up(config: Any, data: Path, out: Path, seed: int, steps: int, load_dir: Path | None, model: Mapping[str, Any]) -> Any:
    """A trainer as ``ns-train`` sets it up.

    Args:
        config: of the run, which is changed.
        data, out: what is trained on, and the folder of runs.
        seed, steps, load_dir: as on the command line.
        model: settings of its model, each of which there must be.
    """
    config.data, config.output_dir, config.timestamp, config.load_dir = data, out, "run", load_dir
    config.vis, config.max_num_iterations, config.machine.seed = "tensorboard", steps, seed
    for name, value in model.items():
        assert hasattr(config.pipeline.model, name)
        setattr(config.pipeline.model, name, value)
    config.save_config()
    _set_random_seed(seed)
    trainer: InstantHashTrainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def same_end(whole: InstantHashTrainer, resumed: InstantHashTrainer, steps: int) -> dict[str, Any]:
    """The last checkpoint of a run, which that of a resumed one must equal to the last bit, but for the time it took."""
    expected, found = last_checkpoint(whole), last_checkpoint(resumed)
    assert expected["step"] == found["step"] == steps - 1
    for state in (expected, found):
        state.pop("training_seconds")
    assert differ(expected, found) == []
    return expected


def stop_after(trainer: InstantHashTrainer, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a step, after which the run is saved."""
    plain = trainer.train_iteration

    def iteration(step: int) -> Any:
        if step == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return plain(step)

    monkeypatch.setattr(trainer, "train_iteration", iteration)
    with pytest.raises(SystemExit) as end:
        trainer.train()
    assert end.value.code == 128 + signal.SIGINT


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of nested dictionaries and lists, by its path."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in _flat(one, f"{name}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for key, one in enumerate(value) for k, v in _flat(one, f"{name}/{key}").items()}
    return {name: value}


def differ(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What is not the same to the last bit."""
    a, b = _flat(first), _flat(second)
    assert a.keys() == b.keys()
    return [k for k in a if not (torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])]


def last_checkpoint(trainer: InstantHashTrainer) -> dict[str, Any]:
    """Of a run that keeps one."""
    (path,) = sorted(trainer.checkpoint_dir.glob("*.ckpt"))
    return checkpoints.read(path)
