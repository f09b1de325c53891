"""Meshes before they are written, and PLY files with positions in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from torch import Tensor


def drop_small_parts(mesh: trimesh.Trimesh, min_part: float) -> trimesh.Trimesh:
    """``mesh`` without the connected parts that have less than ``min_part`` of all faces."""
    labels = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    counts = np.bincount(labels)
    keep = counts >= min(min_part * len(mesh.faces), counts.max())
    mesh.update_faces(keep[labels])
    mesh.remove_unreferenced_vertices()
    return mesh


def to_original_frame(mesh: trimesh.Trimesh, transform: Tensor, scale: float) -> None:
    """Moves ``mesh`` from a data parser's world, scale * (transform @ x), to the frame its cameras were given in."""
    matrix = np.eye(4)
    matrix[:3] = transform.double().cpu().numpy()
    undo = np.linalg.inv(matrix)
    undo[:3, :3] /= scale
    mesh.apply_transform(undo)


def write_ply(mesh: trimesh.Trimesh, path: Path) -> None:
    """Writes a mesh as binary PLY in float64, with the colours of its vertices where it has any.

    trimesh's writer has float32 alone, which keeps half a metre of a survey's northings.
    """
    visual: Any = mesh.visual
    colored = visual.kind == "vertex"
    fields = [("position", "<f8", 3), *([("color", "u1", 4)] if colored else [])]
    vertices = np.empty(len(mesh.vertices), fields)
    vertices["position"] = mesh.vertices
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    if colored:
        vertices["color"] = visual.vertex_colors
        header += [f"property uchar {channel}" for channel in ("red", "green", "blue", "alpha")]
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("vertices", "<i4", 3)])
    faces["count"], faces["vertices"] = 3, mesh.faces
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n"]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes() + faces.tobytes())
