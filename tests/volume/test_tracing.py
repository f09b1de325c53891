"""A training step's rays: the same colours and gradients with and without waiting for the number of marched samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from measure.gpu_steps import FixedSlots
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.losses import huber, leave_out
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.ray_budget import RayBudget, most_marched
from ngp_method.volume.rendering import intersect_box
from ngp_method.volume.tracing import EXACT_STEPS, MARGIN, REMEMBERED, SPARE, Traced, Tracer
from support.kernel_cases import kernels_of, low_precision

SETTINGS = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
GEOMETRY = SceneGeometry(step_scale=8.0)
SETS = ["cpu", "triton", "triton-float32"]


def _field(kernel_set: str) -> tuple[RadianceNetwork, OccupancyGrid]:
    """A field of fog in a grid of which every other cell along x is empty."""
    torch.manual_seed(3)
    kernels = kernels_of(kernel_set)
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels)
    table = network.encoding.table()
    assert table is not None
    torch.nn.init.uniform_(table, -1.0, 1.0)
    grid = OccupancyGrid(GEOMETRY, kernels, 16)
    grid.binaries[:, ::2] = False
    return network, grid


def _rays(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Into the box from one side; every fifth misses it."""
    rng = torch.Generator().manual_seed(n)
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0], o[::5, 1] = -2.0, 3.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    near = torch.zeros(n)
    return o, d, *intersect_box(o, d, GEOMETRY.aabb, near, torch.full_like(near, torch.inf))


def _guessing(network: RadianceNetwork, grid: OccupancyGrid) -> Tracer:
    """A tracer that expects few samples a ray: padding takes the interpreter as long as anything else."""
    tracer = Tracer(network, grid)
    tracer._per_ray.append(60.0)
    tracer._exact_left = 0
    return tracer


def _step(tracer: Tracer, n: int, target: Tensor) -> tuple[Traced, Tensor, list[Tensor]]:
    """What was traced, the loss, and the gradients of all parameters; the same random numbers every time."""
    for param in tracer.network.parameters():
        param.grad = None
    torch.manual_seed(7)
    traced = tracer(*_rays(n))
    loss = huber(leave_out(traced.found.rgbs, target, traced.room), target)
    loss.backward()
    return traced, loss.detach(), [p.grad for p in tracer.network.parameters() if p.grad is not None]


