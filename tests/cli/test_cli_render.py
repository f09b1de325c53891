"""``ns-render``: films and pictures along paths, cut out by a crop box, through other lenses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from support import scenes
from support.cli import SIZE, Forks, Run, run
from support.cli_truth import TEST_POSES, over_white, rgba, view_of

pytest_plugins = ["support.cli_fixtures"]

POSE = TEST_POSES[1]
SPHERE = scenes.SPHERES[1]
"""The one that the crop box holds."""


def film(path: Path) -> list[np.ndarray]:
    """Frames of a film, [H, W, 3] uint8."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def camera_path(file: Path, kind: str, size: tuple[int, int], fov: float | None = None, **more: Any) -> Path:
    """A camera path as the viewer writes it: one camera, test view 1's."""
    degrees = float(np.degrees(scenes.FOV)) if fov is None else fov
    camera = {"camera_to_world": POSE.reshape(-1).tolist(), "fov": degrees, "aspect": size[0] / size[1]}
    path = {
        "camera_type": kind, "render_width": size[0], "render_height": size[1], "seconds": 1.0, "fps": 1.0,
        "camera_path": [camera], **more,
    }  # fmt: skip
    file.write_text(json.dumps(path))
    return file


def along(out: Path, trained: Run, path: Path, *outputs: str) -> tuple[object, ...]:
    """Arguments of ``ns-render camera-path`` that write PNGs to ``out``."""
    return ("camera-path", "--load-config", trained.config, "--camera-path-filename", path, "--output-path", out,
            "--output-format", "images", "--image-format", "png", "--rendered-output-names", *outputs)  # fmt: skip


def test_interpolate_makes_a_film(trained: Run, workspace: Path, blender: Path) -> None:
    out = workspace / "films" / "interpolated.mp4"
    run(
        "ns-render", "interpolate", "--load-config", trained.config, "--output-path", out, "--pose-source", "eval",
        "--interpolation-steps", 2, "--rendered-output-names", "rgb", "depth", "accumulation", "normals", cwd=workspace,
    ).check()  # fmt: skip
    frames = film(out)
    assert len(frames) == 2 * (len(TEST_POSES) - 1)
    assert frames[0].shape == (SIZE, 4 * SIZE, 3)  # the outputs side by side
    picture = frames[0][:, :SIZE] / 255.0
    alpha = rgba(blender / "test" / "r_0.png")[..., 3]
    assert picture[alpha == 0].mean() > 0.9  # the first frame is the first test view: white around,
    assert picture[alpha == 1].mean() < 0.7  # coloured within


def test_spiral_makes_a_film(trained: Run, workspace: Path) -> None:
    out = workspace / "films" / "spiral.mp4"
    run(
        "ns-render", "spiral", "--load-config", trained.config, "--output-path", out, "--seconds", 0.2,
        "--frame-rate", 20, "--radius", 0.5, cwd=workspace,
    ).check()  # fmt: skip
    frames = film(out)
    assert len(frames) == 4
    assert frames[0].shape == (SIZE, SIZE, 3)
    assert np.abs(frames[0].astype(float) - frames[1]).mean() > 2.0  # the camera moves, and looks at the scene:
    assert all(frame[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4].mean() < 200 for frame in frames)


def test_nearest_training_picture_beside_the_film(trained: Run, workspace: Path, forks: Forks, blender: Path) -> None:
    out = workspace / "films" / "nearest.mp4"
    forks.run(
        "ns-render", "interpolate", "--load-config", trained.config, "--output-path", out, "--pose-source", "train",
        "--interpolation-steps", 1, "--render-nearest-camera", "True", "--output-format", "images", "--image-format", "png",
        cwd=workspace,
    ).check()  # fmt: skip
    pictures = sorted((workspace / "films" / "nearest").iterdir())
    assert len(pictures) > 1
    pair = rgba(pictures[0])
    assert pair.shape == (SIZE, 2 * SIZE, 3)
    # The path starts at the first training camera. (The picture at the right is nerfstudio's: RGBA in false colours.)
    assert np.abs(pair[:, :SIZE] - over_white(rgba(blender / "train" / "r_0.png"))).mean() < 0.03
    outline = np.abs(pair[1:, SIZE:] - pair[:-1, SIZE:]).max(-1) > 0.3
    alpha = rgba(blender / "train" / "r_0.png")[..., 3]
    edges = np.abs(alpha[1:] - alpha[:-1]) > 0.9
    assert edges.any()
    assert outline[edges].mean() > 0.9  # and it is that camera's


