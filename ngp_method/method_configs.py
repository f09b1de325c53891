"""The method ``instant-hash`` as nerfstudio sees it, with the settings of a GPU or of a processor."""

from __future__ import annotations

import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.plugins.types import MethodSpecification

from .studio.model_config import InstantHashModelConfig
from .studio.optimizers import NgpAdamConfig
from .studio.pipeline import InstantHashPipelineConfig
from .studio.schedulers import AnnealConfig, StepDecayConfig
from .studio.trainer_config import InstantHashTrainerConfig

L2_REG = 1e-6
"""L2 on the matrices, none on the table (instant-ngp configs/nerf/base.json)."""


def gpu_config() -> InstantHashTrainerConfig:
    """instant-ngp's own settings: 2^19 entries a level, 2^18 samples a step, lr 1e-2, x0.33 every 10k steps from 20k."""
    return InstantHashTrainerConfig(
        method_name="instant-hash",
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=25_000,
        steps_per_save=2_000,
        max_num_iterations=30_000,
        pipeline=InstantHashPipelineConfig(model=InstantHashModelConfig(step_scale=1.0, eval_num_rays_per_chunk=1 << 18)),
        optimizers={
            "encoding": {"optimizer": NgpAdamConfig(lr=1e-2), "scheduler": StepDecayConfig()},
            "networks": {"optimizer": NgpAdamConfig(lr=1e-2, weight_decay=L2_REG), "scheduler": StepDecayConfig()},
        },
        viewer=ViewerConfig(),
        vis="viewer",
    )


def cpu_config() -> InstantHashTrainerConfig:
    """Settings for minutes on a processor, where a run has hundreds to thousands of steps instead of 30,000.

    Chosen with ``benchmarks/cpu.py lego --seconds 30 --set ...``: a table of 2^17 entries a level fits a core's second-level
    cache; three times the table's learning rate and half the matrices' get there in fewer steps; steps are no finer than the
    images resolve. Over the last 70 % of the run or of its seconds the matrices' rate falls to 3 %, the table's to 30 % only:
    lego gains 0.8 dB in 60 s over 3 % for both, as the average of the weights takes the noise of the higher rate away.
    """
    config = gpu_config()
    config.max_num_iterations = 8_000
    config.steps_per_eval_batch = config.steps_per_eval_image = 0
    config.steps_per_eval_all_images = 0
    config.steps_per_save = 1_000
    config.pipeline.model = InstantHashModelConfig(log2_hashmap_size=17, sample_budget=1 << 16)
    config.optimizers = {
        "encoding": {"optimizer": NgpAdamConfig(lr=3e-2), "scheduler": AnnealConfig(final_scale=0.3)},
        "networks": {"optimizer": NgpAdamConfig(lr=5e-3, weight_decay=L2_REG), "scheduler": AnnealConfig()},
    }
    return config


instant_hash = MethodSpecification(
    config=gpu_config() if torch.cuda.is_available() else cpu_config(),
    description="Instant-NGP on any machine: hash grid, occupancy grid, kernels that need no compiler.",
)
