"""Training samples of a mesh: where they lie, how far they say they are, and that a run gets the same ones again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ngp_method.primitives.sdf.mesh import make_mesh
from ngp_method.primitives.sdf.samples import SIGMAS, SampleMix, SamplePool, SampleSource
from ngp_method.primitives.sdf.signed import SignedDistance
from support.shapes import corners_of, distances_to_all, exact_winding, mesh_of

N = 1 << 13
FLOAT32 = 2e-7
"""Rounding of three coordinates up to 1, and of the distance."""


@pytest.fixture(scope="module")
def torus() -> SignedDistance:
    return SignedDistance(mesh_of("torus"))


@pytest.fixture
def pools() -> Iterator[Any]:
    """Makes pools, small ones, and closes them."""
    made: list[SamplePool] = []

    def make(source: SampleSource, **settings: Any) -> SamplePool:
        made.append(SamplePool(source, **{"size": 1 << 10, "first": 1 << 8, "part": 1 << 7, "uses": 2.0, **settings}))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def _of_kind(rows: np.ndarray, mix: SampleMix, kind: int) -> np.ndarray:
    """The samples of a kind: each group of eight has them in order."""
    begin = sum(mix.shares[:kind])
    return rows.reshape(-1, 8, 4)[:, begin : begin + mix.shares[kind]].reshape(-1, 4)


@pytest.mark.parametrize("name", ["torus", "hemisphere"])
def test_distances_are_brute_forces(name: str) -> None:
    mesh = mesh_of(name)
    rows = SampleSource(SignedDistance(mesh)).part(0, 1024).astype(np.float64)
    truth = distances_to_all(rows[:, :3], corners_of(mesh)).min(1)
    np.testing.assert_allclose(np.abs(rows[:, 3]), truth, atol=FLOAT32)
    numbers = exact_winding(rows[:, :3], corners_of(mesh))
    clear = (truth > 1e-6) & (np.abs(np.abs(numbers) - 0.5) > 0.1)
    assert np.array_equal((rows[:, 3] < 0)[clear], (np.abs(numbers) > 0.5)[clear])
    assert (rows[clear, 3] < 0).any()


@pytest.mark.parametrize("shares", [(2, 2, 3, 1), (4, 3, 0, 1), (8, 0, 0, 0), (0, 0, 0, 8)])
def test_every_group_of_eight_has_the_mix(torus: SignedDistance, shares: tuple[int, int, int, int]) -> None:
    rows = SampleSource(torus, SampleMix(*shares)).part(3, N)
    assert ((rows[:, :3] >= 0) & (rows[:, :3] <= 1)).all()
    on_surface = (rows[:, 3] == 0).reshape(-1, 8)
    assert (on_surface.sum(1) == shares[0]).all()
    assert len(np.unique(rows[:, :3], axis=0)) == N


def test_surface_points_are_uniform_by_area(torus: SignedDistance) -> None:
    """Stratified along the triangles: the share of each of a few regions is right to far less than chance would have it."""
    mix = SampleMix()
    points = _of_kind(SampleSource(torus).part(1, N), mix, 0)[:, :3]
    corners = torus.tree.triangles.reshape(-1, 3, 3)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    counts = np.bincount(torus.tree.closest(points).slots, minlength=len(areas)).reshape(32, -1).sum(1)
    np.testing.assert_allclose(counts, areas.reshape(32, -1).sum(1) / areas.sum() * len(points), atol=2.0)
    inside = np.random.default_rng(0).dirichlet([1, 1, 1], 100_000)
    found = SampleSource(SignedDistance(make_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])), SampleMix(8, 0, 0, 0))
    spread = np.cov(found.part(0, N)[:, :2].T)  # within a triangle, too
    one = found.shape.tree.triangles.reshape(3, 3)[:, :2]
    np.testing.assert_allclose(spread, np.cov((inside @ one).T), atol=0.05 * spread.max())


@pytest.mark.parametrize("kind", [1, 2])
def test_noise_has_its_width(kind: int) -> None:
    """Over a plane, the distance is one axis's noise: logistic, so its fourth moment is 4.2 times the variance squared."""
    plane = SignedDistance(make_mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]))
    shares = [0, 0, 0, 0]
    shares[kind] = 8
    height = SampleSource(plane, SampleMix(*shares)).part(0, 1 << 16)[:, 2] - 0.5
    assert height.std() == pytest.approx(SIGMAS[kind], rel=0.02)  # sqrt(3.2 / 65536) / 2 = 0.35 % is one standard error
    assert (height**4).mean() / height.var() ** 2 == pytest.approx(4.2, rel=0.1)
    assert abs(height.mean()) < 4 * SIGMAS[kind] / 256


def test_points_in_the_cube_are_uniform(torus: SignedDistance) -> None:
    """Along a Z-curve: each of 8^3 cells has its share to within one at its border on either side."""
    points = SampleSource(torus, SampleMix(0, 0, 0, 8)).part(0, 1 << 15)[:, :3]
    counts = np.bincount((points * 8).astype(int) @ [64, 8, 1], minlength=512)
    assert (np.abs(counts - 64) <= 2).all()
    fine = points * 8 % 1
    np.testing.assert_allclose([fine.mean(), fine.var()], [1 / 2, 1 / 12], atol=0.003)


