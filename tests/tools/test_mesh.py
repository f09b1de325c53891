"""The mesh command's parts, on fields whose surface is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from ngp_method.kernels.scene import SceneGeometry
from ngp_method.tools.mesh import EmptyMeshError, MeshCommand, MeshSettings, extract_mesh
from ngp_method.tools.mesh_files import to_original_frame, write_ply

CENTER = torch.tensor([0.3, -0.2, 0.1])
RADIUS = 0.6


class Ball:
    """A ball in the world frame, its density a logistic step; coloured by the outward normal it is seen along."""

    def __init__(self, unit_size: float = 2.4, width: float = 0.02, inside: float = 2000.0) -> None:
        self.geometry = SceneGeometry(center=(0.0, 0.0, 0.0), unit_size=unit_size)
        self.field = self
        self.width, self.inside = width, inside
        self.asked = 0

    def density_at(self, positions: Tensor) -> Tensor:
        assert positions.dtype == torch.float32
        assert positions.ndim == 2
        self.asked += len(positions)
        return self.inside * torch.sigmoid((RADIUS - (positions - CENTER).norm(dim=-1)) / self.width)

    def color_at(self, positions: Tensor, directions: Tensor) -> Tensor:
        assert torch.allclose(directions.norm(dim=-1), torch.ones(len(directions)), atol=1e-5)
        return 0.5 - 0.5 * directions

    def occupancy_at(self, positions: Tensor) -> Tensor:
        return (positions - CENTER).norm(dim=-1) < RADIUS + 8 * self.width


def surface_radius(ball: Ball, threshold: float) -> float:
    """Where the ball's density is the threshold, which is given per edge of the unit cube."""
    share = threshold / ball.geometry.unit_size / ball.inside
    return RADIUS - ball.width * float(np.log(share / (1 - share)))


@pytest.mark.parametrize(("unit_size", "threshold"), [(2.0, 40.0), (2.0, 400.0), (2.4, 20.0)])
def test_surface_lies_where_the_density_is_the_threshold(unit_size: float, threshold: float) -> None:
    ball = Ball(unit_size)
    mesh = extract_mesh(ball, MeshSettings(resolution=96, threshold=threshold))
    radii = np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=-1)
    expected = surface_radius(ball, threshold)
    cell = 2 * expected / 95
    # on the side where the log-density is clipped a vertex is off by a part of a cell, elsewhere by much less
    assert abs(np.median(radii) - expected) < 0.05 * cell
    assert np.abs(radii - expected).max() < 0.5 * cell


def test_surface_is_closed_and_faces_outward() -> None:
    mesh = extract_mesh(Ball(), MeshSettings(resolution=64))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * surface_radius(Ball(), MeshSettings.threshold) ** 3, rel=0.01)
    outward = mesh.vertices - CENTER.numpy()
    assert ((outward * mesh.vertex_normals).sum(-1) > 0).all()


def test_surface_is_closed_where_the_box_cuts_it() -> None:
    x, y, z = CENTER.tolist()
    half = extract_mesh(Ball(), MeshSettings(resolution=64, aabb=(x, y - 0.9, z - 0.9, x + 0.9, y + 0.9, z + 0.9)))
    assert half.is_watertight
    assert half.volume == pytest.approx(2 / 3 * np.pi * surface_radius(Ball(), MeshSettings.threshold) ** 3, rel=0.03)
    assert half.vertices[:, 0].min() >= x - 2 * 0.9 / 63


def test_vertices_are_coloured_as_seen_from_outside() -> None:
    mesh = extract_mesh(Ball(), MeshSettings(resolution=48))
    outward = mesh.vertices - CENTER.numpy()
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    expected = 255 * (0.5 + 0.5 * outward)
    error = np.abs(mesh.visual.vertex_colors[:, :3] - expected)
    assert error.mean() < 3  # of 255; the mesh's normals are those of flat faces, averaged
    assert (mesh.visual.vertex_colors[:, 3] == 255).all()


def test_empty_space_is_not_asked_for() -> None:
    ball = Ball()
    settings = MeshSettings(resolution=64)
    extract_mesh(ball, settings)
    # the grid fits what is occupied, a ball in its own box (pi / 6); the colours ask for 8 more a vertex
    assert ball.asked < 0.7 * 64**3 + 8 * 20_000


