"""Tiny scenes for tests, ray-cast in numpy and written in each of the formats a user may have.

Spheres with a chequered skin, lit from one side, in the box +-1.5; cut out (alpha) or in a chequered room. A 48x48 view
takes a few milliseconds, so a training test can have dozens. Every writer returns the folder it was given; the scene,
its cameras and its pictures are the same in each format.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]

SPHERES = (
    # centre, radius, colour
    ((0.0, 0.0, 0.0), 0.8, (0.85, 0.25, 0.2)),
    ((0.9, 0.5, 0.4), 0.35, (0.2, 0.6, 0.85)),
    ((-0.6, 0.9, -0.3), 0.4, (0.95, 0.8, 0.2)),
    ((-0.3, -1.0, 0.5), 0.3, (0.3, 0.8, 0.35)),
)
LIGHT = np.array([0.4, -0.5, 0.77])
ROOM_RADIUS = 7.0
RADIUS = 4.0
FOV = 0.6911112070083618
"""camera_angle_x of NeRF's synthetic scenes"""

COLMAP_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""what nerfstudio turns a COLMAP world by; the writer turns it back, so that the scene comes out upright"""


def look_at(position: Array, target: Array | None = None) -> Array:
    """Camera to world [4, 4], OpenGL axes, z up, at ``position``, looking at ``target`` (the origin)."""
    back = position - (np.zeros(3) if target is None else target)
    back = back / np.linalg.norm(back)
    right = np.cross(np.array([0.0, 0.0, 1.0]), back)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :4] = np.stack([right, np.cross(back, right), back, position], axis=-1)
    return pose


def orbit(count: int, radius: float = RADIUS, phase: float = 0.0) -> Array:
    """Poses [count, 4, 4] spread over the upper part of a sphere (golden angle), looking at the origin."""
    k = np.arange(count) + 0.5
    z = -0.2 + 0.9 * k / count
    angle = np.pi * (1.0 + 5.0**0.5) * k + phase
    ring = np.sqrt(1.0 - z * z)
    positions = radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1)
    return np.stack([look_at(position) for position in positions])


def _checker(directions: Array, cells: int) -> Array:
    """0.6 or 1 by the direction's cell on the sphere."""
    theta = np.arccos(np.clip(directions[..., 2], -1.0, 1.0)) / np.pi
    phi = np.arctan2(directions[..., 1], directions[..., 0]) / (2.0 * np.pi) + 0.5
    odd = (np.floor(theta * cells) + np.floor(phi * 2 * cells)) % 2
    return 0.6 + 0.4 * odd


def shade(origins: Array, directions: Array, room: bool) -> tuple[Array, Array]:
    """Colour [n, 3] and coverage [n] of rays [n, 3], directions being unit vectors."""
    count = len(directions)
    color, nearest = np.zeros((count, 3)), np.full(count, np.inf)
    for center, radius, albedo in SPHERES:
        offset = origins - np.array(center)
        b = (offset * directions).sum(-1)
        root = b * b - ((offset * offset).sum(-1) - radius**2)
        t = -b - np.sqrt(np.maximum(root, 0.0))
        hit = (root > 0.0) & (t > 0.0) & (t < nearest)
        normal = (offset + t[:, None] * directions)[hit] / radius
        light = 0.35 + 0.65 * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0.0, 1.0)
        color[hit] = np.array(albedo) * (light * _checker(normal, 6))[:, None]
        nearest[hit] = t[hit]
    covered = np.isfinite(nearest)
    if room:
        b = (origins * directions).sum(-1)
        t = -b + np.sqrt(np.maximum(b * b - ((origins * origins).sum(-1) - ROOM_RADIUS**2), 0.0))
        wall = (origins + t[:, None] * directions)[~covered] / ROOM_RADIUS
        color[~covered] = np.array([0.5, 0.55, 0.7]) * _checker(wall, 5)[:, None] * (0.8 + 0.2 * wall[:, 2:])
    return color, covered.astype(np.float64)


