"""A scene in Blender's layout as tensors: pictures, poses, rays; torch and numpy alone."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from ngp_method.kernels.batch import PixelTable, RayTable
from ngp_method.kernels.scene import SceneGeometry

from . import gpu_png

BLENDER_EDGE = 3.0
"""Edge of the box of Blender scenes in world units (ngp_method/data/geometry.py)."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Views:
    """Pictures of one size by one pinhole camera.

    Attributes:
        images: [V, H, W, C] uint8, C = 3 or 4 (straight alpha).
        poses: [V, 3, 4] camera to world, the camera looking along -z.
        focal: in pixels.
    """

    images: Tensor
    poses: Tensor
    focal: float

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    def rays(self, view: Tensor, row: Tensor, column: Tensor, zoom: float = 1.0) -> tuple[Tensor, Tensor]:
        """Origins and unit directions through pixel centres, [n, 3] each; ``zoom``: of pictures so many times as wide."""
        height, width = (zoom * side for side in self.size)
        x = (column + 0.5 - 0.5 * width) / (zoom * self.focal)
        y = (row + 0.5 - 0.5 * height) / (zoom * self.focal)
        local = torch.stack([x, -y, -torch.ones_like(x)], -1)
        pose = self.poses[view]
        world = (pose[:, :, :3] * local[:, None, :]).sum(-1)
        return pose[:, :, 3].contiguous(), torch.nn.functional.normalize(world, dim=-1)

    def tables(self) -> tuple[PixelTable, RayTable]:
        """As the data manager has them; pixels have no area, as nothing here asks for it."""
        count, (height, width) = self.poses.shape[0], self.size
        here = Views(self.images[:1], torch.eye(4, device=self.poses.device)[None, :3], self.focal)
        _, local = here.picture_rays(0)
        rows = torch.cat([local, torch.zeros_like(local[:, :1]), -1.0 / local[:, 2:]], 1).contiguous()
        views = torch.arange(count, device=self.poses.device)
        widths, starts = torch.full_like(views, width), torch.zeros_like(views)
        poses = self.poses.float()
        return (
            PixelTable(self.images.reshape(count * height * width, -1), views * height * width, widths),
            RayTable(rows, starts, widths, poses[:, :, :3].contiguous(), poses[:, :, 3].contiguous()),
        )

    def picture_rays(self, view: int, zoom: float = 1.0) -> tuple[Tensor, Tensor]:
        """Rays of a whole picture, row by row."""
        height, width = (round(zoom * side) for side in self.size)
        device = self.poses.device
        row, column = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        return self.rays(torch.full_like(row, view).reshape(-1), row.reshape(-1), column.reshape(-1), zoom)

    def lens(self) -> SimpleNamespace:
        """As :mod:`ngp_method.volume.visibility` takes cameras."""
        count, (height, width) = self.poses.shape[0], self.size

        def same(value: float) -> Tensor:
            return torch.full((count, 1), float(value))

        return SimpleNamespace(
            camera_to_worlds=self.poses.cpu(), fx=same(self.focal), fy=same(self.focal), cx=same(width / 2),
            cy=same(height / 2), width=same(width), height=same(height), distortion_params=None, camera_type=same(1),
        )  # fmt: skip


def find(name: str, data: str | None) -> Path:
    """Folder of a scene: ``data`` itself, or by name under $NGP_DATA, ../shared/data or the demo that is shipped."""
    if name == "demo":
        return ROOT / "ngp_method" / "demo" / "scene"
    root = Path(os.environ.get("NGP_DATA") or ROOT.parent / "shared" / "data")
    folder = Path(data) if data else root / name
    if not (folder / "transforms_train.json").is_file():
        sys.exit(f"{folder}: no transforms_train.json there; set NGP_DATA to the folder that holds {name}, give --data DIR, "
                 "or take the scene that is shipped: --scene demo.")  # fmt: skip
    return folder


def load(folder: Path, split: str, device: torch.device, most: int | None = None) -> Views:
    """The views of a split that are there, at most ``most`` of them."""
    meta = json.loads((folder / f"transforms_{split}.json").read_text())
    found = [(folder / f"{frame['file_path']}.png", frame["transform_matrix"]) for frame in meta["frames"]]
    found = [(path, pose) for path, pose in found if path.is_file()][:most]
    images = torch.from_numpy(gpu_png.read([path for path, _ in found]))
    poses = torch.tensor([pose for _, pose in found])[:, :3]
    focal = 0.5 * images.shape[2] / math.tan(0.5 * meta["camera_angle_x"])
    return Views(images.to(device), poses.to(device), focal)


def shrink(views: Views, factor: int) -> Views:
    """Every pixel the mean of factor x factor (colours weighted by alpha is more than a test of the loop needs)."""
    images = torch.nn.functional.avg_pool2d(views.images.permute(0, 3, 1, 2).float(), factor).permute(0, 2, 3, 1)
    return Views(images.round().to(torch.uint8).contiguous(), views.poses, views.focal / factor)


def geometry() -> SceneGeometry:
    """The box of Blender scenes, with instant-ngp's steps."""
    return SceneGeometry((0.0, 0.0, 0.0), BLENDER_EDGE, 1)
