"""What cameras look at and which way is up, where it is told and where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ngp_method.data.poses import nearest_to_axes, up_of
from support import scenes


def poses_of(count: int) -> torch.Tensor:
    """Cameras [count, 3, 4] around the origin, z up."""
    return torch.from_numpy(scenes.orbit(count)[:, :3])


def test_the_point_cameras_look_at() -> None:
    poses, offset = poses_of(20), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    point, spread = nearest_to_axes(poses[:, :, 3] + offset, poses[:, :, 2])
    np.testing.assert_allclose(point, offset, atol=1e-9)
    again, _ = nearest_to_axes(poses[:, :, 3] + offset, -poses[:, :, 2])
    assert torch.equal(point, again)  # an axis has no direction
    assert 0.1 < spread <= 2 / 3 + 1e-9


def test_parallel_axes_have_a_point_all_the_same() -> None:
    origins = torch.tensor([[1.0, 2.0, 7.0], [3.0, 2.0, -7.0]], dtype=torch.float64)
    point, spread = nearest_to_axes(origins, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(2, 3))
    np.testing.assert_allclose(point, [2.0, 2.0, 0.0], atol=1e-9)
    assert spread == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("tilt", "z"), [(0.0, True), (30.0, True), (45.0, False), (90.0, False), (180.0, False)])
def test_up_is_z_unless_the_cameras_clearly_say_otherwise(tilt: float, z: bool) -> None:
    angle = np.radians(tilt)
    turn = torch.tensor([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    up = up_of(turn @ poses_of(40))
    own = turn @ poses_of(40)[:, :, 1].mean(0)
    np.testing.assert_allclose(up, [0.0, 0.0, 1.0] if z else own / own.norm(), atol=1e-9)


def test_cameras_without_a_common_up_have_z() -> None:
    poses = poses_of(40).clone()
    poses[::2, :, :2] *= -1.0
    assert up_of(poses).tolist() == [0.0, 0.0, 1.0]
