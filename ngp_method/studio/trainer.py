"""nerfstudio's trainer with what one may expect of it: nothing is lost or overwritten, and it ends in time.

The training loop is nerfstudio's own. Around it: checkpoints that are whole or not there (:mod:`.checkpoints`), a clean
end on Ctrl-C and SIGTERM that saves first, a resume that goes on to ``max_num_iterations`` in total, a time budget, and
a check of the data before the first file is written.
"""

from __future__ import annotations

import shlex
import signal
import time
import warnings
from pathlib import Path
from typing import Any, Literal, NoReturn, Optional

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import comms, writer
from nerfstudio.utils.rich_utils import CONSOLE

from ngp_method.studio import checkpoints
from ngp_method.studio.interrupts import StopSignals
from ngp_method.studio.schedulers import FactorLR
from ngp_method.studio.settled import settle
from ngp_method.studio.trainer_config import InstantHashTrainerConfig

__all__ = ["InstantHashTrainer", "InstantHashTrainerConfig"]

TrainOutput = tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]


class InstantHashTrainer(Trainer):
    """See the module's first lines.

    Attributes:
        steps_done: iterations of the run so far, those before a resume included.
        training_seconds: seconds spent in iterations and their callbacks (monotonic clock), those before a resume
            included; evaluation, checkpoints and the viewer's rendering are not in it.
    """

    config: InstantHashTrainerConfig

    def __init__(self, config: InstantHashTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        config.check_machine()
        if config.machine.device_type == "cuda":
            torch.cuda.set_device(local_rank)  # Triton launches on the current device, whatever a tensor lies on
        # The kernels choose their own precision. A gradient scaler would skip steps, on which the optimiser counts.
        config.mixed_precision = config.use_grad_scaler = False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*GradScaler.*", category=FutureWarning)
            super().__init__(config, local_rank, world_size)
        self.steps_done = 0
        self.training_seconds = 0.0
        self.stop_training = False
        self._iteration_start: Optional[float] = None
        self._signals = StopSignals(self._request_stop)
        self._random_state: Optional[dict[str, Any]] = None
        self._loaded: Optional[tuple[Path, dict[str, Any]]] = None

    # -- how far the run is

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]: of its steps or of its seconds, whichever is further."""
        share = self.steps_done / self.config.max_num_iterations
        if self.config.max_train_seconds is not None:
            seconds = self.training_seconds
            if self._iteration_start is not None:
                seconds += time.monotonic() - self._iteration_start
            share = max(share, seconds / self.config.max_train_seconds)
        return min(share, 1.0)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Sets up the pipeline and the rest, and puts the clock around the model's own callbacks."""
        try:
            self._read_checkpoint()
            super().setup(test_mode)
        except (KeyboardInterrupt, SystemExit) as end:
            self.shutdown()  # the viewer's server is up before the checkpoint is read
            raise SystemExit(end.code if isinstance(end, SystemExit) else 128 + signal.SIGINT) from None
        if test_mode == "val":
            self.config.write_what_was_settled()
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        self.callbacks = [
            TrainingCallback([before], self._start_clock),
            *self.callbacks,
            TrainingCallback([after], self._stop_clock),
        ]

    def setup_optimizers(self) -> Optimizers:
        """The optimizers; those of our schedulers that can follow the run's progress do so."""
        optimizers = super().setup_optimizers()
        for scheduler in optimizers.schedulers.values():
            if isinstance(scheduler, FactorLR):
                scheduler.follow(lambda: self.progress)
        return optimizers

    def _start_clock(self, step: int) -> None:
        self._signals.hold()
        if self._random_state is not None:  # not before: the viewer has begun by now, and may have drawn
            checkpoints.set_random_state(self._random_state)
            self._random_state = None
        self._iteration_start = time.monotonic()

    def _stop_clock(self, step: int) -> None:
        assert self._iteration_start is not None
        self.training_seconds += time.monotonic() - self._iteration_start
        self._iteration_start = None
        if self.progress >= 1.0:
            self.stop_training = True
        elif self.progress * self.config.max_num_iterations > self.steps_done:
            # The seconds will end the run: nerfstudio's percentage and time of arrival follow from the steps expected.
            writer.GLOBAL_BUFFER["max_iter"] = round(self.steps_done / self.progress)

    def train_iteration(self, step: int) -> TrainOutput:
        """One iteration; the schedulers, stepped at its end, set the rate for a run that is ``step + 1`` steps far."""
        self.steps_done = step + 1
        return super().train_iteration(step)

    def eval_iteration(self, step: int) -> None:
        """Evaluates where it is due; Ctrl-C need not wait for it, since no parameter changes here."""
        with self._signals.open():
            super().eval_iteration(step)

    # -- beginning and end

    def train(self) -> None:
        """Trains to ``max_num_iterations`` in total or to the end of the time budget, whichever comes first.

        Raises:
            SystemExit: 128 + the signal's number after Ctrl-C or SIGTERM, when the run has been saved.
        """
        with self._signals:
            try:
                if self.progress < 1.0:
                    super().train()
                else:
                    self._nothing_to_train()
            except KeyboardInterrupt:
                self._interrupted()

    def _nothing_to_train(self) -> None:
        CONSOLE.print(
            f"{self.steps_done} of {self.config.max_num_iterations} steps are done, in {self.training_seconds:.0f} s: "
            "nothing is left to train. Give a larger --max-num-iterations or --max-train-seconds to go on."
        )
        outputs = getattr(self.pipeline.datamanager, "train_dataparser_outputs", None)
        if outputs is not None:
            outputs.save_dataparser_transform(self.base_dir / "dataparser_transforms.json")
        self._init_viewer_state()
        self._after_train()

    def _after_train(self) -> None:
        # When the loop is stopped, nerfstudio's step is already the next one, which was not trained.
        self.step = self.steps_done - 1
        if self._signals.received is not None:
            raise KeyboardInterrupt
        super()._after_train()

    def _interrupted(self) -> NoReturn:
        number = self._signals.received or signal.SIGINT
        self._signals.ignore()
        if self.steps_done == 0:
            what = "before the first step; there is nothing to save."
        elif self._signals.torn:
            what = f"in the middle of a step, without saving; {self.checkpoint_dir} holds what was saved before."
        else:
            self.save_checkpoint(self.steps_done - 1)
            what = f"after {self.steps_done} steps and saved. To go on: --load-dir {shlex.quote(str(self.checkpoint_dir))}"
        writer.write_out_storage()
        CONSOLE.print(f"\nStopped {what}", soft_wrap=True)
        self.shutdown()
        raise SystemExit(128 + number)

    def _request_stop(self) -> None:
        self.stop_training = True

    def _train_complete_viewer(self) -> None:
        try:
            with self._signals.open():
                if self._signals.received is None:
                    super()._train_complete_viewer()
        except KeyboardInterrupt:
            CONSOLE.print()
        self.shutdown()

    # -- checkpoints

    def save_checkpoint(self, step: int) -> None:
        """Writes ``step-<step>.ckpt``, whole or not at all, and then removes the older ones if so configured."""
        if not comms.is_main_process():
            return
        state = checkpoints.gather(self, step)
        state["training_seconds"] = float(self.training_seconds)
        checkpoints.write(state, self.checkpoint_dir, step, keep_others=not self.config.save_only_latest_checkpoint)

    def _read_checkpoint(self) -> None:
        """Reads it before the pipeline is built, which takes from it what the run has settled."""
        path = checkpoints.find(self.config.load_dir, self.config.load_step, self.config.load_checkpoint)
        if path is not None:
            self._loaded = path, checkpoints.read(path)
            settle(self.config.pipeline, self._loaded[1].get("run", {}).get("settled", {}))

    def _load_checkpoint(self) -> None:
        if self._loaded is None:
            CONSOLE.print("No checkpoint to load: training starts from scratch.")
            return
        (path, state), self._loaded = self._loaded, None
        checkpoints.restore(self, state, path, with_schedulers=self.config.load_scheduler)
        self._start_step = self.steps_done = int(state["step"]) + 1
        self.step = int(state["step"])
        self.training_seconds = float(state.get("training_seconds", 0.0))
        self._random_state = state.get("random")
        CONSOLE.print(f"Resuming at step {self._start_step} from {path}", soft_wrap=True)
