"""``instant-hash-mesh``: the surface of a trained field as a mesh with vertex colours, PLY or OBJ, on any machine.

``ns-export marching-cubes`` needs CUDA and a signed distance. Here the density is sampled on a grid, empty space passed
over with the help of the occupancy grid, and scikit-image's marching cubes finds where it crosses a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

import numpy as np
import torch
import trimesh
import tyro
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from numpy.typing import NDArray
from skimage.measure import marching_cubes
from torch import Tensor

from ngp_method.errors import UserError, fail
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.primitives.sdf.surface import NoSurfaceYetError, extract_surface
from ngp_method.tools.mesh_files import drop_small_parts, to_original_frame, write_ply

CHUNK = 1 << 17
"""Positions in one call of the field: its buffers then take tens of megabytes."""

LOG_RANGE = 3.0
"""Log-densities are clipped this far from the threshold's, so that one huge value does not pull the surface to it."""

COARSE = 64
"""Cells a side of the first look for what is occupied."""

MAX_RESOLUTION = 1024
"""Samples along the longest edge; the grid takes 4 bytes a sample, marching cubes several times that."""


class Field(Protocol):
    """What a mesh needs of a field; positions in the world frame, [N, 3] float32."""

    def density_at(self, positions: Tensor) -> Tensor:
        """Density [N] float32 per world unit of length."""

    def color_at(self, positions: Tensor, directions: Tensor) -> Tensor:
        """Colour [N, 3] in [0, 1] seen along the unit vectors ``directions`` [N, 3]."""


class Model(Protocol):
    """What a mesh needs of a model."""

    field: Any  # a Field; nerfstudio's own type there is its own
    geometry: SceneGeometry

    def occupancy_at(self, positions: Tensor) -> Tensor:
        """Whether the occupancy grid holds anything there, bool [N]."""


@dataclass
class MeshSettings:
    """How the surface is taken; see :class:`MeshCommand` for each."""

    resolution: int = 256
    threshold: float = 12.2
    aabb: Optional[tuple[float, float, float, float, float, float]] = None
    min_part: float = 0.002


class EmptyMeshError(ValueError):
    """The density crosses the threshold nowhere in the box; the text is one sentence with the mend."""


def extract_mesh(
    model: Model, settings: MeshSettings, advance: Callable[[float], None] = lambda share: None
) -> trimesh.Trimesh:
    """The surface of ``model`` in its world frame, its normals outward, closed where the box cuts it.

    Args:
        model: in eval mode.
        settings: see :class:`MeshCommand`.
        advance: told the share of the work done since the last call.

    Raises:
        EmptyMeshError: where there is no surface.
    """
    device = _device_of(model)
    with torch.no_grad():
        box = occupied_box(model, settings, device)
        values, cell = sample_log_density(model, box, settings, device, lambda share: advance(0.8 * share))
        # A layer of nothing all around closes the surface where the box cuts through the scene.
        values = np.pad(values, 1, constant_values=-LOG_RANGE)
        if values.max() <= 0.0:
            raise EmptyMeshError(f"No density above --threshold {settings.threshold:g} in the box: give a lower one.")
        # "ascent" has the faces turn outward: the array's axes are x, y, z here, scikit-image thinks of z, y, x.
        vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="ascent")
        origin = box[0].cpu().numpy() - cell
        mesh = trimesh.Trimesh(vertices * cell + origin, faces, process=False)
        mesh = drop_small_parts(mesh, settings.min_part)
        colors = vertex_colors(model.field, mesh, cell, device, lambda share: advance(0.2 * share))
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors)
    return mesh


def _device_of(model: Any) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu")) if hasattr(model, "parameters") else CPU


CPU = torch.device("cpu")


