"""Learning-rate schedules: the factors, and a state that torch loads with weights_only=True."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from nerfstudio.engine.schedulers import CosineDecaySchedulerConfig, ExponentialDecaySchedulerConfig, SchedulerConfig

from ngp_method.studio.schedulers import Anneal, AnnealConfig, StepDecay, StepDecayConfig


def optimizer(lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=lr)


def rates(config: SchedulerConfig, steps: int, lr: float = 0.01) -> list[float]:
    """The rate each of ``steps`` steps is taken with."""
    adam = optimizer(lr)
    scheduler = config.setup().get_scheduler(adam, lr)
    seen = []
    for _ in range(steps):
        seen.append(adam.param_groups[0]["lr"])
        adam.step()
        scheduler.step()
    return seen


def test_step_decay_is_tiny_cuda_nns_rule() -> None:
    start, every, gamma = 20, 7, 0.33
    factor, expected = 1.0, []
    for step in range(60):  # exponential_decay.h: before the step with this number is taken
        if step >= start and (step - start) % every == 0:
            factor *= gamma
        expected.append(0.01 * factor)
    assert rates(StepDecayConfig(start=start, every=every, gamma=gamma), 60) == pytest.approx(expected, rel=1e-12)


def test_step_decay_defaults_are_instant_ngps() -> None:
    decay = StepDecay(StepDecayConfig())
    factors = [decay.factor(step, 0.0) for step in (0, 19_999, 20_000, 29_999, 30_000, 40_000)]
    assert factors == pytest.approx([1, 1, 0.33, 0.33, 0.33**2, 0.33**3])


def test_step_decay_in_shares_of_the_run() -> None:
    config = StepDecayConfig(start=0.5, every=0.1, gamma=0.5, unit="run", max_steps=100)
    seen = rates(config, 101, lr=1.0)
    assert [seen[step] for step in (0, 49, 50, 59, 60, 70, 80, 99, 100)] == pytest.approx(
        [1, 1, 0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625]
    )


@pytest.mark.parametrize("shape", ["exponential", "cosine"])
def test_anneal_falls_smoothly_from_its_start_to_its_end(shape: str) -> None:
    config = AnnealConfig(start_fraction=0.25, final_scale=0.04, shape=shape, max_steps=200)  # type: ignore[arg-type]
    seen = rates(config, 201, lr=1.0)
    assert seen[:51] == [1.0] * 51
    assert all(later < earlier for earlier, later in itertools.pairwise(seen[50:]))
    assert seen[200] == pytest.approx(0.04)
    middle = {"exponential": math.sqrt(0.04), "cosine": 0.5 * (1 + 0.04)}[shape]
    assert seen[125] == pytest.approx(middle)


def test_anneal_follows_the_run() -> None:
    adam = optimizer(1.0)
    scheduler = AnnealConfig(start_fraction=0.0, final_scale=0.01).setup().get_scheduler(adam, 1.0)
    far = [0.0]
    scheduler.follow(lambda: far[0])
    for share, expected in ((0.5, 0.1), (0.9, 0.01**0.9), (1.7, 0.01)):
        far[0] = share
        scheduler.step()
        assert adam.param_groups[0]["lr"] == pytest.approx(expected)
    # a length given by hand comes before the trainer's
    fixed = AnnealConfig(start_fraction=0.0, final_scale=0.01, max_steps=4).setup().get_scheduler(adam, 1.0)
    fixed.follow(lambda: 0.0)
    fixed.step()
    assert fixed.progress == 0.25


def test_anneal_warms_up() -> None:
    anneal = Anneal(AnnealConfig(warmup_steps=10))
    assert [anneal.factor(step, 0.0) for step in (0, 5, 10, 11)] == pytest.approx([0.1, 0.55, 1.0, 1.0])


@pytest.mark.parametrize("config", [StepDecayConfig(start=2, every=2), AnnealConfig(max_steps=9)])
def test_state_is_plain_and_resumes(config: SchedulerConfig, tmp_path: Path) -> None:
    whole = rates(config, 9)
    adam = optimizer()
    scheduler = config.setup().get_scheduler(adam, 0.01)
    for _ in range(4):
        adam.step()
        scheduler.step()
    state = scheduler.state_dict()
    assert {type(v) for v in state.values()} <= {int, float, list}
    assert {type(v) for value in state.values() if isinstance(value, list) for v in value} == {float}
    assert type(adam.param_groups[0]["lr"]) is float
    torch.save({"optimizer": adam.state_dict(), "scheduler": state}, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)

    second = optimizer()
    resumed = config.setup().get_scheduler(second, 0.01)
    second.load_state_dict(loaded["optimizer"])
    resumed.load_state_dict(loaded["scheduler"])
    seen = []
    for _ in range(5):
        seen.append(second.param_groups[0]["lr"])
        second.step()
        resumed.step()
    assert seen == whole[4:]


@pytest.mark.parametrize("config", [ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=9), CosineDecaySchedulerConfig()])
def test_nerfstudios_own_schedulers_load_too(config: SchedulerConfig, tmp_path: Path) -> None:
    adam = optimizer()
    scheduler = config.setup().get_scheduler(adam, 0.01)
    adam.step()
    scheduler.step()
    torch.save({"optimizer": adam.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert loaded["optimizer"]["param_groups"][0]["lr"] == adam.param_groups[0]["lr"]


@pytest.mark.parametrize(
    "config",
    [
        AnnealConfig(final_scale=0.0),
        AnnealConfig(final_scale=2.0),
        AnnealConfig(start_fraction=-1.0),
        StepDecayConfig(every=0.0),
    ],
)
def test_impossible_schedules_are_refused(config: SchedulerConfig) -> None:
    with pytest.raises(ValueError, match=r"above 0|must lie in"):
        config.setup().get_scheduler(optimizer(), 0.01)
