"""The class that nerfbaselines drives: trained by our trainer a step at a time, and rendered as ``ns-eval`` renders."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nerfbaselines import Method
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.model_components.renderers import background_color_override_context
from nerfstudio.utils.rich_utils import CONSOLE
from numpy.typing import NDArray

from ngp_method.data.placement import Placement
from ngp_method.errors import UserError, fail
from ngp_method.studio import checkpoints
from ngp_method.studio.model import InstantHashModel, without_normals
from ngp_method.studio.network_checks import check_network
from ngp_method.studio.settled import settle
from ngp_method.studio.trainer import InstantHashTrainer
from ngp_method.volume.rendering import RAYS_AT_A_TIME

from . import saved, settings
from .handed import CAMERA_MODELS, Handed, placed_camera

OUTPUTS = ("color", "depth", "accumulation")


class InstantHash(Method):  # type: ignore[misc,unused-ignore] # where nerfbaselines is not installed, Method is Any
    """Instant-NGP under nerfbaselines' protocol of a method.

    Args:
        checkpoint: a folder that :meth:`save` wrote, to render from or, with data, to go on with.
        train_dataset: nerfbaselines' data to train on, images loaded; without it the method only renders.
        config_overrides: settings by dotted path, and ``method`` for a preset of ours; see :mod:`.settings`.

    Raises:
        UserError: settings, data or a checkpoint that cannot be used, in one sentence.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        train_dataset: Mapping[str, Any] | None = None,
        config_overrides: Mapping[str, Any] | None = None,
    ) -> None:
        run = None if checkpoint is None else saved.read(Path(checkpoint))
        self.config = saved.config_of(config_overrides or {}, run)
        self._overrides = {**(run.overrides if run else {}), **(config_overrides or {})}
        self.config.check_machine()
        self._trainer: InstantHashTrainer | None = None
        self._loaded = None if run is None else (str(checkpoint), int(run.state["step"]) + 1)
        self._background = None if run is None else run.background
        self._state = None if run is None else run.state
        """Of training, while nothing was trained since it was read or written."""
        if train_dataset is not None:
            self.model = self._set_up_training(Handed(train_dataset), run)
        elif run is not None:
            self.model = self._set_up_rendering(run)
        else:
            fail("nerfbaselines: neither a checkpoint nor data were given; give --checkpoint or --data.")
        self.placement = Placement.from_numbers(self.config.pipeline.datamanager.placement)

    def _set_up_training(self, data: Handed, run: saved.Saved | None) -> InstantHashModel:
        config = self.config
        parser = config.pipeline.datamanager.dataparser
        parser.handed, self._background = data, data.background
        check_network(config.pipeline.model)
        config.say_settings()
        parser.check()
        config.experiment_name, config.timestamp, config.vis = "nerfbaselines", "", None
        config.logging.local_writer.enable, config.logging.profiler = False, "none"
        config.load_checkpoint = None if run is None else run.state_file
        _seed(config.machine.seed)
        with _unspoken():  # it would name folders that nothing is written to
            trainer: InstantHashTrainer = config.setup()
        trainer.setup()
        self._trainer = trainer
        return cast(InstantHashModel, trainer.pipeline.model)

    def _set_up_rendering(self, run: saved.Saved) -> InstantHashModel:
        config = self.config
        settle(config.pipeline, run.state["run"]["settled"])
        placement = Placement.from_numbers(config.pipeline.datamanager.placement)
        device = config.machine.device_type
        model: InstantHashModel = config.pipeline.model.setup(
            scene_box=SceneBox(aabb=placement.geometry.aabb),
            num_train_data=placement.images,
            metadata={"geometry": placement.geometry},
            device=device,
            grad_scaler=None,
        )
        model.to(device)
        own = "_model."
        weights = {name.removeprefix(own): x for name, x in run.state["pipeline"].items() if name.startswith(own)}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"{run.state_file} does not fit {saved.SETTINGS} beside it ({reason}); train anew.") from None
        return model

    # -- what nerfbaselines asks

    @classmethod
    def get_method_info(cls) -> dict[str, Any]:
        """What the method needs of data and gives of pictures; nerfbaselines fills in ``method_id``."""
        return {
            "method_id": "",
            "required_features": frozenset(("color", "points3D_xyz")),
            "supported_camera_models": frozenset(CAMERA_MODELS),
            "supported_outputs": OUTPUTS,
            "can_resume_training": True,
            "viewer_default_resolution": 1024 if torch.cuda.is_available() else 256,
        }

    def get_info(self) -> dict[str, Any]:
        """The same, and what this run is: its length, its settings, where it began."""
        kernels = f"{self.model.kernels.name}: {self.model.kernels.description}"  # what auto has become
        loaded_checkpoint, loaded_step = self._loaded or (None, None)
        return {
            **self.get_method_info(),
            "num_iterations": int(self.config.max_num_iterations),
            "loaded_step": loaded_step,
            "loaded_checkpoint": loaded_checkpoint,
            "batch_size": int(self.model.training_step.budget.rays),
            "eval_batch_size": RAYS_AT_A_TIME["cpu" if self.model.device.type == "cpu" else "other"],
            "hparams": {settings.METHOD: self._preset, **settings.values(self.config), "pipeline.model.kernels": kernels},
        }

    @property
    def _preset(self) -> str:
        """The preset of ours whose settings these are on any machine."""
        return str(self.config.settings_of or self.config.method_name)

    def train_iteration(self, step: int) -> dict[str, float]:
        """Trains a step as nerfstudio's loop does.

        Args:
            step: its number from 0: that of the steps done.

        Returns:
            loss, psnr (dB) of the batch, its rays, samples a ray, and the table's learning rate.
        """
        trainer = self._trainer
        if trainer is None:
            fail("nerfbaselines: this method was loaded without data and only renders; give --data to train.")
        if step != trainer.steps_done:
            raise ValueError(f"Step {step} does not follow {trainer.steps_done} steps.")
        self._state = None
        trainer.step = step
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        loss, _, metrics = trainer.train_iteration(step)
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        rate = trainer.optimizers.optimizers["encoding"].param_groups[0]["lr"]
        found = {"loss": loss.detach(), "learning_rate": rate, **metrics}
        return {name: float(value) for name, value in found.items()}

    def render(self, camera: Any, *, options: Mapping[str, Any] | None = None) -> dict[str, NDArray[np.float32]]:
        """A picture by one camera.

        Args:
            camera: nerfbaselines', a single one.
            options: nerfbaselines' own; there are no embeddings here.

        Returns:
            color [H, W, 3] in [0, 1] over the background of the data, depth [H, W] along the ray in the units of the data, and
            accumulation [H, W], the opacity; float32.
        """
        if (options or {}).get("embedding") is not None:
            raise NotImplementedError("instant-hash has no appearance embeddings.")
        cameras = placed_camera(camera.item(), self.placement).to(self.model.device)
        background: AbstractContextManager[None] = nullcontext()
        if self._background is not None:
            background = background_color_override_context(torch.tensor(self._background))
        self.model.eval()
        with torch.no_grad(), without_normals(), background:
            outputs = self.model.get_outputs_for_camera(cameras)
        depth = outputs["depth"] / self.placement.scale
        found = {"color": outputs["rgb"], "depth": depth[..., 0], "accumulation": outputs["accumulation"][..., 0]}
        return {name: x.float().cpu().numpy() for name, x in found.items()}

    def save(self, path: str) -> None:
        """Writes the run into a folder, from which it renders the same pictures and goes on as if it had not stopped.

        Raises:
            UserError: the disk does not take it.
        """
        trainer = self._trainer
        if self._state is None:
            assert trainer is not None
            self.model.mark_unseen()  # a checkpoint counts as marked, one from before the first step too
            self._state = checkpoints.gather(trainer, trainer.steps_done - 1)
        kept = {name: value for name, value in settings.values(self.config).items() if name != settings.DEVICE}
        saved.write(saved.Saved(Path(path), self._preset, self._overrides, kept, self._background, self._state))


def _seed(seed: int) -> None:
    """Seeds what nerfstudio seeds before it builds a pipeline."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that nerfstudio seeds
    torch.manual_seed(seed)


@contextmanager
def _unspoken() -> Iterator[None]:
    """nerfstudio's console says nothing within it."""
    quiet, CONSOLE.quiet = CONSOLE.quiet, True
    try:
        yield
    finally:
        CONSOLE.quiet = quiet
