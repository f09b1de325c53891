"""The methods as nerfstudio sees them: four presets of a radiance field, two other primitives of the paper, and two baselines.

====================  ==================================================================================================
``instant-hash``       ``instant-hash-paper`` where torch sees a GPU, else ``instant-hash-lite``; says which
``instant-hash-paper``  the paper and instant-ngp's shipped settings to the letter, the same on every machine
``instant-hash-lite``   minutes on a processor
``instant-hash-antialiased``  ``instant-hash`` whose samples are as wide as their pixels: pictures of several sizes
``instant-hash-big``    the paper's with 2^21 entries a level: large scenes, much detail, a GPU with memory
``instant-image``      a picture as a function of position, on any machine
``instant-sdf``        a mesh's signed distance as a function of position, on any machine
``instant-hash-mipnerf``  mip-NeRF as published, to be measured against
``instant-hash-nerf``  NeRF as published, to be measured against
====================  ==================================================================================================

One dial serves all: ``--max-train-seconds`` (or ``--max-num-iterations``) sets how long a run is, and the learning rates fall
within it.
"""

from __future__ import annotations

import torch
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from .fields.adam import L2_REG, LEARNING_RATE
from .studio.baselines.model_config import (
    BaselineDataManagerConfig,
    BaselineModelConfig,
    MipNerfModelConfig,
    NerfModelConfig,
)
from .studio.baselines.schedule import LogLinearConfig
from .studio.model_config import InstantHashModelConfig
from .studio.optimizers import NgpAdamConfig
from .studio.pipeline import InstantHashPipelineConfig
from .studio.points.image_manager import PictureDataManagerConfig
from .studio.points.image_model import ImageModelConfig
from .studio.points.pipeline import PointPipelineConfig
from .studio.points.sdf_manager import MeshDataManagerConfig
from .studio.points.sdf_model import SdfModelConfig, SdfPipelineConfig
from .studio.points.trainer_config import PointTrainerConfig
from .studio.schedulers import AnnealConfig, StepDecayConfig
from .studio.trainer_config import InstantHashTrainerConfig


def paper_config(log2_hashmap_size: int = 19) -> InstantHashTrainerConfig:
    """Paper section 4 and instant-ngp: 16 levels of 2 features, 2^19 entries, 2^18 samples a step, 30,000 steps, lr 1e-2.

    The rate is multiplied by 0.33 after two thirds of the run, as in base.json after 20,000 steps of 30,000: within a budget of
    seconds too.
    """

    def decay() -> StepDecayConfig:
        return StepDecayConfig(start=2 / 3, every=1 / 3, unit="run")

    model = InstantHashModelConfig(
        log2_hashmap_size=log2_hashmap_size, step_scale=1.0, sample_budget=1 << 18, eval_num_rays_per_chunk=1 << 18
    )
    return InstantHashTrainerConfig(
        method_name="instant-hash-paper",
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=25_000,
        steps_per_save=2_000,
        max_num_iterations=30_000,
        pipeline=InstantHashPipelineConfig(model=model),
        optimizers={
            "encoding": {"optimizer": NgpAdamConfig(lr=LEARNING_RATE), "scheduler": decay()},
            "networks": {"optimizer": NgpAdamConfig(lr=LEARNING_RATE, weight_decay=L2_REG), "scheduler": decay()},
        },
        vis="viewer",
    )


def big_config() -> InstantHashTrainerConfig:
    """The paper's settings with 2^21 entries a level (paper figure 4: the largest it tries are 2^24): 200 MB of table."""
    config = paper_config(log2_hashmap_size=21)
    config.method_name = "instant-hash-big"
    return config


def lite_config() -> InstantHashTrainerConfig:
    """Settings for minutes on a processor, where a run has hundreds to thousands of steps instead of 30,000.

    Chosen with ``benchmarks/cpu.py lego --seconds 30 --set ...``: a table of 2^17 entries a level fits a core's second-level
    cache; three times the table's learning rate and half the matrices' get there in fewer steps; neither steps nor levels are
    finer than the images resolve. Over the last 70 % of the run or of its seconds the matrices' rate falls to 3 %, the table's
    to 30 % only: lego gains 0.8 dB in 60 s over 3 % for both, as the average of the weights takes the noise of the higher
    rate away.
    """
    config = paper_config()
    config.method_name = "instant-hash-lite"
    config.max_num_iterations = 8_000
    # One held-out picture a thousand steps: some seconds in a minute or two of training.
    config.steps_per_eval_batch, config.steps_per_eval_image, config.steps_per_eval_all_images = 1_000, 1_000, 0
    config.steps_per_save = 1_000
    config.pipeline.model = InstantHashModelConfig(log2_hashmap_size=17, sample_budget=1 << 16, levels_fit_images=True)
    config.optimizers = {
        "encoding": {"optimizer": NgpAdamConfig(lr=3e-2), "scheduler": AnnealConfig(final_scale=0.3)},
        "networks": {"optimizer": NgpAdamConfig(lr=5e-3, weight_decay=L2_REG), "scheduler": AnnealConfig()},
    }
    return config


