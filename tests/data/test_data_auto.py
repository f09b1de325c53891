"""The data parser: formats recognised, splits, cameras proved by casting the scene again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig, auto_data
from ngp_method.data.messages import forget_said
from ngp_method.errors import UserError
from support import scenes


def parse(folder: Path, split: str = "train", **options: Any) -> DataparserOutputs:
    return AutoDataParserConfig(data=folder, **options).setup().get_dataparser_outputs(split=split)


def edit(folder: Path, name: str = "transforms.json", **keys: Any) -> None:
    path = folder / name
    meta = json.loads(path.read_text())
    meta.update(keys)
    path.write_text(json.dumps(meta))


def recast_error(outputs: DataparserOutputs, room: bool) -> float:
    """Mean absolute colour difference between the images and the scene cast along the parser's own rays.

    The rays are brought back to the file's frame by the parser's transform and scale, so that a mistake in poses,
    intrinsics, transform or scale shows as a wrong picture.
    """
    errors = []
    full = torch.eye(4)
    full[:3] = outputs.dataparser_transform
    back = torch.linalg.inv(full).double().numpy()
    for i in range(0, len(outputs.image_filenames), 5):
        image = np.asarray(Image.open(outputs.image_filenames[i]).convert("RGBA")) / 255.0
        height, width = image.shape[:2]
        # the four rays of each pixel that the picture was made of
        edge = [(torch.arange(2 * n) + 0.5) / 2.0 for n in (height, width)]
        coords = torch.stack(torch.meshgrid(*edge, indexing="ij"), dim=-1).reshape(-1, 2)
        rays = outputs.cameras.generate_rays(torch.full((len(coords), 1), i), coords)
        origins = rays.origins.double().numpy() / outputs.dataparser_scale
        origins = (origins - full[:3, 3].double().numpy()) @ back[:3, :3].T
        directions = rays.directions.double().numpy() @ back[:3, :3].T
        color, alpha = scenes.shade(origins, directions, room)
        if not room:
            image[..., :3] *= image[..., 3:]
            color = color * alpha[:, None]
        color = color.reshape(height, 2, width, 2, 3).mean((1, 3))
        errors.append(np.abs(image[..., :3] - color).mean())
    return float(np.mean(errors))


RECAST = 0.004
"""Colours are kept in 256 steps; a pixel's shift of the picture gives 0.02 (asserted below)."""


def test_recast_sees_a_shift_of_one_pixel(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=8)
    assert recast_error(parse(tmp_path), room=True) < RECAST
    meta = json.loads((tmp_path / "transforms.json").read_text())
    edit(tmp_path, cx=meta["cx"] + 1.0)
    assert recast_error(parse(tmp_path), room=True) > 5 * RECAST


@pytest.mark.parametrize(
    ("keys", "scale", "offset"),
    [
        ({}, 0.33, (0.5, 0.5, 0.5)),
        ({"scale": 0.2, "offset": [0.4, 0.5, 0.7]}, 0.2, (0.4, 0.5, 0.7)),
        ({"offset": 0.6}, 0.33, (0.6, 0.6, 0.6)),
        ({"aabb": [[-2.0, -2.0, -2.0], [2.0, 3.0, 2.0]]}, 0.2, (0.5, 0.4, 0.5)),
    ],
)
def test_instant_ngp_frame(tmp_path: Path, keys: dict[str, Any], scale: float, offset: tuple[float, ...]) -> None:
    scenes.write_ngp(tmp_path, count=8, aabb_scale=16, stretch=1.25, **keys)
    outputs = parse(tmp_path, eval_mode="all")
    expected = scenes.orbit(8)[:, :3, 3] * scale + np.array(offset) - 0.5
    np.testing.assert_allclose(outputs.cameras.camera_to_worlds[:, :, 3].numpy(), expected, atol=1e-6)
    geometry = outputs.metadata["geometry"]
    assert (geometry.center, geometry.unit_size, geometry.aabb_scale) == ((0.0, 0.0, 0.0), 1.0, 16)
    torch.testing.assert_close(outputs.scene_box.aabb, geometry.aabb)
    assert geometry.near == pytest.approx(0.1)
    assert recast_error(outputs, room=True) < RECAST


