"""Triangle meshes from files, placed in the unit cube.

The place is instant-ngp's (testbed_sdf.cu, load_mesh): the bounding box, larger by half a percent of its diagonal on each
side, is scaled so that its longest side is 1 and centred in [0, 1]^3. Until then everything is float64, so that millimetres,
kilometres and map coordinates of millions lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...errors import fail
from .mesh_repair import clean, turn_outwards, welded
from .topology import edge_pairs

Floats = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int32]
Sign = Literal["auto", "pseudonormal", "winding"]

ENDINGS = (".obj", ".ply", ".stl", ".glb", ".gltf", ".off")
INFLATE = 0.005
"""Of the bounding box's diagonal, added on each side."""


@dataclass(frozen=True)
class Mesh:
    """Triangles in the unit cube, and the way back to the file's own units.

    Attributes:
        vertices: float64 [V, 3] in [0, 1]^3, no two at the same position.
        faces: int32 [F, 3], none of zero area.
        opposite: int32 [F, 3], what lies across each edge: see :class:`.topology.EdgePairs`.
        scale: unit cube = (world - offset) * scale.
        offset: float64 [3].
        watertight: every edge belongs to exactly two faces.
        sign: what tells inside from outside: "pseudonormal" (Baerentzen and Aanaes 2005; needs a closed surface) or "winding"
            (the generalised winding number, Jacobson et al. 2013; works on any triangles).
        notes: one line each, for the user: what was mended, and the sign's method with the reason.
        name: of the file, for messages.
    """

    vertices: Floats
    faces: Faces
    opposite: Faces
    scale: float
    offset: Floats
    watertight: bool
    sign: Literal["pseudonormal", "winding"]
    notes: tuple[str, ...] = ()
    name: str = "mesh"

    @property
    def to_world(self) -> Floats:
        """float64 [4, 4], from the unit cube to the file's units, for column vectors."""
        matrix = np.eye(4) / self.scale
        matrix[:3, 3], matrix[3, 3] = self.offset, 1.0
        return matrix

    def points_to_world(self, points: npt.ArrayLike) -> Floats:
        """Points [N, 3] of the unit cube in the file's units, float64."""
        return np.asarray(points, np.float64) / self.scale + self.offset

    def points_to_unit(self, points: npt.ArrayLike) -> Floats:
        """Points [N, 3] in the file's units in the unit cube, float64."""
        return (np.asarray(points, np.float64) - self.offset) * self.scale

    def length_to_world(self, lengths: npt.ArrayLike) -> Floats:
        """Lengths (distances too) of the unit cube in the file's units, float64."""
        return np.asarray(lengths, np.float64) / self.scale


def load_mesh(path: str | Path, sign: Sign = "auto") -> Mesh:
    """A mesh file, checked, mended where that is safe, and placed in the unit cube.

    Args:
        path: OBJ, PLY, STL, GLB, glTF or OFF. The meshes of a scene become one, each with its transform applied.
        sign: "auto" takes pseudonormals for a closed surface and the winding number for any other.

    Raises:
        UserError: one sentence that names the file: it is missing, a folder, of an unknown kind, broken; it has no triangles,
            none with an area, or vertices that are not finite.
    """
    file = Path(path)
    vertices, faces = read_triangles(file)
    return make_mesh(vertices, faces, sign, str(file))