def auto_config() -> InstantHashTrainerConfig:
    """The settings that suit the machine; the run's first line says whose they are."""
    config = paper_config() if torch.cuda.is_available() else lite_config()
    config.settings_of, config.method_name = str(config.method_name), "instant-hash"
    return config


def antialiased_config() -> InstantHashTrainerConfig:
    """The settings that suit the machine, and samples as wide as their pixels: for pictures of several sizes or distances."""
    config = auto_config()
    config.method_name = "instant-hash-antialiased"
    assert isinstance(config.pipeline.model, InstantHashModelConfig)
    config.pipeline.model.footprints = True
    return config


def image_config() -> PointTrainerConfig:
    """A picture: instant-ngp ``configs/image/base.json``, with a batch that grows from 2^14 and rates that fall within the run.

    Chosen with ``benchmarks/study.py image``: with 2^14 points at first, a run of seconds has hundreds of steps more.
    """
    return PointTrainerConfig(
        method_name="instant-image",
        steps_per_eval_batch=0,
        steps_per_eval_image=0,
        steps_per_eval_all_images=0,
        steps_per_save=1_000,
        max_num_iterations=5_000,
        pipeline=PointPipelineConfig(datamanager=PictureDataManagerConfig(), model=ImageModelConfig()),
        optimizers={
            "encoding": {"optimizer": NgpAdamConfig(lr=LEARNING_RATE), "scheduler": AnnealConfig()},
            "networks": {"optimizer": NgpAdamConfig(lr=LEARNING_RATE, weight_decay=L2_REG), "scheduler": AnnealConfig()},
        },
        vis="viewer",
    )


def sdf_config() -> PointTrainerConfig:
    """A signed distance: instant-ngp ``configs/sdf/base.json`` with a rate of 3e-3, as its 1e-4 is for 11,000 steps of 2^18."""
    config = image_config()
    config.method_name = "instant-sdf"
    config.pipeline = SdfPipelineConfig(datamanager=MeshDataManagerConfig(), model=SdfModelConfig())
    for group in config.optimizers.values():
        group["optimizer"].lr = 3e-3
    return config


def baseline_config(
    name: str, model: BaselineModelConfig, steps: int, eps: float, rate: LogLinearConfig
) -> InstantHashTrainerConfig:
    """A baseline: as many steps as published, Adam from 5e-4 on; a held-out picture every 25,000 steps, as each takes long."""
    return InstantHashTrainerConfig(
        method_name=name,
        steps_per_eval_batch=1_000,
        steps_per_eval_image=25_000,
        steps_per_eval_all_images=0,
        steps_per_save=1_000,
        max_num_iterations=steps,
        pipeline=InstantHashPipelineConfig(datamanager=BaselineDataManagerConfig(), model=model),
        optimizers={"networks": {"optimizer": AdamOptimizerConfig(lr=5e-4, eps=eps), "scheduler": rate}},
        vis="viewer",
    )


def mipnerf_config() -> InstantHashTrainerConfig:
    """mip-NeRF, section 3.2 and its supplement: a million steps, from 5e-4 to 5e-6 with a warm-up of 2,500."""
    return baseline_config("instant-hash-mipnerf", MipNerfModelConfig(), 1_000_000, 1e-8, LogLinearConfig())


def nerf_config() -> InstantHashTrainerConfig:
    """NeRF, section 5.3: 300,000 steps, from 5e-4 to 5e-5, Adam's epsilon 1e-7."""
    rate = LogLinearConfig(final_scale=0.1, warmup=0.0)
    return baseline_config("instant-hash-nerf", NerfModelConfig(), 300_000, 1e-7, rate)


instant_hash = MethodSpecification(
    config=auto_config(),
    description="Instant-NGP on any machine: settings of -paper on a GPU, of -lite elsewhere.",
)
instant_hash_paper = MethodSpecification(
    config=paper_config(),
    description="Instant-NGP to the letter: 16 levels of 2^19 entries, 2^18 samples a step, 30,000 steps.",
)
instant_hash_lite = MethodSpecification(
    config=lite_config(),
    description="Instant-NGP in minutes on a processor: 2^17 entries, 2^16 samples a step.",
)
instant_hash_big = MethodSpecification(
    config=big_config(),
    description="Instant-NGP for large scenes: 2^21 entries a level, for a GPU with memory.",
)
instant_hash_antialiased = MethodSpecification(
    config=antialiased_config(),
    description="Instant-NGP with Zip-NeRF's anti-aliasing: samples as wide as their pixels, sharp and smooth at any size.",
)
instant_image = MethodSpecification(
    config=image_config(),
    description="Instant-NGP's gigapixel image: a picture as a function of position.",
)
instant_sdf = MethodSpecification(
    config=sdf_config(),
    description="Instant-NGP's signed distance: a mesh as a function of position.",
)
instant_hash_mipnerf = MethodSpecification(
    config=mipnerf_config(),
    description="mip-NeRF as published, in plain torch: a baseline to measure against.",
)
instant_hash_nerf = MethodSpecification(
    config=nerf_config(),
    description="NeRF as published, in plain torch: a baseline to measure against.",
)
