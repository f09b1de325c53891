"""What config.yml keeps of a run's places, and where they are now: folders move, and runs are taken to other machines.

A config.yml names folders of the machine it was written on, and nerfstudio looks for checkpoints and scene there. Here the
checkpoints beside the config.yml that a command was given are taken, and a scene that is not where it was is looked for where
the run and the scene lie as they did to each other. A person who has moved it elsewhere writes that into the file.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Optional

from ngp_method.data.messages import say_once
from ngp_method.errors import fail
from ngp_method.studio import checkpoints

if TYPE_CHECKING:
    from ngp_method.studio.trainer_config import InstantHashTrainerConfig

PATHS = ("data", "output_dir", "load_dir", "load_checkpoint")
"""Settings of a run that are paths of the machine it ran on."""

HERE = ("run_folder", "run_file")
"""Attributes of a config that was loaded for its run: where that run lies. They are no settings, and never written."""

Use = Literal["run", "settings"]
"""What a config.yml is read for: the run that it is of, or its settings for a new run."""


def state_of(config: InstantHashTrainerConfig) -> dict[str, Any]:
    """What is written of a config: paths as plain text, which an editor can change, and the scene's once, under ``data``."""
    state = {name: value for name, value in vars(config).items() if name not in HERE}
    state |= {name: str(state[name]) for name in PATHS if isinstance(state.get(name), Path)}
    manager = config.pipeline.datamanager
    parser = getattr(manager, "dataparser", None)
    if config.data is not None and config.data == manager.data == getattr(parser, "data", manager.data):
        pipeline, manager = copy.copy(config.pipeline), copy.copy(manager)
        pipeline.datamanager, manager.data = manager, None
        if parser is not None:
            manager.dataparser = copy.copy(parser)  # type: ignore[attr-defined] # there is a parser here
            manager.dataparser.data = None  # type: ignore[attr-defined]
        state["pipeline"] = pipeline
    return state


def set_state(config: InstantHashTrainerConfig, state: dict[str, Any]) -> None:
    """Gives a config what :func:`state_of` had, or an editor changed; ``data`` goes before all else that names the scene."""
    vars(config).update(state)
    for name in PATHS:
        if isinstance(getattr(config, name), str):
            setattr(config, name, Path(getattr(config, name)).expanduser())
    if config.data is not None:
        _set_scene(config, config.data)


def being_read() -> Optional[tuple[Path, Use]]:
    """The config.yml that nerfstudio is reading, and what for: it hands on its text alone, not where it lies."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__")
        if (module, name) == ("nerfstudio.utils.eval_utils", "eval_setup"):
            return Path(frame.f_locals["config_path"]), "run"
        if (module, name) == ("nerfstudio.scripts.train", "main"):
            file = getattr(frame.f_locals.get("config"), "load_config", None)
            return None if file is None else (Path(file), "settings")
        frame = frame.f_back
    return None


def find_run(config: InstantHashTrainerConfig, file: Path) -> Path:
    """The folder of the run that a config.yml is of: its own where checkpoints lie beside it, else where it was trained."""
    here, there = Path(os.path.abspath(file)).parent, config.get_trained_dir()
    moved = not checkpoints.steps_in(here / config.relative_model_dir)
    return there if moved and checkpoints.steps_in(there / config.relative_model_dir) else here


def check_run(config: InstantHashTrainerConfig, folder: Path) -> None:
    """Looks whether a run can be loaded, and which of its checkpoints: nerfstudio takes every name there for one's.

    Raises:
        UserError: no checkpoint, or not the one that ``load_step`` names.
    """
    models = folder / config.relative_model_dir
    steps = checkpoints.steps_in(models)
    if not steps:
        fail(f"{models}: no step-*.ckpt in it; put the run's checkpoints there, or train first.")
    if config.load_dir is not None and config.load_step not in (None, steps[-1]):
        say_once(
            f"The run went on from step {config.load_step} of {config.load_dir}, and its latest checkpoint is loaded; for "
            "another one, its config.yml takes load_step with 'load_dir: null'."
        )
    if config.load_dir is not None or config.load_step is None:
        config.load_step = steps[-1]
    elif config.load_step not in steps:
        have = ", ".join(map(str, steps))
        fail(
            f"load_step is {config.load_step} in the run's config.yml, and {models} holds step {have} only; write one of these."
        )


def find_scene(config: InstantHashTrainerConfig, file: Path) -> None:
    """Has a config name the scene where it is now.

    Raises:
        UserError: it is nowhere.
    """
    recorded = config.data
    if recorded is None or recorded.exists() or recorded != config.pipeline.datamanager.data:  # ns-render dataset has --data
        return
    found = next((path for path in _places(recorded, config.get_trained_dir(), file) if path.exists()), None)
    if found is None:
        fail(
            f"The {config.subject} {recorded} of the run {file} is not there; put it there, or say where it is by adding the "
            f"line 'data: {'DIR' if config.subject == 'scene' else 'FILE'}' at the end of {file}."
        )
    say_once(f"The {config.subject} {recorded} is not there any more; {found} is taken.")
    _set_scene(config, found)


def _places(recorded: Path, trained_in: Path, file: Path) -> list[Path]:
    """Where a scene may be that is not where it was recorded, the likeliest first."""
    folder = Path(os.path.abspath(file)).parent
    places = [folder / recorded]  # written by hand, as seen from the config.yml
    if recorded.is_absolute() and trained_in.is_absolute() and len(Path(os.path.commonpath([recorded, trained_in])).parts) > 1:
        places.append(Path(os.path.abspath(folder / os.path.relpath(recorded, trained_in))))  # moved together
    if recorded.parts[-3:] == ("ngp_method", "demo", "scene"):
        places.append(Path(__file__).parents[1].joinpath(*recorded.parts[-2:]))  # of another installation
    return places


def take_settings(config: InstantHashTrainerConfig, file: Path) -> None:
    """Has a config that was read for a new run name folders that are there.

    Raises:
        UserError: the scene, or the run that it was to go on from, is nowhere.
    """
    find_scene(config, file)
    for name in ("load_dir", "load_checkpoint"):
        path = getattr(config, name)
        if path is not None and not path.exists():
            place = next((one for one in _places(path, config.get_trained_dir(), file) if one.exists()), None)
            if place is None:
                fail(
                    f"{name} is {path} in {file}, which is not there; put it there, or add the line '{name}: DIR', or "
                    f"'{name}: null' to begin anew, at the end of {file}."
                )
            setattr(config, name, place)
    trained_in = config.get_trained_dir()
    if not trained_in.exists():
        parts = trained_in.parts[-3:]  # experiment, method, timestamp
        folder = Path(os.path.abspath(file)).parent
        config.output_dir = folder.parents[2] if folder.parts[-3:] == parts else Path(os.path.abspath("outputs"))


def _set_scene(config: InstantHashTrainerConfig, scene: Path) -> None:
    manager: Any = config.pipeline.datamanager
    config.data = manager.data = scene
    if getattr(manager, "dataparser", None) is not None:
        manager.dataparser.data = scene
