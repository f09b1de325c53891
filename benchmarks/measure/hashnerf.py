"""NeRF on nerfstudio's own hash grid in plain torch, as HashNeRF-pytorch has it: the way that installs everywhere.

nerfstudio's ``vanilla-nerf`` with its ``HashEncoding(implementation="torch")`` in place of the frequencies, its spherical
harmonics, networks 64 wide (two and two hidden layers), coarse and fine field of 64 and 128 samples a ray, RAdam at 1e-2 that
falls to a tenth within the run: the settings of HashNeRF-pytorch (its README and ``run_nerf.py``). A ray is sampled within the
scene box that the data parser gives, and over white.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.engine.optimizers import RAdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.field_components.encodings import Encoding, HashEncoding, SHEncoding
from nerfstudio.fields.vanilla_nerf_field import NeRFField
from nerfstudio.model_components.scene_colliders import AABBBoxCollider
from nerfstudio.models.vanilla_nerf import NeRFModel, VanillaModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from torch import Tensor

RAYS = 1024
"""Rays of a step (HashNeRF-pytorch, N_rand)."""


class BoxEncoding(Encoding):
    """An encoding of [0, 1]^3, of world positions in a box."""

    def __init__(self, encoding: Encoding, aabb: Tensor) -> None:
        super().__init__(in_dim=3)
        self.encoding = encoding
        self.register_buffer("aabb", aabb)

    def get_out_dim(self) -> int:
        """Features of the encoding."""
        return int(self.encoding.get_out_dim())

    def forward(self, in_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """World positions [..., 3] -> features."""
        low, high = self.aabb
        found: Tensor = self.encoding(((in_tensor - low) / (high - low)).clamp(0.0, 1.0))
        return found


class HashNerfModel(NeRFModel):
    """See the module's first lines."""

    def populate_modules(self) -> None:
        """nerfstudio's NeRF, and the two fields anew."""
        super().populate_modules()
        aabb = self.scene_box.aabb.float()

        def made() -> NeRFField:
            return NeRFField(
                position_encoding=BoxEncoding(HashEncoding(max_res=512, implementation="torch"), aabb),
                direction_encoding=SHEncoding(levels=4, implementation="torch"),
                base_mlp_num_layers=2, base_mlp_layer_width=64, head_mlp_num_layers=2, head_mlp_layer_width=64,
                skip_connections=(),
            )  # fmt: skip

        self.field_coarse, self.field_fine = made(), made()
        self.collider = AABBBoxCollider(self.scene_box, near_plane=0.05)


@dataclass
class HashNerfModelConfig(VanillaModelConfig):
    """nerfstudio's settings of NeRF, 64 and 128 samples a ray."""

    _target: type = field(default_factory=lambda: HashNerfModel)


def config() -> TrainerConfig:
    """The method as nerfstudio takes it; the rate falls to a tenth in the steps that a run of minutes has."""
    return TrainerConfig(
        method_name="hashnerf",
        pipeline=VanillaPipelineConfig(
            datamanager=VanillaDataManagerConfig(train_num_rays_per_batch=RAYS, eval_num_rays_per_batch=RAYS),
            model=HashNerfModelConfig(eval_num_rays_per_chunk=4096),
        ),
        optimizers={
            "fields": {
                "optimizer": RAdamOptimizerConfig(lr=1e-2, eps=1e-15),
                "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-3, max_steps=1000),
            },
            "temporal_distortion": {"optimizer": RAdamOptimizerConfig(lr=1e-2), "scheduler": None},
        },
    )