def occupied_box(model: Model, settings: MeshSettings, device: torch.device) -> Tensor:
    """The part of the box that the occupancy grid holds something in, [2, 3] float32 world units.

    Raises:
        EmptyMeshError: where it holds nothing there.
    """
    if settings.aabb is not None:
        box = torch.tensor(settings.aabb, dtype=torch.float32, device=device).reshape(2, 3)
    else:
        box = model.geometry.unit_aabb.to(device)
    cell = (box[1] - box[0]) / COARSE
    index = torch.stack(torch.meshgrid(*[torch.arange(COARSE, device=device)] * 3, indexing="ij"), -1).reshape(-1, 3)
    # Eight points a cell: the finest cells of the occupancy grid are half as wide, as long as the box is the unit cube.
    hit = torch.zeros(len(index), dtype=torch.bool, device=device)
    for corner in range(8):
        offset = torch.tensor([0.25 + 0.5 * (corner >> axis & 1) for axis in range(3)], device=device)
        hit |= model.occupancy_at(box[0] + (index + offset) * cell)
    if not bool(hit.any()):
        raise EmptyMeshError("The occupancy grid is empty in the box: train longer, or give another --aabb.")
    low, high = index[hit].amin(0), index[hit].amax(0)
    margin = 1  # what is thinner than the points are apart may stick out
    return torch.stack([box[0] + (low - margin).clamp(min=0) * cell, box[0] + (high + 1 + margin).clamp(max=COARSE) * cell])


