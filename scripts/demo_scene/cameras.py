"""Camera poses of the demo scene.

Poses are camera-to-world (4, 4) in the OpenGL and Blender convention: columns right, up, backwards, position; the
camera looks along its own -z. World z is up, scene units. Both sequences are open-ended: the first poses do not depend
on how many follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DISTANCE = 3.75
"""Distance of every camera from the origin."""
CAMERA_ANGLE_X = 0.6911112070083618
"""Full horizontal field of view in radians, the one of the Blender data sets."""
LOWEST = -12.0
"""Lowest training elevation, degrees."""


def look_at_origin(position: Array) -> Array:
    """Pose (4, 4) at ``position`` (3,) looking at the origin, upright; the position must not lie on the z axis."""
    back = position / np.linalg.norm(position)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=-1)
    pose[:3, 3] = position
    return pose


def _position(azimuth: float, sine: float) -> Array:
    cosine = np.sqrt(1.0 - sine * sine)
    return DISTANCE * np.array([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine])


def spread_poses(count: int, first: int = 0) -> list[Array]:
    """Evenly spread poses over the upper hemisphere and a strip below it (training and validation).

    Members first .. first + count - 1 of the R2 low-discrepancy sequence (M. Roberts, 2018), laid out by equal area.
    """
    plastic = 1.324717957244746
    low, high = np.sin(np.deg2rad(LOWEST)), np.sin(np.deg2rad(86.0))
    poses = []
    for index in range(first, first + count):
        u, v = (0.5 + (index + 1) / plastic) % 1.0, (0.5 + (index + 1) / plastic**2) % 1.0
        poses.append(look_at_origin(_position(2.0 * np.pi * u, low + (high - low) * v)))
    return poses


def orbit_poses(count: int) -> list[Array]:
    """A turntable that rises and sinks (testing): 14.4 degrees a pose, once round in 25, elevations 8 to 52 degrees."""
    poses = []
    for index in range(count):
        azimuth = 2.0 * np.pi * (index + 0.25) / 25.0
        elevation = np.deg2rad(30.0 + 22.0 * np.sin(2.0 * azimuth))
        poses.append(look_at_origin(_position(azimuth, float(np.sin(elevation)))))
    return poses


def pixel_directions(pose: Array, size: int) -> Array:
    """Unit directions (size, size, 3) in the world through the pixel centres, row 0 on top."""
    focal = 0.5 * size / np.tan(0.5 * CAMERA_ANGLE_X)
    offset = (np.arange(size) + 0.5 - 0.5 * size) / focal
    x, y = np.meshgrid(offset, -offset)
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)