def test_crop_cuts_the_scene(trained: Run, workspace: Path) -> None:
    center, radius, _ = SPHERE
    edge = 2.2 * radius
    crop = {
        "crop_center": list(center), "crop_scale": [edge] * 3, "crop_rot": [0.0, 0.0, 0.0],
        "crop_bg_color": {"r": 0, "g": 0, "b": 255},
    }  # fmt: skip
    path = camera_path(workspace / "crop.json", "perspective", (SIZE, SIZE), crop=crop)
    run("ns-render", *along(workspace / "crop", trained, path, "rgb", "accumulation"), cwd=workspace).check()
    both = rgba(workspace / "crop" / "00000.png")
    picture, opacity = both[:, :SIZE], both[:, SIZE:]
    directions = view_of(POSE).directions
    slabs = np.sort([(np.array(center) + s * edge - POSE[:3, 3]) / directions for s in (-0.5, 0.5)], axis=0)
    crosses = slabs[1].min(-1) > slabs[0].max(-1)
    assert crosses.any()
    # where no ray meets the box there is the crop's background alone
    blue = np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(picture[~crosses], np.broadcast_to(blue, picture[~crosses].shape), atol=1.5 / 255)
    nothing = opacity[0, 0]
    assert np.abs(opacity[~crosses] - nothing).max() < 2.0 / 255
    # and the sphere in the box is drawn: not blue, where the rays through it are
    offset = POSE[:3, 3] - np.array(center)
    b = directions @ offset
    within = b * b - (offset @ offset - (0.8 * radius) ** 2) > 0.0
    assert (np.abs(picture[within] - blue).max(-1) > 0.3).mean() > 0.9
    # while the great sphere beside it, in the uncropped picture, is gone
    great = np.isfinite(view_of(POSE).depth) & ~crosses
    assert great.sum() > 300


def test_rgba_of_a_path_is_the_dataset_views(trained: Run, workspace: Path, forks: Forks, blender: Path) -> None:
    path = camera_path(workspace / "plain.json", "perspective", (SIZE, SIZE))
    forks.run("ns-render", *along(workspace / "plain", trained, path, "rgba"), cwd=workspace).check()
    picture, truth = rgba(workspace / "plain" / "00000.png"), rgba(blender / "test" / "r_1.png")
    assert picture.shape == truth.shape
    assert np.abs(picture[..., 3] - truth[..., 3]).mean() < 0.02
    solid = truth[..., 3] == 1.0
    assert np.abs(picture[solid] - truth[solid]).mean() < 0.05


@pytest.mark.parametrize(("kind", "size"), [("fisheye", (48, 48)), ("equirectangular", (64, 32))])
def test_other_lenses(kind: str, size: tuple[int, int], trained: Run, workspace: Path, forks: Forks) -> None:
    path = camera_path(workspace / f"{kind}.json", kind, size, fov=60.0)
    forks.run("ns-render", *along(workspace / kind, trained, path, "rgba"), cwd=workspace).check()
    picture = rgba(workspace / kind / "00000.png")
    assert picture.shape == (size[1], size[0], 4)
    alpha = picture[..., 3]
    # the great sphere fills 0.2 radians around the axis: the middle of the picture is solid
    middle = alpha[size[1] // 2 - 1 : size[1] // 2 + 1, size[0] // 2 - 1 : size[0] // 2 + 1]
    assert middle.min() > 0.9
    # and the scene is the only thing there: the share of the sphere (or of the lens) it fills is small
    assert alpha[0].max() < 0.1
    assert 0.005 < alpha.mean() < (0.1 if kind == "equirectangular" else 0.6)


def test_turntable_and_the_path_it_leaves(trained: Run, workspace: Path, forks: Forks) -> None:
    out = workspace / "turntable"
    done = forks.run(
        "instant-hash-turntable",
        "--load-config",
        trained.config,
        "--output-dir",
        out,
        "--frames",
        8,
        "--size",
        32,
        cwd=workspace,
    )
    assert "Traceback" not in done.check().words
    frames = film(out / "turntable.mp4")
    assert len(frames) == 8
    assert frames[0].shape == (32, 32, 3)
    sheet = rgba(out / "turntable.png")
    assert sheet.shape == (2 * 32, 4 * 32, 4)
    assert 0.05 < sheet[..., 3].mean() < 0.6  # the scene, see-through around it
    arguments = along(workspace / "by_path", trained, out / "camera_path.json", "rgba")
    forks.run("ns-render", *arguments, cwd=workspace).check()
    again = rgba(workspace / "by_path" / "00000.png")
    assert np.abs(again - sheet[:32, :32]).max() < 2.0 / 255
