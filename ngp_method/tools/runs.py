"""Loads a trained run from its ``config.yml``, with one sentence where it cannot be loaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import yaml

from ngp_method.errors import UserError, fail
from ngp_method.studio import checkpoints


def load_run(config_file: Path) -> Any:
    """The trained pipeline (nerfstudio's ``VanillaPipeline``, in eval mode) of the run that ``config_file`` describes.

    Raises:
        UserError: with one sentence, where the config or its checkpoint is missing or unreadable.
    """
    if config_file.is_dir():
        config_file = config_file / "config.yml"
    if not config_file.is_file():
        fail(f"--load-config {config_file}: no such file; give the config.yml that training wrote.")
    # These bring all of nerfstudio's methods with them: seconds, which a wrong path need not wait for.
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.utils.eval_utils import eval_setup

    from ngp_method.studio.trainer_config import InstantHashTrainerConfig

    try:
        config = yaml.load(config_file.read_text(encoding="utf8"), Loader=yaml.Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ImportError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--load-config {config_file}: not the config of a run ({reason}).") from None
    if not isinstance(config, TrainerConfig):
        fail(f"--load-config {config_file}: not the config of a run.")
    if isinstance(config, InstantHashTrainerConfig):
        config.was_read(config_file, "run")
    folder = config.get_checkpoint_dir()
    if not checkpoints.steps_in(folder):
        fail(f"{folder}: no step-*.ckpt in it; train first, or run this where output_dir lies.")
    try:
        return eval_setup(config_file, test_mode="inference")[1]
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"The checkpoint in {folder} cannot be loaded ({reason}).") from None
