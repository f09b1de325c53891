"""A module with tiny-cuda-nn's documented torch interface, computing with torch where the real one needs an NVIDIA GPU.

It keeps what users of the real one stumble over: parameters, outputs and the gradients that arrive are float16; batches are
padded to 256 and one without rows is an error; the inputs of a network are padded to 16 with ones; harmonics take directions
in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ngp_method.kernels import reference
from ngp_method.kernels.layout import Level
from ngp_method.kernels.spherical import spherical_harmonics

GRANULARITY = 256


def grid_levels(config: dict[str, Any], n_dims: int) -> list[Level]:
    """Levels of a grid as tiny-cuda-nn lays them out: float32 arithmetic, entries in multiples of 8, at most 2^log2."""
    found, offset = [], 0
    growth = np.log2(np.float32(config["per_level_scale"]))
    for index in range(config["n_levels"]):
        power = np.exp2(np.float32(index) * growth, dtype=np.float32)
        scale = np.float32(power * np.float32(config["base_resolution"]) - np.float32(1.0))
        resolution = int(np.ceil(scale)) + 1
        points = resolution**n_dims
        entries = min((points + 7) // 8 * 8, 1 << config["log2_hashmap_size"])
        found.append(Level(scale, resolution, entries, offset, points <= entries))
        offset += entries
    return found


class _Native(torch.autograd.Function):
    """What its native modules do: float16 in and out, gradients scaled by ``loss_scale`` while they are float16."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[Tensor, Tensor], Tensor], x: Tensor, params: Tensor, scale: float) -> Tensor:
        assert params.dtype == torch.float16
        assert x.dtype == torch.float32
        assert x.shape[0]
        assert x.shape[0] % GRANULARITY == 0
        ctx.save_for_backward(x, params)
        ctx.compute, ctx.scale = compute, scale
        return compute(x, params.float()).half()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        assert grad_outputs[0].dtype == torch.float16
        scaled = grad_outputs[0] * ctx.scale
        x, params = ctx.saved_tensors
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(), params.detach().float().requires_grad_()]
            out = ctx.compute(*leaves)
            d_x, d_params = torch.autograd.grad(out, leaves, scaled.to(out.dtype), allow_unused=True)
        return (
            None,
            d_x / ctx.scale if ctx.needs_input_grad[1] and d_x is not None else None,
            None if d_params is None else d_params.half() / ctx.scale,
            None,
        )


class Module(nn.Module):
    """What its encodings and networks share: one flat float32 vector ``params``, and padded batches."""

    n_output_dims: int

    def __init__(self, n_params: int) -> None:
        super().__init__()
        self.params = nn.Parameter(torch.rand(n_params))
        self.loss_scale = 128.0
        self.calls = 0

    def compute(self, x: Tensor, params: Tensor) -> Tensor:
        """The function, float32."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_input_dims] -> [N, n_output_dims] float16."""
        self.calls += 1
        filling = torch.zeros(-len(x) % GRANULARITY, x.shape[1])
        out = _Native.apply(self.compute, torch.cat([x.float(), filling]), self.params.half(), self.loss_scale)
        assert isinstance(out, Tensor)
        return out[: len(x), : self.n_output_dims]


class Encoding(Module):
    """HashGrid and SphericalHarmonics."""

    def __init__(self, n_input_dims: int, encoding_config: dict[str, Any], seed: int = 1337, dtype: Any = None) -> None:
        self.config = encoding_config
        if encoding_config["otype"] == "HashGrid":
            features = encoding_config["n_features_per_level"]
            assert n_input_dims in (2, 3)
            self.levels = grid_levels(encoding_config, n_input_dims)
            self.n_output_dims = features * len(self.levels)
            last = self.levels[-1]
            super().__init__((last.offset + last.entries) * features)
        else:
            assert n_input_dims == 3
            assert encoding_config == {"otype": "SphericalHarmonics", "degree": 4}
            self.n_output_dims = 16
            super().__init__(0)

    def compute(self, x: Tensor, params: Tensor) -> Tensor:
        """See the class."""
        if self.config["otype"] == "SphericalHarmonics":
            assert float(x.min()) >= 0.0
            assert float(x.max()) <= 1.0
            return spherical_harmonics(2 * x - 1)
        entries = params.view(-1, self.config["n_features_per_level"])
        return torch.cat([reference._encode_level(x, entries, level) for level in self.levels], -1)


class Network(Module):
    """FullyFusedMLP behind an identity encoding."""

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict[str, Any], seed: int = 1337) -> None:
        assert network_config["otype"] == "FullyFusedMLP"
        assert network_config["n_neurons"] in (16, 32, 64, 128)
        assert (network_config["activation"], network_config["output_activation"]) == ("ReLU", "None")
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        widths = [(n_input_dims + 15) // 16 * 16, *[network_config["n_neurons"]] * network_config["n_hidden_layers"]]
        self.shapes = list(zip([*widths[1:], (n_output_dims + 15) // 16 * 16], widths))
        super().__init__(sum(rows * columns for rows, columns in self.shapes))

    def compute(self, x: Tensor, params: Tensor) -> Tensor:
        """See the class."""
        hidden = nn.functional.pad(x, (0, -x.shape[1] % 16), value=1.0).half().float()
        for number, matrix in enumerate(params.split([rows * columns for rows, columns in self.shapes])):
            hidden = hidden @ matrix.view(self.shapes[number]).t()
            if number + 1 < len(self.shapes):
                hidden = hidden.relu().half().float()
        return hidden