def test_floaters_are_dropped() -> None:
    class WithCrumb(Ball):
        def density_at(self, positions: Tensor) -> Tensor:
            crumb = (positions - torch.tensor([-0.8, 0.8, 0.8])).norm(dim=-1) < 0.05
            return super().density_at(positions) + 1000.0 * crumb

        def occupancy_at(self, positions: Tensor) -> Tensor:
            return torch.ones(len(positions), dtype=torch.bool)

    assert extract_mesh(WithCrumb(), MeshSettings(resolution=64, min_part=0.0)).body_count == 2
    assert extract_mesh(WithCrumb(), MeshSettings(resolution=64, min_part=0.02)).body_count == 1
    # even where no part is as large as asked for the largest one stays
    assert extract_mesh(WithCrumb(), MeshSettings(resolution=64, min_part=1.0)).body_count == 1


def test_nothing_above_the_threshold_is_said() -> None:
    with pytest.raises(EmptyMeshError, match="give a lower one"):
        extract_mesh(Ball(), MeshSettings(resolution=16, threshold=1e9))
    with pytest.raises(EmptyMeshError, match="give another --aabb"):
        extract_mesh(Ball(), MeshSettings(resolution=16, aabb=(-9, -9, -9, -8, -8, -8)))


def test_original_frame_undoes_the_parser() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    transform = torch.cat([rotation, torch.tensor([[0.3], [-2.0], [1.0]])], 1)
    original = trimesh.creation.icosphere(subdivisions=1)
    world = 0.37 * (original.vertices @ rotation.numpy().T + transform[:, 3].numpy())
    mesh = trimesh.Trimesh(world, original.faces, process=False)
    to_original_frame(mesh, transform, 0.37)
    np.testing.assert_allclose(mesh.vertices, original.vertices, atol=1e-5)


def test_positions_of_a_survey_keep_their_digits(tmp_path: Path) -> None:
    offset = torch.tensor([431_234.5, 5_412_345.25, 812.125], dtype=torch.float64)
    original = trimesh.creation.icosphere(subdivisions=1)
    original.visual.vertex_colors = np.arange(4 * len(original.vertices)).reshape(-1, 4) % 256
    mesh = original.copy()
    to_original_frame(mesh, torch.cat([torch.eye(3, dtype=torch.float64), -offset[:, None]], 1), 1.0)
    write_ply(mesh, tmp_path / "mesh.ply")
    mesh.export(tmp_path / "mesh.obj")
    for name in ("mesh.ply", "mesh.obj"):
        read = trimesh.load(tmp_path / name, process=False)
        np.testing.assert_allclose(read.vertices - offset.numpy(), original.vertices, atol=1e-6, rtol=0)
    read = trimesh.load(tmp_path / "mesh.ply", process=False)
    assert (read.faces == mesh.faces).all()
    assert (read.visual.vertex_colors == original.visual.vertex_colors).all()


def test_files_hold_the_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ngp_method.tools import runs

    monkeypatch.setattr(runs, "load_run", lambda path: SimpleNamespace(model=Ball()))
    MeshCommand(tmp_path / "config.yml", tmp_path / "out", resolution=32).main()
    direct = extract_mesh(Ball(), MeshSettings(resolution=32))
    for name in ("mesh.ply", "mesh.obj"):
        loaded = trimesh.load(tmp_path / "out" / name, process=False)
        assert loaded.faces.shape == direct.faces.shape
        np.testing.assert_allclose(loaded.vertices, direct.vertices, atol=1e-5)
        np.testing.assert_allclose(loaded.visual.vertex_colors[:, :3], direct.visual.vertex_colors[:, :3], atol=1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": 4}, "--resolution 4"),
        ({"threshold": 0.0}, "--threshold 0.0"),
        ({"aabb": (0, 0, 0, 1, -1, 1)}, "--aabb 0 0 0 1 -1 1"),
        ({}, "no such file; give the config.yml"),
    ],
)
def test_bad_values_get_one_sentence(tmp_path: Path, changes: dict, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        MeshCommand(tmp_path / "gone.yml", tmp_path / "out", **changes).main()
    assert not (tmp_path / "out").exists()


def test_configs_that_are_none_get_one_sentence(tmp_path: Path) -> None:
    for text in ("just text", "{a: [", "!!python/object:no.such.module.Thing {}"):
        (tmp_path / "config.yml").write_text(text)
        with pytest.raises(SystemExit, match="not the config of a run"):
            MeshCommand(tmp_path / "config.yml", tmp_path / "out").main()


def test_the_command_fails_without_a_traceback(tmp_path: Path) -> None:
    code = "from ngp_method.tools.mesh import main; main()"
    arguments = ["--load-config", str(tmp_path / "gone.yml"), "--output-dir", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("give the config.yml that training wrote.")
    assert "Traceback" not in done.stderr
