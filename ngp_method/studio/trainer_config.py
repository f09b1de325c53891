"""Settings of a training run, checked and made whole before anything is written."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import torch
import tyro
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from ngp_method.errors import fail
from ngp_method.studio import checkpoints, moved
from ngp_method.studio.flags import first
from ngp_method.studio.network_checks import check_network


def _trainer() -> type:
    from ngp_method.studio.trainer import InstantHashTrainer  # which needs this module

    return InstantHashTrainer


def default_machine() -> MachineConfig:
    """CUDA where there is a device, else the CPU; nerfstudio's default is CUDA everywhere."""
    return MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class InstantHashViewerConfig(ViewerConfig):
    """nerfstudio's viewer."""

    num_rays_per_chunk: tyro.conf.Suppress[int] = 32768
    """Not used: pipeline.model.eval_num_rays_per_chunk is what counts."""


@first(
    "data", "max_train_seconds", "max_num_iterations", "vis", "output_dir", "experiment_name", "timestamp", "load_dir",
    "load_step", "load_checkpoint", "load_config", "steps_per_save", "save_only_latest_checkpoint", "steps_per_eval_batch",
    "steps_per_eval_image", "steps_per_eval_all_images", "pipeline", "optimizers", "machine", "viewer", "logging",
)  # fmt: skip
@dataclass
class InstantHashTrainerConfig(TrainerConfig):
    """A training run of instant-hash."""

    _target: type = field(default_factory=_trainer)
    """target class to instantiate"""
    machine: MachineConfig = field(default_factory=default_machine)
    """Machine configuration"""
    viewer: ViewerConfig = field(default_factory=InstantHashViewerConfig)
    """Viewer configuration"""
    max_num_iterations: int = 30_000
    """Iterations of the whole run; one that is resumed goes on to this number."""
    max_train_seconds: Optional[float] = None
    """Stop after this many seconds of training, within which the learning rates fall (evaluation, saving and the viewer's
    rendering are not counted)."""
    data: Optional[Path] = None
    """Folder of the scene."""
    settings_of: tyro.conf.Suppress[str] = ""
    """The preset whose settings `instant-hash` took on this machine."""
    prompt: tyro.conf.Suppress[Optional[str]] = None
    """Not used: nothing here is made from a text."""
    mixed_precision: tyro.conf.Suppress[bool] = False
    """Not used: the kernels choose their own precision (pipeline.model.kernels)."""
    use_grad_scaler: tyro.conf.Suppress[bool] = False
    """Not used: gradients are scaled where they are computed, if at all."""
    log_gradients: tyro.conf.Suppress[bool] = False
    """Not used: the optimiser's step clears gradients before they would be logged."""

    def __getstate__(self) -> dict[str, Any]:
        return moved.state_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        moved.set_state(self, state)
        reading = moved.being_read()
        if reading is not None:
            self.was_read(*reading)

    def was_read(self, file: Path, use: moved.Use) -> None:
        """Has the config go by where its run and its scene are now.

        Args:
            file: the config.yml that it was read from.
            use: whether the run itself is to be loaded, or its settings are taken for a new one.

        Raises:
            UserError: what a new run needs is nowhere (what a loaded run needs: :meth:`get_checkpoint_dir`).
        """
        if self.data is None:
            self.data = self.pipeline.datamanager.data
        if use == "settings":
            moved.take_settings(self, file)
        else:
            self.run_folder, self.run_file = moved.find_run(self, file), file

    @property
    def subject(self) -> str:
        """What ``data`` is, in sentences."""
        return "scene"

    def get_trained_dir(self) -> Path:
        """The folder that the run was trained in, as its settings name it."""
        return super().get_base_dir()

    def get_base_dir(self) -> Path:
        """The folder of the run: where it lies now if it was loaded, whatever its settings name."""
        folder: Optional[Path] = getattr(self, "run_folder", None)
        return self.get_trained_dir() if folder is None else folder

    def get_checkpoint_dir(self) -> Path:
        """The folder of the run's checkpoints, which nerfstudio asks for last before it loads a run.

        Raises:
            UserError: a run is to be loaded, and its checkpoints or its scene are nowhere.
        """
        if hasattr(self, "run_folder"):
            moved.check_run(self, self.run_folder)
            moved.find_scene(self, self.run_file)
        return super().get_checkpoint_dir()

    def check_machine(self) -> None:
        """Raises UserError with one sentence where the machine asked for cannot be had."""
        device, devices = self.machine.device_type, self.machine.num_devices
        if devices < 1:
            fail(f"--machine.num-devices {devices}: at least one device is needed.")
        if device == "cuda" and not torch.cuda.is_available():
            fail("--machine.device-type cuda: torch sees no CUDA device; leave the flag out or say cpu.")
        if device != "cuda" and devices * self.machine.num_machines > 1:
            fail(
                f"--machine.num-devices {devices}: training on several devices needs CUDA, and one {device} process "
                "already uses every core; leave the flag out."
            )
        if self.max_train_seconds is not None and self.max_train_seconds <= 0:
            fail(f"--max-train-seconds {self.max_train_seconds}: give a number of seconds above 0.")
        if self.max_num_iterations < 1:
            fail(f"--max-num-iterations {self.max_num_iterations}: give at least 1.")

    def say_settings(self) -> None:
        """Says whose settings `instant-hash` took; UserError with one sentence where they are not for the device asked for."""
        if not self.settings_of:
            return
        gpu, device = self.settings_of == "instant-hash-paper", self.machine.device_type
        more = " --pipeline.model.footprints True" if getattr(self.pipeline.model, "footprints", False) else ""
        if gpu != (device == "cuda"):
            fail(
                f"--machine.device-type {device}: instant-hash took the settings of {self.settings_of} on this machine, which "
                f"are for {'a GPU' if gpu else 'a processor'}; say ns-train instant-hash-{'lite' if gpu else 'paper'}{more}."
            )
        why = "torch sees a GPU" if gpu else "torch sees no GPU"
        CONSOLE.print(f"instant-hash settings: those of {self.settings_of} (auto, {why})", soft_wrap=True)

    def make_paths_absolute(self) -> None:
        """Lets the config of a run be used from any folder, and hands ``--data`` to the data parser."""
        manager = self.pipeline.datamanager
        parser = getattr(manager, "dataparser", None)
        if self.data is not None:
            manager.data = self.data
        if parser is not None:
            if manager.data is None:
                manager.data = parser.data
            parser.data = manager.data
        if self.data is None:
            self.data = manager.data
        owners: list[tuple[Any, str]] = [(self, name) for name in moved.PATHS]
        owners += [(manager, "data"), (parser, "data"), (getattr(self.pipeline, "model", None), "lpips_weights")]
        for owner, name in owners:
            path = getattr(owner, name, None)
            if path is not None:
                setattr(owner, name, _absolute(path))

    def check_data(self) -> None:
        """Raises UserError with one sentence where the data cannot be trained on."""
        parser = getattr(self.pipeline.datamanager, "dataparser", None)
        if parser is not None:
            # The checks read images and transforms; eval and export, which load this class, need none of that.
            from ngp_method.data.checks import check_data

            check_data(parser)

    def spare_old_run(self) -> None:
        """Takes a new time stamp where the folder holds another run, as it does on ``--load-config``."""
        base = self.get_base_dir()
        resumed_from = (self.load_dir, self.load_checkpoint and self.load_checkpoint.parent)
        if not (base / "config.yml").exists() or self.get_checkpoint_dir() in resumed_from:
            return
        stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
        tries = 1
        self.timestamp = stamp
        while self.get_base_dir().exists():
            tries += 1
            self.timestamp = f"{stamp}_{tries}"
        CONSOLE.print(
            f"{base} already holds a run, which is left as it is: this one goes to {self.get_base_dir()}. "
            f"To go on with the old one: --load-dir {shlex.quote(str(base / self.relative_model_dir))}",
            soft_wrap=True,
        )

    def save_config(self) -> None:
        """Checks machine and data, then writes ``config.yml``; nothing is written where a check fails."""
        self.check_machine()
        model = getattr(self.pipeline, "model", None)
        if model is not None:
            check_network(model)
        self.say_settings()
        self.make_paths_absolute()
        checkpoints.find(self.load_dir, self.load_step, self.load_checkpoint)
        self.check_data()
        self.spare_old_run()
        super().save_config()

    def write_what_was_settled(self) -> None:
        """Writes ``config.yml`` once more, where there is one: building the model may have settled what was left open."""
        if (self.get_base_dir() / "config.yml").is_file():
            super().save_config()


def _absolute(path: Path) -> Path:
    # abspath, not resolve: a link's own name is what the user knows the data by, and what names the experiment.
    return Path(os.path.abspath(Path(path).expanduser()))
