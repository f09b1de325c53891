"""Settings of the model, each with its meaning, as ``ns-train instant-hash --help`` prints them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

import tyro
from nerfstudio.models.base_model import ModelConfig

from ..kernels.scene import GRID_RESOLUTION
from ..volume.occupancy import UPDATE_SHARE
from ..volume.step import StepSettings
from .flags import first


def _model() -> type:
    from .model import InstantHashModel  # which needs this module

    return InstantHashModel


@first(
    "kernels",
    "encoding",
    "n_levels",
    "n_features_per_level",
    "log2_hashmap_size",
    "base_resolution",
    "finest_resolution",
    "levels_fit_images",
)
@dataclass
class InstantHashModelConfig(ModelConfig):
    """Instant-NGP's radiance field."""

    _target: type = field(default_factory=_model)
    """target class to instantiate"""
    enable_collider: tyro.conf.Suppress[bool] = False
    """Not used: near and far follow from the scene box."""
    collider_params: tyro.conf.Suppress[Optional[dict[str, float]]] = None
    """Not used: near and far follow from the scene box."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Not used: there is one loss."""
    prompt: tyro.conf.Suppress[Optional[str]] = None
    """Not used: nothing here is made from a text."""
    eval_num_rays_per_chunk: int = 1 << 14
    """Rays rendered at a time in evaluation and in the viewer."""
    kernels: Literal[
        "auto", "triton", "triton-float32", "tcnn", "cpu", "cpu-bfloat16", "cpu-mixed", "cpu-float32", "reference"
    ] = "auto"
    """Who computes: auto chooses by device and says so (triton on a GPU, cpu elsewhere). triton needs nothing built, tcnn needs
    tiny-cuda-nn; cpu is numba in the fastest precision that the processor has instructions for: bfloat16, mixed (float32, but
    the hash table is read as float16) or float32, each also by name; reference is plain torch (slow). A kernel set that is
    named works or stops with an error."""
    encoding: Literal["hash", "dense", "frequency", "none"] = "hash"
    """Encoding of positions (the paper's figure 2): multiresolution hash grid, dense multiresolution grid (up to
    128^3, or a finest_resolution of at most 256), sines and cosines, or the bare coordinates."""
    n_levels: int = 16
    """Levels of the grid (L)."""
    n_features_per_level: int = 2
    """Features per grid entry (F): 1 (reference kernels only), 2, 4 or 8."""
    log2_hashmap_size: int = 19
    """Log2 of the most entries of a level (T)."""
    base_resolution: int = 16
    """Resolution of the coarsest level (N_min)."""
    finest_resolution: Optional[int] = None
    """Resolution of the finest level (N_max) over the whole box; default 2048 * aabb_scale."""
    levels_fit_images: bool = False
    """Leave out levels whose cells are narrower than half a pixel of the training images, seen at the scene's centre. On with
    instant-hash-lite. What is left is written into the run's config.yml; with a finest_resolution given nothing is left out."""
    footprints: bool = False
    """Anti-aliasing: a sample is as wide as its pixel is there, and sees the less of a level the finer its cells are than that
    (Zip-NeRF's weights). On with instant-hash-antialiased. Needs the encoding hash or dense; costs no parameters."""
    n_frequencies: int = 12
    """Octaves of the frequency encoding."""
    direction_encoding: Literal["harmonics", "frequency", "none"] = "harmonics"
    """Encoding of directions: spherical harmonics of degree 4, sines and cosines of 4 octaves (NeRF's), or the bare vector."""
    n_neurons: int = 64
    """Width of both MLPs."""
    n_hidden_layers: int = 1
    """Hidden layers of the density MLP."""
    n_hidden_layers_color: int = 2
    """Hidden layers of the colour MLP."""
    cuda_graph: bool = False
    """With the triton kernels on a GPU, launch a training step's forward and backward pass as one CUDA graph once its sizes
    have settled: two and a half times the speed on an H100, but two of five runs there stopped with an illegal memory access.
    Not for what must not be lost, until that is found."""
    loss: Literal["huber", "mse"] = "huber"
    """Loss on colours: huber is instant-ngp's."""
    background_color: Literal["random", "white", "black"] = "random"
    """Background while training; random per ray makes alpha count and leaves no haze."""
    eval_background_color: Literal["white", "black"] = "white"
    """Background of rendered pictures and, where pictures have alpha, of the ground truth they are measured against."""
    near_plane: Optional[float] = None
    """Distance before which nothing is sampled, world units; default: what the data calls for."""
    step_scale: Optional[float] = None
    """Finest step as a multiple of instant-ngp's; default: as fine as the training images resolve (at most 3 times)."""
    sample_budget: Optional[int] = None
    """Samples per training step that the number of rays is adapted to; default 2^18 on a GPU, 2^16 on a processor."""
    max_rays: int = StepSettings.max_rays
    """Most rays of a training step."""
    grid_resolution: int = GRID_RESOLUTION
    """Cells along an edge of each cascade of the occupancy grid."""
    grid_update_share: float = UPDATE_SHARE
    """Cells of the occupancy grid evaluated per sample trained on: what keeps its updates cheap."""
    mark_unseen: bool = True
    """Keep cells empty that no training camera sees."""
    average_decay: float = StepSettings.average_decay
    """Decay, per step, of the running average of the weights that is rendered; 0 renders the weights themselves."""
    average_interval: int = StepSettings.average_interval
    """Steps between two updates of the average (with decay^interval): each is a pass over the whole table."""
    lpips_weights: Optional[Path] = None
    """AlexNet and LPIPS weights (.npz) for the LPIPS metric; default: $LPIPS_WEIGHTS or torch's cache, else left out."""
