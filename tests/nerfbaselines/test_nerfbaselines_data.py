"""What nerfbaselines hands over, as cameras, and what of it is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfbaselines import camera_model_to_int, new_cameras
from nerfbaselines.cameras import get_image_pixels, get_rays

from ngp_method.data.placement import Placement
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.nerfbaselines import saved
from ngp_method.nerfbaselines.handed import Handed, placed_camera
from ngp_method.nerfbaselines.method import InstantHash
from support.nerfbaselines_small import SMALL

WIDTH, HEIGHT = 24, 16
IDENTITY = Placement(np.eye(4)[:3], 1.0, SceneGeometry(), 2, 0, np.zeros(3), 1.0)


def camera(model: str, distortion: list[float]) -> Any:
    """One of nerfbaselines' cameras: turned, off the origin, its principal point off the middle."""
    c, s = np.cos(0.4), np.sin(0.4)
    pose = np.array([[c, -s, 0.0, 0.3], [s, c, 0.0, -0.2], [0.0, 0.0, 1.0, 1.5]], dtype=np.float32)
    return new_cameras(
        poses=pose,
        intrinsics=np.array([20.0, 22.0, 11.5, 8.4], dtype=np.float32),
        camera_models=np.array(camera_model_to_int(model), dtype=np.int32),
        distortion_parameters=np.array(distortion, dtype=np.float32),
        image_sizes=np.array([WIDTH, HEIGHT], dtype=np.int32),
    )


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("pinhole", []),
        ("opencv", [0.08, -0.03, 0.004, -0.006]),
        ("opencv", [0.08, -0.03, 0.004, -0.006, 0.0, 0.0]),
        ("opencv_fisheye", [0.05, -0.02, 0.0, 0.0, 0.01, -0.003]),
    ],
)
def test_rays_are_those_of_nerfbaselines(model: str, distortion: list[float]) -> None:
    """Axes, middles of pixels and the order of coefficients, by nerfbaselines' own rays; Newton's steps leave 1e-5."""
    one = camera(model, distortion)
    origins, directions = get_rays(one[None], get_image_pixels(one.image_sizes))
    rays = placed_camera(one, IDENTITY).generate_rays(camera_indices=0, keep_shape=True)
    assert rays.origins.shape == (HEIGHT, WIDTH, 3)
    expected = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    assert rays.origins.reshape(-1, 3).numpy() == pytest.approx(origins, abs=1e-6)
    assert np.abs(rays.directions.reshape(-1, 3).numpy() - expected).max() < 2e-5


def test_cameras_go_to_the_world_as_training_cameras_did(load: Callable[..., Any]) -> None:
    """A data set without a name is turned upright and scaled: its training cameras, rendered, stand where they were trained."""
    data = load("train", None)
    method = InstantHash(train_dataset=data, config_overrides=SMALL)
    trained = method._trainer.pipeline.datamanager.train_dataset.cameras.camera_to_worlds
    found = torch.stack([placed_camera(one, method.placement).camera_to_worlds[0] for one in data["cameras"]])
    assert not np.allclose(trained[0, :, 3], data["cameras"].poses[0, :, 3], atol=0.1)
    assert torch.allclose(found, trained, atol=1e-6)


def broken(data: Any, name: str) -> Any:
    """The data with one fault."""
    data = copy.copy(data)
    data["images"], data["metadata"] = list(data["images"]), dict(data["metadata"])
    cameras = data["cameras"]
    if name == "one view":
        data |= {"cameras": cameras[:1], "images": data["images"][:1], "image_paths": data["image_paths"][:1]}
    elif name == "linear":
        data["metadata"]["color_space"] = "linear"
    elif name == "grey":
        data["images"][3] = data["images"][3][..., 0]
    elif name == "float":
        data["images"][3] = data["images"][3].astype(np.float32)
    elif name == "small":
        data["images"][3] = data["images"][3][:40]
    elif name == "mask":
        data["masks"] = [np.ones((48, 48), dtype=bool)] * 3 + [np.ones((48, 30), dtype=bool)] * 9
    elif name == "blind":
        data["masks"] = [np.zeros((48, 48), dtype=bool)] * 12
    elif name == "nan":
        cameras.poses[3, 0, 3] = np.nan
    elif name == "focal":
        cameras.intrinsics[3, 1] = 0.0
    elif name == "model":
        cameras.camera_models[3] = camera_model_to_int("full_opencv")
    else:
        cameras.poses[:, :, 1:3] *= -1.0  # look away
    return data


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one view", "leaves 1 image to train on"),
        ("linear", "is in the color space linear; only srgb is trained on"),
        ("grey", "r_3.png is handed over as uint8 [48, 48]; make it RGB or RGBA of 8 bits"),
        ("float", "r_3.png is handed over as float32 [48, 48, 4]; make it RGB or RGBA of 8 bits"),
        ("small", "r_3.png: its image is 48x40 pixels, and its camera is for 48x48"),
        ("mask", "r_3.png: its mask is 30x48 pixels, and its camera is for 48x48"),
        ("blind", "The masks of the 12 images leave no pixel"),
        ("nan", "r_3.png has a transform_matrix with NaN or infinity in it"),
        ("focal", "r_3.png has a focal length of 0"),
        ("model", "r_3.png: the camera model full_opencv is not computed; undistort the images"),
        ("away", "none of the 12 cameras sees the scene's box"),
    ],
)
def test_what_cannot_be_trained_on_is_named(name: str, said: str, load: Callable[..., Any]) -> None:
    tiny_box = {"pipeline.datamanager.dataparser.scale": 1000.0} if name == "away" else {}
    with pytest.raises(SystemExit) as caught:
        InstantHash(train_dataset=broken(load("train"), name), config_overrides={**SMALL, **tiny_box})
    assert said in str(caught.value)