def test_instant_ngp_defaults_to_one_unit_cube_and_angles_of_view(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=6, aabb_scale=None, room=False)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    angle = {"camera_angle_x": 2 * np.arctan(0.5 * meta["w"] / meta["fl_x"])}
    angle["y_fov"] = float(np.degrees(2 * np.arctan(0.5 * meta["h"] / meta["fl_y"])))
    for key in ("fl_x", "fl_y", "w", "h"):
        meta.pop(key)
    (tmp_path / "transforms.json").write_text(json.dumps({**meta, **angle}))
    outputs = parse(tmp_path, eval_mode="all")
    assert outputs.metadata["geometry"].aabb_scale == 1
    assert outputs.metadata["geometry"].near == 0.0  # all cameras stand outside the unit cube
    assert recast_error(outputs, room=False) < RECAST


def test_frames_have_lenses_sizes_and_endings_of_their_own(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=6)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    for i, frame in enumerate(meta["frames"]):
        size, lens = (40 + 4 * i, 36), scenes.intrinsics((40 + 4 * i, 36), 1.0 + 0.1 * i)
        picture = scenes.ray_cast(
            np.array(frame["transform_matrix"]), size, (lens["fl_x"], lens["fl_y"]), (lens["cx"], lens["cy"]), room=True
        )
        Image.fromarray(picture).save(tmp_path / frame["file_path"])
        frame.update(lens)
        frame["file_path"] = ".\\" + frame["file_path"].removesuffix(".png").replace("/", "\\")
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    outputs = parse(tmp_path, eval_mode="all")
    assert outputs.cameras.width[:, 0].tolist() == [40, 44, 48, 52, 56, 60]
    assert outputs.cameras.fy[2, 0] / outputs.cameras.fx[2, 0] == pytest.approx(1.2)
    assert recast_error(outputs, room=True) < RECAST


def test_distortion_and_fisheye_keys(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4, k1=0.05, k2=-0.01, p1=0.001, p2=-0.002)
    cameras = parse(tmp_path, eval_mode="all").cameras
    assert cameras.distortion_params is not None
    torch.testing.assert_close(cameras.distortion_params[0], torch.tensor([0.05, -0.01, 0.0, 0.0, 0.001, -0.002]))
    edit(tmp_path, is_fisheye=True, k3=0.3, k4=0.4)
    cameras = parse(tmp_path, eval_mode="all").cameras
    assert cameras.camera_type.unique().tolist() == [2]
    assert cameras.distortion_params is not None
    assert cameras.distortion_params[0, 2:4].tolist() == pytest.approx([0.3, 0.4])


def test_instant_ngp_agrees_with_nerfstudio_where_that_is_right(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=9, stretch=1.25, scale=0.3333)
    ours = parse(tmp_path, eval_mode="interval")
    theirs = InstantNGPDataParserConfig(data=tmp_path, eval_mode="interval").setup().get_dataparser_outputs("train")
    assert ours.image_filenames == theirs.image_filenames
    torch.testing.assert_close(ours.cameras.camera_to_worlds, theirs.cameras.camera_to_worlds)
    torch.testing.assert_close(ours.cameras.fx, theirs.cameras.fx)
    torch.testing.assert_close(ours.cameras.cx, theirs.cameras.cx)
    assert float(ours.cameras.fy[0]) == pytest.approx(1.25 * float(theirs.cameras.fy[0]))  # its fl_y is fl_x


def test_several_instant_ngp_files_are_one_scene(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=6)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    frames = meta.pop("frames")
    for part in (0, 1):
        keys = {**meta, "fl_x": 43.2 + part, "frames": frames[3 * part : 3 * part + 3]}
        (tmp_path / f"transforms_{part}.json").write_text(json.dumps(keys))
    (tmp_path / "transforms.json").unlink()
    cameras = parse(tmp_path, eval_mode="all").cameras
    assert cameras.fx[:, 0].tolist() == pytest.approx([43.2] * 3 + [44.2] * 3)


def test_blender_agrees_with_nerfstudio(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path, train=6, val=2, test=3)
    for split in ("train", "val", "test"):
        ours = parse(tmp_path, split)
        theirs = BlenderDataParserConfig(data=tmp_path).setup().get_dataparser_outputs(split)
        assert ours.image_filenames == theirs.image_filenames
        torch.testing.assert_close(ours.cameras.camera_to_worlds, theirs.cameras.camera_to_worlds)
        for name in ("fx", "fy", "cx", "cy"):
            wanted = getattr(theirs.cameras, name).float()
            torch.testing.assert_close(getattr(ours.cameras, name), wanted, rtol=1e-6, atol=0)
        assert torch.equal(ours.cameras.width, theirs.cameras.width)
        torch.testing.assert_close(ours.scene_box.aabb, theirs.scene_box.aabb)
        assert ours.alpha_color is None
    geometry = parse(tmp_path).metadata["geometry"]
    assert (geometry.unit_size, geometry.aabb_scale, geometry.near) == (pytest.approx(3.0), 1, 0.0)
    assert recast_error(parse(tmp_path), room=False) < RECAST


