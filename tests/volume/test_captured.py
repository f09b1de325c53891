"""A training step of fixed sizes: when it is captured, what a replay does, and what is learnt from its numbers.

A CUDA graph needs a GPU (``benchmarks/gpu.py`` runs one); here, what would be captured is done again at each replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ngp_method.fields.adam import NgpAdam
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume import captured
from ngp_method.volume.captured import LAG, CapturedStep, Notes
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Parts
from ngp_method.volume.ray_budget import RayBudget
from ngp_method.volume.rays import Rays
from ngp_method.volume.step import Step, StepSettings
from support.kernel_cases import kernels_of
from support.replays import Again

SETTINGS = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
GEOMETRY = SceneGeometry(step_scale=24.0)


@pytest.fixture(autouse=True)
def _little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for padding as for anything else."""
    monkeypatch.setattr(captured, "SPARE", 64)


def _step(kernel_set: str = "cpu-float32", budget: int = 4000) -> Step:
    """Of a field of fog in a grid of which every other cell along x is empty."""
    torch.manual_seed(3)
    kernels = kernels_of(kernel_set)
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels)
    torch.nn.init.uniform_(network.vectors()["table"], -1.0, 1.0)
    grid = OccupancyGrid(GEOMETRY, kernels, 16)
    grid.binaries[:, ::2] = False
    step = Step(Shading(network, GEOMETRY), grid, Parts([PlainBackground("white")]), StepSettings(sample_budget=budget))
    for vector in network.vectors().values():
        vector.keep_gradient()
    return step


def _rays(n: int, seed: int = 1) -> Rays:
    rng = torch.Generator().manual_seed(seed)
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0] = -2.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    return Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))


