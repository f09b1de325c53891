"""The registered presets, the one dial, and the flags that the command line knows."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro
import yaml
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

from ngp_method import method_configs
from ngp_method.errors import UserError
from ngp_method.studio.network_checks import check_network
from ngp_method.studio.trainer_config import InstantHashTrainerConfig
from ngp_method.tools.train import presets

NAMES = (
    *("instant-hash", "instant-hash-paper", "instant-hash-lite", "instant-hash-big", "instant-hash-antialiased"),
    *("instant-image", "instant-sdf"),
)


def parsed(*words: str) -> InstantHashTrainerConfig:
    """What ``ns-train`` makes of a command line."""
    config = tyro.cli(AnnotatedBaseConfigUnion, args=list(words))
    assert isinstance(config, InstantHashTrainerConfig)
    return config


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_registered_under_its_name(name: str) -> None:
    config = parsed(name, "--data", "somewhere")
    assert config.method_name == name
    assert dataclasses.replace(config, data=None) == dataclasses.replace(presets()[name], data=None)


def test_auto_takes_the_preset_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that mean one thing each: auto's are those of another preset, whose name the run says."""
    for gpu, other in ((True, method_configs.paper_config), (False, method_configs.lite_config)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        auto, expected = method_configs.auto_config(), other()
        assert auto.settings_of == expected.method_name
        assert dataclasses.replace(auto, method_name=expected.method_name, settings_of="") == expected


def test_antialiased_is_auto_with_footprints(monkeypatch: pytest.MonkeyPatch) -> None:
    """On either machine; and the preset it names for another device keeps them."""
    for gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        config, expected = method_configs.antialiased_config(), method_configs.auto_config()
        assert config.pipeline.model.footprints
        assert not expected.pipeline.model.footprints
        expected.pipeline.model.footprints, expected.method_name = True, "instant-hash-antialiased"
        assert config == expected
        config.machine.device_type = "cpu" if gpu else "cuda"
        with pytest.raises(UserError, match=r"say ns-train instant-hash-\w+ --pipeline\.model\.footprints True\."):
            config.say_settings()


@pytest.mark.parametrize("encoding", ["frequency", "none"])
def test_footprints_need_levels(encoding: str) -> None:
    """A flag works or is refused."""
    config = parsed("instant-hash-antialiased", "--data", "somewhere", "--pipeline.model.encoding", encoding)
    with pytest.raises(UserError, match=rf"footprints needs an encoding with levels.* is {encoding}: train with"):
        check_network(config.pipeline.model)


def test_the_other_presets_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = (method_configs.paper_config, method_configs.lite_config, method_configs.big_config)
    found = []
    for gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        found.append([dataclasses.replace(make(), machine=None) for make in makers])
    assert found[0] == found[1]
    sizes = [config.pipeline.model.log2_hashmap_size for config in found[0]]
    assert sizes == [19, 17, 21]


@pytest.mark.parametrize(("settings", "device"), [("instant-hash-paper", "cpu"), ("instant-hash-lite", "cuda")])
def test_auto_for_another_device_is_refused_with_the_preset_to_take(settings: str, device: str) -> None:
    config = method_configs.auto_config()
    config.settings_of, config.machine.device_type = settings, device  # type: ignore[assignment]
    with pytest.raises(SystemExit) as raised:
        config.say_settings()
    other = {"cpu": "instant-hash-lite", "cuda": "instant-hash-paper"}[device]
    assert str(raised.value).endswith(f"say ns-train {other}.")


def test_auto_says_whose_settings_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    config = method_configs.auto_config()
    config.say_settings()
    assert f"settings: those of {config.settings_of} (auto, torch sees" in capsys.readouterr().out
    method_configs.lite_config().say_settings()
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", ["encoding", "networks"])
def test_the_rates_of_every_preset_fall_within_a_budget_of_seconds(name: str, group: str) -> None:
    """``--max-train-seconds`` is the one dial: at the end of the run, whatever step that is, the rate has fallen."""
    config = presets()[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = config.optimizers[group]["scheduler"].setup().get_scheduler(optimizer, 1.0)
    share = [0.0]
    schedule.follow(lambda: share[0])
    rates = []
    for share[0] in (0.0, 0.5, 0.7, 1.0):  # of the seconds, after a handful of steps
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == 1.0
    assert rates[-1] < 0.5
    assert rates == sorted(rates, reverse=True)


def test_the_papers_rate_falls_at_the_papers_steps() -> None:
    """In steps: x 0.33 after 20,000 of 30,000 (instant-ngp configs/nerf/base.json)."""
    schedule = method_configs.paper_config().optimizers["encoding"]["scheduler"].setup()
    factors = [schedule.factor(step, step / 30_000) for step in (19_999, 20_000, 29_999)]
    assert factors == [1.0, 0.33, 0.33]


REFUSED = (
    "--prompt=a", "--mixed-precision=True", "--use-grad-scaler=True", "--log-gradients=True", "--viewer.num-rays-per-chunk=3",
    "--pipeline.model.prompt=a", "--pipeline.model.enable-collider=True", "--pipeline.model.collider-params=x",
    "--pipeline.model.loss-coefficients.rgb-loss-coarse=1", "--pipeline.datamanager.patch-size=2",
    "--pipeline.datamanager.masks-on-gpu=True", "--pipeline.datamanager.eval-image-indices=0",
    "--pipeline.datamanager.train-num-times-to-repeat-images=3", "--pipeline.datamanager.eval-num-times-to-repeat-images=3",
    "--pipeline.datamanager.train-num-images-to-sample-from=3", "--pipeline.datamanager.pixel-sampler.ignore-mask=True",
    "--pipeline.datamanager.pixel-sampler.num-rays-per-batch=3",
)  # fmt: skip
"""Flags of nerfstudio's classes that would change nothing here."""


def test_flags_that_would_do_nothing_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # all of them on one line
    with pytest.raises(SystemExit) as raised:
        parsed("instant-hash", "--data", "somewhere", *REFUSED)
    assert raised.value.code == 2
    said = capsys.readouterr().err
    for flag in REFUSED:
        assert flag in said, flag


NEVER_FOR_POINTS = (
    "--prompt=a", "--mixed-precision=True", "--pipeline.model.prompt=a", "--pipeline.model.enable-collider=True",
    "--pipeline.datamanager.masks-on-gpu=True", "--pipeline.datamanager.images-on-gpu=True",
)  # fmt: skip


@pytest.mark.parametrize("name", ["instant-image", "instant-sdf"])
def test_flags_that_would_do_nothing_are_refused_for_points_too(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    flags = (*NEVER_FOR_POINTS, "--pipeline.model.average-decay=0.9") if name == "instant-image" else NEVER_FOR_POINTS
    with pytest.raises(SystemExit) as raised:
        parsed(name, "--data", "somewhere", *flags)
    assert raised.value.code == 2
    said = capsys.readouterr().err
    for flag in flags:
        assert flag in said, flag


def test_the_help_begins_with_what_one_sets_and_explains_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nerfstudio.scripts.train", "instant-hash", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "70"},
    )  # fmt: skip
    text = done.stdout
    places = [
        text.index(flag) for flag in ("--data ", "--max-train-seconds ", "--max-num-iterations ", "--vis ", "--output-dir ")
    ]
    assert places == sorted(places)
    assert text.index("--pipeline.model.kernels") < text.index("--machine.seed")
    assert text.index("--pipeline.model.kernels") < text.index("--pipeline.model.eval-num-rays-per-chunk")
    for flag in REFUSED:
        assert flag.split("=")[0] + " " not in text, flag


def test_the_first_step_has_the_rays_that_were_asked_for() -> None:
    from ngp_method.volume.ray_budget import RayBudget

    budget = RayBudget(1 << 16, 1 << 18)
    assert budget.rays == 256
    budget.begin(4_100)
    assert budget.rays == 4_096
    with pytest.raises(ValueError, match="at least one ray"):
        type(presets()["instant-hash"].pipeline.datamanager)(train_num_rays_per_batch=0)


def test_a_written_config_loads_and_is_the_same(tmp_path: Path) -> None:
    """nerfstudio writes a run's settings as YAML that names classes; fields put first come back as they were."""
    for name, config in presets().items():
        again: Any = yaml.load(yaml.dump(config), Loader=yaml.Loader)
        assert again == config, name


@pytest.mark.parametrize("name", ["instant-hash-lite", "instant-image", "instant-sdf"])
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--pipeline.model.log2-hashmap-size=40", "log2_hashmap_size must be from 3 to 28, not 40"),
        ("--pipeline.model.n-levels=0", "at least one level"),
        ("--pipeline.model.n-features-per-level=3", "1, 2, 4 or 8 features per level"),
        ("--pipeline.model.base-resolution=0", "base_resolution must be at least 1"),
        ("--pipeline.model.finest-resolution=8", "at most finest_resolution"),
        ("--pipeline.model.n-neurons=63", "a multiple of 16"),
        ("--pipeline.model.n-hidden-layers=0", "at least one hidden layer"),
        ("--pipeline.model.n-frequencies=0", "--pipeline.model.n-frequencies 0: give at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_said_before_anything_is_written(name: str, flag: str, said: str, tmp_path: Path) -> None:
    config = parsed(name, "--data", "somewhere", "--output-dir", str(tmp_path / "out"), "--timestamp", "run", flag)
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        config.save_config()
    assert str(raised.value).startswith("--pipeline.model")
    assert not (tmp_path / "out").exists()
