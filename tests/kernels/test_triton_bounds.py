"""Nothing is read or written outside of the tensors of a launch, whatever room samples have, with the programs' real sizes."""

from __future__ import annotations

import importlib
import random

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import InterpreterError

from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.rays import Rays
from ngp_method.volume.tracing import Slots, Tracer
from support.bounds import checked
from support.kernel_cases import kernels_of

SETTINGS = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
GEOMETRY = SceneGeometry(step_scale=24.0)
SIZED = ("packing_kernels", "compositing_kernels", "marching_samples", "ray_sums", "marching_kernels")
"""Modules that take larger programs in the interpreter, for its speed."""


@triton.jit
def reach(source, target, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Copies one number more than there are."""
    i = tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(source + i, mask=i <= n), mask=i < n)


def _rays(n: int, rng: torch.Generator) -> Rays:
    """Into the box from one side; every fifth misses it."""
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0], o[::5, 1] = -2.0, 3.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    return Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))


def _train(tracer: Tracer, rays: Rays, slots: Slots | None) -> Tensor:
    traced = tracer(rays) if slots is None else tracer.fixed(rays, slots)[0]
    loss = traced.found.rgbs.square().sum() + traced.found.weights.sum()
    loss.backward()
    return loss


def test_the_checker_sees_one_number_too_many() -> None:
    source, target = torch.zeros(7), torch.zeros(7)
    with checked(), pytest.raises(InterpreterError, match="reach: create_masked_load at 1 addresses"):
        reach[(1,)](source, target, 7, BLOCK=8)
    with checked() as launched:
        reach[(1,)](source, target, 6, BLOCK=8)
    assert launched == ["reach"]


@pytest.mark.parametrize("kernel_set", ["triton", "triton-float32"])
def test_a_training_step_stays_within_its_tensors(kernel_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for all samples, for some, for none; marched freely, or in slots."""
    for name in SIZED:
        monkeypatch.setattr(importlib.import_module(f"ngp_method.kernels.triton.{name}"), "interpreted", lambda: False)
    kernels, draw, rng = kernels_of(kernel_set), random.Random(7), torch.Generator().manual_seed(7)
    torch.manual_seed(3)
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels)
    torch.nn.init.uniform_(network.vectors()["table"], -1.0, 1.0)
    grid = OccupancyGrid(GEOMETRY, kernels, 16)
    tracer = Tracer(network, grid, exact=True)
    seen: set[str] = set()
    for share in (0.0, 0.3, 0.97, 1.0, 1.3, 0.6):
        rays = _rays(draw.choice([1, 5, 33, 64, 97]), rng)
        grid.binaries[0] = torch.rand(16, 16, 16, generator=rng) < draw.choice([0.02, 0.3, 1.0])
        with checked() as launched:
            _train(tracer, rays, None)
            truth = tracer(rays)
            room = [int(count * share) + draw.choice([1, 7, 16]) for count in (truth.marched, truth.kept)]
            _train(tracer, rays, Slots(*room))
        seen |= set(launched)
    assert {"walk", "fill", "encode_kernel", "scatter_kernel", "keep_features", "backward", "add_weight_gradient"} <= seen
