"""Settings of NeRF and mip-NeRF, each with its meaning, as ``ns-train instant-hash-mipnerf --help`` prints them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Optional

import tyro
from nerfstudio.models.base_model import ModelConfig

from ...data.manager import InstantHashDataManagerConfig
from ...errors import fail
from ...fields.nerf_mlp import MLPSizes
from ..flags import first


def _mipnerf() -> type:
    from .model import MipNerfModel  # which needs this module

    return MipNerfModel


def _nerf() -> type:
    from .model import NerfModel

    return NerfModel


@dataclass
class BaselineModelConfig(ModelConfig):
    """What NeRF and mip-NeRF have in common."""

    enable_collider: tyro.conf.Suppress[bool] = False
    """Not used: near and far follow from the scene box."""
    collider_params: tyro.conf.Suppress[Optional[dict[str, float]]] = None
    """Not used: near and far follow from the scene box."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Not used: the first pass's loss has a flag of its own."""
    prompt: tyro.conf.Suppress[Optional[str]] = None
    """Not used: nothing here is made from a text."""
    eval_num_rays_per_chunk: tyro.conf.Suppress[int] = 1 << 14
    """Not used: as many rays are rendered at a time as their samples' features have room."""
    n_neurons: int = 256
    """Width of the perceptron's trunk. Cost grows with its square: 64 are twelve times as fast, and no longer the paper's."""
    n_hidden_layers: int = 8
    """Hidden layers of the trunk."""
    skip_after: int = 5
    """Hidden layer behind which the encoded position is joined once more."""
    n_neurons_color: int = 128
    """Width of the layers behind the joined direction."""
    n_hidden_layers_color: int = 1
    """Hidden layers behind the joined direction."""
    n_frequencies: int = 16
    """Octaves of the encoding of positions from 2^0 on, in a unit in which the scene's unit cube is 3 wide; a scene that
    reaches beyond its unit cube has lower ones beside them."""
    n_frequencies_direction: int = 4
    """Octaves of the encoding of directions."""
    spacing: Literal["auto", "linear", "inverse"] = "auto"
    """Where the first pass looks: steps equal in t, or in 1 / t. auto: linear, as published, but inverse in scenes that reach
    beyond their unit cube."""
    coarse_loss: float = 1.0
    """Weight of the first pass's loss beside the second's."""
    background_color: Literal["white", "black", "random"] = "white"
    """Background while training: white as in both papers; random per ray makes alpha count, as instant-hash does."""
    eval_background_color: Literal["white", "black"] = "white"
    """Background of rendered pictures and, where pictures have alpha, of the ground truth they are measured against."""
    near_plane: Optional[float] = None
    """Distance before which nothing is sampled, world units; default: what the data calls for."""
    lpips_weights: Optional[Path] = None
    """AlexNet and LPIPS weights (.npz) for the LPIPS metric; default: $LPIPS_WEIGHTS or torch's cache, else left out."""

    AT_LEAST: ClassVar[dict[str, float]] = {
        "n_neurons": 1,
        "n_hidden_layers": 1,
        "skip_after": 1,
        "n_neurons_color": 1,
        "n_hidden_layers_color": 0,
        "n_frequencies": 1,
        "n_frequencies_direction": 0,
        "coarse_loss": 0.0,
    }
    """Numbers that may not be less."""

    @property
    def sizes(self) -> MLPSizes:
        """Of the perceptron."""
        return MLPSizes(self.n_neurons, self.n_hidden_layers, self.skip_after, self.n_neurons_color, self.n_hidden_layers_color)

    def check(self) -> None:
        """Looks whether numbers make sense, before anything of a run is written.

        Raises:
            UserError: one does not.
        """
        for name, least in self.AT_LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                fail(f"--pipeline.model.{name.replace('_', '-')} {value}: give at least {least:g}.")


@first("n_neurons", "n_hidden_layers", "n_samples", "n_frequencies")
@dataclass
class MipNerfModelConfig(BaselineModelConfig):
    """mip-NeRF: cones, integrated encoding, one perceptron for both passes."""

    _target: type = field(default_factory=_mipnerf)
    """target class to instantiate"""
    coarse_loss: float = 0.1
    """Weight of the first pass's loss beside the second's."""
    n_samples: int = 128
    """Intervals of a ray in each of the two passes."""
    density_shift: float = -1.0
    """Added to the raw density before the softplus: scenes begin as a thin fog."""
    rgb_padding: float = 0.001
    """How far colours may leave [0, 1]."""
    resample_padding: float = 0.01
    """Added to the first pass's weights before they are drawn from: the second looks everywhere a little."""
    integrated: bool = True
    """Encode the pieces of cones; False: their middles alone, as points (the paper's "w/o IPE")."""

    AT_LEAST: ClassVar[dict[str, float]] = {
        **BaselineModelConfig.AT_LEAST,
        "n_samples": 1,
        "rgb_padding": 0.0,
        "resample_padding": 0.0,
    }
    """Numbers that may not be less."""


@first("n_neurons", "n_hidden_layers", "n_coarse_samples", "n_fine_samples", "n_frequencies")
@dataclass
class NerfModelConfig(BaselineModelConfig):
    """NeRF: points, frequency encoding, a perceptron for each pass."""

    _target: type = field(default_factory=_nerf)
    """target class to instantiate"""
    n_frequencies: int = 10
    """Octaves of the encoding of positions from 2^0 on, in a unit in which the scene's unit cube is 3 wide; a scene that
    reaches beyond its unit cube has lower ones beside them."""
    n_coarse_samples: int = 64
    """Points of a ray in the first pass."""
    n_fine_samples: int = 128
    """Points that the second pass has beside these."""
    density_noise: float = 0.0
    """Deviation of noise on raw densities while training: the paper has 1 for its real scenes, none for synthetic ones."""

    AT_LEAST: ClassVar[dict[str, float]] = {
        **BaselineModelConfig.AT_LEAST,
        "n_coarse_samples": 3,
        "n_fine_samples": 1,
        "density_noise": 0.0,
    }
    """Numbers that may not be less."""


@dataclass
class BaselineDataManagerConfig(InstantHashDataManagerConfig):
    """instant-hash's data manager, with as many rays in every step."""

    train_num_rays_per_batch: Optional[int] = None
    """Rays of a training step. Default: 4,096 on a GPU as in both papers, 128 on a processor, where a step then takes about a
    second."""
