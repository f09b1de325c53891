"""A function of position as a nerfstudio model: what all of them have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Optional

import torch
import tyro
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from ...errors import fail
from ...fields.encodings import EncodingSettings, build_encoding
from ...fields.function import FunctionNetwork
from ...kernels import choose_kernels
from ..viewer import ViewerComfort

RAYS_AT_A_TIME = 1 << 18
"""Rays looked along at a time: bounds the memory of a large view."""

INTERRUPTIBLE_RAYS = 1 << 16
"""The same in the viewer on a processor: a quarter of a second."""


@dataclass
class PointModelConfig(ModelConfig):
    """A function of position."""

    _target: type = field(default_factory=lambda: PointModel)
    """target class to instantiate"""
    enable_collider: tyro.conf.Suppress[bool] = False
    """Not used: rays are met by what they look at."""
    collider_params: tyro.conf.Suppress[Optional[dict[str, float]]] = None
    """Not used: rays are met by what they look at."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Not used: there is one loss."""
    prompt: tyro.conf.Suppress[Optional[str]] = None
    """Not used: nothing here is made from a text."""
    eval_num_rays_per_chunk: int = 1 << 18
    """Rays of a view rendered at a time."""
    kernels: Literal[
        "auto", "triton", "triton-float32", "tcnn", "cpu", "cpu-bfloat16", "cpu-mixed", "cpu-float32", "reference"
    ] = "auto"
    """Who computes: auto chooses by device and says so (triton on a GPU, cpu elsewhere); the others are those of instant-hash.
    A kernel set that is named works or stops with an error."""
    encoding: Literal["hash", "dense", "frequency", "none"] = "hash"
    """Encoding of positions: multiresolution hash grid, dense multiresolution grid of up to 2^21 points a level, sines and
    cosines, or the bare coordinates."""
    n_levels: int = 16
    """Levels of the grid (L)."""
    n_features_per_level: int = 2
    """Features per grid entry (F): 1 (reference kernels only), 2, 4 or 8."""
    log2_hashmap_size: Optional[int] = None
    """Log2 of the most entries of a level (T); default: what suits the subject, written into the run's config.yml."""
    base_resolution: int = 16
    """Resolution of the coarsest level (N_min)."""
    finest_resolution: Optional[int] = None
    """Resolution of the finest level (N_max); default: what suits the subject."""
    n_frequencies: int = 12
    """Octaves of the frequency encoding."""
    n_neurons: int = 64
    """Width of the MLP."""
    n_hidden_layers: int = 2
    """Hidden layers of the MLP."""
    LEFT_OPEN: ClassVar[tuple[str, ...]] = ("log2_hashmap_size", "finest_resolution")
    """Settings that are None until the subject is known, and those of the run from then on (:mod:`..settled`)."""


class PointModel(Model):
    """See :class:`PointModelConfig`.

    Attributes:
        network: the function.
        viewer_comfort: how nerfstudio's viewer looks at it.
    """

    config: PointModelConfig
    network: FunctionNetwork
    resolution: int = 256
    """Pixels along the longer side of a still in the viewer, on a processor."""

    def make_network(self, n_dims: int, n_outputs: int, log2_hashmap_size: int, finest: int, averaged: bool) -> None:
        """Chooses the kernels and builds the network; sizes that were left open are settled in the config from now on.

        Args:
            n_dims: of positions. n_outputs: values of a point.
            log2_hashmap_size, finest: what suits the subject, where the config leaves it open.
            averaged: whether the average of the parameters is rendered.
        """
        config = self.config
        if config.log2_hashmap_size is None:
            config.log2_hashmap_size = log2_hashmap_size
        if config.finest_resolution is None:
            config.finest_resolution = max(finest, config.base_resolution)
        self.device_wanted = torch.device(self.kwargs.get("device", "cpu"))
        try:
            self.kernels, line = choose_kernels(config.kernels, self.device_wanted)
        except ImportError as error:
            fail(str(error))  # a sentence that says what is missing
        CONSOLE.print(f"{self.name} {line}", soft_wrap=True)
        self.encoding_settings = settings = EncodingSettings(
            config.n_levels,
            config.n_features_per_level,
            config.log2_hashmap_size,
            config.base_resolution,
            config.finest_resolution,
            config.n_frequencies,
            n_dims,
        )
        encoding = build_encoding(config.encoding, settings)
        self.network = FunctionNetwork(
            encoding, self.kernels, n_outputs, 0, config.n_neurons, config.n_hidden_layers, averaged=averaged
        )

    name: str = "instant-points"
    """How lines on the screen begin."""

    def compare(self, positions: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and metrics of a training step's points, by name."""
        raise NotImplementedError

    def look_along(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Outputs [R, ...] of a flat bundle of R rays, by name."""
        raise NotImplementedError

    def measure(self, folder: Optional[Path]) -> Mapping[str, float]:
        """Measures of the whole, by name.

        Args:
            folder: for what is measured, as pictures or meshes; None: nothing is written.
        """
        raise NotImplementedError

    def sentence(self, measures: Mapping[str, float]) -> str:
        """What :meth:`measure` found, in one line."""
        return f"{self.name} " + ", ".join(f"{name} {value:.4g}" for name, value in measures.items())

    # -- nerfstudio's hooks

    @torch.no_grad()
    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:  # type: ignore[override]
        """What rays of any shape see."""
        shape, flat = ray_bundle.origins.shape[:-1], ray_bundle.flatten()
        chunk = self.viewer_comfort.rays_at_a_time(RAYS_AT_A_TIME)
        parts = []
        for first in range(0, max(1, len(flat)), chunk):
            with self.viewer_comfort.undisturbed(min(chunk, len(flat) - first)):
                parts.append(self.look_along(flat[first : first + chunk]))
        return {
            name: torch.cat([part[name] for part in parts]).view(*shape, value.shape[-1]) for name, value in parts[0].items()
        }

    def get_loss_dict(self, outputs: Any, batch: Any, metrics_dict: Any = None) -> NoReturn:
        """Rays are not trained on.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("points are trained on, not rays: PointPipeline asks for compare")

    def get_image_metrics_and_images(self, outputs: Any, batch: Any) -> NoReturn:
        """Views are not measured.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the whole is measured, not views of it: PointPipeline asks for measure")

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Straight-alpha picture [..., 4]: where there is nothing, alpha is zero."""
        color, alpha = outputs[output_name], outputs["accumulation"]
        return torch.cat([color.expand(*color.shape[:-1], 3), alpha], -1)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The table, and the matrices: only these are regularised."""
        table = self.network.encoding.table()
        return {
            "encoding": [table if table is not None else self.device_indicator_param],
            "networks": [self.network.mlp_params],
        }

    def get_training_callbacks(self, training_callback_attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """The viewer's."""
        before = TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.before)
        after = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.after)
        return [*self.viewer_comfort.callbacks(), before, after]

    def before(self, step: int) -> None:
        """Before training step ``step``, counted from 0."""

    def after(self, step: int) -> None:
        """After the optimisers' steps."""

    def make_comfort(self, cameras: Any) -> None:
        """Has the viewer open at the first camera."""
        self.viewer_comfort = ViewerComfort(cameras, self.device_wanted, self.resolution, self.resolution, INTERRUPTIBLE_RAYS)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """In evaluation within it, and as before after it."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)
