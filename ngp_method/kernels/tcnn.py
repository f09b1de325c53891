"""Adapter to tiny-cuda-nn, where it is installed: its hash grid, harmonics and perceptrons on our flat vectors.

What is NVIDIA's own and what is not:

* hash grid, spherical harmonics and perceptrons are tiny-cuda-nn's, float16, through the documented interface of its torch
  modules. A module owns its parameters; here the vector that the operation is given takes their place for the call
  (``torch.func.functional_call``), so that one flat float32 vector serves every kernel set.
* sums along rays are nerfacc's CUDA scans where its extension is already built (see :mod:`.tcnn_volume`).
* marching, the optimiser's step and the rest are the Triton kernels.

How the two functions are made one:

* the grid's JSON is made from :class:`~.layout.HashGridLayout`, and the module's parameters are counted: a release that
  laid them out otherwise would not pass as ours;
* tiny-cuda-nn pads inputs of a perceptron to a multiple of 16 with *ones* (its identity encoding), which makes biases of the
  padded columns; ours are zeros. It is given inputs padded with zeros already, so that it has nothing to pad;
* batches are padded to its multiple by its own module; an empty one never reaches it;
* its harmonics take directions in [0, 1]: they are mapped here and nowhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from . import tcnn_volume
from .defaults import Defaults
from .footprints import with_scale
from .interface import Composited
from .layout import HashGridLayout, MLPLayout
from .reference import in_unit_box
from .samples import PackedSamples
from .spherical import SH_DIM
from .triton import TritonKernels, encode

FULLY_FUSED_WIDTHS = (16, 32, 64, 128)
"""Widths of tiny-cuda-nn's FullyFusedMLP; its other network pads outputs to 8, which is not our layout."""

GRADIENT_SUM = 4096.0
"""What the absolute values of a batch's gradients are scaled to sum up to while they are float16 (at most 65,504). A sum over
any of its samples is no more than that, sixteen networks' gain away from overflow; one of 2^18 x 32 of them is 5e-4 on
average, where float16 has all its digits."""


def load_module() -> Any:
    """The package tinycudann.

    Raises:
        ImportError: one sentence that says what to install.
    """
    try:
        return importlib.import_module("tinycudann")
    except Exception as error:  # ImportError; EnvironmentError without a GPU or a build for it (NameError in old releases)
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ImportError(
            f"The tcnn kernels need tiny-cuda-nn's torch extension, which cannot be imported here ({why}): build it as "
            "https://github.com/NVlabs/tiny-cuda-nn says (it needs nvcc), or use --pipeline.model.kernels triton."
        ) from error


def grid_config(layout: HashGridLayout) -> dict[str, Any]:
    """tiny-cuda-nn's JSON of a hash grid."""
    return {
        "otype": "HashGrid",
        "n_levels": layout.n_levels,
        "n_features_per_level": layout.n_features_per_level,
        "log2_hashmap_size": layout.log2_hashmap_size,
        "base_resolution": layout.base_resolution,
        "per_level_scale": layout.per_level_scale,
        "interpolation": "Linear",
    }


def network_config(layout: MLPLayout) -> dict[str, Any]:
    """tiny-cuda-nn's JSON of a perceptron.

    Raises:
        ValueError: a width that its fully fused network does not have.
    """
    if layout.n_neurons not in FULLY_FUSED_WIDTHS:
        raise ValueError(
            f"The tcnn kernels need networks 16, 32, 64 or 128 wide, not {layout.n_neurons}; "
            "use --pipeline.model.kernels triton."
        )
    return {
        "otype": "FullyFusedMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": layout.n_neurons,
        "n_hidden_layers": layout.n_hidden_layers,
    }


def _prepared(module: nn.Module, n_params: int, what: str) -> nn.Module:
    """The module without parameters of its own, once their number has been found to be ours."""
    own = int(module.params.numel())  # type: ignore[operator]
    if own != n_params:
        raise RuntimeError(
            f"tiny-cuda-nn has {own} parameters for this {what} where our layout has {n_params}: a checkpoint of one would "
            "not be a checkpoint of the other; use --pipeline.model.kernels triton."
        )
    module.params = nn.Parameter(torch.empty(0), requires_grad=False)
    module.loss_scale = 1.0  # type: ignore[assignment] # see _Scale
    return module


@lru_cache(maxsize=16)
def _grid(layout: HashGridLayout, device: torch.device) -> nn.Module:
    with _on(device):
        return _prepared(load_module().Encoding(layout.n_dims, grid_config(layout)), layout.n_params, "hash grid")


@lru_cache(maxsize=16)
def _network(layout: MLPLayout, device: torch.device) -> nn.Module:
    with _on(device):
        # All padded outputs: the same matrices, and the caller may ask for as many rows as it likes.
        module = load_module().Network(layout.padded_input, layout.padded_output, network_config(layout))
        return _prepared(module, layout.n_params, "perceptron")


