"""Checkpoints of a run: written whole or not at all, found, read and handed back to a trainer.

The format is nerfstudio's (``step``, ``pipeline``, ``optimizers``, ``schedulers``, ``scalers``), with
``training_seconds``, ``random`` and ``run`` added (``run``: what the pipeline says that its next step depends on). It holds
tensors and plain Python values alone, so that ``torch.load(weights_only=True)`` reads it.
"""

from __future__ import annotations

import os
import pickle
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch

from ngp_method.errors import UserError, fail

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import Trainer

_NAME = re.compile(r"step-(\d+)\.ckpt")


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in ``folder``, ascending; other files are passed over."""
    if not folder.is_dir():
        return []
    return sorted(int(m.group(1)) for m in map(_NAME.fullmatch, os.listdir(folder)) if m)


def find(load_dir: Optional[Path], load_step: Optional[int], load_checkpoint: Optional[Path]) -> Optional[Path]:
    """The checkpoint that ``--load-dir`` (with ``--load-step``) or ``--load-checkpoint`` names; None without them.

    Raises:
        UserError: with one sentence, where it is not there.
    """
    if load_dir is None:
        if load_checkpoint is not None and not load_checkpoint.is_file():
            fail(f"--load-checkpoint {load_checkpoint}: no such file; give the path of a step-*.ckpt.")
        return load_checkpoint
    steps = steps_in(load_dir)
    if not steps:
        fail(f"--load-dir {load_dir}: no step-*.ckpt in it; give the nerfstudio_models folder of a run.")
    if load_step is not None and load_step not in steps:
        have = ", ".join(map(str, steps))
        fail(f"--load-step {load_step}: {load_dir} holds step {have} only; give one of these.")
    return load_dir / f"step-{steps[-1] if load_step is None else load_step:09d}.ckpt"


def read(path: Path) -> dict[str, Any]:
    """The state in ``path``, on the CPU.

    Raises:
        UserError: with one sentence, where the file cannot be read as a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"step", "pipeline", "optimizers"} - set(state)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, TypeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"{path} cannot be read as a checkpoint ({reason}); give another with --load-step.") from None
    if missing:
        fail(f"{path} is no checkpoint of a nerfstudio run: it has no {', '.join(sorted(missing))}.")
    return dict(state)


def write(state: dict[str, Any], folder: Path, step: int, keep_others: bool) -> Path:
    """Writes ``folder/step-<step>.ckpt`` so that a crash at any moment leaves it whole or leaves what was there.

    The half-written file lies *beside* ``folder``: nerfstudio takes every name in the folder for a checkpoint's.

    Raises:
        UserError: with one sentence, where the disk does not take it; older checkpoints are then still there.
    """
    path = write_whole(state, folder / f"step-{step:09d}.ckpt")
    if not keep_others:
        for other in steps_in(folder):
            if other != step:
                (folder / f"step-{other:09d}.ckpt").unlink(missing_ok=True)
    return path


def write_whole(state: dict[str, Any], path: Path) -> Path:
    """Writes one checkpoint, whole or not at all; see :func:`write`."""
    half = path.parent.parent / f".{path.name}.{os.getpid()}.half"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its zip writer
        raise UserError(f"The checkpoint {path} cannot be written ({error}); older ones are untouched.") from None
    finally:
        half.unlink(missing_ok=True)
    return path


def gather(trainer: Trainer, step: int) -> dict[str, Any]:
    """The state of ``trainer`` after ``step`` (counted from 0) was trained."""
    pipeline: Any = getattr(trainer.pipeline, "module", trainer.pipeline)
    return {
        "step": int(step),
        "pipeline": pipeline.state_dict(),
        "optimizers": {name: one.state_dict() for name, one in trainer.optimizers.optimizers.items()},
        "schedulers": {name: one.state_dict() for name, one in trainer.optimizers.schedulers.items()},
        "scalers": trainer.grad_scaler.state_dict(),
        "random": random_state(),
        "run": pipeline.run_state() if hasattr(pipeline, "run_state") else {},
    }


def restore(trainer: Trainer, state: dict[str, Any], path: Path, with_schedulers: bool) -> None:
    """Gives ``state``, read from ``path``, to the pipeline, the optimizers, the schedulers and the gradient scaler.

    Checkpoints of before 0.1.0 have no ``run``: from them the pipeline begins with its own.

    Raises:
        UserError: with one sentence, where it belongs to a model or optimizers of other settings.
    """
    try:
        trainer.pipeline.load_pipeline(state["pipeline"], state["step"])
        trainer.optimizers.load_optimizers(state["optimizers"])
        if with_schedulers and "schedulers" in state:
            trainer.optimizers.load_schedulers(state["schedulers"])
        pipeline: Any = getattr(trainer.pipeline, "module", trainer.pipeline)
        if state.get("run") and hasattr(pipeline, "load_run_state"):
            pipeline.load_run_state(state["run"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{path} does not fit this run's settings ({reason}): give those it was trained with, which stand in "
            f"{path.parent.parent / 'config.yml'}."
        ) from None
    if state.get("scalers"):  # empty after a run without a scaler, which one with a scaler would refuse
        trainer.grad_scaler.load_state_dict(state["scalers"])


def random_state() -> dict[str, Any]:
    """State of the generators that belong to nobody, as tensors and Python numbers.

    With it, and the pipeline's own, a resumed run draws what the uninterrupted one would have drawn.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the generator nerfstudio seeds
    numpy_state = [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)]
    found = {"torch": torch.get_rng_state(), "python": [version, list(words), gauss], "numpy": numpy_state}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_random_state(state: dict[str, Any]) -> None:
    """Puts back what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
