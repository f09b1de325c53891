"""A training step's rays: the same colours and gradients with and without waiting for the number of marched samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.losses import huber, leave_out
from ngp_method.kernels.samples import PackedSamples
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.ray_budget import RayBudget, most_marched
from ngp_method.volume.rays import Rays
from ngp_method.volume.tracing import EXACT_STEPS, MARGIN, REMEMBERED, SPARE, Slots, Traced, Tracer
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


def _rays(n: int) -> Rays:
    """Into the box from one side; every fifth misses it."""
    rng = torch.Generator().manual_seed(n)
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0], o[::5, 1] = -2.0, 3.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    return Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))


def _guessing(network: RadianceNetwork, grid: OccupancyGrid) -> Tracer:
    """A tracer that expects few samples a ray: padding takes the interpreter as long as anything else."""
    tracer = Tracer(network, grid)
    tracer._per_ray.append(60.0)
    tracer._exact_left = 0
    return tracer


def _step(tracer: Tracer, n: int, target: Tensor, slots: Slots | None = None) -> tuple[Traced, Tensor, list[Tensor]]:
    """What was traced, the loss, and the gradients of all parameters; the same random numbers every time."""
    for param in tracer.network.parameters():
        param.grad = None
    torch.manual_seed(7)
    traced = tracer(_rays(n)) if slots is None else tracer.fixed(_rays(n), slots)[0]
    loss = huber(leave_out(traced.found.rgbs, target, traced.room), target)
    loss.backward()
    return traced, loss.detach(), [p.grad for p in tracer.network.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("kernel_set", "waits"),
    [("cpu", 0), ("cpu", 1), ("reference", 0), ("triton", 1), ("triton-float32", 1), ("triton-float32", 0)],
)
def test_waiting_or_not_makes_no_difference(kernel_set: str, waits: int) -> None:
    """Waits for marched and kept samples, for kept ones alone, or for none (as a CUDA graph needs)."""
    network, grid = _field(kernel_set)
    target = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    exact, guessed = Tracer(network, grid, exact=True), _guessing(network, grid)
    waiting = not network.kernels.asynchronous
    assert exact.capacity(200) is None
    assert (guessed.capacity(200) is None) == waiting
    truth, loss, gradients = _step(exact, 200, target)
    slots = Slots(truth.marched + 1000, truth.kept + 77)
    traced, found, got = _step(guessed, 200, target, None if waits else slots)
    assert 0 < truth.kept <= truth.marched
    assert traced.marched == (truth.marched if waits else slots.marched)
    assert traced.kept == (truth.kept if waits or waiting else slots.kept)
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
    alone = Tracer(network, grid, exact=True)(_rays(200)).found
    (0.2 * torch.nn.functional.huber_loss(alone.rgbs[room], target[room], delta=0.1, reduction="sum") / 0.1 / 600).backward()
    bound = 2e-2 if low_precision(kernel_set) else 1e-5  # bfloat16 rounds sums of a tile in another order
    wanted = [p.grad for p in network.parameters() if p.grad is not None]
    for mine, theirs in zip(gradients, wanted):
        torch.testing.assert_close(mine, theirs, atol=bound * float(theirs.abs().max()), rtol=0)
    again = _step(tracer, 200, target)[0]
    assert again.room is not None
    assert again.room.all()
    assert again.marched == all_traced.marched


@pytest.mark.parametrize("kernel_set", ["reference", "cpu", "triton-float32"])
@pytest.mark.parametrize("short", ["marched", "kept"])
def test_fixed_slots_leave_out_the_rays_there_is_no_room_for(kernel_set: str, short: str) -> None:
    """Of marched samples or of kept ones; numbers tell how many samples a ray has all the same."""
    network, grid = _field(kernel_set)
    tracer, rays = Tracer(network, grid, exact=True), _rays(200)
    torch.manual_seed(7)
    truth = tracer(rays)
    room_for = {"marched": truth.marched + 100, "kept": truth.kept + 100}
    room_for[short] //= 2
    torch.manual_seed(7)
    traced, numbers = tracer.fixed(rays, Slots(**room_for))
    room = traced.room
    assert room is not None
    first, missed = int((~room).nonzero()[0]), torch.arange(200) % 5 == 0
    assert 50 < first < 150
    assert room[missed].all(), "a ray that meets nothing needs no room"
    torch.testing.assert_close(traced.found.rgbs[room], truth.found.rgbs[room], atol=1e-6, rtol=0)
    assert not traced.found.opacities[~room].any()
    marched, marched_rays, kept, kept_rays = numbers.tolist()
    assert kept_rays == int(room.sum())
    assert marched_rays == (kept_rays if short == "marched" else 200)
    assert marched <= room_for["marched"]
    assert kept == int(truth.samples.packed_info[room, 1].sum()) <= room_for["kept"]


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
        traced = Tracer(*_field(kernel_set))(_rays(5)[:0])
        assert (traced.marched, traced.kept) == (0, 0)
        assert traced.found.rgbs.shape == (0, 3)


# -- gradients of rays


def _fog(kernel_set: str) -> tuple[RadianceNetwork, OccupancyGrid]:
    """The same field, thin enough that light is left behind every sample: all are kept."""
    network, grid = _field(kernel_set)
    with torch.no_grad():
        network.density_params.mul_(0.5)
    return network, grid


def _loss_of_rays(kernel_set: str, o: Tensor, d: Tensor, samples: PackedSamples, target: Tensor) -> Tensor:
    """A training step's loss for kept samples, as a function of the rays alone, in their precision."""
    found, kept, _ = Tracer(*_fog(kernel_set))._shade_and_composite(Rays(o, d, d[:, 0], d[:, 0]), samples)
    assert kept.n_samples == samples.n_samples
    depths = found.depths / 3.0
    return (0.5 * (found.rgbs - target).square().sum(-1) + 0.1 * (found.opacities - depths).square()).sum()