def test_blender_splits_stand_in_for_each_other(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path, train=10, val=2, test=0)
    assert parse(tmp_path, "test").image_filenames == parse(tmp_path, "val").image_filenames
    (tmp_path / "transforms_val.json").unlink()
    assert len(parse(tmp_path, "train").image_filenames) == 8
    assert len(parse(tmp_path, "test").image_filenames) == 2  # every 8th of the training views
    edit(tmp_path, "transforms_train.json", aabb_scale=4, scale=0.25)
    outputs = parse(tmp_path)
    geometry = outputs.metadata["geometry"]
    assert (geometry.unit_size / outputs.dataparser_scale, geometry.aabb_scale) == (4.0, 4)


def test_nerfstudio_agrees_with_its_own_parser(tmp_path: Path) -> None:
    applied = [[1.0, 0.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]]
    scenes.write_nerfstudio(tmp_path, count=11, applied_transform=applied, k1=0.02)
    for split in ("train", "val"):
        ours = parse(tmp_path, split)
        config = NerfstudioDataParserConfig(data=tmp_path, eval_mode="interval", downscale_factor=1)
        theirs = config.setup().get_dataparser_outputs(split)
        assert ours.image_filenames == theirs.image_filenames
        torch.testing.assert_close(ours.cameras.camera_to_worlds, theirs.cameras.camera_to_worlds)
        for name in ("fx", "fy", "cx", "cy", "width", "height", "distortion_params"):
            torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name))
        torch.testing.assert_close(ours.dataparser_transform.float(), theirs.dataparser_transform)
        assert ours.dataparser_scale == pytest.approx(theirs.dataparser_scale)
    edit(tmp_path, applied_transform=np.eye(4)[:3].tolist(), k1=0.0)
    assert recast_error(parse(tmp_path), room=True) < RECAST


def test_nerfstudio_names_its_splits(tmp_path: Path) -> None:
    names = [f"images/{i:04d}.png" for i in range(8)]
    scenes.write_nerfstudio(tmp_path, count=8, train_filenames=names[2:], test_filenames=names[:2])
    assert [p.name for p in parse(tmp_path, "test").image_filenames] == ["0000.png", "0001.png"]
    assert parse(tmp_path, "val").image_filenames == parse(tmp_path, "test").image_filenames
    assert len(parse(tmp_path, "train").image_filenames) == 6


@pytest.mark.parametrize(("binary", "model"), [(True, "sparse/0"), (False, "sparse"), (True, "colmap/sparse/0")])
def test_colmap_agrees_with_nerfstudio(tmp_path: Path, binary: bool, model: str) -> None:
    scenes.write_colmap(tmp_path, count=10, binary=binary, model=model)
    for split in ("train", "test"):
        ours = parse(tmp_path, split)
        config = ColmapDataParserConfig(data=tmp_path, colmap_path=Path(model), downscale_factor=1)
        theirs = config.setup().get_dataparser_outputs(split)
        assert ours.image_filenames == theirs.image_filenames
        torch.testing.assert_close(ours.cameras.camera_to_worlds, theirs.cameras.camera_to_worlds)
        for name in ("fx", "fy", "cx", "cy", "width", "height"):
            torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name))
        torch.testing.assert_close(ours.dataparser_transform.float(), theirs.dataparser_transform)
    # the picture says the same, in COLMAP's own world
    full = torch.eye(4)
    full[:3, :3] = torch.from_numpy(scenes.COLMAP_AXES).float().T
    ours.dataparser_transform = (_square(ours.dataparser_transform) @ full)[:3]
    assert recast_error(ours, room=True) < RECAST


def _square(transform: torch.Tensor) -> torch.Tensor:
    out = torch.eye(4)
    out[:3] = transform
    return out


