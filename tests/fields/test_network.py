"""The network's one node of its own: density and what goes on to the colours, to the second order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from support.kernel_cases import kernels_of

SETTINGS = EncodingSettings(n_levels=2, log2_hashmap_size=9, base_resolution=4, finest_resolution=16)


def _network(kernel_set: str) -> RadianceNetwork:
    torch.manual_seed(0)
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels_of(kernel_set))
    table = network.encoding.table()
    assert table is not None
    torch.nn.init.uniform_(table, -1.0, 1.0)
    return network


@pytest.mark.parametrize("kernel_set", ["reference", "cpu-float32", "triton-float32"])
@pytest.mark.parametrize("colours", [False, True])
def test_normals_are_trained_on(kernel_set: str, colours: bool) -> None:
    """The gradient of a loss on normals, with and without one on the colours' inputs, is that of plain operations."""
    found: list[list[Tensor]] = []
    for whole in (True, False):
        network = _network(kernel_set)
        x, weights = torch.rand(40, 3, generator=torch.Generator().manual_seed(1)).requires_grad_(), network.weights()
        features = network.encode(x, weights)
        if whole:
            sigmas, raw = network.density(features, weights, 1.0)
        else:
            raw = network.kernels.mlp([features], weights.density, network.density_layout)
            sigmas = torch.exp(raw[:, 0])
        (normals,) = torch.autograd.grad(sigmas.sum(), x, create_graph=True)
        loss = normals.square().mean() + (raw.sum() if colours else 0.0)
        loss.backward()
        found.append([normals.detach(), *(p.grad for p in network.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) == 3
    for mine, plain in zip(*found):
        assert plain.any()
        torch.testing.assert_close(mine, plain, atol=1e-5 * float(plain.abs().max()), rtol=0)


@pytest.mark.parametrize("kernel_set", ["reference", "cpu", "triton"])
def test_each_output_has_its_gradient(kernel_set: str) -> None:
    """Of the density alone, of the other outputs alone, and of both: the sum."""
    network = _network(kernel_set)
    weights, x = network.weights(), torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    sigmas, raw = network.density(network.encode(x, weights).detach(), weights, 1.0)
    gradients = [
        torch.autograd.grad(loss, network.density_params, retain_graph=True)[0]
        for loss in (sigmas.sum(), (raw * raw.detach()).sum(), sigmas.sum() + (raw * raw.detach()).sum(), raw.sum())
    ]
    assert all(bool(gradient.any()) for gradient in gradients)
    both = gradients[0] + gradients[1]
    torch.testing.assert_close(gradients[2], both, atol=1e-2 * float(both.abs().max()), rtol=0)
