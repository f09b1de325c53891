"""The points of a mesh: on its surface, near it and anywhere, with their signed distances; and views around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Optional

import numpy as np
import torch
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from torch import Tensor

from ...errors import fail
from ...primitives.sdf.mesh import ENDINGS, Mesh, Sign, load_mesh
from ...primitives.sdf.samples import FIRST, PART, SampleMix, SamplePool, SampleSource
from ...primitives.sdf.signed import SignedDistance
from ...primitives.sdf.truth import look_at_mesh
from ...primitives.sdf.views import focal_length, orbit
from .dataset import MadeWhenAsked, ViewDataset, view_cameras
from .manager import PointBatch, PointDataManager, PointDataManagerConfig

VIEWS, PIXELS = 24, 200
"""Cameras around the mesh, and how wide and high their pictures are."""

POOL_SIZES, USES = {"cpu": 1 << 21, "gpu": 1 << 24}, {"cpu": 8.0, "gpu": 64.0}
"""Points of the pool, and how often each is used, by what trains (instant-ngp testbed.h: at most 2^24)."""

UPWARDS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass
class MeshDataManagerConfig(PointDataManagerConfig):
    """Points of a mesh and their distances."""

    _target: type = field(default_factory=lambda: MeshDataManager)
    """target class to instantiate"""
    SUBJECT: ClassVar[str] = "mesh"
    data: Optional[Path] = None
    """The mesh: OBJ, PLY, STL, GLB, glTF or OFF; the meshes of a scene are taken together."""
    sign: Sign = "auto"
    """What tells inside from outside: pseudonormal (quick, for closed surfaces), winding (the generalised winding number, for
    any triangles), or auto, which chooses by the mesh and says so."""
    mix: tuple[int, int, int, int] = SampleMix().shares
    """Eighths of the points that lie on the surface, near it, in a wider shell, and anywhere in the cube. The paper's is
    4 3 0 1, for ten times as many steps."""
    pool_size: Optional[int] = None
    """Points with their distances that are held in memory, and renewed part by part beside training; default: 2^21, and 2^24 in
    the memory of a GPU, as in instant-ngp."""
    uses: Optional[float] = None
    """Times that a point is trained on before another takes its place; default: 8, on a GPU, for which a processor cannot make
    points as fast as it trains on them, 64."""
    up: Literal["auto", "x", "y", "z"] = "auto"
    """The mesh's axis that points upwards in views; auto: z for STL, y for the others."""
    batch: Optional[int] = None
    """Points of a training step when the batch has grown: it doubles until then. Default: 2^16 on a processor, 2^18 on a
    GPU."""
    batch_doubles_every: int = 1024
    """Steps after which the batch doubles."""
    BATCHES: ClassVar[tuple[int, int]] = (1 << 14, 1 << 16)

    def check(self) -> None:
        """See the base class: the file is there and of a kind that is read."""
        super().check()
        if self.pool_size is not None and (self.pool_size < FIRST or self.pool_size % PART):
            fail(f"--pipeline.datamanager.pool-size {self.pool_size}: give a multiple of {PART}, {FIRST} or more.")
        if self.uses is not None and self.uses <= 0:
            fail(f"--pipeline.datamanager.uses {self.uses:g}: give a number above 0.")
        if self.data is None:
            fail(f"A mesh is needed: give one with --data FILE ({', '.join(ENDINGS)}).")
        if min(self.mix) < 0 or sum(self.mix) != 8:
            fail(f"--pipeline.datamanager.mix {' '.join(map(str, self.mix))}: give four numbers of eighths that add up to 8.")
        mesh_of(self.data, self.sign)


def mesh_of(path: Path, sign: Sign) -> Mesh:
    """The mesh of a file; one that was checked just now is not read again.

    Raises:
        UserError: it cannot be trained on.
    """
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(path.absolute(), sign, changed)


@lru_cache(maxsize=1)
def _read(path: Path, sign: Sign, changed: int) -> Mesh:
    return load_mesh(path, sign)


class MeshDataManager(PointDataManager):
    """See :class:`MeshDataManagerConfig`.

    Attributes:
        shape: the mesh's signed distance.
        pool: points to train on; None where nothing is trained.
    """

    config: MeshDataManagerConfig
    shape: SignedDistance
    pool: Optional[SamplePool] = None

    def look(self) -> ViewDataset:
        """Loads the mesh and, for training, makes the first points."""
        config = self.config
        if config.data is None:
            fail("A mesh is needed: give one with --data FILE.")
        mesh = mesh_of(config.data, config.sign)
        self.shape = SignedDistance(mesh)
        used = mesh.vertices[np.unique(mesh.faces)]
        size = " x ".join(f"{edge:.4g}" for edge in mesh.length_to_world(np.ptp(used, axis=0)))
        CONSOLE.print(
            f"{config.data.name}: {len(mesh.faces):,} triangles, {len(mesh.vertices):,} vertices, {size} of the file's units",
            soft_wrap=True,
        )
        for note in self.shape.notes:
            CONSOLE.print(f"{config.data.name}: {note}", soft_wrap=True)
        axis = config.up if config.up != "auto" else "z" if config.data.suffix.casefold() == ".stl" else "y"
        up = torch.tensor(UPWARDS[axis])
        if self.test_mode == "val":
            # nerfstudio seeds torch before it builds the pipeline: these points' own seed follows from that one
            source = SampleSource(self.shape, SampleMix(*config.mix), int(torch.randint(2**31, (1,))))
            with get_progress("Measuring the first points") as progress:
                task = progress.add_task("", total=1.0)
                device = torch.device(self.device)
                kind = "cpu" if device.type == "cpu" else "gpu"
                self.pool = SamplePool(
                    source,
                    config.pool_size or POOL_SIZES[kind],
                    uses=config.uses or USES[kind],
                    progress=lambda share: progress.update(task, completed=share),
                    device=device,
                )
        poses = orbit(up, VIEWS, float(np.linalg.norm(used - 0.5, axis=1).max()))
        cameras = view_cameras(poses, focal_length(PIXELS), PIXELS, PIXELS)
        metadata = {"shape": self.shape, "up": up, "train_cameras": cameras}
        box = 0.5 * torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
        return ViewDataset(cameras, MadeWhenAsked(VIEWS, lambda index: self._picture(cameras, index, up)), metadata, box)

    def _picture(self, cameras: Any, index: int, up: Tensor) -> Tensor:
        """What a view sees of the mesh, [H, W, 3]."""
        rays = cameras[index : index + 1].generate_rays(camera_indices=0, keep_shape=True)
        shape = rays.origins.shape
        seen = look_at_mesh(self.shape, rays.origins.reshape(-1, 3) + 0.5, rays.directions.reshape(-1, 3), up)
        assert seen.colors is not None
        return torch.where(seen.hit[:, None], seen.colors, 1.0).view(shape)

    def next_points(self, step: int) -> PointBatch:
        """The points of training step ``step``, and their distances [N, 1]."""
        assert self.pool is not None
        self.next_size = self.growth.size(step + 1)
        positions, distances = self.pool.batch(self.growth.size(step))
        return PointBatch(positions.to(self.device), distances[:, None].to(self.device))

    def run_state(self) -> dict[str, Any]:
        """How far the pool has been renewed."""
        return {} if self.pool is None else self.pool.run_state()

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        if self.pool is not None:
            self.pool.load_run_state(state)
