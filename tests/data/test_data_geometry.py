"""Where the unit cube is put, how far the scene reaches and where rays begin."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.geometry import FOCUS_DISTANCE, geometry_for, geometry_from_sight, next_power_of_two
from ngp_method.data.sight import Sight, focus_of, sight_of, stand_together
from ngp_method.kernels.scene import SceneGeometry
from support import scenes


def sight(poses: np.ndarray, fov: float = 0.7, points: np.ndarray | None = None, transparent: bool = False) -> Sight:
    rows = torch.from_numpy(poses).double()
    cloud = None if points is None else torch.from_numpy(points)
    tan_half = torch.full((len(rows),), math.tan(0.5 * fov), dtype=torch.float64)
    return Sight(rows[:, :3, 3], -rows[:, :3, 2], tan_half, cloud, transparent)


def moved(seen: Sight, by: tuple[float, float, float], scale: float) -> Sight:
    shift = torch.tensor(by, dtype=torch.float64)
    points = None if seen.points is None else seen.points * scale + shift
    return dataclasses.replace(seen, origins=seen.origins * scale + shift, points=points)


def outward(count: int) -> np.ndarray:
    """Cameras on a small circle that look away from its centre."""
    poses = scenes.orbit(count, radius=0.5)
    for pose in poses:
        pose[:3, :4] = scenes.look_at(pose[:3, 3], 5.0 * pose[:3, 3])[:3]
    return poses


def facing(count: int) -> np.ndarray:
    """Cameras side by side that look one way."""
    rng = np.random.default_rng(0)
    offsets = rng.uniform(-0.5, 0.5, size=(count, 3)) * np.array([1.0, 0.1, 1.0])
    return np.stack([scenes.look_at(o, o + np.array([0.0, 10.0, 0.0])) for o in offsets])


def test_focus() -> None:
    found = focus_of(moved(sight(scenes.orbit(20)), (1.0, 2.0, 3.0), 1.0))
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert focus_of(sight(outward(20))) is None
    assert focus_of(sight(facing(20))) is None


def test_one_camera_that_looks_away_does_not_move_the_focus() -> None:
    seen = sight(scenes.orbit(20))
    turned = dataclasses.replace(seen, directions=seen.directions.clone())
    turned.directions[3] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    found = focus_of(turned)
    assert found is not None
    assert float(found.norm()) < 1e-6
    half = dataclasses.replace(seen, directions=seen.directions.clone())
    half.directions[::2] *= -1.0  # not a stray: no focus that the others could have
    assert focus_of(half) is None


def test_which_cameras_stand_apart() -> None:
    line = torch.linspace(0.0, 1.0, 40, dtype=torch.float64)[:, None] * torch.tensor([[5.0, 3.0, 0.0]], dtype=torch.float64)
    assert bool(stand_together(line).all())  # a drive along a street
    rng = np.random.default_rng(0)
    cloud = torch.from_numpy(rng.normal(size=(40, 3)))
    assert bool(stand_together(cloud).all())
    for unit in (1e-6, 1.0, 1e6):
        far = cloud.clone()
        far[7] *= 1000.0
        assert (~stand_together(far * unit)).nonzero()[:, 0].tolist() == [7]
    far = cloud.clone()
    far[::4] += 1000.0  # a second part of the scene
    assert bool(stand_together(far).all())
    assert bool(stand_together(torch.zeros(6, 3)).all())
    assert bool(stand_together(torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1000.0, 0, 0]])).all())  # three tell nothing


def test_object_cut_out_is_one_unit_cube_as_large_as_what_is_seen() -> None:
    """With NeRF's synthetic cameras it is nearly nerfstudio's box of 3.0 for them."""
    geometry = geometry_from_sight(sight(scenes.orbit(50, radius=4.03), fov=scenes.FOV, transparent=True))
    assert geometry.aabb_scale == 1
    assert geometry.near == 0.0
    assert geometry.unit_size == pytest.approx(3.0, rel=0.05)


def test_scene_around_a_focus() -> None:
    geometry = geometry_from_sight(sight(scenes.orbit(50)))
    assert geometry.aabb_scale == 16
    assert geometry.unit_size == pytest.approx(scenes.RADIUS / FOCUS_DISTANCE)
    assert geometry.near == pytest.approx(0.1 * geometry.unit_size)
    assert geometry.center == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("seen", [sight(scenes.orbit(30)), sight(outward(30)), sight(facing(30))])
def test_geometry_moves_and_grows_with_the_scene(seen: Sight) -> None:
    points = scenes.surface_points(500, room=True)
    for cloud in (None, torch.from_numpy(points)):
        here = geometry_from_sight(dataclasses.replace(seen, points=cloud))
        there = geometry_from_sight(moved(dataclasses.replace(seen, points=cloud), (3.0, -2.0, 1.0), 7.0))
        assert there.unit_size == pytest.approx(7.0 * here.unit_size)
        assert there.near == pytest.approx(7.0 * here.near)
        assert there.aabb_scale == here.aabb_scale
        shifted = [7.0 * c + s for c, s in zip(here.center, (3.0, -2.0, 1.0), strict=True)]
        assert there.center == pytest.approx(shifted, abs=1e-6)


def test_points_say_how_far_the_scene_reaches() -> None:
    seen = sight(scenes.orbit(50))
    unit = scenes.RADIUS / FOCUS_DISTANCE
    near = geometry_from_sight(dataclasses.replace(seen, points=torch.from_numpy(scenes.surface_points(900, False))))
    wide = geometry_from_sight(dataclasses.replace(seen, points=torch.from_numpy(scenes.surface_points(900, True))))
    assert near.aabb_scale == next_power_of_two(2 * scenes.RADIUS / unit)  # at least the cameras are in it
    assert wide.box_size > 2 * scenes.ROOM_RADIUS * 0.98
    assert near.aabb_scale <= wide.aabb_scale < 16
    stray = scenes.surface_points(900, True)
    stray[:9] *= 1000.0  # one in a hundred far out changes nothing
    assert geometry_from_sight(dataclasses.replace(seen, points=torch.from_numpy(stray))).aabb_scale == wide.aabb_scale
    far = geometry_from_sight(dataclasses.replace(seen, points=torch.from_numpy(50.0 * scenes.surface_points(900, True))))
    assert far.aabb_scale == 16


def test_cameras_that_look_outward_stand_in_the_unit_cube() -> None:
    seen = sight(outward(40))
    geometry = geometry_from_sight(seen)
    low, high = geometry.unit_aabb.double()
    assert bool(((seen.origins >= low - 1e-6) & (seen.origins <= high + 1e-6)).all())
    assert geometry.near == pytest.approx(0.05 * geometry.unit_size)
    room = torch.from_numpy(scenes.surface_points(900, True))
    with_points = geometry_from_sight(dataclasses.replace(seen, points=room))
    assert with_points.box_size >= 2 * scenes.ROOM_RADIUS * 0.98
    still = sight(np.repeat(outward(1), 5, axis=0))  # all from one spot: no length to go by
    assert geometry_from_sight(still).unit_size == 1.0


def test_next_power_of_two() -> None:
    assert [next_power_of_two(v) for v in (0.1, 1.0, 1.1, 2.0, 3.0, 4.0, 4.00001, 900.0)] == [1, 1, 2, 2, 4, 4, 8, 128]


def test_transparent_nerfstudio_scene_is_an_object(tmp_path: Path) -> None:
    scenes.write_nerfstudio(tmp_path / "cut", count=12, room=False)
    scenes.write_nerfstudio(tmp_path / "room", count=12, room=True)
    cut = AutoDataParserConfig(data=tmp_path / "cut").setup().get_dataparser_outputs()
    room = AutoDataParserConfig(data=tmp_path / "room").setup().get_dataparser_outputs()
    assert cut.metadata["geometry"].aabb_scale == 1
    assert room.metadata["geometry"].aabb_scale == 16
    # every sphere lies in the one unit cube
    for center, radius, _ in scenes.SPHERES:
        world = cut.dataparser_scale * (
            cut.dataparser_transform[:, :3] @ torch.tensor(center).double() + cut.dataparser_transform[:, 3]
        )
        low, high = cut.metadata["geometry"].aabb
        assert bool((world - radius * cut.dataparser_scale > low).all())
        assert bool((world + radius * cut.dataparser_scale < high).all())


def test_geometry_of_other_parsers(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path / "n", count=9, aabb_scale=4)
    config = InstantNGPDataParserConfig(data=tmp_path / "n")
    geometry = geometry_for(config.setup().get_dataparser_outputs(), config)
    assert (geometry.unit_size, geometry.aabb_scale, geometry.near) == (1.0, 4, pytest.approx(0.1))
    scenes.write_blender(tmp_path / "b", train=4)
    blender = BlenderDataParserConfig(data=tmp_path / "b")
    geometry = geometry_for(blender.setup().get_dataparser_outputs(), blender)
    assert (geometry.unit_size, geometry.aabb_scale, geometry.near) == (3.0, 1, 0.0)
    scenes.write_nerfstudio(tmp_path / "s", count=9)
    for scale in (1.0, 2.0):
        theirs = NerfstudioDataParserConfig(data=tmp_path / "s", scene_scale=scale)
        outputs = theirs.setup().get_dataparser_outputs()
        geometry = geometry_for(outputs, theirs)
        expected = geometry_from_sight(sight_of(outputs.cameras, None, False))
        assert geometry.unit_size == pytest.approx(scale * expected.unit_size)
    known = SceneGeometry((1.0, 2.0, 3.0), 2.0, 2, 0.1)
    outputs.metadata = {"geometry": known}
    assert geometry_for(outputs, theirs) is known


def test_blender_layout_of_a_real_scene(tmp_path: Path) -> None:
    """Opaque pictures taken from inside the synthetic scenes' box: the box cannot be the scene."""
    scenes.write_blender(tmp_path, train=8, val=0, test=0)
    meta = json.loads((tmp_path / "transforms_train.json").read_text())
    for frame in meta["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 0.25
        path = tmp_path / (frame["file_path"] + ".png")
        Image.open(path).convert("RGB").save(path)
    (tmp_path / "transforms_train.json").write_text(json.dumps(meta))
    outputs = AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs()
    geometry = outputs.metadata["geometry"]
    assert geometry.aabb_scale == 16
    assert geometry.unit_size / outputs.dataparser_scale == pytest.approx(1.0 / FOCUS_DISTANCE, rel=1e-4)
    config = AutoDataParserConfig(data=tmp_path, aabb_scale=4)
    assert config.setup().get_dataparser_outputs().metadata["geometry"].aabb_scale == 4
