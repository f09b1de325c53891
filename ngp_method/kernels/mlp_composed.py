"""Perceptrons as a composition of torch's matrix products: what the fused kernels of the other sets leave to it.

* The second order, of every set. A gradient that is itself differentiated (normals that are trained on) is computed here, in
  float32, from products that torch differentiates; ReLUs are masks, whose own derivative is zero. It is rare, and the first
  order costs four products more than the kernel's.

And of the Triton set alone:

* Turing (sm_75): its matrix units are reached by cuBLAS, by Triton no longer (3.3 fails to compile, later ones multiply without
  them). RDNA (gfx10 to gfx12), backward or of 128 neurons: operands are held twice there, and hundreds of registers would be
  spilled. CDNA (gfx9), backward of 128 neurons, for the same reason.
* Shapes beyond the kernels': more than 128 neurons, inputs or outputs (64 in float32), or more than three parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layout import MLPLayout

TOP = 3
"""float16 cotangents are multiplied by a power of two that brings the largest to 2^3 (see triton/mlp_tiles.power_of_two)."""


def matrices(weights: Tensor, layout: MLPLayout, rows: int, dtype: torch.dtype) -> list[Tensor]:
    """Every matrix [out, in] in ``dtype``, of the last the first ``rows`` rows."""
    found = [weights[o : o + r * c].view(r, c).to(dtype) for o, (r, c) in zip(layout.offsets, layout.shapes)]
    found[-1] = found[-1][:rows]
    return found


def activations(parts: Sequence[Tensor], layers: Sequence[Tensor]) -> list[Tensor]:
    """The input [N, inputs], then each hidden layer [N, neurons]; in the dtype of the matrices ``layers``."""
    inputs = torch.cat([part.to(layers[0].dtype) for part in parts], -1)
    found = [torch.nn.functional.pad(inputs, (0, layers[0].shape[1] - inputs.shape[1]))]
    for layer in layers[:-1]:
        found.append(torch.relu(found[-1] @ layer.t()))
    return found


def forward(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, dtype: torch.dtype, rows: int) -> Tensor:
    """Outputs [N, rows] float32."""
    layers = matrices(weights, layout, rows, dtype)
    return (activations(parts, layers)[-1] @ layers[-1].t()).float()


def gradients(
    up: Tensor, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Gradient of the weights [n_params] (at least float32) and of each part, in its dtype; differentiable.

    Args:
        up: gradient of the outputs [N, rows].
    """
    rows, wide = up.shape[1], torch.promote_types(dtype, torch.float32)
    layers = matrices(weights, layout, rows, dtype)
    hidden = activations(parts, layers)
    inverse: float | Tensor = 1.0
    g = up
    if dtype == torch.float16 and up.numel():
        top = up.detach().abs().amax().clamp(min=1e-30)
        scale = torch.exp2(TOP - torch.floor(torch.log2(top)))
        g, inverse = up * scale, 1.0 / scale
    g = g.to(dtype)
    found: list[Tensor] = []
    for index in reversed(range(len(layers))):
        d_layer = (g.t() @ hidden[index]).to(wide) * inverse
        if index == len(layers) - 1:
            d_layer = torch.nn.functional.pad(d_layer, (0, 0, 0, layout.padded_output - rows))
        found.append(d_layer.flatten())
        g = g @ layers[index]
        if index:
            g = g * (hidden[index] > 0).to(dtype)
    d_inputs = g.to(wide) * inverse
    widths = [part.shape[1] for part in parts]
    d_parts = [d.to(part.dtype) for d, part in zip(d_inputs[:, : sum(widths)].split(widths, -1), parts)]
    return torch.cat(found[::-1]), d_parts
