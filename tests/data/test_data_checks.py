"""Bad input: one sentence that names the file and how to mend it, exit code 1, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.checks import check_data, sees_box
from ngp_method.data.manager import InstantHashDataManagerConfig
from ngp_method.errors import UserError
from support import scenes


def sentence_for(folder: Path, **options: Any) -> str:
    """What the check says, which must be one line, in a SystemExit whose code is that line."""
    with pytest.raises(UserError) as caught:
        check_data(AutoDataParserConfig(data=folder, **options))
    assert isinstance(caught.value, SystemExit)
    said = str(caught.value.code)
    assert "\n" not in said
    assert said.endswith((".", ")"))
    return said


def meta_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "transforms.json").read_text())


def put(folder: Path, meta: dict[str, Any]) -> None:
    (folder / "transforms.json").write_text(json.dumps(meta))


@pytest.fixture(params=["instant-ngp", "nerfstudio"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write = scenes.write_ngp if request.param == "instant-ngp" else scenes.write_nerfstudio
    return write(tmp_path, count=5)


def test_good_scenes_pass(tmp_path: Path) -> None:
    for name, write in (
        ("n", scenes.write_ngp),
        ("b", scenes.write_blender),
        ("s", scenes.write_nerfstudio),
        ("c", scenes.write_colmap),
    ):
        check_data(AutoDataParserConfig(data=write(tmp_path / name, 5)))
        check_data(AutoDataParserConfig(data=tmp_path / name, downscale_factor=3))


def test_no_such_folder(tmp_path: Path) -> None:
    said = sentence_for(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in said
    assert "--data" in said


def test_nothing_to_read_in_the_folder(tmp_path: Path) -> None:
    assert "holds no transforms.json" in sentence_for(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "neither a folder nor a .json file" in sentence_for(tmp_path / "notes.txt")


def test_broken_json(scene: Path) -> None:
    path = scene / "transforms.json"
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace(":", "")
    path.write_text("\n".join(lines))
    said = sentence_for(scene)
    assert str(path) in said
    assert "line 5" in said
    path.write_text("[1, 2]")
    assert "no JSON object" in sentence_for(scene)
    path.write_text('{"fl_x": 3, "frames": []}')
    assert "lists no frames" in sentence_for(scene)
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in sentence_for(scene)


def with_matrix(change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        meta = meta_of(folder)
        meta["frames"][2]["transform_matrix"] = change(np.array(meta["frames"][2]["transform_matrix"]))
        put(folder, meta)

    return edit


def _set(matrix: np.ndarray, key: Any, value: float) -> list[Any]:
    matrix[key] = value
    return matrix.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:2].tolist(), "shape [2, 4]"),
        (lambda m: "identity", "no matrix of numbers"),
        (lambda m: _set(m, (0, 3), float("nan")), "NaN"),
        (lambda m: _set(m, (1, 1), float("inf")), "infinity"),
        (lambda m: _set(m, (slice(0, 3), 0), 0.0), "singular"),
        (lambda m: (m @ np.diag([1, 1, -1, 1])).tolist(), "mirrored"),
        (lambda m: (m @ np.diag([1, 1.2, 1, 1])).tolist(), "not a rotation"),
        (lambda m: _set(m, (3, 3), 2.0), "last row"),
    ],
)
def test_matrix_that_is_no_pose(scene: Path, change: Callable[[np.ndarray], Any], words: str) -> None:
    with_matrix(change)(scene)
    said = sentence_for(scene)
    assert words in said
    assert "images/0002.png" in said
    assert "transforms.json" in said
    assert "mend or remove" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:3].tolist(),
        lambda m: (m @ np.diag([2, 2, 2, 1])).tolist(),
        lambda m: np.round(m, 3).tolist(),
    ],
    ids=["3x4", "uniform scale", "three digits"],
)
def test_matrix_that_is_a_pose_all_the_same(scene: Path, change: Callable[[np.ndarray], Any]) -> None:
    before = AutoDataParserConfig(data=scene, eval_mode="all").setup().get_dataparser_outputs("train").cameras
    with_matrix(change)(scene)
    check_data(AutoDataParserConfig(data=scene))
    after = AutoDataParserConfig(data=scene, eval_mode="all").setup().get_dataparser_outputs("train").cameras
    torch.testing.assert_close(after.camera_to_worlds, before.camera_to_worlds, rtol=0, atol=2e-3)


def test_no_matrix(scene: Path) -> None:
    meta = meta_of(scene)
    del meta["frames"][1]["transform_matrix"]
    put(scene, meta)
    assert "has no transform_matrix" in sentence_for(scene)


def test_no_image_at_all(scene: Path) -> None:
    for path in (scene / "images").iterdir():
        path.unlink()
    said = sentence_for(scene)
    assert said.startswith("None of the 5 frames listed in ")
    assert str(scene / "images" / "0000.png") in said


def test_unreadable_image(scene: Path) -> None:
    (scene / "images" / "0003.png").write_bytes(b"this is no picture")
    said = sentence_for(scene)
    assert str(scene / "images" / "0003.png") in said
    assert "cannot be read as an image" in said


def test_image_cut_short_is_found_when_it_is_loaded(scene: Path) -> None:
    path = scene / "images" / "0003.png"
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(UserError, match=r"0003\.png cannot be read as an image"):
        InstantHashDataManagerConfig(data=scene).setup(device="cpu", test_mode="val")


def test_image_of_the_wrong_size(scene: Path) -> None:
    Image.new("RGB", (30, 20)).save(scene / "images" / "0003.png")
    said = sentence_for(scene)
    assert str(scene / "images" / "0003.png") in said
    assert "30x20" in said
    assert "48x40" in said
    assert "30x20" in sentence_for(scene, downscale_factor=2)


@pytest.mark.parametrize("value", [0.0, -30.0, float("nan"), "wide", None])
def test_focal_length_that_is_none(scene: Path, value: Any) -> None:
    put(scene, {**meta_of(scene), "fl_x": value})
    said = sentence_for(scene)
    assert "transforms.json" in said
    assert "fl_x" in said


def test_no_focal_length(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4)
    meta = meta_of(tmp_path)
    put(tmp_path, {k: v for k, v in meta.items() if not k.startswith("fl_")})
    assert "has no focal length" in sentence_for(tmp_path)
    put(tmp_path, {**{k: v for k, v in meta.items() if not k.startswith("fl_")}, "camera_angle_x": 4.0})
    assert "field of view" in sentence_for(tmp_path)


def test_one_image_only(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path / "one", count=1)
    assert "one image only" in sentence_for(tmp_path / "one")
    scenes.write_ngp(tmp_path / "two", count=2)
    assert "--eval-mode all" in sentence_for(tmp_path / "two")
    check_data(AutoDataParserConfig(data=tmp_path / "two", eval_mode="all"))
    scenes.write_blender(tmp_path / "b", train=1)
    assert "leaves 1 of its" in sentence_for(tmp_path / "b")


def test_cameras_that_do_not_see_the_box(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4, aabb_scale=1, offset=[0.5, 0.5, 60.0])
    said = sentence_for(tmp_path)
    assert "none of the 3 cameras sees the scene's box" in said
    assert "offset" in said
    # looking at the box from outside it is what a photograph of an object is
    put(tmp_path, {**meta_of(tmp_path), "offset": 0.5})
    check_data(AutoDataParserConfig(data=tmp_path))


def test_sees_box_looks_along_the_lens(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4, aabb_scale=1)
    outputs = AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
    aabb = outputs.scene_box.aabb
    assert sees_box(outputs.cameras, aabb, 0.0)
    away = outputs.cameras[:2]
    away.camera_to_worlds = away.camera_to_worlds * torch.tensor([-1.0, 1.0, -1.0, 1.0])  # turned round on the spot
    assert not sees_box(away, aabb, 0.0)
    assert not sees_box(outputs.cameras, aabb, 100.0)
    inside = outputs.cameras[:1]
    inside.camera_to_worlds = torch.eye(4)[None, :3]
    assert sees_box(inside, aabb, 0.0)


def test_values_that_make_no_scene(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4)
    good = meta_of(tmp_path)
    for keys, words in (
        ({"aabb_scale": 3}, "power of two"),
        ({"aabb_scale": "big"}, "not a number"),
        ({"scale": 0}, "above zero"),
        ({"offset": [1, 2]}, "one or three"),
        ({"offset": "left"}, "not made of numbers"),
        ({"w": 0}, "image size"),
        ({"camera_model": "PLENOPTIC"}, "camera_model"),
        ({"ftheta_p0": 1.0}, "not supported"),
        ({"k1": float("nan")}, "finite"),
        ({"frames": [{}]}, "no file_path"),
    ):
        put(tmp_path, {**good, **keys})
        said = sentence_for(tmp_path)
        assert words in said, said
        assert "transforms.json" in said


def test_colmap_models_that_are_broken(tmp_path: Path) -> None:
    scenes.write_colmap(tmp_path, count=4)
    images = tmp_path / "sparse" / "0" / "images.bin"
    images.write_bytes(images.read_bytes()[:100])
    said = sentence_for(tmp_path)
    assert str(images) in said
    scenes.write_colmap(tmp_path / "t", count=4, binary=False)
    cameras = tmp_path / "t" / "sparse" / "0" / "cameras.txt"
    cameras.write_text("1 FULL_OPENCV 48 40 40 40 24 20 0 0 0 0 0 8 0 0\n")
    assert "FULL_OPENCV" in sentence_for(tmp_path / "t")
    cameras.write_text("1 PINHOLE 48 40 0 40 24 20\n")
    assert "focal length" in sentence_for(tmp_path / "t")


def test_named_parsers_speak_in_sentences_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        check_data(BlenderDataParserConfig(data=tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"cannot be read by BlenderDataParser \(FileNotFoundError"):
        check_data(BlenderDataParserConfig(data=tmp_path))
    scenes.write_nerfstudio(tmp_path, count=5)
    config = NerfstudioDataParserConfig(data=tmp_path, downscale_factor=1)
    check_data(config)
    (tmp_path / "images" / "0003.png").unlink()
    with pytest.raises(UserError, match=r"0003\.png is listed and not there"):
        check_data(config)
    put(tmp_path, {**meta_of(tmp_path), "fl_x": 0.0})
    with pytest.raises(UserError, match="no focal length above zero"):
        check_data(config)
    meta = meta_of(tmp_path)
    meta["frames"][2]["transform_matrix"][0][3] = float("nan")
    put(tmp_path, {**meta, "fl_x": 40.0})
    with pytest.raises(UserError, match="NaN"):
        check_data(config)


def test_a_trainers_config_may_be_given(tmp_path: Path) -> None:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

    config = TrainerConfig(data=tmp_path / "nowhere", pipeline=VanillaPipelineConfig(InstantHashDataManagerConfig()))
    config.pipeline.datamanager = InstantHashDataManagerConfig()
    with pytest.raises(UserError, match="nowhere does not exist"):
        check_data(config)


def test_a_command_ends_with_the_sentence_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from ngp_method.data.auto import AutoDataParserConfig\n"
        f"AutoDataParserConfig(data=Path({str(tmp_path)!r})).setup().get_dataparser_outputs()"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"{tmp_path} holds no transforms.json")
    assert len(done.stderr.strip().splitlines()) == 1
