"""A pipeline of twelve numbers, for tests of the trainer: it learns a random line, and its steps can be made slow.

``python -m support.trainer_stub OUTPUT_DIR [name=value ...]`` trains it through nerfstudio's launcher, as ``ns-train`` does.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nerfstudio.configs.base_config import InstantiateConfig, LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig

from ngp_method.studio.schedulers import AnnealConfig
from ngp_method.studio.trainer_config import InstantHashTrainerConfig


@dataclass
class StubManagerConfig(InstantiateConfig):
    _target: type = field(default_factory=lambda: SimpleNamespace)
    data: Path | None = None


@dataclass
class StubPipelineConfig(InstantiateConfig):
    _target: type = field(default_factory=lambda: StubPipeline)
    datamanager: StubManagerConfig = field(default_factory=StubManagerConfig)
    step_seconds: float = 0.0
    callback_seconds: float = 0.0
    eval_seconds: float = 0.0


class StubPipeline(torch.nn.Module):
    size = 12

    def __init__(self, config: StubPipelineConfig, **kwargs: Any) -> None:
        super().__init__()
        self.config = config
        self.weights = torch.nn.Parameter(torch.zeros(self.size))
        # nothing here has train_dataparser_outputs: the trainer then writes no transforms
        self.datamanager = SimpleNamespace(
            train_dataset=[0], eval_dataset=[0], get_train_rays_per_batch=lambda: 1, includes_time=False
        )
        self.rates: list[float] = []
        self.steps: list[int] = []

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        time.sleep(self.config.step_seconds)
        self.steps.append(step)
        x = torch.rand(8, self.size)
        return None, {"loss": ((x @ self.weights - x.sum(-1)) ** 2).mean()}, {}

    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        print(f"evaluating at {step}", flush=True)
        time.sleep(self.config.eval_seconds)
        return None, {"loss": self.weights.sum() * torch.rand(())}, {}

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        return {"num_rays": 1.0}, {}

    def get_param_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"fields": [self.weights]}

    def get_training_callbacks(self, attributes: Any) -> list[TrainingCallback]:
        def before(step: int) -> None:
            time.sleep(self.config.callback_seconds)
            self.rates.append(attributes.optimizers.optimizers["fields"].param_groups[0]["lr"])
            print(f"step {step}", flush=True)

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], before)]

    def load_pipeline(self, state: dict[str, Any], step: int) -> None:
        self.load_state_dict(state)


def stub_config(output_dir: Path, **changes: Any) -> InstantHashTrainerConfig:
    """A config of the stub; ``changes`` are fields of the trainer's or, failing that, of the pipeline's config."""
    config = InstantHashTrainerConfig(
        method_name="stub",
        experiment_name="line",
        output_dir=output_dir,
        machine=MachineConfig(device_type="cpu"),
        pipeline=StubPipelineConfig(),  # type: ignore[arg-type]
        optimizers={"fields": {"optimizer": AdamOptimizerConfig(lr=0.1), "scheduler": AnnealConfig()}},
        logging=LoggingConfig(steps_per_log=1000),
        viewer=ViewerConfig(quit_on_train_completion=True),
        vis="tensorboard",
        max_num_iterations=20,
        steps_per_eval_batch=1000,
        steps_per_eval_image=1000,
        timestamp="run",
    )
    for name, value in changes.items():
        owner = config if hasattr(config, name) else config.pipeline
        assert hasattr(owner, name), name
        setattr(owner, name, value)
    return config


if __name__ == "__main__":
    from nerfstudio.scripts.train import main

    from support import trainer_stub  # by its name: config.yml must not say __main__

    given = dict(argument.split("=") for argument in sys.argv[2:])
    numbers = {key: float(value) if "." in value else int(value) for key, value in given.items() if key != "load_dir"}
    paths = {"load_dir": Path(given["load_dir"])} if "load_dir" in given else {}
    main(trainer_stub.stub_config(Path(sys.argv[1]), **numbers, **paths))