@lru_cache(maxsize=4)
def _harmonics(device: torch.device) -> nn.Module:
    with _on(device):
        module: nn.Module = load_module().Encoding(3, {"otype": "SphericalHarmonics", "degree": 4})
        return module


def _on(device: torch.device) -> AbstractContextManager[object]:
    """tiny-cuda-nn puts a module on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def forget_modules() -> None:
    """Drop the modules made so far (tests put another tinycudann in their place)."""
    for made in (_grid, _network, _harmonics):
        made.cache_clear()


class _Scale:
    """A power of two that brings the gradients of one call into float16's range and out of it again.

    ``loss_scale`` of tiny-cuda-nn's modules cannot: it multiplies when autograd has already made the gradient float16, and
    divides before it is float32 again; means over 2^18 rays have gradients of 1e-7, which float16 does not know.
    """

    def __init__(self) -> None:
        self.factor: Tensor | float = 1.0

    def up(self, gradient: Tensor) -> Tensor:
        """The gradient of the outputs, on its way in; decides the factor (on the device, nobody waits for it)."""
        total = gradient.detach().abs().sum().clamp(min=1e-30)
        self.factor = torch.exp2(torch.floor(torch.log2(GRADIENT_SUM / total)))
        return gradient * self.factor

    def down(self, gradient: Tensor) -> Tensor:
        """A gradient of inputs or parameters, on its way out."""
        return gradient / self.factor


class _WithGradient(torch.autograd.Function):
    """The same values; the gradient through a function."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return ctx.change(grad_outputs[0]), None


def _call(module: nn.Module, inputs: Tensor, params: Tensor, width: int) -> Tensor:
    """The module with ``params`` in place of its own: [N, C] float32 -> [N, width] float32."""
    if not inputs.shape[0]:
        # Nothing to compute, but both are in the graph: their gradients are zeros, not missing.
        return inputs.new_zeros(0, width) + inputs[:, :1] + params[:1].sum()
    scale = _Scale()
    given, vector = (_WithGradient.apply(values, scale.down) for values in (inputs.float(), params))
    found = torch.func.functional_call(module, {"params": vector}, (given,))
    out = _WithGradient.apply(found.float(), scale.up)
    assert isinstance(out, Tensor)
    return out


class TcnnKernels(TritonKernels):
    """tiny-cuda-nn's kernels where it has them, nerfacc's scans where they are built, Triton's for the rest.

    Features are [N, C] float32 that tiny-cuda-nn has computed in float16.

    Raises:
        ImportError: tiny-cuda-nn, or what the Triton kernels need, is missing.
    """

    name = "tcnn"

    def __init__(self) -> None:
        load_module()
        super().__init__("float16")
        self._scans = tcnn_volume.built()
        sums = "nerfacc's" if self._scans else "Triton's (nerfacc's extension is not built)"
        self.description = f"tiny-cuda-nn, float16; sums along rays {sums}; the rest: {self.description}"

    def hash_encode(
        self, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface; ``features`` are made again, as the module's backward needs its own forward."""
        layout.check(positions)
        if layout.n_features_per_level == 1:
            raise ValueError("The tcnn kernels need 2, 4 or 8 features per level; use --pipeline.model.kernels reference.")
        found = _call(_grid(layout, table.device), in_unit_box(positions), table, layout.n_output_dims)
        return found if footprints is None else with_scale(found, footprints, layout)

    def sh_encode(self, directions: Tensor) -> Tensor:
        """See the interface; tiny-cuda-nn takes directions mapped to [0, 1]. The gradient is Triton's, in float32."""
        with torch.no_grad():
            module = _harmonics(directions.device)
            found = _call(module, 0.5 * directions.detach() + 0.5, module.params, SH_DIM)  # type: ignore[arg-type]
        if torch.is_grad_enabled() and directions.requires_grad:
            return encode.with_direction_gradient(directions, found)
        return found

    def mlp(self, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        """See the interface."""
        network, given = _network(layout, weights.device), parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)
        missing = layout.padded_input - given.shape[-1]
        padded = torch.nn.functional.pad(given, (0, missing)) if missing else given
        return _call(network, padded, weights, layout.padded_output)[:, : rows or layout.n_output_dims]

    def encode_mlp(
        self, positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface: two modules, one after the other."""
        return Defaults.encode_mlp(self, positions, table, weights, grid, layout, rows, footprints)

    def sh_mlp(self, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout) -> Tensor:
        """See the interface: harmonics of each ray, spread, and the perceptron."""
        return Defaults.sh_mlp(self, raw, rays_d, samples, weights, layout)

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        """See the interface."""
        if self._scans and samples.n_samples:
            return tcnn_volume.visible_counts(sigmas, samples, threshold)
        return super().visible_counts(sigmas, samples, threshold)

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        """See the interface."""
        if self._scans and samples.n_samples:
            return tcnn_volume.composite(sigmas, rgbs, samples)
        return super().composite(sigmas, rgbs, samples)