def sample_log_density(
    model: Model, box: Tensor, settings: MeshSettings, device: torch.device, advance: Callable[[float], None]
) -> tuple[NDArray[np.float32], float]:
    """log(density / threshold), clipped to +-LOG_RANGE, on a grid over ``box``; and the grid's spacing.

    Returns:
        values [X, Y, Z] float32, sample (i, j, k) at box[0] + (i, j, k) * spacing; spacing in world units.
    """
    edges = box[1] - box[0]
    spacing = float(edges.max()) / (settings.resolution - 1)
    shape = [max(2, math.ceil(float(edge) / spacing - 1e-6) + 1) for edge in edges]
    values = torch.full(shape, -LOG_RANGE)
    flat = values.view(-1)
    level = settings.threshold / model.geometry.unit_size
    for start in range(0, flat.numel(), CHUNK):
        index = torch.arange(start, min(start + CHUNK, flat.numel()), device=device)
        grid = [index // (shape[1] * shape[2]), index // shape[2] % shape[1], index % shape[2]]
        positions = box[0] + torch.stack(grid, -1) * spacing
        occupied = model.occupancy_at(positions)
        if bool(occupied.any()):
            density = model.field.density_at(positions[occupied]).float()
            log = torch.log(density.clamp(min=1e-30) / level).clamp(-LOG_RANGE, LOG_RANGE)
            flat[index[occupied].cpu()] = log.cpu()
        advance(len(index) / flat.numel())
    return values.numpy(), spacing


def vertex_colors(
    field: Field, mesh: trimesh.Trimesh, cell: float, device: torch.device, advance: Callable[[float], None]
) -> NDArray[np.uint8]:
    """Colours [V, 4] uint8 of the vertices, each seen from outside along its normal.

    A short ray, from one cell before the surface to two behind it, is composited as a picture's would be: the colour
    at the vertex alone is often that of space no camera's ray stopped in.
    """
    samples = 8
    depths = torch.linspace(-1.0, 2.0, samples, device=device) * cell
    step = 3.0 * cell / (samples - 1)
    colors = np.full((len(mesh.vertices), 4), 255, np.uint8)
    vertices, normals = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.vertex_normals, np.float32)
    chunk = CHUNK // samples
    for start in range(0, len(vertices), chunk):
        points = torch.from_numpy(vertices[start : start + chunk]).to(device)
        inward = torch.nn.functional.normalize(-torch.from_numpy(normals[start : start + chunk]).to(device), dim=-1)
        positions = (points[:, None] + depths[:, None] * inward[:, None]).reshape(-1, 3)
        directions = inward[:, None].expand(-1, samples, -1).reshape(-1, 3).contiguous()
        optical = field.density_at(positions).float().reshape(-1, samples) * step
        before = torch.exp(-(torch.cumsum(optical, 1) - optical))
        weights = before * -torch.expm1(-optical)
        rgb = field.color_at(positions, directions).float().reshape(-1, samples, 3)
        seen = (weights[..., None] * rgb).sum(1) / weights.sum(1, keepdim=True).clamp(min=1e-8)
        colors[start : start + chunk, :3] = (seen.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        advance(len(points) / len(vertices))
    return colors


def distance_mesh(model: Any, settings: MeshSettings, advance: Callable[[float], None] = lambda share: None) -> trimesh.Trimesh:
    """The surface of a learned signed distance in the units of its mesh, closed, its normals outward.

    Args:
        model: of ``instant-sdf``, in eval mode; settings: resolution and min_part of them.
        advance: told the share of the work done since the last call.

    Raises:
        EmptyMeshError: where there is no surface.
    """
    try:
        vertices, faces = extract_surface(model.distance_field.distance, settings.resolution, _device_of(model), advance)
    except NoSurfaceYetError as error:
        raise EmptyMeshError(f"{str(error).capitalize()}: train longer, or give a lower --resolution.") from None
    if not len(faces):
        raise EmptyMeshError("The learned distance has no surface: train longer.")
    mesh = trimesh.Trimesh(model.shape.mesh.points_to_world(vertices), faces, process=False)
    return drop_small_parts(mesh, settings.min_part)


@dataclass
class MeshCommand:
    """Writes the surface of a trained run as a mesh: of a radiance field with vertex colours, of a signed distance in the units
    of the mesh that it was fitted to."""

    load_config: Path
    """The config.yml of the run."""
    output_dir: Path
    """Folder for mesh.ply and mesh.obj; made if need be."""
    resolution: int = 256
    """Samples along the longest edge of what is occupied."""
    threshold: float = MeshSettings.threshold
    """Density at the surface, per edge of the unit cube; the default is instant-ngp's, exp(2.5). Lower: thicker
    surfaces, fewer holes, more haze; higher: the opposite."""
    aabb: Optional[tuple[float, float, float, float, float, float]] = None
    """The box to take, in the frame the model is trained in: x, y, z of one corner, then of the opposite one. Default:
    the unit cube."""
    min_part: float = MeshSettings.min_part
    """Connected parts with less than this share of all faces are dropped."""
    format: Literal["ply", "obj", "both"] = "both"
    """Which files to write."""
    save_world_frame: bool = False
    """Write the mesh in the frame of the data set's cameras, not in that of the model. (Runs of instant-sdf always do.)"""

    def check(self) -> None:
        """Raises UserError with one sentence where a value makes no sense."""
        if not 8 <= self.resolution <= MAX_RESOLUTION:
            fail(f"--resolution {self.resolution}: give a number from 8 to {MAX_RESOLUTION}.")
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            fail(f"--threshold {self.threshold}: give a density above 0.")
        if self.aabb is not None and not all(low < high for low, high in zip(self.aabb[:3], self.aabb[3:], strict=True)):
            fail(f"--aabb {' '.join(map(str, self.aabb))}: the second corner must lie beyond the first.")
        if self.output_dir.exists() and not self.output_dir.is_dir():
            fail(f"--output-dir {self.output_dir}: there is a file of that name.")

    def main(self) -> None:
        """Loads, extracts, writes, and says where."""
        from ngp_method.tools.runs import load_run

        self.check()
        pipeline = load_run(self.load_config)
        model = pipeline.model
        of_distance = hasattr(model, "distance_field")
        if not of_distance and not all(hasattr(model, name) for name in ("geometry", "occupancy_at")):
            fail(f"--load-config {self.load_config}: a run of {type(model).__name__}, which has no surface.")
        if of_distance:
            self.check_distance()
        settings = MeshSettings(self.resolution, self.threshold, self.aabb, self.min_part)
        with get_progress("Sampling the field") as progress:
            task = progress.add_task("", total=1.0)
            try:
                extract = distance_mesh if of_distance else extract_mesh
                mesh = extract(model, settings, lambda share: progress.advance(task, share))
            except EmptyMeshError as error:
                raise UserError(str(error)) from None
        if self.save_world_frame and not of_distance:
            outputs = pipeline.datamanager.train_dataparser_outputs
            to_original_frame(mesh, outputs.dataparser_transform, outputs.dataparser_scale)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for suffix in ("ply", "obj") if self.format == "both" else (self.format,):
            path = self.output_dir / f"mesh.{suffix}"
            if suffix == "ply" and (self.save_world_frame or of_distance):
                write_ply(mesh, path)
            else:
                mesh.export(path)
            CONSOLE.print(f"{path}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces", soft_wrap=True)

    def check_distance(self) -> None:
        """Raises UserError with one sentence where a flag has no meaning for a signed distance."""
        if self.threshold != MeshSettings.threshold:
            fail("--threshold is of densities, and this is a run of instant-sdf, whose surface is at distance 0; leave it out.")
        if self.aabb is not None:
            fail("--aabb is of radiance fields, and this is a run of instant-sdf, whose box is that of its mesh; leave it out.")


def main() -> None:
    """Entry point of ``instant-hash-mesh``."""
    tyro.cli(MeshCommand).main()