@pytest.fixture(scope="module")
def posed() -> tuple[Tensor, Tensor, PackedSamples, Tensor, list[Tensor]]:
    """Rays, their samples, target colours, and the reference's gradients in float64."""
    rays = _rays(40)
    o, d, t_min, t_max = (v.double() for v in (rays.o, rays.d, rays.t_min, rays.t_max))
    _, grid = _fog("reference")
    samples, _ = grid.march(o, d, t_min, t_max)
    target = torch.rand(40, 3, generator=torch.Generator().manual_seed(2)).double()
    leaves = [o.clone().requires_grad_(), d.clone().requires_grad_()]
    _loss_of_rays("reference", *leaves, samples, target).backward()
    return o, d, samples, target, [leaf.grad for leaf in leaves if leaf.grad is not None]


def test_gradients_of_rays_are_finite_differences(posed: tuple[Tensor, Tensor, PackedSamples, Tensor, list[Tensor]]) -> None:
    """Central ones in float64, of all rays at once: their losses are added, so that each ray's is its own."""
    *rays, samples, target, gradients = posed
    step = 1e-7  # few samples cross the border of a cell, where the field has a kink; roundoff / step is 1e-9
    for which in (0, 1):
        for axis in range(3):
            for rows in (slice(0, 13), slice(13, 40)):
                ends = []
                for sign in (1, -1):
                    moved = [v.clone() for v in rays]
                    moved[which][rows, axis] += sign * step
                    ends.append(_loss_of_rays("reference", *moved, samples, target))
                slope = float((ends[0] - ends[1]).detach()) / (2 * step)
                wanted = float(gradients[which][rows, axis].sum())
                assert slope == pytest.approx(wanted, rel=1e-4, abs=1e-5 * float(gradients[which].abs().sum())), (which, axis)


@pytest.mark.parametrize("kernel_set", ["cpu-float32", "cpu-bfloat16", "triton", "triton-float32"])
def test_gradients_of_rays(kernel_set: str, posed: tuple[Tensor, Tensor, PackedSamples, Tensor, list[Tensor]]) -> None:
    """Of every kernel set against the reference's in float64, for the same samples."""
    o, d, samples, target, gradients = posed
    leaves = [o.float().requires_grad_(), d.float().requires_grad_()]
    chosen = PackedSamples(samples.t_starts.float(), samples.t_ends.float(), samples.ray_indices, samples.packed_info)
    _loss_of_rays(kernel_set, *leaves, chosen, target.float()).backward()
    # float32 may take the neighbouring cell of a sample at a border, where the slope jumps: one sample of some thousands.
    # bfloat16 rounds features and hidden layers to 2^-9, and slopes are differences of such features.
    bound = 0.1 if low_precision(kernel_set) else 1e-3
    for what, leaf, wanted in zip(("origins", "directions"), leaves, gradients):
        assert leaf.grad is not None
        error = float((leaf.grad.double() - wanted).norm() / wanted.norm())
        assert error < bound, f"{what}: {error:.3g}"
        assert (leaf.grad[samples.packed_info[:, 1] == 0] == 0).all(), "rays that meet nothing"


@pytest.mark.parametrize("kernel_set", ["cpu", "triton"])
def test_a_step_of_rays_with_gradients_is_the_same_step(kernel_set: str) -> None:
    """The same values and parameter gradients to the last bit; and without a wish nothing of the rays is in the graph."""
    network, grid = _field(kernel_set)
    tracer = Tracer(network, grid, exact=True)
    target = torch.rand(100, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for wish in (False, True):
        rays = _rays(100)
        for leaf in (rays.o, rays.d):
            leaf.requires_grad_(wish)
        for param in network.parameters():
            param.grad = None
        torch.manual_seed(7)
        traced = tracer(rays)
        huber(traced.found.rgbs, target).backward()
        assert all((leaf.grad is not None and bool(leaf.grad.any())) == wish for leaf in (rays.o, rays.d))
        found.append([traced.found.rgbs.detach(), *[p.grad for p in network.parameters() if p.grad is not None]])
    for plain, other in zip(*found):
        assert torch.equal(plain, other)