@pytest.mark.parametrize(("kernel_set", "waits"), [("cpu", 0), ("triton", 1), ("triton-float32", 1), ("triton-float32", 0)])
def test_waiting_or_not_makes_no_difference(kernel_set: str, waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for marched and kept samples, for kept ones alone, or for none (as a CUDA graph needs, benchmarks/gpu.py)."""
    network, grid = _field(kernel_set)
    target = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    exact, guessed = Tracer(network, grid, exact=True), _guessing(network, grid)
    assert exact.capacity(200) is None
    assert (guessed.capacity(200) is None) == (kernel_set == "cpu")
    truth, loss, gradients = _step(exact, 200, target)
    slots = truth.kept + 77
    if kernel_set != "cpu" and not waits:
        monkeypatch.setattr(network, "kernels", FixedSlots(network.kernels, slots))
    traced, found, got = _step(guessed, 200, target)
    assert 0 < truth.kept <= truth.marched
    assert traced.marched == truth.marched
    assert traced.kept == (truth.kept if waits or kernel_set == "cpu" else slots)
    assert traced.room is None or traced.room.all()
    torch.testing.assert_close(traced.found.rgbs, truth.found.rgbs, atol=1e-6, rtol=0)
    torch.testing.assert_close(found, loss, atol=1e-7, rtol=1e-6)
    assert len(got) == len(gradients) == 3
    for mine, theirs in zip(got, gradients):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("kernel_set", ["triton", "triton-float32"])
def test_rays_there_is_no_room_for_are_left_out(kernel_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no part in loss and gradient, and the next step has room for all."""
    network, grid = _field(kernel_set)
    target = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    tracer = _guessing(network, grid)
    all_traced = _step(tracer, 200, target)[0]
    with monkeypatch.context() as patch:
        patch.setattr(tracer, "capacity", lambda n: all_traced.marched // 2)
        traced, loss, gradients = _step(tracer, 200, target)
    room = traced.room
    assert room is not None
    first = int((~room).nonzero()[0])
    assert 50 < first < 150
    missed = torch.arange(200) % 5 == 0
    assert room[missed].all(), "a ray that meets nothing needs no room"
    assert not traced.found.opacities[first:].any(), "the last ones are left out"
    assert not all_traced.found.opacities[first:][room[first:]].any(), "but for those that meet nothing"
    assert traced.marched <= all_traced.marched // 2
    error = torch.nn.functional.huber_loss(traced.found.rgbs, target, delta=0.1, reduction="none")
    torch.testing.assert_close(loss, 0.2 * error[room].sum() / 0.1 / (200 * 3), atol=1e-8, rtol=1e-5)
    # The gradient is that of a batch of the others alone.
    for param in network.parameters():
        param.grad = None
    torch.manual_seed(7)
    alone = Tracer(network, grid, exact=True)(*_rays(200)).found
    (0.2 * torch.nn.functional.huber_loss(alone.rgbs[room], target[room], delta=0.1, reduction="sum") / 0.1 / 600).backward()
    bound = 2e-2 if low_precision(kernel_set) else 1e-5  # bfloat16 rounds sums of a tile in another order
    wanted = [p.grad for p in network.parameters() if p.grad is not None]
    for mine, theirs in zip(gradients, wanted):
        torch.testing.assert_close(mine, theirs, atol=bound * float(theirs.abs().max()), rtol=0)
    again = _step(tracer, 200, target)[0]
    assert again.room is not None
    assert again.room.all()
    assert again.marched == all_traced.marched


def test_as_many_slots_as_the_last_steps_let_expect() -> None:
    """Two steps wait and see; then slots for the most of the last four, and a margin; after a change of the grid once more."""
    tracer, target = Tracer(*_field("triton-float32")), torch.zeros(200, 3)
    for _ in range(EXACT_STEPS):
        assert tracer.capacity(200) is None
        traced = _step(tracer, 200, target)[0]
        assert traced.room is None
    found = traced.marched
    assert tracer.capacity(200) == int(MARGIN * found) + SPARE
    traced = _step(tracer, 200, target)[0]
    assert traced.room is not None
    assert traced.room.all()
    assert traced.marched == found
    assert tracer.capacity(200) == int(MARGIN * found) + SPARE, "padding was not counted"
    tracer._per_ray.append(2 * found / 200)
    for _ in range(REMEMBERED):
        assert tracer.capacity(200) == int(MARGIN * 2 * found) + SPARE
        tracer._per_ray.append(found / 200)
    assert tracer.capacity(200) == int(MARGIN * found) + SPARE, "forgotten"
    tracer.grid_changed()
    assert tracer.capacity(200) is None
    _step(tracer, 200, target)
    assert tracer.capacity(200) == int(MARGIN * found) + SPARE


def test_slots_are_bounded_however_the_rays_grow() -> None:
    """A start with a full grid that is then pruned: 1,000 samples a ray become 16, and rays double each step.

    No step sets aside more than the bound, and all of them settle.
    """
    budget = RayBudget(1 << 18, 1 << 18)
    tracer = Tracer(*_field("triton-float32"), most_slots=most_marched(budget.samples))
    slots = []
    for step in range(60):
        marched, kept = (1000, 900) if step < 8 else (16, 8)
        capacity = tracer.capacity(budget.rays)
        needed = marched * budget.rays
        slots.append(needed if capacity is None else capacity)
        tracer._per_ray.append(marched)
        tracer._exact_left = max(0, tracer._exact_left - 1)
        if step == 7:
            tracer.grid_changed()
        budget.adapt(budget.rays, needed, kept * budget.rays)
    assert max(slots) <= most_marched(1 << 18)
    assert slots[-1] <= MARGIN * 16 * budget.rays + SPARE


def test_a_batch_without_rays() -> None:
    for kernel_set in SETS:
        traced = Tracer(*_field(kernel_set))(*(v[:0] for v in _rays(5)))
        assert (traced.marched, traced.kept) == (0, 0)
        assert traced.found.rgbs.shape == (0, 3)
