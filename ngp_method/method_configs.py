"""The method ``instant-hash`` as nerfstudio sees it."""

from __future__ import annotations

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.plugins.types import MethodSpecification

from .optimizers import NgpAdamConfig
from .pipeline import InstantHashPipelineConfig
from .schedulers import AnnealConfig
from .trainer_config import InstantHashTrainerConfig

L2_REG = 1e-6
"""L2 on the matrices, none on the table (instant-ngp configs/nerf/base.json)."""

instant_hash = MethodSpecification(
    config=InstantHashTrainerConfig(
        method_name="instant-hash",
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=25_000,
        steps_per_save=2_000,
        max_num_iterations=30_000,
        pipeline=InstantHashPipelineConfig(),
        optimizers={
            "encoding": {"optimizer": NgpAdamConfig(lr=1e-2), "scheduler": AnnealConfig()},
            "networks": {"optimizer": NgpAdamConfig(lr=1e-2, weight_decay=L2_REG), "scheduler": AnnealConfig()},
        },
        viewer=ViewerConfig(),
        vis="viewer",
    ),
    description="Instant-NGP on any machine: hash grid, occupancy grid, kernels that need no compiler.",
)
