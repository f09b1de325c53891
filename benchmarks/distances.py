"""Signed distances of a mesh: the tree of this package beside libigl and Open3D, in one run.

    python benchmarks/distances.py                     # the armadillo of $NGP_DATA, or ../shared/data
    python benchmarks/distances.py MESH --points 500000

Points near the surface (noise of 1/1024 of the cube's bounding radius along each axis) and anywhere in the cube, the same for
all; microseconds of the whole processor a point, trees built before. Others that are not installed are left out and named.
Prints one JSON line last, and writes it to benchmarks/results/runs/ with machine, date and command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import records, scenes  # noqa: E402

ROUNDS = 3
"""Each is timed so often, in turn with the others; the median counts."""

Distances = Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]]


def ours(mesh: Any) -> tuple[float, Distances]:
    """Seconds to build, and signed distances of points."""
    from ngp_method.primitives.sdf.signed import SignedDistance

    SignedDistance(mesh)(np.zeros((10, 3)))  # compiled, or read from numba's cache
    began = time.monotonic()
    shape = SignedDistance(mesh)
    return time.monotonic() - began, shape


def libigl(mesh: Any) -> tuple[float, Distances]:
    """The same of libigl, with the sign that this mesh has; its tree is built with every call, and that is taken off."""
    import igl

    kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
    if mesh.sign == "winding":
        kind = igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
    vertices, faces = mesh.vertices, mesh.faces.astype(np.int64)

    def distances(points: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        return np.asarray(igl.signed_distance(points, vertices, faces, kind)[0])

    alone = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        distances(np.zeros((1, 3)))
        alone.append(time.monotonic() - began)
    return min(alone), distances


def open3d(mesh: Any) -> tuple[float, Distances]:
    """The same of Open3D, whose sign is by rays: for closed surfaces alone."""
    import open3d as o3d

    if mesh.sign == "winding":
        raise ImportError("its sign is for closed surfaces alone")
    began = time.monotonic()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(mesh.vertices.astype(np.float32)), o3d.core.Tensor(mesh.faces.astype(np.uint32)))
    scene.compute_distance(o3d.core.Tensor(np.zeros((1, 3), np.float32)))  # the tree is built when it is first asked
    built = time.monotonic() - began

    def distances(points: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        return np.asarray(scene.compute_signed_distance(o3d.core.Tensor(points.astype(np.float32))).numpy())

    return built, distances


def points_of(mesh: Any, n: int) -> dict[str, npt.NDArray[np.float64]]:
    """Points near the surface and anywhere."""
    from ngp_method.primitives.sdf.bvh import Bvh
    from ngp_method.primitives.sdf.measures import surface_points

    rng = np.random.default_rng(0)
    near = surface_points(Bvh(mesh.vertices, mesh.faces), n) + rng.normal(0, 0.5 * 3**0.5 / 1024, (n, 3))
    return {"near": near.clip(0, 1), "anywhere": rng.random((n, 3))}


def compare(path: Path, n: int) -> dict[str, Any]:
    """The figures of all."""
    from ngp_method.primitives.sdf.mesh import load_mesh

    mesh = load_mesh(path)
    ready: dict[str, tuple[float, Distances]] = {}
    found: dict[str, Any] = {"mesh": path.name, "faces": len(mesh.faces), "sign": mesh.sign, "points": n, "missing": {}}
    for name, make in (("ours", ours), ("libigl", libigl), ("open3d", open3d)):
        try:
            ready[name] = make(mesh)
        except (ImportError, OSError) as error:
            found["missing"][name] = str(error)
    found["build_s"] = {name: round(built, 3) for name, (built, _) in ready.items()}
    for kind, points in points_of(mesh, n).items():
        seconds: dict[str, list[float]] = {name: [] for name in ready}
        results = {}
        for _ in range(ROUNDS):
            for name, (built, distances) in ready.items():
                began = time.monotonic()
                results[name] = distances(points)
                seconds[name].append(time.monotonic() - began - (built if name == "libigl" else 0.0))
        found[f"{kind}_us"] = {name: round(1e6 * sorted(s)[ROUNDS // 2] / n, 3) for name, s in seconds.items()}
        found[f"{kind}_off"] = {
            name: float(np.abs(values - results["ours"]).max()) for name, values in results.items() if name != "ours"
        }
    return found


def main() -> None:
    """Compare, record, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="the mesh")
    parser.add_argument("--points", type=int, default=1 << 18, help="points of each kind")
    args = parser.parse_args()
    path = args.mesh or scenes.root() / "sdf" / "ingp_armadillo.obj"
    record = {**records.about("distances"), **compare(path, args.points)}
    records.keep(record, f"distances-{path.stem}")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