class Runner:
    """A captured step, what is recorded of it, and the optimisers; everything is seeded by the number of the step."""

    def __init__(self, step: Step, plain: bool = False) -> None:
        self.step, self.number = step, 0
        self.again = Again(self.gradients)
        self.captured = None if plain else CapturedStep(step, self.again)
        self.optimizer = NgpAdam(step.field.network.parameters(), lr=1e-2)
        self.losses: list[float] = []
        self.fixed = self.compared = 0
        for name in ("fixed", "compared"):
            setattr(step, name, self._counted(name, getattr(step, name)))

    def _counted(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return run(*args)

        return counted

    def gradients(self) -> list[Tensor]:
        found = [param.grad for param in self.step.field.network.parameters()]
        return [grad for grad in found if grad is not None]

    def train(self, n: int | None = None) -> str:
        """One step on n rays (default: as many as it asks for): how it was done."""
        self.number += 1
        rays, before = _rays(n or self.step.budget.rays, self.number), self.again.recorded
        pixels = torch.rand(rays.n_rays, 3, generator=torch.Generator().manual_seed(self.number))
        torch.manual_seed(self.number)
        fixed, compared = self.fixed, self.compared
        if self.captured is None:
            found = self.step.compared(rays, pixels)
            found.backward()
        else:
            found = self.captured(rays, pixels)
        self.losses.append(float(found.losses["rgb_loss"]))
        self.optimizer.step()
        if self.compared > compared:
            return "usual"
        return (
            "captured"
            if self.again.recorded > before
            else "tried"
            if self.fixed > fixed and not self.again.recorded
            else "replayed"
        )


def test_a_captured_run_is_the_run_done_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and parameters after six steps of 64 rays: one that sees what there is, one that compiles, one captured."""
    for name, value in {"MARGIN": 1.5, "LEAST_MARGIN": 0.5, "MOST_MARGIN": 4.0}.items():
        monkeypatch.setattr(captured, name, value)
    usual, runner = Runner(_step("triton-float32"), plain=True), Runner(_step("triton-float32"))
    for one in (usual, runner):
        one.step.budget.hold = 1e9
    how = [(usual.train(64), runner.train(64))[1] for _ in range(6)]
    assert how == ["usual", "tried", "captured", *["replayed"] * 3]
    torch.testing.assert_close(runner.losses, usual.losses, atol=1e-7, rtol=1e-5)
    for mine, theirs in zip(runner.step.field.network.parameters(), usual.step.field.network.parameters()):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


def test_numbers_are_read_a_step_late_and_set_the_number_of_rays() -> None:
    """What a step had is known when the one after the next is launched; rays come to fill the budget and stay."""
    runner = Runner(_step(budget=4000))
    for _ in range(24):
        runner.train()
    kept, rays = runner.step.counts["kept"], runner.step.counts["rays"]
    assert runner.captured is not None
    assert 1 <= runner.captured.captures <= 6
    assert rays == runner.step.budget.rays, "it has settled"
    assert 0.85 * 4000 < kept < 1.12 * 4000
    assert len(runner.captured._notes._under_way) == LAG


@pytest.mark.parametrize("what", ["rays", "gradient", "grid", "samples"])
def test_what_does_not_fit_any_more_is_captured_anew(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of rays, gradients or bits that lie elsewhere, many more samples a ray."""
    runner = Runner(_step())
    runner.step.budget.hold = 1e9
    assert [runner.train(64) for _ in range(4)] == ["usual", "tried", "captured", "replayed"]
    if what == "rays":
        assert [runner.train(96) for _ in range(3)] == ["usual", "captured", "replayed"]
        return
    if what == "gradient":
        for vector in runner.step.field.network.vectors().values():
            assert vector.grad is not None
            vector.grad = vector.grad.clone()
    elif what == "grid":
        runner.step.grid.binaries = runner.step.grid.binaries.clone()
    else:
        monkeypatch.setattr(captured, "SPARE", 0)
        runner.step.grid.binaries.fill_(True)  # in place: twice the samples, known a step later
        assert [runner.train(64) for _ in range(2)] == ["replayed", "replayed"]
        kept_rays = runner.captured._captured.result.numbers[3]  # type: ignore[union-attr]
        assert kept_rays < 64, "there was not room for all"
    assert [runner.train(64) for _ in range(2)] == ["captured", "replayed"]


def test_a_grid_and_a_table_that_change_in_place_are_seen() -> None:
    """Their packed bits and half copies lie where they lay, and are brought up to date before a replay."""
    runner = Runner(_step("triton"))
    runner.step.budget.hold = 1e9
    for _ in range(4):
        runner.train(64)
    with torch.no_grad():
        runner.step.grid.binaries.fill_(False)
    assert runner.train(64) == "replayed"
    assert int(runner.captured._captured.result.numbers[0]) == 0  # type: ignore[union-attr]
    runner.step.grid.binaries[:, ::2] = True
    with torch.no_grad():
        runner.step.field.network.vectors()["table"].fill_(float("nan"))
    runner.train(64)
    assert runner.losses[-1] != runner.losses[-1], "the half copy was made anew"


def test_nothing_marched_is_no_trouble() -> None:
    """A grid without an occupied cell."""
    runner = Runner(_step())
    runner.step.grid.binaries.fill_(False)
    assert [runner.train(64) for _ in range(4)][-1] == "replayed"


def test_rays_are_held_while_they_nearly_fill_the_budget() -> None:
    budget = RayBudget(1000, 1 << 18)
    budget.begin(320)
    budget.hold = 0.1
    assert budget.adapt(320, 0, 960) == 320
    assert budget.adapt(320, 0, 1060) == 320
    assert budget.adapt(320, 0, 1300) == 224


def test_notes_come_in_their_order() -> None:
    notes = Notes()
    for number in range(5):
        notes.put(torch.full((4,), number, dtype=torch.int32), 10 + number)
    assert notes.take(2) == [(10, [0] * 4), (11, [1] * 4), (12, [2] * 4)]
    assert notes.take(0) == [(13, [3] * 4), (14, [4] * 4)]
    assert notes.take(0) == []