def test_images_in_one_padded_array(load: Callable[..., Any]) -> None:
    data = load("train")
    padded = np.zeros((12, 50, 60, 4), dtype=np.uint8)
    padded[:, :48, :48] = np.stack(data["images"])
    data["images"] = padded
    handed = Handed(data)
    assert np.array_equal(handed.pixels(5), padded[5, :48, :48])
    assert copy.deepcopy(handed) is handed


def put(**overrides: Any) -> Any:
    return saved.config_of({"method": "instant-hash-lite", **overrides}, None)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("pipeline.model.n_levels", "8", 8),
        ("pipeline.model.average_decay", "0", 0.0),
        ("pipeline.model.finest_resolution", "512", 512),
        ("pipeline.model.finest_resolution", "None", None),
        ("pipeline.model.mark_unseen", "False", False),
        ("pipeline.model.loss", "mse", "mse"),
        ("pipeline.datamanager.dataparser.aabb_scale", "4", 4),
        ("max_num_iterations", "7", 7),
        ("machine.seed", "3", 3),
    ],
)
def test_settings_as_a_command_line_gives_them(path: str, text: str, value: Any) -> None:
    owner = put(**{path: text})
    for part in path.split("."):
        owner = getattr(owner, part)
    assert owner == value
    assert type(owner) is type(value)


def test_a_pair_of_numbers() -> None:
    config = put(**{"optimizers.networks.optimizer.betas": "(0.9, 0.95)"})
    assert config.optimizers["networks"]["optimizer"].betas == (0.9, 0.95)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("method", "nerfacto", "method=nerfacto is none of the presets here; give one of instant-hash,"),
        ("method", "instant-image", "method=instant-image is none of the presets here"),
        ("pipeline.model.n_lovels", "8", "no setting 'pipeline.model.n_lovels' under nerfbaselines; do you mean"),
        ("xyz", "8", "those that count are the hparams that a run's nb-info.json lists"),
        ("max_train_seconds", "60", "nerfbaselines counts steps, not seconds; give max_num_iterations"),
        ("max_num_iterations", "0", "max_num_iterations=0; give at least 1"),
        ("max_num_iterations", "many", "max_num_iterations=many is no value for it; give int"),
        ("pipeline.model.n_levels", "8.5", "pipeline.model.n_levels=8.5 is no value for it; give int"),
        (
            "pipeline.model.finest_resolution",
            "big",
            "pipeline.model.finest_resolution=big is no value for it; give int or None",
        ),
        ("pipeline.model.eval_background_color", "blue", "give 'white' or 'black'"),
        ("pipeline.model.collider_params", "None", "there is no setting 'pipeline.model.collider_params'"),
        ("pipeline.datamanager.camera_res_scale_factor", "0.5", "there is no setting"),
        ("vis", "viewer", "there is no setting 'vis' under nerfbaselines"),
    ],
)
def test_a_setting_that_is_none_is_refused(path: str, value: str, said: str) -> None:
    with pytest.raises(SystemExit) as caught:
        put(**{path: value})
    assert said in str(caught.value)


def test_a_run_keeps_its_settings(load: Callable[..., Any], tmp_path: Path) -> None:
    small = {**SMALL, "pipeline.model.log2_hashmap_size": "12", "max_num_iterations": "5"}
    InstantHash(train_dataset=load("train"), config_overrides=small).save(str(tmp_path))
    longer = InstantHash(checkpoint=str(tmp_path), config_overrides={**small, "max_num_iterations": "9"})
    assert longer.get_info()["num_iterations"] == 9
    assert longer.get_info()["hparams"]["pipeline.model.log2_hashmap_size"] == 12
    for other, said in (
        ({"pipeline.model.log2_hashmap_size": "13"}, "was trained with another pipeline.model.log2_hashmap_size than 13"),
        ({"method": "instant-hash-paper"}, "was trained with instant-hash-lite, not instant-hash-paper"),
    ):
        with pytest.raises(SystemExit) as caught:
            InstantHash(checkpoint=str(tmp_path), config_overrides={**small, **other})
        assert str(tmp_path) in str(caught.value)
        assert said in str(caught.value)


def test_a_checkpoint_of_other_sizes_than_it_says(load: Callable[..., Any], tmp_path: Path) -> None:
    InstantHash(train_dataset=load("train"), config_overrides=SMALL).save(str(tmp_path))
    file = tmp_path / "instant-hash.json"
    kept = json.loads(file.read_text())
    kept["settings"]["pipeline.model.n_neurons"] = 32
    file.write_text(json.dumps(kept))
    with pytest.raises(SystemExit, match=r"instant-hash.ckpt does not fit instant-hash.json beside it \(size mismatch"):
        InstantHash(checkpoint=str(tmp_path))


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no instant-hash.json and instant-hash.ckpt; give the checkpoint folder"):
        InstantHash(checkpoint=str(tmp_path))
    (tmp_path / "instant-hash.json").write_text("{")
    (tmp_path / "instant-hash.ckpt").write_bytes(b"no")
    with pytest.raises(SystemExit, match=r"instant-hash.json cannot be read \(JSONDecodeError"):
        InstantHash(checkpoint=str(tmp_path))
    (tmp_path / "instant-hash.json").write_text('{"method": "x", "overrides": {}, "settings": {}, "background": null}')
    with pytest.raises(SystemExit, match=r"instant-hash.ckpt cannot be read as a checkpoint"):
        InstantHash(checkpoint=str(tmp_path))
    with pytest.raises(SystemExit, match="neither a checkpoint nor data were given"):
        InstantHash()
