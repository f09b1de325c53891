"""What the tiny scene of ``scenes.py`` really is: depth and normals of its rays, distance to its surface, its pictures."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import scenes
from .cli import SIZE

Array = NDArray[np.float64]

TEST_POSES = scenes.orbit(4, phase=2.0)
"""Cameras of the four test views that ``write_blender`` writes."""


@dataclass
class View:
    """The rays through the pixels' middles, [SIZE, SIZE, ...]: unit direction, distance (inf), surface normal (0)."""

    directions: Array
    depth: Array
    normals: Array

    @property
    def facing(self) -> NDArray[np.bool_]:
        """Pixels that meet a surface less than 70 degrees from head on: a grazing ray's depth hangs on a hair."""
        return np.isfinite(self.depth) & (-(self.normals * self.directions).sum(-1) > np.cos(np.radians(70)))


def view_of(pose: Array, fov: float = scenes.FOV) -> View:
    """The analytic picture of a pinhole camera, ``fov`` being its angle across (and up)."""
    focal = 0.5 * SIZE / np.tan(0.5 * fov)
    x = (np.arange(SIZE) + 0.5 - 0.5 * SIZE) / focal
    u, v = np.meshgrid(x, -x)
    directions = np.stack([u, v, -np.ones_like(u)], -1) @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    depth, normals = np.full(u.shape, np.inf), np.zeros((*u.shape, 3))
    for center, radius, _ in scenes.SPHERES:
        offset = pose[:3, 3] - np.array(center)
        b = directions @ offset
        root = b * b - (offset @ offset - radius**2)
        t = -b - np.sqrt(np.maximum(root, 0.0))
        hit = (root > 0.0) & (t < depth)
        depth[hit] = t[hit]
        normals[hit] = (offset + t[..., None] * directions)[hit] / radius
    return View(directions, depth, normals)


def distance(points: Array) -> Array:
    """Signed distance [n] of points [n, 3] to the scene's surface: positive outside."""
    return np.min([np.linalg.norm(points - np.array(c), axis=-1) - r for c, r, _ in scenes.SPHERES], axis=0)


def visible_surface(count: int) -> Array:
    """Points [n, 3] on the surface, n under ``count``: outside the other spheres and not from below, where no camera is."""
    points = scenes.surface_points(count, room=False)
    normals = np.zeros_like(points)
    for center, radius, _ in scenes.SPHERES:
        offset = points - np.array(center)
        own = np.abs(np.linalg.norm(offset, axis=-1) - radius) < 1e-9
        normals[own] = offset[own] / radius
    return points[(distance(points) > -1e-9) & (normals[:, 2] > 0.0)]


def rgba(path: Path) -> Array:
    """A picture file in [0, 1]."""
    return np.asarray(Image.open(path), np.float64) / 255.0


def over_white(picture: Array) -> Array:
    """Straight-alpha [..., 4] over white."""
    return picture[..., :3] * picture[..., 3:] + 1.0 - picture[..., 3:]


def raw(folder: Path, name: str, index: int, split: str = "test") -> NDArray[np.float32]:
    """What ``ns-render dataset`` wrote as ``raw-NAME`` of view ``index`` of the split, as float32."""
    with gzip.open(folder / split / f"raw-{name}" / f"r_{index}.npy.gz") as file:
        return np.asarray(np.load(file))


def psnr(first: Array, second: Array) -> float:
    """dB."""
    return float(-10.0 * np.log10(np.mean((np.asarray(first, np.float64) - second) ** 2)))
