"""The benchmark scenes, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.checks import check_data
from ngp_method.data.manager import InstantHashDataManagerConfig
from ngp_method.data.messages import forget_said

pytestmark = pytest.mark.data


def test_fox(find_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = find_data("fox")
    forget_said()
    config = AutoDataParserConfig(data=folder)
    check_data(config)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines == [
        f"data: instant-ngp (transforms.json has aabb_scale) in {folder}",
        f"17 of 67 frames listed in {folder / 'transforms.json'} have no image; training on the other 50.",
    ]
    outputs = config.setup().get_dataparser_outputs("train")
    held_out = config.setup().get_dataparser_outputs("val")
    assert (len(outputs.image_filenames), len(held_out.image_filenames)) == (43, 7)
    cameras = outputs.cameras
    assert float(cameras.fx[0]) == pytest.approx(1375.52)
    assert float(cameras.fy[0]) == pytest.approx(1374.49)
    assert cameras.distortion_params is not None
    geometry = outputs.metadata["geometry"]
    assert (geometry.unit_size, geometry.aabb_scale, geometry.near) == (1.0, 4, pytest.approx(0.1))


def test_fox_batches(find_data: Callable[[str], Path]) -> None:
    config = InstantHashDataManagerConfig(data=find_data("fox"), camera_res_scale_factor=0.125)
    data = config.setup(device="cpu", test_mode="val")
    rays, batch = data.next_train(0)
    cameras = data.train_dataset.cameras
    assert (int(cameras.width[0]), int(cameras.height[0])) == (135, 240)
    theirs = cameras.generate_rays(batch["indices"][:, :1], batch["indices"][:, 1:].float() + 0.5)
    torch.testing.assert_close(rays.directions, theirs.directions, rtol=0, atol=1e-6)
    assert data.train_ray_generator.way == "table"
    assert data.train_dataset.metadata["train_cameras"] is cameras


def test_lego(find_data: Callable[[str], Path]) -> None:
    config = AutoDataParserConfig(data=find_data("lego"))
    check_data(config)
    counts = {s: len(config.setup().get_dataparser_outputs(s).image_filenames) for s in ("train", "val", "test")}
    assert counts == {"train": 100, "val": 10, "test": 25}
    outputs = config.setup().get_dataparser_outputs("train")
    assert int(outputs.cameras.width[0]) == 400
    assert (outputs.metadata["geometry"].unit_size, outputs.metadata["geometry"].aabb_scale) == (pytest.approx(3.0), 1)


def test_liptonbox(find_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = find_data("liptonbox")
    forget_said()
    config = AutoDataParserConfig(data=folder)
    check_data(config)
    assert capsys.readouterr().out.strip() == f"data: nerfstudio (transforms.json has camera_model) in {folder}"
    outputs = config.setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 56
    geometry = outputs.metadata["geometry"]
    assert geometry.aabb_scale == 16  # a room whose walls the cameras do not tell of
    low, high = geometry.aabb
    origins = outputs.cameras.camera_to_worlds[:, :, 3]
    assert bool(((origins > low) & (origins < high)).all())
