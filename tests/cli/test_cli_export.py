"""``ns-export`` and ``instant-hash-mesh``: points and meshes lie on the surface of the scene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from support.cli import Forks, Run, run
from support.cli_truth import distance, visible_surface

pytest_plugins = ["support.cli_fixtures"]

NEAR = 0.05
"""A pixel of the training views at the scene's distance (0.045): what 60 pictures of 64x64 tell a surface by."""


def vertices(path: Path) -> np.ndarray:
    """Points of a file."""
    return np.asarray(trimesh.load(path, process=False).vertices, np.float64)


def check_near(points: np.ndarray, median: float, outermost: float = 3.0 * NEAR) -> None:
    """Most of the points lie near the surface, and none far out in the air."""
    away = distance(points)
    assert np.median(np.abs(away)) < median
    assert np.quantile(away, 0.99) < outermost


def check_covers(points: np.ndarray, inside: float | None = None) -> None:
    """Every part of the surface that cameras see has points by it (``inside``: within that box alone)."""
    surface = visible_surface(3000)
    if inside is not None:
        surface = surface[np.abs(surface).max(-1) < inside]
    gaps, _ = cKDTree(points).query(surface)
    assert np.quantile(gaps, 0.98) < 2.0 * NEAR


def test_point_cloud(trained: Run, workspace: Path) -> None:
    out = workspace / "points"
    run("ns-export", "pointcloud", "--load-config", trained.config, "--output-dir", out, "--num-points", 20_000,
        cwd=workspace).check()  # fmt: skip
    cloud = trimesh.load(out / "point_cloud.ply")
    points = np.asarray(cloud.vertices)
    assert len(points) > 15_000  # what is left without the outliers
    check_near(points, median=NEAR)
    check_covers(points)
    normals = ply_columns(out / "point_cloud.ply", ("nx", "ny", "nz"))
    centers = nearest_centers(points)
    outward = (points - centers) / np.linalg.norm(points - centers, axis=-1, keepdims=True)
    assert ((normals * outward).sum(-1) > 0).mean() > 0.9
    colors = np.asarray(cloud.colors)[:, :3].astype(float)
    red = np.linalg.norm(points, axis=-1) < 0.8 + NEAR  # the great sphere, (0.85, 0.25, 0.2) in the light
    assert (colors[red][:, 0] > colors[red][:, 1:].max(-1)).mean() > 0.9


def ply_columns(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """Named vertex properties of a PLY file, [n, len(names)]."""
    import open3d as o3d

    assert names == ("nx", "ny", "nz")
    return np.asarray(o3d.io.read_point_cloud(str(path)).normals)


def nearest_centers(points: np.ndarray) -> np.ndarray:
    """Centre of the sphere each point is nearest to."""
    from support.scenes import SPHERES

    gaps = [np.abs(np.linalg.norm(points - np.array(c), axis=-1) - r) for c, r, _ in SPHERES]
    return np.array([c for c, _, _ in SPHERES])[np.argmin(gaps, axis=0)]


def test_tsdf(trained: Run, workspace: Path) -> None:
    out = workspace / "tsdf"
    run("ns-export", "tsdf", "--load-config", trained.config, "--output-dir", out, "--resolution", 64, "--downscale-factor", 1,
        "--num-pixels-per-side", 256, "--target-num-faces", 2000, cwd=workspace).check()  # fmt: skip
    assert {"tsdf_mesh.ply", "mesh.obj", "material_0.mtl", "material_0.png"} <= {p.name for p in out.iterdir()}
    for name in ("tsdf_mesh.ply", "mesh.obj"):
        points = vertices(out / name)
        check_near(points, median=NEAR)
    check_covers(vertices(out / "tsdf_mesh.ply"), inside=0.95)  # of the default box, +-1


def test_poisson(trained: Run, workspace: Path) -> None:
    out = workspace / "poisson"
    run("ns-export", "poisson", "--load-config", trained.config, "--output-dir", out, "--num-points", 20_000,
        "--num-pixels-per-side", 256, "--target-num-faces", 2000, cwd=workspace).check()  # fmt: skip
    assert {"poisson_mesh.ply", "mesh.obj", "material_0.png"} <= {p.name for p in out.iterdir()}
    for name in ("poisson_mesh.ply", "mesh.obj"):
        check_near(vertices(out / name), median=NEAR)
    check_covers(vertices(out / "poisson_mesh.ply"))


def test_cameras(trained: Run, workspace: Path, forks: Forks, blender: Path) -> None:
    out = workspace / "cameras"
    forks.run("ns-export", "cameras", "--load-config", trained.config, "--output-dir", out, cwd=workspace).check()
    for written, given, count in (("train", "train", 60), ("eval", "test", 4)):
        frames = json.loads((out / f"transforms_{written}.json").read_text())
        truth = json.loads((blender / f"transforms_{given}.json").read_text())["frames"]
        assert len(frames) == len(truth) == count
        for frame, original in zip(frames, truth):
            assert Path(frame["file_path"]).stem == Path(original["file_path"]).name
            np.testing.assert_allclose(frame["transform"], np.array(original["transform_matrix"])[:3], atol=1e-5)


def test_marching_cubes_of_our_own(trained: Run, workspace: Path) -> None:
    out = workspace / "mesh"
    done = run("instant-hash-mesh", "--load-config", trained.config, "--output-dir", out, "--resolution", 96, cwd=workspace)
    assert "Traceback" not in done.check().words
    meshes = [trimesh.load(out / f"mesh.{kind}", process=False) for kind in ("ply", "obj")]
    np.testing.assert_allclose(meshes[0].vertices, meshes[1].vertices, atol=1e-5)
    np.testing.assert_array_equal(meshes[0].visual.vertex_colors, meshes[1].visual.vertex_colors)
    points = np.asarray(meshes[0].vertices)
    # The inside of the spheres, which no camera sees, is as it happens: what counts is the outer skin.
    skin = points[distance(points) > -2.0 * NEAR]
    check_near(skin, median=NEAR)
    check_covers(points)
    red = (np.linalg.norm(points, axis=-1) < 0.8 + NEAR) & (distance(points) > -NEAR)
    colors = meshes[0].visual.vertex_colors[red][:, :3].astype(float)
    assert (colors[:, 0] > colors[:, 1:].max(-1)).mean() > 0.9


@pytest.mark.parametrize("kind", ["marching-cubes", "gaussian-splat"])
def test_what_nerfstudio_exports_of_other_fields_only_ends_with_a_status(
    kind: str, trained: Run, workspace: Path, forks: Forks
) -> None:
    done = forks.run("ns-export", kind, "--load-config", trained.config, "--output-dir", workspace / kind, cwd=workspace)
    assert done.rc != 0
