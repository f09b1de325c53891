"""Cells that cameras see: the same as point by point, for every lens, at a small share of the work."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume import visibility
from ngp_method.volume.camera import Camera, in_picture
from ngp_method.volume.lens import FISHEYE, PERSPECTIVE

LENSES: dict[str, dict[str, Any]] = {
    "pinhole": {},
    "off centre": {"cx": 100.0, "cy": 400.0},
    "barrel": {"k": [-0.2, 0.05, 0.0, 0.0, 0.001, -0.002]},
    "pincushion": {"k": [0.15, 0.02, 0.0, 0.0, 0.0, 0.0]},
    "fisheye": {"kind": FISHEYE, "f": 200.0, "k": [0.01, 0.0, 0.0, 0.0, 0.0, 0.0]},
    "fisheye beyond half a sphere": {"kind": FISHEYE, "f": 110.0},
    "another": {"kind": 3},
}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of pictures by the compiled loop, and as where numba is not installed."""
    assert visibility.border is not None
    if request.param == "torch":
        monkeypatch.setattr(visibility, "border", None)


def _cameras(
    count: int, kind: int = PERSPECTIVE, f: float = 400.0, cx: float = 320.0, cy: float = 240.0, k: list[float] | None = None
) -> Any:
    """Cameras on a ring that look inwards, a few of them elsewhere."""
    rng = torch.Generator().manual_seed(count)
    angle = torch.arange(count) / count * 2 * math.pi
    position = torch.stack([1.2 * torch.cos(angle), 1.2 * torch.sin(angle), 0.6 * torch.rand(count, generator=rng)], -1)
    position[::5] *= 0.1
    back = torch.nn.functional.normalize(position + 0.2 * torch.randn(count, 3, generator=rng), dim=-1)
    right = torch.linalg.cross(torch.tensor([[0.0, 0.0, 1.0]]).expand(count, 3), back)
    right = torch.nn.functional.normalize(right, dim=-1)

    def of_all(value: float) -> Tensor:
        return torch.full((count, 1), value)

    return SimpleNamespace(
        camera_to_worlds=torch.stack([right, torch.linalg.cross(back, right), back, position], -1),
        fx=of_all(f), fy=of_all(f), cx=of_all(cx), cy=of_all(cy), width=of_all(640.0), height=of_all(480.0),
        distortion_params=None if k is None else torch.tensor([k]).repeat(count, 1),
        camera_type=torch.full((count, 1), kind),
    )  # fmt: skip


def _point_by_point(cameras: Any, geometry: SceneGeometry, resolution: int) -> Tensor:
    """Every corner of every cell through every lens, in the obvious way."""
    views = [Camera.of(cameras, index) for index in range(len(cameras.fx))]
    axis = torch.arange(resolution + 1) / resolution - 0.5
    lattice = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for level in range(geometry.cascades):
        points = lattice * geometry.unit_size * 2**level + torch.tensor(geometry.center)
        seen = torch.zeros(len(points), dtype=torch.bool)
        for view in views:
            seen |= in_picture(view, view.local(points), geometry.near)
        corners = seen.view(*[resolution + 1] * 3).float()
        found.append(torch.nn.functional.max_pool3d(corners[None, None], 2, stride=1)[0, 0] > 0)
    return torch.stack(found)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(("aabb_scale", "resolution"), [(1, 16), (4, 32), (2, 30)])
def test_cells_are_those_seen_point_by_point(lens: str, aabb_scale: int, resolution: int) -> None:
    geometry = SceneGeometry((0.1, -0.2, 0.3), 0.9, aabb_scale, near=0.05)
    cameras = _cameras(7, **LENSES[lens])
    found, exact = visibility.seen_cells(cameras, geometry, resolution), _point_by_point(cameras, geometry, resolution)
    assert found.shape == (geometry.cascades, resolution, resolution, resolution)
    assert not (exact & ~found).any(), "nothing that is seen is missing"
    # Rounding on the border of a picture; blocks within one that is not quite convex.
    assert (found & ~exact).float().mean() < (1e-4 if "k" not in LENSES[lens] else 5e-3)
    assert found.any()
    if aabb_scale > 1 and LENSES[lens].get("kind", PERSPECTIVE) == PERSPECTIVE:
        assert not found.all()


@pytest.mark.parametrize("lens", LENSES)
def test_a_camera_may_stand_on_a_lattice_point(lens: str) -> None:
    geometry, cameras = SceneGeometry(near=0.0), _cameras(3, **LENSES[lens])
    cameras.camera_to_worlds = torch.eye(4)[None, :3].repeat(3, 1, 1)
    cameras.camera_to_worlds[:, :, 3] = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.25, 0.25, 0.5]])
    found, exact = visibility.seen_cells(cameras, geometry, 16), _point_by_point(cameras, geometry, 16)
    assert not (exact & ~found).any()


@pytest.mark.parametrize("lens", LENSES)
def test_the_compiled_loop_finds_what_torch_finds(lens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And next to nothing beside it."""
    geometry, cameras = SceneGeometry((0.1, -0.2, 0.3), 0.9, 4, near=0.05), _cameras(20, **LENSES[lens])
    found = visibility.seen_cells(cameras, geometry, 32)
    monkeypatch.setattr(visibility, "border", None)
    plain = visibility.seen_cells(cameras, geometry, 32)
    assert not (plain & ~found).any()
    assert (found & ~plain).float().mean() < 1e-4


@pytest.mark.parametrize("lens", ["pinhole", "barrel"])
def test_few_points_are_projected(lens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 cameras and two cascades of 64^3, under a fifteenth of what there is; compiled, only corners are left to torch."""
    counted = []
    plain = visibility.in_picture
    monkeypatch.setattr(
        visibility, "in_picture", lambda view, local, near: counted.append(len(local)) or plain(view, local, near)
    )
    visibility.seen_cells(_cameras(60, **LENSES[lens]), SceneGeometry(aabb_scale=2, near=0.05), 64)
    everything = 60 * 2 * 65**3
    assert 0 < sum(counted) < everything / (15 if visibility.border is None else 250)
