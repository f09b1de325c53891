"""What the peer LiteSplat is handed, without LiteSplat: COLMAP cameras against the project's own, and points of the hull."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import cpu
import numpy as np
import pytest
import torch
from torch import Tensor

from measure import litesplat, litesplat_scene
from support.scenes import SPHERES, write_blender, write_colmap, write_ngp


def views(folder: Path, tmp_path: Path, scale: float = 1.0) -> tuple[Any, Any, Any]:
    """As the peer reads a scene."""
    return litesplat.views_of(folder, scale, argparse.Namespace(seed=1, seconds=1.0, set=[]), tmp_path / "out")


def through_written(folder: Path, points: Tensor) -> tuple[Tensor, list[str]]:
    """Points [N, 3] through every camera of COLMAP's text files, as COLMAP defines them: x, y in pixels [C, N, 2]."""
    lenses = [line.split() for line in (folder / "sparse/0/cameras.txt").read_text().splitlines()]
    poses = [line.split() for line in (folder / "sparse/0/images.txt").read_text().splitlines() if line.strip()]
    found = []
    for lens, pose in zip(lenses, poses, strict=True):
        assert lens[1] == "PINHOLE"
        assert lens[0] == pose[8]
        w, x, y, z = (float(value) for value in pose[1:5])
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        local = points.double().numpy() @ turn.T + np.array([float(value) for value in pose[5:8]])
        fx, fy, cx, cy = (float(value) for value in lens[4:8])
        assert (local[:, 2] > 0).all()
        found.append(np.stack([fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy], axis=-1))
    return torch.from_numpy(np.stack(found)), [pose[9] for pose in poses]


def test_written_cameras_see_what_ours_see(tmp_path: Path) -> None:
    """Points ahead of the cameras land where the project's own cameras have them, whatever the unit written."""
    train, held_out, _ = views(write_blender(tmp_path / "scene", train=5, val=0, test=2, size=(48, 48)), tmp_path)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.2, 0.4], [-0.5, 0.1, 0.2]])
    unit = 2.5
    litesplat_scene.write_colmap(tmp_path / "c", [train.cameras, held_out.cameras], points, torch.full_like(points, 0.2), unit)
    seen, names = through_written(tmp_path / "c", points * unit)
    assert len(seen) == len(train) + len(held_out) == len(set(names))
    assert train.size(0) == (24, 24)
    assert held_out.size(0) == (48, 48)
    for index in range(len(seen)):
        cameras, own = (train.cameras, index) if index < len(train) else (held_out.cameras, index - len(train))
        x, y, inside = litesplat_scene.project(cameras, own, points)
        assert inside.all()
        torch.testing.assert_close(torch.stack([x, y], -1).double(), seen[index], atol=1e-3, rtol=0)  # float32 of 48 pixels
    rows = [line.split() for line in (tmp_path / "c/sparse/0/points3D.txt").read_text().splitlines()]
    np.testing.assert_allclose([[float(v) for v in row[1:4]] for row in rows], points * unit, atol=1e-6)
    assert all(row[4:7] == ["51", "51", "51"] for row in rows)


def test_pixels_are_where_the_pinhole_sees_their_rays(tmp_path: Path) -> None:
    """Without distortion a pixel's place is its middle; a point on its ray lands there, not upside down."""
    train, _, _ = views(write_ngp(tmp_path / "scene", count=6), tmp_path, 2.0)
    places = litesplat_scene.pixel_places(train.cameras, 1)
    width, height = train.size(1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    middles = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    torch.testing.assert_close(places, middles, atol=1e-3, rtol=0)
    rays = train.cameras.generate_rays(camera_indices=1, keep_shape=True)
    points = (rays.origins + 2.0 * rays.directions).reshape(-1, 3)
    x, y, _ = litesplat_scene.project(train.cameras, 1, points)
    torch.testing.assert_close(torch.stack([x, y], -1), middles, atol=1e-3, rtol=0)
    camera = argparse.Namespace(height=float(height))
    assert litesplat.upwards(places, camera)[0].tolist() == pytest.approx([0.5, height - 0.5], abs=1e-3)


def test_hull_points_lie_inside(tmp_path: Path) -> None:
    """The hull of spheres seen from all around is little more than the spheres; the colours are those of their skin."""
    folder = write_blender(tmp_path / "scene", train=20, val=0, test=2, size=(96, 96))
    train, _, geometry = views(folder, tmp_path)
    points, origin = litesplat_scene.starting_points(train, geometry, folder, seed=3)
    assert "hull" in origin
    assert points.shape == (litesplat_scene.POINTS, 3)
    for index in range(len(train)):
        x, y, inside = litesplat_scene.project(train.cameras, index, points)
        assert (train.get_image_float32(index)[y[inside].long(), x[inside].long(), 3] > 0.5).all()
    outside = torch.stack([torch.linalg.norm(points - torch.tensor(c), dim=-1) - r for c, r, _ in SPHERES]).min(0).values
    assert float((outside <= 0.1).float().mean()) > 0.8
    colors = litesplat_scene.mean_colors(train, points)
    assert float(colors.min()) >= 0
    assert float(colors.mean()) > 0.1
    unit = litesplat_scene.unit_for(train.cameras, points)
    assert 0.8 < 4 * unit / litesplat_scene.DISTANCE < 1.25  # the cameras stand 4 from the origin as it is


def test_other_starting_points(tmp_path: Path) -> None:
    """COLMAP's sparse points where there are some, the unit cube where there is neither them nor alpha."""
    for folder, word in ((write_colmap(tmp_path / "colmap"), "COLMAP"), (write_ngp(tmp_path / "ngp"), "cube")):
        train, _, geometry = views(folder, tmp_path)
        points, origin = litesplat_scene.starting_points(train, geometry, folder, seed=3)
        assert word in origin
        assert 1 < len(points) <= litesplat_scene.POINTS
        assert any(bool(litesplat_scene.project(train.cameras, i, points)[2].any()) for i in range(len(train)))


def test_spacing() -> None:
    """Half the mean distance to the nearest neighbour."""
    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [4.0, 0, 0]])
    assert litesplat_scene.half_spacing(points) == pytest.approx(0.5 * (1 + 1 + 3) / 3)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained; the sentence says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["cpu.py", "lego", "--peer", "litesplat"])
    with pytest.raises(SystemExit, match="pip install litesplat") as ended:
        cpu.main()
    assert ended.value.code not in (None, 0)
