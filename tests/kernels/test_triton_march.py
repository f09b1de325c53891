"""What is special to marching on Triton: the packed grid, both ways to fill the samples, results of a fixed size, and the block
sizes of a GPU (the interpreter otherwise takes few large ones)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.samples import PackedSamples
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.kernels.triton import marching, marching_samples, occupancy, packing_kernels, runs
from ngp_method.kernels.triton import marching_kernels as kernels
from support import march_cases
from support.kernel_cases import (
    generator,
    nan_memory,  # noqa: F401 - a fixture
)

pytestmark = pytest.mark.usefixtures("nan_memory")

DYADIC = {"center": (0.25, -0.5, 0.0), "unit_size": 2.0}


class OnTriton:
    """The set's march, with a capacity if there is one."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity

    def march(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return marching.march(*args, **kwargs, capacity=self.capacity)


def _case(scale: int = 2, density: float = 0.1, count: int = 4) -> march_cases.Case:
    # Coarse steps make short walks, which the interpreter needs.
    geometry = SceneGeometry(**DYADIC, aabb_scale=scale, step_scale=5.0)
    return march_cases.make(geometry, density, grid=16, count=count)


def _same(one: PackedSamples, other: PackedSamples) -> None:
    for name in ("t_starts", "t_ends", "ray_indices", "packed_info"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("scale", [1, 4])
def test_walking_twice_is_walking_once(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rays to keep what the first walk finds: the second one finds the same."""
    case = _case(scale)
    found = {}
    for most in (marching.MOST_KEPT, 0):
        monkeypatch.setattr(marching, "MOST_KEPT", most)
        found[most] = [case.march(OnTriton(), limit) for limit in (None, 5)]
    for (samples, resume), (again, same_resume) in zip(*found.values()):
        assert samples.n_samples > 20
        _same(samples, again)
        assert torch.equal(resume, same_resume)


@pytest.mark.parametrize("scale", [1, 4])
def test_block_sizes_of_a_gpu(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs, their last lanes without a ray; eight steps a look."""
    case = _case(scale, count=7)
    samples, resume = case.march(OnTriton())
    for module in (kernels, marching_samples, occupancy, packing_kernels):
        monkeypatch.setattr(module, "interpreted", lambda: False)
    assert kernels.walk_sizes(True)["BLOCK"] < 42
    case.occupied = case.occupied.clone()
    again, same_resume = case.march(OnTriton())
    _same(samples, again)
    assert torch.equal(resume, same_resume)
    got = marching.points(case.rays_o, case.rays_d, again, case.geometry)
    monkeypatch.undo()
    assert torch.equal(got, marching.points(case.rays_o, case.rays_d, samples, case.geometry))
    assert runs.in_runs(got)


def _used(samples: PackedSamples) -> int:
    return int(samples.packed_info[-1].sum())


def _check_padding(samples: PackedSamples, capacity: int) -> None:
    used = _used(samples)
    assert samples.n_samples == capacity
    assert (samples.t_starts[used:] == 0).all()
    assert (samples.t_ends[used:] == 0).all()
    assert (samples.ray_indices[used:] == samples.n_rays - 1).all()
    cut = PackedSamples(samples.t_starts[:used], samples.t_ends[:used], samples.ray_indices[:used], samples.packed_info)
    march_cases.check_layout(cut, samples.n_rays)


def test_a_capacity_that_is_large_enough() -> None:
    case = _case()
    samples, resume = case.march(OnTriton())
    n = samples.n_samples
    for capacity in (n, n + 5000):
        padded, same_resume = case.march(OnTriton(capacity))
        _check_padding(padded, capacity)
        assert torch.equal(padded.t_starts[:n], samples.t_starts)
        assert torch.equal(padded.t_ends[:n], samples.t_ends)
        assert torch.equal(padded.ray_indices[:n], samples.ray_indices)
        assert torch.equal(padded.packed_info, samples.packed_info)
        assert torch.equal(resume, same_resume)
        points = marching.points(case.rays_o, case.rays_d, padded, case.geometry)
        assert torch.equal(points[:n], marching.points(case.rays_o, case.rays_d, samples, case.geometry))
        assert ((points >= 0) & (points <= 1)).all(), "padding is somewhere in the box"


@pytest.mark.parametrize(("share", "once"), [(0.0, True), (0.3, True), (0.3, False), (0.999, True)])
def test_a_capacity_that_is_too_small(share: float, once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rays are dropped from the first that does not fit, and told from those that met nothing."""
    if not once:
        monkeypatch.setattr(marching, "MOST_KEPT", 0)
    case = _case()
    whole, end = case.march(OnTriton())
    capacity = int(share * whole.n_samples)
    samples, resume = case.march(OnTriton(capacity))
    _check_padding(samples, capacity)
    ends = whole.packed_info.sum(-1)
    fits = ends <= capacity
    assert fits.any()
    assert not fits.all()
    assert torch.equal(samples.packed_info[:, 1], torch.where(fits, whole.packed_info[:, 1], 0))
    assert _used(samples) == int(ends[fits].max())
    assert torch.equal(samples.t_starts[: _used(samples)], whole.t_starts[: _used(samples)])
    assert torch.equal(resume, torch.where(fits, end, case.t_min))


def test_rounds_of_a_fixed_size_find_everything() -> None:
    """Rays that were dropped go on in the next round, those that were not are done: together, the samples of one call."""
    case = _case(1)
    whole, _ = case.march(OnTriton(), jitter=False)
    t, found = case.t_min, torch.zeros_like(whole.packed_info[:, 1])
    capacity = int(whole.packed_info[:, 1].max()) + 30
    for _ in range(100):
        samples, t = case.march(OnTriton(capacity), start=t, jitter=False)
        for ray, (first, count) in enumerate(samples.packed_info.tolist()):
            begin = int(whole.packed_info[ray, 0] + found[ray])
            assert torch.equal(samples.t_starts[first : first + count], whole.t_starts[begin : begin + count])
        found += samples.packed_info[:, 1]
        if not (t < case.t_max).any():
            break
    assert torch.equal(found, whole.packed_info[:, 1])


def test_no_rays_with_a_capacity() -> None:
    empty = torch.zeros(0)
    samples, resume = marching.march(
        torch.zeros(0, 3),
        torch.zeros(0, 3),
        empty,
        empty,
        torch.ones(1, 8, 8, 8, dtype=torch.bool),
        SceneGeometry(),
        capacity=64,
    )
    assert samples.n_samples == samples.n_rays == resume.shape[0] == 0


def test_any_dtype_and_strides_of_rays() -> None:
    case = _case(1)
    samples, _ = case.march(OnTriton())
    case.rays_o = case.rays_o.t().contiguous().t()
    case.rays_d = torch.cat([case.rays_d, case.rays_d], -1)[:, :3]
    case.t_min = case.t_min.double()
    again, _ = case.march(OnTriton())
    _same(samples, again)


def _bits_of(occupied: Tensor) -> Tensor:
    """uint8 [K, E, E, E, 8, 8], E not padded."""
    levels, edge = occupied.shape[0], occupied.shape[1] // 8
    cells = occupied.view(levels, edge, 8, edge, 8, edge, 8).permute(0, 1, 3, 5, 2, 4, 6)
    return (cells.int() << torch.arange(8)).sum(-1).to(torch.uint8)


@pytest.mark.parametrize("grid", [8, 24, 64])
def test_the_packed_grid(grid: int) -> None:
    shape = (3, grid, grid, grid)
    occupied = torch.rand(shape, generator=generator(grid)) < 0.01
    bits, blocks = occupancy.GRIDS.of(occupied)
    edge = grid // 8
    inner = (slice(None), *[slice(edge)] * 3)
    assert torch.equal(bits[inner], _bits_of(occupied))
    eighths = occupied.view(3, *[n for _ in range(3) for n in (edge, 2, 4)]).amax((3, 6, 9))
    flags = eighths.permute(0, 1, 3, 5, 2, 4, 6).reshape(3, edge, edge, edge, 8).int() << torch.arange(8)
    assert torch.equal(blocks[inner].int(), flags.sum(-1).int())


def test_a_changed_grid_is_packed_to_the_same_place() -> None:
    """A captured CUDA graph reads from where the grid lay."""
    grids = occupancy.GRIDS
    one, other = torch.zeros(1, 8, 8, 8, dtype=torch.bool), torch.ones(1, 8, 8, 8, dtype=torch.bool)
    bits, _ = grids.of(one)
    assert grids.of(one)[0] is bits, "packed once"
    assert int(bits.sum()) == 0
    one[0, 1, 2, 3] = True
    assert grids.of(one)[0] is bits
    assert bits[0, 0, 0, 0, 1, 2] == 1 << 3
    assert (grids.of(other)[0] == 255).all(), "grids do not disturb each other"
    assert bits[0, 0, 0, 0, 1, 2] == 1 << 3


def test_a_resolution_that_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="multiple of 8, not 12"):
        occupancy.GRIDS.of(torch.zeros(1, 12, 12, 12, dtype=torch.bool))