def ray_cast(
    pose: Array,
    size: tuple[int, int],
    focal: tuple[float, float],
    center: tuple[float, float] | None = None,
    room: bool = False,
) -> NDArray[np.uint8]:
    """A picture of the scene by a pinhole camera, four rays a pixel.

    Args:
        pose: camera to world [4, 4].
        size: width and height.
        focal: fx and fy in pixels.
        center: cx and cy in pixels, the middle if not given.
        room: whether there is a room around; else the background is see-through.

    Returns:
        [height, width, 4] uint8, straight alpha.
    """
    width, height = size
    cx, cy = center if center is not None else (0.5 * width, 0.5 * height)
    x = (np.arange(2 * width) + 0.5) / 2.0
    y = (np.arange(2 * height) + 0.5) / 2.0
    u, v = np.meshgrid((x - cx) / focal[0], -(y - cy) / focal[1])
    local = np.stack([u, v, -np.ones_like(u)], axis=-1).reshape(-1, 3)
    directions = local @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    color, alpha = shade(np.broadcast_to(pose[:3, 3], directions.shape), directions, room)
    if room:
        alpha = np.ones_like(alpha)
    stacked = np.concatenate([color * alpha[:, None], alpha[:, None]], axis=-1)
    pooled = stacked.reshape(height, 2, width, 2, 4).mean((1, 3))
    pooled[..., :3] /= np.maximum(pooled[..., 3:], 1e-6)
    return np.round(np.clip(pooled, 0.0, 1.0) * 255.0).astype(np.uint8)


def _save(path: Path, picture: NDArray[np.uint8], alpha: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture if alpha else picture[..., :3]).save(path)


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def write_blender(folder: Path, train: int = 20, val: int = 3, test: int = 5, size: tuple[int, int] = (48, 48)) -> Path:
    """NeRF's synthetic layout: ``transforms_{train,val,test}.json``, RGBA PNG files named without their ending."""
    focal = 0.5 * size[0] / np.tan(0.5 * FOV)
    for phase, (split, count) in enumerate((("train", train), ("val", val), ("test", test))):
        if count == 0:
            continue
        frames = []
        for i, pose in enumerate(orbit(count, phase=float(phase))):
            _save(folder / split / f"r_{i}.png", ray_cast(pose, size, (focal, focal)), alpha=True)
            frames.append({"file_path": f"./{split}/r_{i}", "rotation": 0.1, "transform_matrix": pose.tolist()})
        _dump(folder / f"transforms_{split}.json", {"camera_angle_x": FOV, "frames": frames})
    return folder


def intrinsics(size: tuple[int, int], stretch: float = 1.0) -> dict[str, float]:
    """fl_x, fl_y, cx, cy, w, h of a camera a little off centre; ``stretch`` is fl_y / fl_x."""
    focal = 0.9 * size[0]
    return {
        "fl_x": focal,
        "fl_y": focal * stretch,
        "cx": 0.5 * size[0] + 0.7,
        "cy": 0.5 * size[1] - 0.4,
        "w": size[0],
        "h": size[1],
    }


def _pictures(folder: Path, poses: Array, lens: dict[str, float], room: bool, suffix: str) -> list[str]:
    names = []
    for i, pose in enumerate(poses):
        names.append(f"images/{i:04d}{suffix}")
        size = int(lens["w"]), int(lens["h"])
        picture = ray_cast(pose, size, (lens["fl_x"], lens["fl_y"]), (lens["cx"], lens["cy"]), room)
        _save(folder / names[-1], picture, alpha=not room)
    return names


def write_ngp(
    folder: Path,
    count: int = 16,
    size: tuple[int, int] = (48, 40),
    aabb_scale: int | None = 8,
    room: bool = True,
    stretch: float = 1.1,
    **keys: Any,
) -> Path:
    """instant-ngp's own ``transforms.json``; further ``keys`` go to its top level."""
    lens = intrinsics(size, stretch)
    poses = orbit(count)
    names = _pictures(folder, poses, lens, room, ".png")
    frames = [
        {"file_path": name, "sharpness": 30.0, "transform_matrix": pose.tolist()}
        for name, pose in zip(names, poses, strict=True)
    ]
    scale = {} if aabb_scale is None else {"aabb_scale": aabb_scale}
    _dump(folder / "transforms.json", {**lens, **scale, **keys, "frames": frames})
    return folder


def write_nerfstudio(folder: Path, count: int = 16, size: tuple[int, int] = (48, 40), room: bool = True, **keys: Any) -> Path:
    """nerfstudio's ``transforms.json``, as ns-process-data writes it; further ``keys`` go to its top level."""
    lens = intrinsics(size)
    poses = orbit(count)
    names = _pictures(folder, poses, lens, room, ".png")
    frames = [{"file_path": n, "transform_matrix": p.tolist()} for n, p in zip(names, poses, strict=True)]
    _dump(
        folder / "transforms.json",
        {"camera_model": "OPENCV", **lens, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0, **keys, "frames": frames},
    )
    return folder