def test_noise_that_leaves_the_cube_is_drawn_again(torus: SignedDistance) -> None:
    """A surface point at the cube's border: half of its noise leads out, and none of it ends on the border itself."""
    rows = SampleSource(torus, SampleMix(0, 0, 8, 0)).part(0, N)
    raw = rows[:, :3].min(), rows[:, :3].max()
    assert 0 < raw[0] < 0.01
    assert 0.99 < raw[1] < 1


def test_parts_are_functions_of_seed_and_number(torus: SignedDistance) -> None:
    first = SampleSource(torus, seed=1).part(2, 1024)
    assert np.array_equal(first, SampleSource(torus, seed=1).part(2, 1024))
    for seed, number in ((1, 3), (2, 2), (2, 1)):
        other = SampleSource(torus, seed=seed).part(number, 1024)
        assert not np.isin(first[:, 0], other[:, 0]).any() or np.isin(first[:, 0], other[:, 0]).mean() < 0.01


def test_a_batch_has_the_mix_and_no_sample_twice(torus: SignedDistance, pools: Any) -> None:
    pool = pools(SampleSource(torus))
    for n in (8, 128, 256, 13, 0):
        points, distances = pool.batch(n)
        assert (points.shape, distances.shape) == ((n, 3), (n,))
        assert points.dtype == distances.dtype == torch.float32
        assert len(torch.unique(points, dim=0)) == n
        if n % 8 == 0:
            assert int((distances == 0).sum()) == n // 4
    points, distances = pool.batch(1024)  # more than there are: some twice, none made up
    np.testing.assert_allclose(np.abs(torus(points)), distances.abs(), atol=FLOAT32)


def test_the_pool_grows_and_then_loses_its_oldest(torus: SignedDistance, pools: Any) -> None:
    """A part of 128 comes in for each 256 samples drawn."""
    source = SampleSource(torus)
    pool = pools(source)
    sizes, seen = [], []
    for _ in range(20):
        seen.append(pool.batch(128)[0])
        sizes.append(pool.live)
    assert sizes == [256, 256, *(min(1024, 128 * (2 + k // 2)) for k in range(2, 20))]
    assert pool.run_state()["renewals"] == 9
    held = {row.tobytes() for number in range(3, 11) for row in source.part(number, 128)[:, :3]}
    points, _ = pool.batch(512)
    assert pool.run_state()["renewals"] == 10
    fresh = held | {row.tobytes() for row in source.part(11, 128)[:, :3]}
    assert {row.tobytes() for row in points.numpy()} <= fresh


def test_batches_do_not_depend_on_how_fast_a_part_is_made(torus: SignedDistance, pools: Any) -> None:
    class Slow(SampleSource):
        def part(self, number: int, size: int) -> np.ndarray:
            time.sleep(0.02 * (number % 3))
            return super().part(number, size)

    quick, slow = pools(SampleSource(torus)), pools(Slow(torus), workers=3)
    for _ in range(15):
        for a, b in zip(quick.batch(120), slow.batch(120)):
            assert torch.equal(a, b)
    assert quick.run_state()["renewals"] == 6


@pytest.mark.parametrize("steps", [0, 1, 5, 30])
def test_a_resumed_run_gets_the_same_batches(torus: SignedDistance, pools: Any, steps: int) -> None:
    whole = pools(SampleSource(torus, seed=4))
    for _ in range(steps):
        whole.batch(100)
    state = whole.run_state()
    resumed = pools(SampleSource(torus, seed=4))
    resumed.batch(64)  # not where it began either
    resumed.load_run_state(state)
    for _ in range(12):
        for a, b in zip(whole.batch(100), resumed.batch(100)):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="The samples of this run were drawn with"):
        pools(SampleSource(torus, seed=5)).load_run_state(state)
    with pytest.raises(ValueError, match="The samples of this run were drawn with"):
        pools(SampleSource(torus, SampleMix(4, 3, 0, 1), seed=4)).load_run_state(state)


def test_a_pool_that_is_never_renewed(torus: SignedDistance, pools: Any) -> None:
    pool = pools(SampleSource(torus), uses=math.inf, first=1 << 10)
    for _ in range(20):
        pool.batch(512)
    assert (pool.live, pool.run_state()["renewals"]) == (1024, 0)


def test_progress_is_told(torus: SignedDistance, pools: Any) -> None:
    shares: list[float] = []
    pools(SampleSource(torus), first=1 << 10, progress=shares.append)
    assert shares == pytest.approx([k / 8 for k in range(1, 9)])


def test_an_error_beside_training_ends_training(torus: SignedDistance, pools: Any) -> None:
    class Broken(SampleSource):
        def part(self, number: int, size: int) -> np.ndarray:
            if number > 2:
                raise MemoryError("no room")
            return super().part(number, size)

    pool = pools(Broken(torus))
    pool.batch(256)  # after which part 2 comes in, and after as many again part 3
    pool.batch(256)
    with pytest.raises(MemoryError, match="no room"):
        pool.batch(256)


def test_mixes_and_pools_that_do_not_fit() -> None:
    for shares in ((2, 2, 2, 1), (9, -1, 0, 0)):
        with pytest.raises(ValueError, match="eighths"):
            SampleMix(*shares)
    source = SampleSource(SignedDistance(mesh_of("box")))
    for settings in ({"part": 100}, {"first": 1 << 22}, {"first": 0}, {"uses": 0.0}, {"size": 1000}):
        with pytest.raises(ValueError, match="A pool of"):
            SamplePool(source, **settings)  # type: ignore[arg-type]
