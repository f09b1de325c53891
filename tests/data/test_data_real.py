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
    assert capsys.readouterr().out.strip().splitlines() == [
        f"{folder} holds poses more than once; transforms.json is taken, not used: poses_bounds.npy.",
        f"data: nerfstudio (transforms.json has camera_model) in {folder}",
    ]
    outputs = config.setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 56
    geometry = outputs.metadata["geometry"]
    assert geometry.aabb_scale == 16  # a room whose walls the cameras do not tell of
    low, high = geometry.aabb
    origins = outputs.cameras.camera_to_worlds[:, :, 3]
    assert bool(((origins > low) & (origins < high)).all())


def test_liptonbox_by_its_poses_bounds(find_data: Callable[[str], Path]) -> None:
    """Both files are of one reconstruction: cameras agree up to a similarity transform, which is taken out here."""
    folder = find_data("liptonbox")
    ours, theirs = (
        AutoDataParserConfig(data=data, eval_mode="all").setup().get_dataparser_outputs("train")
        for data in (folder / "poses_bounds.npy", folder)
    )
    names = [path.name for path in ours.image_filenames]
    order = [[path.name for path in theirs.image_filenames].index(name) for name in names]
    assert len(names) == 64
    first, second = ours.cameras.camera_to_worlds.double(), theirs.cameras.camera_to_worlds.double()[order]
    between = [poses[0, :, :3].T @ poses[:, :, :3] for poses in (first, second)]  # rotations from the first camera to each
    torch.testing.assert_close(*between, rtol=0, atol=1e-5)
    steps = [poses[:, :, 3] - poses[0, :, 3] for poses in (first, second)]
    local = [step @ poses[0, :, :3] for step, poses in zip(steps, (first, second))]
    torch.testing.assert_close(*(step / step.norm(dim=-1).max() for step in local), rtol=0, atol=1e-5)
    for name in ("fx", "fy", "cx", "cy", "width", "height"):
        torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name)[order], rtol=1e-6, atol=0)
    box, other = ours.metadata["geometry"], theirs.metadata["geometry"]
    assert (box.aabb_scale, box.reason) == (other.aabb_scale, other.reason)
    assert box.unit_size == pytest.approx(other.unit_size, rel=1e-3)