def read_triangles(file: Path) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Vertices float64 [V, 3] in the file's units and faces int64 [F, 3] of a file of :data:`ENDINGS`.

    Raises:
        UserError: see :func:`load_mesh`.
    """
    kinds = ", ".join(ending[1:].upper() for ending in ENDINGS)
    if file.is_dir():
        fail(f"{file} is a folder; name the mesh in it ({kinds}).")
    if not file.exists():
        fail(f"{file} does not exist; name a mesh ({kinds}).")
    if file.suffix.lower() not in ENDINGS:
        fail(f"{file} is no mesh of a kind that is read here; convert it to one of {kinds}.")
    import trimesh  # slow to import, and nothing else needs it

    try:
        scene: Any = trimesh.load(file, force="scene", process=False, maintain_order=True, skip_materials=True)
        parts = [part for node in scene.graph.nodes_geometry if (part := _placed(scene, node)) is not None]
    except Exception as error:  # whatever a decoder of a dozen formats raises for a broken file
        fail(f"{file} cannot be read as a mesh ({_first_line(error)}); it may be cut short: export it again.")
    if not any(len(faces) for _, faces in parts):
        fail(f"{file} has no triangles that can be read; export it again, with its faces, not as points or lines.")
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    vertices = np.concatenate([vertices for vertices, _ in parts])
    faces = np.concatenate([faces + start for (_, faces), start in zip(parts, starts)])
    if faces.min() < 0 or faces.max() >= len(vertices):
        fail(f"{file} has faces of vertices that it does not have; it may be cut short: export it again.")
    return vertices, faces


def _first_line(error: Exception) -> str:
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= 120 else text[:117] + "..."


def _placed(scene: Any, node: str) -> tuple[Floats, npt.NDArray[np.int64]] | None:
    """Vertices and faces of one mesh of a scene, where the scene puts it; None for what has no faces."""
    transform, name = scene.graph[node]
    geometry = scene.geometry[name]
    if not hasattr(geometry, "faces"):
        return None
    vertices, faces = np.asarray(geometry.vertices, np.float64), np.asarray(geometry.faces, np.int64)
    matrix = np.asarray(transform, np.float64)
    if not np.array_equal(matrix, np.eye(4)):
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
        if np.linalg.det(matrix[:3, :3]) < 0:  # a mirror turns every face round
            faces = faces[:, ::-1]
    return vertices, faces


def make_mesh(vertices: npt.ArrayLike, faces: npt.ArrayLike, sign: Sign = "auto", name: str = "mesh") -> Mesh:
    """A mesh from arrays, as :func:`load_mesh` makes it from a file.

    Args:
        vertices: [V, 3] in any units.
        faces: [F, 3] integers.
        sign: see :func:`load_mesh`.
        name: of where they come from, for messages.

    Raises:
        UserError: no triangles, none with an area, or vertices that are not finite.
    """
    points, triangles = np.asarray(vertices, np.float64).reshape(-1, 3), np.asarray(faces, np.int64).reshape(-1, 3)
    if not len(triangles):
        fail(f"{name} has no triangles that can be read; export it again, with its faces, not as points or lines.")
    used = np.zeros(len(points), bool)
    used[triangles] = True
    broken = used & ~np.isfinite(points).all(1)
    if broken.any():
        which = f"{broken.sum()} of {len(points)}, the first is number {broken.argmax()} from 0 on"
        fail(f"{name} has faces with a corner that is NaN or infinite ({which}); mend these vertices or remove their faces.")
    points, scale, offset = _into_cube(points, used, name)
    points, triangles = welded(points, triangles)
    points, triangles, notes = clean(points, triangles)
    if not len(triangles):
        fail(f"{name} has no triangle with an area: all of them are points or lines; export it again.")
    pairs = edge_pairs(triangles, len(points))
    triangles, pairs, turned = turn_outwards(points, triangles, pairs)
    method, reason = _choose(sign, pairs.closed, pairs.consistent, pairs.open_edges)
    said = (*notes, *turned, reason)
    return Mesh(points, triangles.astype(np.int32), pairs.opposite, scale, offset, pairs.closed, method, said, name)


def _into_cube(points: Floats, used: npt.NDArray[np.bool_], name: str) -> tuple[Floats, float, Floats]:
    """Points in the unit cube (those of no face at its centre), scale and offset."""
    low, high = points[used].min(0), points[used].max(0)
    with np.errstate(over="ignore"):
        middle, extent = 0.5 * low + 0.5 * high, high - low
        diagonal = float(np.linalg.norm(extent / extent.max())) * float(extent.max()) if extent.max() > 0 else 0.0
    if not 0.0 < diagonal < np.inf:
        fail(f"{name} has no triangle with an area: all of them are points or lines; export it again.")
    side = float(extent.max()) + 2.0 * INFLATE * diagonal
    scale, offset = 1.0 / side, middle - 0.5 * side
    unit = (points - middle) / side + 0.5
    unit[~used] = 0.5
    return unit, scale, offset


def _choose(sign: Sign, closed: bool, consistent: bool, open_edges: int) -> tuple[Literal["pseudonormal", "winding"], str]:
    """The method of the sign, and the line that says so."""
    if sign not in ("auto", "pseudonormal", "winding"):
        raise ValueError(f"There is no sign method '{sign}'; choose one of: auto, pseudonormal, winding.")
    state = "the surface is closed" if closed else f"the surface is open ({open_edges} edges have not exactly two faces)"
    if closed and not consistent:
        state += ", but has no consistent orientation"
    if sign != "auto":
        return sign, f"sign: {sign} (asked for; {state})"
    if closed and consistent:
        return "pseudonormal", f"sign: angle-weighted pseudonormals, as {state}"
    return "winding", f"sign: generalised winding number, as {state}: what it surrounds by more than half counts as inside"
