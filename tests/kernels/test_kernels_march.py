"""Marching of every kernel set against the oracle's dense walk of the same grid.

Steps begin where they begin whatever is occupied, so begins and ends must agree to the last bit (the step law is the
same float32 arithmetic everywhere). Whether a step is a sample depends on the cell its middle lies in: the oracle
decides in float64 and is believed wherever the middle is farther from a border (of a cell, a cascade, a step length's
cascade) than eight roundings of the largest number in the sum; at most ``march_cases.MOST_UNSURE`` of the steps are
nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.samples import PackedSamples
from ngp_method.kernels.scene import SceneGeometry
from support import march_cases, oracle_volume
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
    two_thread_results,
)
from support.kernel_guard import PROVEN_BY

WALKERS = [name for name in SETS if ("test_kernels_march", name) not in PROVEN_BY]

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", WALKERS)]

REFERENCE = kernels_of("reference")
DYADIC = {"center": (0.25, -0.5, 0.0), "unit_size": 2.0}
"""Rays along cell borders then lie exactly on them in float32 too, and the oracle judges them."""


@pytest.mark.parametrize("density", [0.003, 0.05, 0.6])
@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16, 32, 64, 128])
def test_march_equals_the_dense_walk(kernel_set: str, scale: int, density: float) -> None:
    case = march_cases.make(SceneGeometry(**DYADIC, aabb_scale=scale), density, count=12)
    samples, resume = case.march(kernels_of(kernel_set))
    assert samples.n_samples > 20
    march_cases.compare(case, samples, resume)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_other_cone_angle(kernel_set: str, scale: int) -> None:
    # Four steps to a cell, as training has with its finest steps and four times as many cells.
    case = march_cases.make(march_cases.ForcedCone(**DYADIC, aabb_scale=scale, step_scale=4.0), 0.05, count=8)
    march_cases.compare(case, *case.march(kernels_of(kernel_set)))


@pytest.mark.parametrize(("scale", "coarser"), [(1, 2.5), (1, 40.0), (8, 3.0), (128, 20.0)])
def test_coarser_steps(kernel_set: str, scale: int, coarser: float) -> None:
    """Steps so long that cells of an outer cascade are looked up near the centre too."""
    case = march_cases.make(SceneGeometry(**DYADIC, aabb_scale=scale, step_scale=coarser), 0.05, count=12)
    march_cases.compare(case, *case.march(kernels_of(kernel_set)))


@pytest.mark.parametrize("scale", [1, 4])
def test_full_resolution_with_empty_blocks_off_centre(kernel_set: str, scale: int) -> None:
    """128 cells, most blocks empty, a centre and a size that are not dyadic: what training has."""
    case = march_cases.make(SceneGeometry((0.1, 2.3, -0.7), 1.37, scale), 0.2, grid=128, blobs=True)
    samples, resume = case.march(kernels_of(kernel_set))
    march_cases.compare(case, samples, resume)
    plain, _ = case.march(REFERENCE)
    differ = (plain.packed_info[:, 1] != samples.packed_info[:, 1]).float().mean()
    assert differ < 0.1, "few rays have a step that float32 may judge either way"


@pytest.mark.parametrize("grid", [8, 16, 24, 40])
@pytest.mark.parametrize("scale", [1, 4, 32])
def test_other_resolutions(kernel_set: str, scale: int, grid: int) -> None:
    """Grids whose blocks of eight cells do not end where the next finer cascade begins."""
    for seed in range(3):
        # As many steps to a cell whatever its size: nine.
        geometry = SceneGeometry(**DYADIC, aabb_scale=scale, step_scale=64 / grid)
        case = march_cases.make(geometry, 0.3, grid=grid, count=6, seed=seed, blobs=True)
        march_cases.compare(case, *case.march(kernels_of(kernel_set)))


@pytest.mark.parametrize("fill", [False, True])
def test_nothing_and_everything_occupied(kernel_set: str, fill: bool) -> None:
    case = march_cases.make(SceneGeometry(**DYADIC, aabb_scale=2), 0.0)
    case.occupied.fill_(fill)
    samples, resume = case.march(kernels_of(kernel_set))
    march_cases.compare(case, samples, resume)
    assert (samples.n_samples > 0) == fill


@pytest.mark.parametrize("limit", [1, 7, 64])
@pytest.mark.parametrize("scale", [1, 8])
def test_going_on_gives_the_same_samples(kernel_set: str, scale: int, limit: int) -> None:
    kernels = kernels_of(kernel_set)
    # A leg for each of a hundred samples proves no more than twenty legs.
    coarser = {1: 8.0 * scale**0.5, 7: 3.0 * scale**0.5, 64: 1.0}[limit]
    case = march_cases.make(SceneGeometry(**DYADIC, aabb_scale=scale, step_scale=coarser), 0.05, count=6)
    whole, end = case.march(kernels)
    samples, t = case.march(kernels, limit)
    march_cases.compare(case, samples, t, limit)
    legs = [samples]
    while (t < case.t_max).any():
        assert len(legs) < 1000
        samples, t = case.march(kernels, limit, start=t, jitter=False)
        assert int(samples.packed_info[:, 1].max()) <= limit
        legs.append(samples)
    assert len(legs) > 1
    for ray in range(whole.n_rays):
        _assert_same(_of_ray([whole], ray), _of_ray(legs, ray))
    assert torch.equal(t, torch.maximum(end, t))


def _of_ray(legs: list[PackedSamples], ray: int) -> tuple[Tensor, Tensor]:
    parts = [(leg, *leg.packed_info[ray].tolist()) for leg in legs]
    starts = torch.cat([leg.t_starts[first : first + count] for leg, first, count in parts])
    return starts, torch.cat([leg.t_ends[first : first + count] for leg, first, count in parts])


def _assert_same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_limits_above_the_default(kernel_set: str) -> None:
    """max_samples means what it says, more than 1,024 too."""
    box = SceneGeometry(**DYADIC, aabb_scale=128)
    case = march_cases.make(box, 0.0, count=4)
    case.occupied.fill_(True)
    case.t_min.zero_()
    case.t_max.fill_(1.5 * box.box_size)
    longest = {}
    for limit in (None, 1500):
        samples, resume = case.march(kernels_of(kernel_set), limit)
        longest[limit] = int(samples.packed_info[:, 1].max())
        march_cases.compare(case, samples, resume, limit or 1024)
    assert longest[None] == 1024
    assert longest[1500] > 1024


def test_no_jitter_is_jitter_zero(kernel_set: str) -> None:
    case = march_cases.make(SceneGeometry(**DYADIC, step_scale=4.0), 0.05, count=4)
    without, end = case.march(kernels_of(kernel_set), jitter=False)
    case.jitter.zero_()
    zero, same_end = case.march(kernels_of(kernel_set))
    assert torch.equal(without.t_starts, zero.t_starts)
    assert torch.equal(end, same_end)


def test_no_rays_and_rays_that_end_before_they_begin(kernel_set: str) -> None:
    case = march_cases.make(SceneGeometry(**DYADIC), 0.5, count=2)
    none = march_cases.Case(
        *(v[:0] for v in (case.rays_o, case.rays_d, case.t_min, case.t_max, case.jitter)), case.occupied, case.geometry
    )
    samples, resume = none.march(kernels_of(kernel_set))
    march_cases.check_layout(samples, 0)
    assert resume.shape == (0,)
    for t_min in (
        case.t_max.clone(),
        case.t_max + 1,
        torch.full_like(case.t_max, 1e10),
        torch.full_like(case.t_max, np.nan),
    ):
        samples, resume = case.march(kernels_of(kernel_set), start=t_min)
        march_cases.check_layout(samples, case.rays_o.shape[0])
        assert samples.n_samples == 0
        assert not (resume < case.t_max).any()


def test_changes_of_the_grid_are_seen(kernel_set: str) -> None:
    """A set may keep something made from the grid: it may outlive neither a change in place nor the grid."""
    kernels = kernels_of(kernel_set)
    geometry = SceneGeometry(**DYADIC, step_scale=8.0)
    case = march_cases.make(geometry, 0.0, count=4)
    for seed in range(8):
        # A new grid may lie where the last one lay.
        del case.occupied
        case.occupied = _block(seed)
        march_cases.compare(case, *case.march(kernels))
    for seed in range(8, 12):
        case.occupied.copy_(_block(seed))
        march_cases.compare(case, *case.march(kernels))


def _block(seed: int) -> Tensor:
    occupied = torch.zeros(1, 32, 32, 32, dtype=torch.bool)
    x, y, z = torch.randint(0, 4, (3,), generator=generator(seed)).tolist()
    occupied[0, 8 * x : 8 * x + 8, 8 * y : 8 * y + 8, 8 * z : 8 * z + 8] = True
    return occupied


@pytest.mark.sets("cpu")
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str) -> None:
    case = march_cases.make(SceneGeometry(**DYADIC, aabb_scale=2), 0.05, count=120)

    def results(kernels: Kernels) -> Iterator[Tensor]:
        samples, resume = case.march(kernels)
        yield from (samples.t_starts, samples.t_ends, samples.ray_indices, samples.packed_info, resume)

    two_thread_results(kernel_set, results)


@pytest.mark.parametrize("scale", [1, 128])
def test_float32_steps_stay_near_float64_steps(kernel_set: str, scale: int) -> None:
    """The step law in float32 drifts by no more than a rounding a step; the number of steps to a given t is the
    same."""
    geometry = SceneGeometry(**DYADIC, aabb_scale=scale)
    scene = oracle_volume.Scene(geometry.center, geometry.unit_size, geometry.cascades, geometry.cone_angle)
    end = np.array([3.0 * scale])
    exact, _ = oracle_volume.step_sequence(np.array([0.1]), end, np.array([0.0]), scene)
    case = march_cases.make(geometry, 0.0, count=1)
    case.occupied.fill_(True)
    centre = torch.tensor([geometry.center])
    samples, _ = kernels_of(kernel_set).march(
        centre, torch.eye(3)[:1], torch.tensor([0.1]), torch.from_numpy(end).float(), case.occupied, geometry
    )
    n = samples.n_samples
    assert n >= min(exact.shape[0] // 4, 1000), "the ray crosses the occupied box"
    steps = np.arange(1, n + 1)
    # In a cone an early error grows with t, as (1 + cone) per step: relative to t it stays.
    bound = tol.DRIFT_PER_STEP * (steps + 2) * exact[:n, 0] * (1 + geometry.cone_angle)
    assert (np.abs(samples.t_starts.double().numpy() - exact[:n, 0]) <= bound).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 1.5])
def test_a_capacity_leaves_out_the_last_rays(kernel_set: str, share: float) -> None:
    """Those there is room for are what they are without one; the others have nothing and go on from where they began."""
    kernels, case = kernels_of(kernel_set), march_cases.make(SceneGeometry(**DYADIC, aabb_scale=2), 0.3, count=12)
    whole, ends_at = case.march(kernels)
    capacity = int(share * whole.n_samples)
    samples, resume = case.march(Limited(kernels, capacity))
    room = whole.packed_info.sum(-1) <= capacity
    used = int(samples.packed_info[:, 1].sum())
    assert samples.n_samples == (capacity if kernels.asynchronous else used)
    assert torch.equal(samples.packed_info[:, 1], whole.packed_info[:, 1] * room)
    assert torch.equal(resume, torch.where(room, ends_at, case.t_min))
    for name in ("t_starts", "t_ends", "ray_indices"):
        assert torch.equal(getattr(samples, name)[:used], getattr(whole, name)[:used]), name
    assert 0 < room.sum() < room.numel() or share in (0.0, 1.0, 1.5)


class Limited:
    """A set's march with a capacity."""

    def __init__(self, kernels: Kernels, capacity: int) -> None:
        self.kernels, self.capacity = kernels, capacity

    def march(self, *args: Any, **kwargs: Any) -> tuple[PackedSamples, Tensor]:
        """The operation."""
        return self.kernels.march(*args, **kwargs, capacity=self.capacity)