@pytest.mark.parametrize("writer", [scenes.write_ngp, scenes.write_nerfstudio, scenes.write_colmap])
def test_missing_frames_are_left_out_with_one_line(tmp_path: Path, writer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    writer(tmp_path, count=10)
    for name in ("0003.png", "0007.png"):
        (tmp_path / "images" / name).unlink()
    forget_said()
    assert len(parse(tmp_path, "train").image_filenames) + len(parse(tmp_path, "val").image_filenames) == 8
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2  # the format, and this; for both splits together
    assert lines[1].startswith("2 of 10 frames listed in ")
    assert lines[1].endswith("have no image; training on the other 8.")


@pytest.mark.parametrize(
    ("write", "kind", "why"),
    [
        (scenes.write_ngp, "instant-ngp", "aabb_scale"),
        (scenes.write_blender, "blender", "transforms_train.json"),
        (scenes.write_nerfstudio, "nerfstudio", "camera_model"),
        (scenes.write_colmap, "colmap", "sparse/0"),
    ],
)
def test_one_line_says_which_format_and_why(
    tmp_path: Path, write: Any, kind: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 4)
    forget_said()
    for split in ("train", "test"):
        parse(tmp_path, split)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"data: {kind} (")
    assert why in lines[0]


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path / "b", train=4, val=0, test=2)
    assert len(parse(tmp_path / "b" / "transforms_test.json", "train").image_filenames) == 4
    scenes.write_ngp(tmp_path / "n", count=4)
    (tmp_path / "n" / "transforms.json").rename(tmp_path / "n" / "mine.json")
    assert len(parse(tmp_path / "n" / "mine.json", "train").image_filenames) == 3


def test_splits(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=17)
    names = {s: [p.stem for p in parse(tmp_path, s).image_filenames] for s in ("train", "val", "test")}
    assert names["val"] == names["test"] == ["0000", "0008", "0016"]
    assert len(names["train"]) == 14
    assert set(names["train"]).isdisjoint(names["val"])
    assert [p.stem for p in parse(tmp_path, "val", eval_interval=10).image_filenames] == ["0000", "0010"]
    assert len(parse(tmp_path, "train", eval_mode="all").image_filenames) == 17
    assert len(parse(tmp_path, "val", eval_mode="fraction").image_filenames) == 1
    with pytest.raises(UserError, match="neither train nor eval"):
        parse(tmp_path, eval_mode="filename")
    poses = {s: parse(tmp_path, s).metadata["geometry"] for s in ("train", "val")}
    assert poses["train"] == poses["val"]


def test_downscaling_keeps_cameras_and_pictures_together(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4, size=(50, 41))
    full, half = parse(tmp_path).cameras, parse(tmp_path, downscale_factor=2).cameras
    assert (int(half.width[0]), int(half.height[0])) == (25, 20)
    assert float(half.fx[0]) == pytest.approx(float(full.fx[0]) * 25 / 50)
    assert float(half.cy[0]) == pytest.approx(float(full.cy[0]) * 20 / 41)  # 41 does not divide evenly
    with pytest.raises(UserError, match="downscale-factor"):
        parse(tmp_path, downscale_factor=0)


def test_inference_keeps_the_cameras_that_were_trained_with(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4)
    parser = AutoDataParserConfig(data=tmp_path, downscale_factor=2).setup()
    parser.downscale_factor = 1  # what nerfstudio's data manager does
    assert int(parser.get_dataparser_outputs("train").cameras.width[0]) == 24


def test_overrides(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path / "n", count=6)
    geometry = parse(tmp_path / "n", scale=0.1, aabb_scale=2, near=0.3).metadata["geometry"]
    assert (geometry.aabb_scale, geometry.near) == (2, pytest.approx(0.3))
    assert float(parse(tmp_path / "n", scale=0.1).cameras.camera_to_worlds[0, :, 3].norm()) == pytest.approx(0.4)
    scenes.write_blender(tmp_path / "b", train=4)
    assert parse(tmp_path / "b", scale=0.5, aabb_scale=8).metadata["geometry"].box_size == pytest.approx(16.0)
    scenes.write_nerfstudio(tmp_path / "s", count=6)
    outputs = parse(tmp_path / "s", scale=0.5, aabb_scale=4)
    assert outputs.metadata["geometry"].unit_size == pytest.approx(2.0 * outputs.dataparser_scale)
    for bad in (3, 256, 0):
        with pytest.raises(UserError, match="power of two"):
            parse(tmp_path / "n", aabb_scale=bad)


def test_config_survives_yaml() -> None:
    config = AutoDataParserConfig(data=Path("somewhere"), aabb_scale=4, downscale_factor=2.0)
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config
    assert isinstance(auto_data.config, AutoDataParserConfig)


def test_module_is_light_to_import() -> None:
    """nerfstudio loads it while its data managers are half imported; with them it would be a circular import."""
    heavy = ("nerfstudio.data.datamanagers", "nerfstudio.engine", "nerfstudio.models", "nerfstudio.pipelines", "numba")
    code = f"import sys, ngp_method.data.auto\nprint([m for m in sys.modules if m.startswith({heavy!r})])\n"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
