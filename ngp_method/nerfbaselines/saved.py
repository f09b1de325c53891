"""A run as nerfbaselines keeps it: a folder with the state of training and the settings that it was trained with.

``instant-hash.ckpt`` is a checkpoint as ``ns-train`` writes it, ``instant-hash.json`` the preset, what was said otherwise, and
all settings as they came out. No clock is in either: the same training gives the same files.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfbaselines.io import get_torch_checkpoint_sha

from ngp_method.errors import fail
from ngp_method.studio import checkpoints

from . import settings
from .manager import HandedDataManager, HandedParserConfig

STATE, SETTINGS = "instant-hash.ckpt", "instant-hash.json"
"""The files."""


@dataclass
class Saved:
    """What a folder holds.

    Attributes:
        folder: where it lies.
        method: the preset of ours.
        overrides: what was said otherwise.
        settings: all of them.
        background: [3] colour behind the pictures, in [0, 1], or None.
        state: of training.
    """

    folder: Path
    method: str
    overrides: dict[str, Any]
    settings: dict[str, Any]
    background: tuple[float, float, float] | None
    state: dict[str, Any]

    @property
    def state_file(self) -> Path:
        """The checkpoint itself."""
        return self.folder / STATE


def read(folder: Path) -> Saved:
    """Reads a folder that :func:`write` wrote.

    Raises:
        UserError: it is none, or cannot be read.
    """
    file = folder / SETTINGS
    mend = "give the checkpoint folder of a run of this method."
    if not file.is_file() or not (folder / STATE).is_file():
        fail(f"{folder} holds no {SETTINGS} and {STATE}; {mend}")
    try:
        found = json.loads(file.read_text(encoding="utf8"))
        background = found["background"]
        return Saved(
            folder, found["method"], dict(found["overrides"]), dict(found["settings"]),
            None if background is None else tuple(background), checkpoints.read(folder / STATE),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        return fail(f"{file} cannot be read ({type(error).__name__}: {error}); {mend}")


def write(run: Saved) -> None:
    """Writes the files; the checkpoint whole or not at all, beside it a checksum of what it holds, as its bytes may differ.

    Raises:
        UserError: the disk does not take them.
    """
    checkpoints.write_whole(run.state, run.state_file)
    run.state_file.with_name(STATE + ".sha256").write_text(get_torch_checkpoint_sha(run.state))
    kept = {"method": run.method, "overrides": run.overrides, "settings": run.settings, "background": run.background}
    (run.folder / SETTINGS).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf8")


def config_of(overrides: Mapping[str, Any], saved: Saved | None) -> Any:
    """The trainer's config of a run, its data parser ready for data in memory.

    Args:
        overrides: what nerfbaselines says, presets included.
        saved: the run that is gone on with or rendered: it keeps what its network and data were set up with.

    Raises:
        UserError: a setting that is none, or that is another than the saved run's.
    """
    method = overrides.get(settings.METHOD, settings.DEFAULT if saved is None else saved.method)
    rest = {path: value for path, value in overrides.items() if path != settings.METHOD}
    if saved is not None:
        rest = {path: value for path, value in rest.items() if saved.overrides.get(path) != value}
        for path in rest:
            if path.startswith("pipeline."):
                fail(f"{saved.folder} was trained with another {path} than {rest[path]}; leave it out, or train anew.")
        if overrides.get(settings.METHOD) not in (None, saved.overrides.get(settings.METHOD), saved.method):
            fail(f"{saved.folder} was trained with {saved.method}, not {method}; leave it out, or train anew.")
        method = saved.method
    config = copy.deepcopy(settings.preset(method))
    config.pipeline.datamanager._target = HandedDataManager
    config.pipeline.datamanager.dataparser = HandedParserConfig()
    if saved is not None:
        settings.put(config, saved.settings, str(saved.folder / SETTINGS))
    settings.put(config, rest, "nerfbaselines")
    return config
