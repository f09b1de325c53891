"""Lenses forward and back again."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.camera_utils import radial_and_tangential_undistort
from nerfstudio.cameras.cameras import CameraType

from ngp_method.volume.lens import FISHEYE, PERSPECTIVE, distort, from_plane, onto_plane

COORDS = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.6 - 0.8
"""Up to 46 degrees to each side."""


def test_the_numbers_are_nerfstudios() -> None:
    assert (CameraType.PERSPECTIVE.value, CameraType.FISHEYE.value) == (PERSPECTIVE, FISHEYE)


@pytest.mark.parametrize("fisheye", [False, True])
def test_forward_undoes_inverse(fisheye: bool) -> None:
    coords = torch.cat([COORDS, torch.zeros(1, 2, dtype=torch.float64)])
    x, y = onto_plane(3.0 * from_plane(coords, fisheye), fisheye)  # of any length
    torch.testing.assert_close(torch.stack([x, y], -1), coords, atol=1e-12, rtol=0)


def test_angles_are_the_lens_models() -> None:
    """45 degrees to the right, 30 degrees up: tangents of a pinhole, angles of a fisheye."""
    right, up = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 1.0, -(3.0**0.5)]])
    assert [float(v) for v in onto_plane(right, False)] == pytest.approx([1.0, 0.0])
    assert [float(v) for v in onto_plane(right, True)] == pytest.approx([torch.pi / 4, 0.0])
    assert [float(v) for v in onto_plane(up, False)] == pytest.approx([0.0, -1 / 3**0.5])
    assert [float(v) for v in onto_plane(up, True)] == pytest.approx([0.0, -torch.pi / 6])


def test_a_fisheye_sees_behind_itself() -> None:
    behind = torch.tensor([[1.0, 0.0, 1.0]])
    assert [float(v) for v in onto_plane(behind, True)] == pytest.approx([0.75 * torch.pi, 0.0])


def test_nerfstudios_newton_steps_undo_the_distortion() -> None:
    k = torch.tensor([0.08, -0.03, 0.01, 0.002, 0.003, -0.002], dtype=torch.float64)
    bent = torch.stack(distort(COORDS[:, 0], COORDS[:, 1], k), -1)
    assert float((bent - COORDS).abs().max()) > 0.02
    torch.testing.assert_close(radial_and_tangential_undistort(bent, k), COORDS, atol=1e-6, rtol=0)
