"""Under nerfbaselines' protocol of a method the data are ours, checkpoints hold all of a run, pictures are what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.images import ByteDataset
from ngp_method.nerfbaselines.method import InstantHash
from ngp_method.volume.visibility import seen_cells
from support.nerfbaselines_small import SMALL


def train(data: Any, steps: int, **more: Any) -> InstantHash:
    method = InstantHash(train_dataset=data, config_overrides={**SMALL, **more})
    for step in range(steps):
        method.train_iteration(step)
    return method


def picture(method: InstantHash, data: Any) -> dict[str, NDArray[np.float32]]:
    return method.render(data["cameras"][0])


def same(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_the_data_are_those_of_the_folder(load: Callable[..., Any], blender_folder: Path) -> None:
    """Pixels, cameras, box and the cells that no camera sees: as ``ns-train --data FOLDER`` has them."""
    outputs = AutoDataParserConfig(data=blender_folder, aabb_scale=4).setup().get_dataparser_outputs("train")
    wide = {"pipeline.datamanager.dataparser.aabb_scale": "4"}
    method = InstantHash(train_dataset=load("train"), config_overrides={**SMALL, **wide})
    manager = method._trainer.pipeline.datamanager
    ours, cameras = manager.train_dataset, outputs.cameras
    assert manager.geometry == outputs.metadata["geometry"]
    assert torch.equal(ours.load(), ByteDataset(outputs).load())
    assert ours.load().shape[1] == 4  # alpha is kept for training over random colours
    for name in ("camera_to_worlds", "width", "height", "cx", "cy"):
        assert torch.equal(getattr(ours.cameras, name), getattr(cameras, name)), name
    assert torch.allclose(ours.cameras.fx, cameras.fx, rtol=1e-6)  # nerfbaselines keeps it in single precision
    assert method.config.pipeline.model.background_color == "random"
    expected = seen_cells(ours.cameras, method.model.geometry, method.model.config.grid_resolution)
    method.train_iteration(0)
    assert method.model.unmarked is None
    assert not bool(expected.all())
    assert torch.equal(method.model.grid.occs.reshape(expected.shape) >= 0.0, expected)


def test_a_checkpoint_renders_the_same_and_goes_on_as_if_it_had_not_stopped(load: Callable[..., Any], tmp_path: Path) -> None:
    data, held_out = load("train"), load("test")
    whole = train(data, 8)
    whole.save(str(tmp_path / "eight"))
    whole.train_iteration(8)
    part = train(data, 5)
    before = picture(part, held_out)
    part.save(str(tmp_path / "five"))

    alone = InstantHash(checkpoint=str(tmp_path / "five"))
    assert alone.get_info()["loaded_step"] == 5
    assert alone.get_info()["loaded_checkpoint"] == str(tmp_path / "five")
    assert same(picture(alone, held_out), before)
    with pytest.raises(SystemExit, match="only renders; give --data to train"):
        alone.train_iteration(5)

    resumed = InstantHash(checkpoint=str(tmp_path / "five"), train_dataset=data, config_overrides=SMALL)
    assert same(picture(resumed, held_out), before)
    for step in range(5, 8):
        resumed.train_iteration(step)
    resumed.save(str(tmp_path / "resumed"))
    for name in ("instant-hash.ckpt.sha256", "instant-hash.json"):
        assert (tmp_path / "resumed" / name).read_text() == (tmp_path / "eight" / name).read_text(), name
    resumed.train_iteration(8)
    assert same(picture(resumed, held_out), picture(whole, held_out))


def test_a_checkpoint_from_before_the_first_step_begins_the_same_run(load: Callable[..., Any], tmp_path: Path) -> None:
    data = load("train")
    method = train(data, 0)
    method.save(str(tmp_path / "none"))
    begun = InstantHash(checkpoint=str(tmp_path / "none"), train_dataset=data)
    assert begun.get_info()["loaded_step"] == 0
    for step in range(3):
        method.train_iteration(step)
        begun.train_iteration(step)
    assert same(picture(method, data), picture(begun, data))


def test_rates_fall_within_the_run(load: Callable[..., Any]) -> None:
    method = InstantHash(train_dataset=load("train"), config_overrides={**SMALL, "max_num_iterations": "10"})
    assert method.get_info()["num_iterations"] == 10
    rates = [method.train_iteration(step)["learning_rate"] for step in range(10)]
    assert rates[0] == rates[1] == pytest.approx(3e-2)
    assert rates[-1] == pytest.approx(0.3 * 3e-2)  # instant-hash-lite: to 30 % for the table
    with pytest.raises(ValueError, match="Step 3 does not follow 10 steps"):
        method.train_iteration(3)


def test_pictures_have_the_background_and_the_unit_of_the_data(load: Callable[..., Any], tmp_path: Path) -> None:
    """A scene that is turned and scaled (no Blender scene by name), behind it a colour that is neither white nor black."""
    data, held_out = load("train", None), load("test", None)
    grey = np.array([51, 102, 153], dtype=np.uint8)
    data["metadata"]["background_color"] = grey
    data["cameras"].poses[..., 3] *= 10.0  # the unit is a tenth
    held_out["cameras"].poses[..., 3] *= 10.0
    more = {"pipeline.model.sample_budget": 16384, "pipeline.model.log2_hashmap_size": 14, "max_num_iterations": 200}
    method = train(data, 200, **more)
    assert method.placement.scale != 1.0
    found = picture(method, held_out)
    assert {name: x.shape for name, x in found.items()} == {"color": (48, 48, 3), "depth": (48, 48), "accumulation": (48, 48)}
    assert {x.dtype for x in found.values()} == {np.dtype(np.float32)}
    assert found["color"].min() >= 0.0
    assert found["color"].max() <= 1.0
    through = 1.0 - found["accumulation"][..., None]
    of_its_own = found["color"] - through * (grey / 255.0)
    assert of_its_own.min() > -1e-5
    assert (of_its_own + through).max() < 1.0 + 1e-5
    corner, middle = (0, 0), (24, 24)
    assert through[corner] > 0.8
    assert through[middle] < 0.05
    # cameras stand 40 from the middle of a ball of radius 8
    assert found["depth"][middle] == pytest.approx(32.0, abs=2.0)
    method.save(str(tmp_path))
    assert same(picture(InstantHash(checkpoint=str(tmp_path)), held_out), found)


def test_what_it_says_of_itself(load: Callable[..., Any], tmp_path: Path) -> None:
    method = train(load("train"), 1, **{"optimizers.encoding.optimizer.lr": "1e-2", "pipeline.model.mark_unseen": "false"})
    info = method.get_info()
    assert info["loaded_step"] is info["loaded_checkpoint"] is None
    assert info["can_resume_training"]
    assert info["supported_outputs"] == ("color", "depth", "accumulation")
    assert info["batch_size"] > 0
    assert info["hparams"]["method"] == "instant-hash-lite"
    assert info["hparams"]["pipeline.model.kernels"].startswith("cpu-float32: numba on ")
    assert info["hparams"]["pipeline.model.log2_hashmap_size"] == 12
    assert info["hparams"]["optimizers.encoding.optimizer.lr"] == 0.01
    assert info["hparams"]["pipeline.model.mark_unseen"] is False
    assert "pipeline.model.collider_params" not in info["hparams"]  # does nothing here
    json.dumps(info["hparams"])


def test_masked_pixels_are_not_trained_on(load: Callable[..., Any]) -> None:
    data = load("train")
    masks = [np.zeros((48, 48), dtype=bool) for _ in data["images"]]
    for mask in masks[1:]:
        mask[:, :24] = True
    data["masks"] = masks
    method = InstantHash(train_dataset=data, config_overrides=SMALL)
    indices = torch.cat([method._trainer.pipeline.datamanager.next_train(0)[1]["indices"] for _ in range(20)])
    assert bool((indices[:, 2] < 24).all())
    assert set(indices[:, 0].tolist()) == set(range(1, 12))
