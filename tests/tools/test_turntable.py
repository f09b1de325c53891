"""The turntable's camera path and its film, on a model whose picture is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from ngp_method.tools import runs
from ngp_method.tools.turntable import TurntableCommand, camera_path, orbit, over_white


def ring(center: torch.Tensor, rotation: torch.Tensor, count: int = 24) -> torch.Tensor:
    """Cameras [count, 3, 4] 2 away from and 1 above ``center``, looking at it, all turned by ``rotation``."""
    poses = []
    for angle in torch.arange(count) * (2 * math.pi / count):
        arm = torch.stack([2 * torch.cos(angle), 2 * torch.sin(angle), torch.tensor(1.0)])
        back = arm / arm.norm()
        right = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), back)
        right = right / right.norm()
        poses.append(torch.stack([right, torch.linalg.cross(back, right), back, arm], -1))
    stacked = torch.stack(poses)
    return torch.cat([rotation @ stacked[..., :3], (rotation @ stacked[..., 3:]) + center[:, None]], -1)


def test_orbit_goes_round_the_point_the_cameras_look_at() -> None:
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    rotation = rotation * torch.linalg.det(rotation).sign()
    center = torch.tensor([0.7, -3.0, 11.0])
    cameras = ring(center, rotation)
    poses = orbit(cameras, 24)
    # the cameras are themselves such an orbit, which begins at the first of them
    torch.testing.assert_close(poses[:, :3].float(), cameras, atol=1e-4, rtol=0)


def test_orbit_stays_upright_where_cameras_look_down_from_one_side() -> None:
    """15 cameras on an arc of 60 degrees, 35 degrees above the horizon, z up: their mean up leans by 33 degrees."""
    azimuths = torch.deg2rad(torch.linspace(-30.0, 30.0, 15, dtype=torch.float64))
    height = torch.full_like(azimuths, math.radians(35.0))
    back = torch.stack([height.cos() * azimuths.cos(), height.cos() * azimuths.sin(), height.sin()], -1)
    right = torch.stack([-azimuths.sin(), azimuths.cos(), torch.zeros_like(azimuths)], -1)
    cameras = torch.stack([right, torch.linalg.cross(back, right), back, 3.0 * back], -1)
    mean_up = torch.nn.functional.normalize(cameras[:, :, 1].mean(0), dim=0)
    assert float(mean_up[2]) < math.cos(math.radians(30.0))
    positions = orbit(cameras, 12)[:, :3, 3]
    axis = torch.linalg.cross(positions[3] - positions[0], positions[6] - positions[0])
    assert abs(float(axis[2] / axis.norm())) > math.cos(math.radians(1.0))
    torch.testing.assert_close(positions.mean(0)[:2], torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_orbit_stands_where_cameras_have_no_common_up() -> None:
    cameras = ring(torch.zeros(3), torch.eye(3))
    cameras[1::2, :, :2] *= -1.0
    assert torch.isfinite(orbit(cameras, 5)).all()
    straight_down = torch.eye(4)[None, :3] + torch.tensor([0.0, 0.0, 0.0, 2.0]) * torch.tensor([0.0, 0.0, 1.0])[:, None]
    assert torch.isfinite(orbit(straight_down, 5)).all()


def test_camera_path_is_read_back_by_nerfstudio() -> None:
    poses = orbit(ring(torch.zeros(3), torch.eye(3)), 6)
    cameras = get_path_from_json(json.loads(json.dumps(camera_path(poses, 40.0, 64, 48, 8))))
    torch.testing.assert_close(cameras.camera_to_worlds, poses[:, :3].float())
    assert float(cameras.fy[0]) == pytest.approx(24 / math.tan(math.radians(20.0)))
    assert (int(cameras.width[0]), int(cameras.height[0])) == (64, 48)


class ColouredSky:
    """Every pixel of a picture has the colour of its camera's position; the left half is transparent."""

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, torch.Tensor]:
        color = 0.5 + 0.2 * camera.camera_to_worlds[0, :, 3]
        height, width = int(camera.height[0]), int(camera.width[0])
        alpha = (torch.arange(width) >= width // 2).float().expand(height, width)
        return {"rgb": color.expand(height, width, 3), "alpha": alpha[..., None]}

    def get_rgba_image(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([outputs["rgb"], outputs["alpha"]], -1)


def test_film_and_sheet_show_what_the_model_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poses = ring(torch.zeros(3), torch.eye(3))
    cameras = Cameras(poses, fx=100.0, fy=100.0, cx=40.0, cy=30.0, width=80, height=60)
    manager = SimpleNamespace(train_dataset=SimpleNamespace(cameras=cameras))
    pipeline = SimpleNamespace(model=ColouredSky(), datamanager=manager, device="cpu")
    monkeypatch.setattr(runs, "load_run", lambda path: pipeline)
    TurntableCommand(tmp_path / "config.yml", tmp_path / "out", frames=12, size=31, fps=6).main()

    expected = 255 * (0.5 + 0.2 * orbit(poses, 12)[:, :3, 3].numpy())
    with av.open(str(tmp_path / "out" / "turntable.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 12
    assert frames[0].shape == (32, 42, 3)
    for frame, color in zip(frames, expected, strict=True):
        assert np.abs(frame[:, 26:].mean((0, 1)) - color).max() < 6  # H.264 at crf 18, chroma at half the size
        assert frame[:, :16].mean() > 245  # white
    sheet = np.asarray(Image.open(tmp_path / "out" / "turntable.png"))
    assert sheet.shape == (64, 168, 4)
    assert np.abs(sheet[5, 30, :3] - expected[0]).max() <= 1
    assert (sheet[5, 5, 3], sheet[5, 30, 3]) == (0, 255)


def test_over_white_is_straight_alpha() -> None:
    rgba = np.array([[[100, 0, 200, 0], [100, 0, 200, 255], [100, 0, 200, 51]]], np.uint8)
    assert over_white(rgba).tolist() == [[[255, 255, 255], [100, 0, 200], [224, 204, 244]]]


def test_bad_values_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--frames of 2"):
        TurntableCommand(tmp_path, tmp_path / "out", frames=1).main()
    with pytest.raises(SystemExit, match=r"no such file; give the config\.yml"):
        TurntableCommand(tmp_path / "gone.yml", tmp_path / "out").main()