def surface_points(count: int, room: bool, seed: int = 0) -> Array:
    """Points on the spheres, and on the room's wall if there is one, [count, 3]."""
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    which = rng.integers(len(SPHERES), size=count)
    centers = np.array([s[0] for s in SPHERES])[which]
    radii = np.array([s[1] for s in SPHERES])[which]
    points = centers + radii[:, None] * normals
    if room:
        points[: count // 3] = ROOM_RADIUS * normals[: count // 3]
    return points


def quaternion(rotation: Array) -> Array:
    """w, x, y, z of a rotation matrix, with w >= 0."""
    k = np.array(
        [
            [rotation.trace(), 0.0, 0.0, 0.0],
            [rotation[2, 1] - rotation[1, 2], 0.0, 0.0, 0.0],
            [rotation[0, 2] - rotation[2, 0], 0.0, 0.0, 0.0],
            [rotation[1, 0] - rotation[0, 1], 0.0, 0.0, 0.0],
        ]
    )
    k[1:, 1:] = rotation + rotation.T - rotation.trace() * np.eye(3)
    values, vectors = np.linalg.eigh(k / 3.0)  # lower triangle
    q = vectors[:, np.argmax(values)]
    return q if q[0] >= 0 else -q


def write_colmap(
    folder: Path,
    count: int = 16,
    size: tuple[int, int] = (48, 40),
    room: bool = True,
    binary: bool = True,
    model: str = "sparse/0",
    points: int = 300,
) -> Path:
    """A COLMAP model (one PINHOLE camera) and its images, as text or binary."""
    lens = intrinsics(size, 1.1)
    poses = orbit(count)
    names = [Path(n).name for n in _pictures(folder, poses, lens, room, ".png")]
    rows = []
    for pose in poses:
        world = COLMAP_AXES.T @ pose[:3]
        world[:, 1:3] *= -1.0
        rotation = world[:, :3].T
        rows.append((quaternion(rotation), -rotation @ world[:, 3]))
    xyz = surface_points(points, room) @ COLMAP_AXES
    target = folder / model
    target.mkdir(parents=True, exist_ok=True)
    params = [lens["fl_x"], lens["fl_y"], lens["cx"], lens["cy"]]
    (_colmap_binary if binary else _colmap_text)(target, size, params, names, rows, xyz)
    return folder


def _colmap_text(
    target: Path, size: tuple[int, int], params: list[float], names: list[str], rows: list[Any], xyz: Array
) -> None:
    (target / "cameras.txt").write_text(f"1 PINHOLE {size[0]} {size[1]} {' '.join(repr(float(p)) for p in params)}\n")
    lines = []
    for i, (name, (q, t)) in enumerate(zip(names, rows, strict=True), start=1):
        lines += [f"{i} {' '.join(repr(float(v)) for v in (*q, *t))} 1 {name}", ""]
    (target / "images.txt").write_text("\n".join(lines) + "\n")
    body = [f"{i} {p[0]!r} {p[1]!r} {p[2]!r} 128 128 128 0.5 1 0 2 0" for i, p in enumerate(xyz.tolist(), start=1)]
    (target / "points3D.txt").write_text("\n".join(body) + "\n")


def _colmap_binary(
    target: Path, size: tuple[int, int], params: list[float], names: list[str], rows: list[Any], xyz: Array
) -> None:
    (target / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, size[0], size[1], *params))
    body = [struct.pack("<Q", len(names))]
    for i, (name, (q, t)) in enumerate(zip(names, rows, strict=True), start=1):
        body.append(struct.pack("<i7di", i, *q, *t, 1) + name.encode() + b"\0" + struct.pack("<Q", 0))
    (target / "images.bin").write_bytes(b"".join(body))
    body = [struct.pack("<Q", len(xyz))]
    body += [struct.pack("<Q3d3BdQ4i", i, *p, 128, 128, 128, 0.5, 2, 1, 0, 2, 0) for i, p in enumerate(xyz.tolist(), start=1)]
    (target / "points3D.bin").write_bytes(b"".join(body))
