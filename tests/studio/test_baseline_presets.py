"""The presets of NeRF and mip-NeRF: published sizes and rates, and the flags that the command line knows."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.engine.trainer import TrainerConfig

from ngp_method.demo import demo_scene_path
from ngp_method.errors import UserError
from ngp_method.method_configs import mipnerf_config, nerf_config
from ngp_method.studio.baselines.model_config import MipNerfModelConfig, NerfModelConfig
from ngp_method.studio.baselines.schedule import LogLinear, LogLinearConfig
from ngp_method.tools.train import presets


@pytest.mark.parametrize(("name", "steps"), [("instant-hash-mipnerf", 1_000_000), ("instant-hash-nerf", 300_000)])
def test_the_presets_are_registered_with_the_papers_sizes(name: str, steps: int) -> None:
    config = tyro.cli(AnnotatedBaseConfigUnion, args=[name, "--data", "somewhere"])
    assert isinstance(config, TrainerConfig)
    assert config.method_name == name
    model: Any = config.pipeline.model
    assert (model.n_neurons, model.n_hidden_layers, model.skip_after, model.n_neurons_color) == (256, 8, 5, 128)
    samples = (model.n_samples,) if "mip" in name else (model.n_coarse_samples, model.n_fine_samples)
    assert samples == ((128,) if "mip" in name else (64, 128))
    assert config.max_num_iterations == steps
    assert config.optimizers["networks"]["optimizer"].lr == 5e-4
    assert presets()[name].pipeline.model == model


SHARED = {
    "n_neurons", "n_hidden_layers", "skip_after", "n_neurons_color", "n_hidden_layers_color", "n_frequencies",
    "n_frequencies_direction", "spacing", "coarse_loss", "background_color", "eval_background_color", "near_plane",
    "lpips_weights",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (MipNerfModelConfig, {"n_samples", "density_shift", "rgb_padding", "resample_padding", "integrated"}),
        (NerfModelConfig, {"n_coarse_samples", "n_fine_samples", "density_noise"}),
    ],
)
def test_each_has_the_flags_that_mean_something(kind: type, own: set[str]) -> None:
    """And no other: none of kernels, hash grids, occupancy grids or averages, nor what nerfstudio's own models have."""
    hints = get_type_hints(kind, include_extras=True)
    shown = {f.name for f in dataclasses.fields(kind) if tyro.conf.Suppress[int].__metadata__[0] not in _marks(hints[f.name])}
    assert shown - {"_target"} == SHARED | own


def _marks(hint: Any) -> tuple[Any, ...]:
    """What annotates a type."""
    return tuple(getattr(hint, "__metadata__", ()))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("mipnerf", "n_samples", 0),
        ("mipnerf", "resample_padding", -0.1),
        ("mipnerf", "coarse_loss", math.nan),
        ("mipnerf", "skip_after", 0),
        ("nerf", "n_neurons", 0),
        ("nerf", "n_coarse_samples", 2),
        ("nerf", "n_frequencies", 0),
        ("nerf", "density_noise", -1.0),
    ],
)
def test_numbers_that_cannot_be_are_said_before_anything_is_written(kind: str, name: str, value: float, tmp_path: Path) -> None:
    config = mipnerf_config() if kind == "mipnerf" else nerf_config()
    config.data, config.output_dir, config.timestamp = demo_scene_path(), tmp_path / "out", "run"
    setattr(config.pipeline.model, name, value)
    flag = f"--pipeline.model.{name.replace('_', '-')} {value}: give at least "
    with pytest.raises(UserError) as raised:
        config.save_config()
    assert str(raised.value).startswith(flag)
    assert not (tmp_path / "out").exists()


def test_the_rate_is_mip_nerfs_at_its_own_length() -> None:
    """learning_rate_decay with lr_init 5e-4, lr_final 5e-6, lr_delay_steps 2,500, lr_delay_mult 0.01, over 1,000,000 steps."""
    schedule = LogLinearConfig().setup()
    assert isinstance(schedule, LogLinear)
    for step in (0, 1, 1250, 2500, 100_000, 500_000, 1_000_000):
        delay = 0.01 + 0.99 * math.sin(0.5 * math.pi * min(step / 2500, 1.0))
        t = step / 1e6
        expected = delay * math.exp((1 - t) * math.log(5e-4) + t * math.log(5e-6))
        assert 5e-4 * schedule.factor(step, t) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "last"), [("instant-hash-mipnerf", 5e-6), ("instant-hash-nerf", 5e-5)])
def test_the_rate_falls_within_a_budget_of_seconds(name: str, last: float) -> None:
    """At the end of the run, whatever step that is; in a run of a handful of steps there is no warm-up to speak of."""
    config = presets()[name].optimizers["networks"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config["optimizer"].lr)
    schedule = config["scheduler"].setup().get_scheduler(optimizer, config["optimizer"].lr)
    share = [0.0]
    schedule.follow(lambda: share[0])
    rates = []
    for share[0] in (0.01, 0.5, 1.0):
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] > 4.5e-4
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(last)


def test_a_rate_that_cannot_be_is_said() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UserError, match=r"final-scale 0.0 must lie in \(0, 1\]"):
        LogLinearConfig(final_scale=0.0).setup().get_scheduler(optimizer, 1.0)
