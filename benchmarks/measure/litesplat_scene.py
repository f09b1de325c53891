"""A scene in the form LiteSplat imports: COLMAP's text files, starting points, and the places of pixels in its pictures.

Nothing here needs LiteSplat. Positions are world units of the data parser, OpenGL cameras as nerfstudio has them, unless a
docstring says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

POINTS = 2200
"""Gaussians of the author's result (LiteSplat's README: TempleRing, 2,200 of them)."""

CANDIDATES = 20_000
"""Random points of the scene's box that are tried at a time for the visual hull."""

TRIES = 200
"""How many times as many are drawn before a hull counts as too small to be found by chance."""

DISTANCE = 16.0
"""Mean distance of cameras and points in the units written, on which LiteSplat's fixed learning rates depend: 3.7 in the
author's scene (models/camera.json there). On lego 16 is better than 4 by 1.9 dB after ten minutes; the better is compared."""


def check_lenses(cameras: Any, where: Path) -> None:
    """Ends with one sentence where a camera is no perspective one: LiteSplat projects through a pinhole."""
    from ngp_method.errors import fail
    from ngp_method.volume.lens import PERSPECTIVE

    if bool((cameras.camera_type != PERSPECTIVE).any()):
        fail(f"{where}: LiteSplat knows perspective cameras only, and this scene has others; choose another scene or peer.")


def _lens(cameras: Any, index: int) -> tuple[float, float, float, float]:
    fx, fy, cx, cy = (float(getattr(cameras, name).reshape(-1)[index]) for name in ("fx", "fy", "cx", "cy"))
    return fx, fy, cx, cy


def project(cameras: Any, index: int, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where one of the project's own cameras sees points: [N, 3] -> x, y in pixels and whether in the picture, [N]."""
    from ngp_method.volume.lens import distort, onto_plane

    pose = cameras.camera_to_worlds[index].float()
    local = (points - pose[:, 3]) @ pose[:, :3]
    distortion = cameras.distortion_params
    x, y = distort(*onto_plane(local, False), torch.zeros(6) if distortion is None else distortion[index])
    fx, fy, cx, cy = _lens(cameras, index)
    x, y = fx * x + cx, fy * y + cy
    width, height = int(cameras.width[index]), int(cameras.height[index])
    return x, y, (local[:, 2] < 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)


def pixel_places(cameras: Any, index: int) -> Tensor:
    """Middles of a picture's pixels through the pinhole of the camera written, row by row, x right and y down, [H W, 2].

    They differ from (column + 0.5, row + 0.5) where the lens distorts, which a PINHOLE camera cannot say.
    """
    from ngp_method.volume.lens import onto_plane

    directions = cameras.generate_rays(camera_indices=index, keep_shape=True).directions.reshape(-1, 3)
    x, y = onto_plane(directions @ cameras.camera_to_worlds[index, :, :3].to(directions), False)
    fx, fy, cx, cy = _lens(cameras, index)
    return torch.stack([fx * x + cx, fy * y + cy], dim=-1)


def starting_points(dataset: Any, geometry: Any, data: Path, seed: int) -> tuple[Tensor, str]:
    """At most 2,200 points to start from, [N, 3] float32, and where they come from.

    A COLMAP scene's sparse points; else, for pictures with alpha, random points of the visual hull; else random points
    of the unit cube.

    Args:
        dataset: the training views (ByteDataset).
        geometry: SceneGeometry of the scene.
        data: the scene's folder.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    sparse = _sparse_points(data)
    if sparse is not None:
        return sparse[torch.randperm(len(sparse), generator=generator)[:POINTS]], "sparse points of COLMAP"
    pictures = [dataset.get_image_float32(index) for index in range(len(dataset))]
    if all(picture.shape[-1] == 4 for picture in pictures):
        return _hull_points(dataset.cameras, pictures, geometry.aabb, generator), "random points of the visual hull"
    cube = (torch.rand(POINTS, 3, generator=generator) - 0.5) * geometry.unit_size + torch.tensor(geometry.center)
    return cube, "random points of the unit cube"


def _sparse_points(data: Path) -> Tensor | None:
    """The points of a COLMAP scene in the data parser's world; None where there are none."""
    from ngp_method.data.auto import AutoDataParserConfig
    from ngp_method.data.detect import detect, read_capture
    from ngp_method.data.world import place

    capture = read_capture(detect(data))
    if capture.kind != "colmap" or capture.points is None or not len(capture.points):
        return None
    placed = place(capture, AutoDataParserConfig(data=data))
    points = torch.from_numpy(np.asarray(capture.points)).float()
    transform = placed.transform.to(points)
    return placed.scale * (points @ transform[:, :3].T + transform[:, 3])


def _hull_points(cameras: Any, pictures: list[Tensor], box: Tensor, generator: torch.Generator) -> Tensor:
    """Random points of a box [2, 3] that lie inside the alpha of every training view that sees them, [N, 3]."""
    from ngp_method.errors import fail

    found: list[Tensor] = []
    for _ in range(TRIES):
        points = box[0] + torch.rand(CANDIDATES, 3, generator=generator) * (box[1] - box[0])
        seen = torch.zeros(len(points), dtype=torch.bool)
        for index, picture in enumerate(pictures):
            x, y, inside = project(cameras, index, points)
            opaque = torch.ones_like(inside)
            opaque[inside] = picture[y[inside].long(), x[inside].long(), 3] > 0.5
            seen = (seen | inside)[opaque]
            points = points[opaque]
        found.append(points[seen])
        if sum(len(part) for part in found) >= POINTS:
            break
    hull = torch.cat(found)[:POINTS]
    if len(hull) < 2:
        fail("The training views' alphas leave no visual hull to draw LiteSplat's starting points from; mend their alpha.")
    return hull


def mean_colors(dataset: Any, points: Tensor) -> Tensor:
    """What the training views see at points [N, 3], the mean over the views, [N, 3] in [0, 1]; grey where none does."""
    total, count = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
    for index in range(len(dataset)):
        x, y, inside = project(dataset.cameras, index, points)
        total[inside] += dataset.get_image_float32(index)[y[inside].long(), x[inside].long(), :3]
        count += inside[:, None]
    return torch.where(count > 0, total / count.clamp(min=1), torch.full_like(total, 0.5))


def unit_for(cameras: Any, points: Tensor) -> float:
    """Units written per world unit, so that the cameras stand 4 of them from the middle of the points on average."""
    positions = cameras.camera_to_worlds[:, :, 3].float()
    return DISTANCE / float(torch.linalg.norm(positions - points.mean(0), dim=-1).mean())


def half_spacing(points: Tensor) -> float:
    """Half the mean distance to the nearest neighbour of points [N, 3]."""
    distances = torch.cdist(points, points)
    distances.fill_diagonal_(float("inf"))
    return 0.5 * float(distances.min(dim=1).values.mean())


def write_colmap(folder: Path, splits: list[Any], points: Tensor, colors: Tensor, unit: float) -> None:
    """Writes ``images/`` (empty: pictures are handed over in memory) and ``sparse/0/{cameras,images,points3D}.txt``.

    Args:
        folder: where to.
        splits: nerfstudio Cameras, written one after the other, a PINHOLE camera for each view.
        points: [N, 3], and colors: [N, 3] in [0, 1].
        unit: what positions are multiplied by.
    """
    from scipy.spatial.transform import Rotation

    (folder / "images").mkdir(parents=True)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    lenses, views = [], []
    for cameras in splits:
        for index in range(len(cameras)):
            number = len(lenses) + 1
            size = f"{int(cameras.width[index])} {int(cameras.height[index])}"
            lenses.append(f"{number} PINHOLE {size} " + " ".join(f"{value:.9g}" for value in _lens(cameras, index)))
            pose = cameras.camera_to_worlds[index].double().numpy()
            turn = np.diag([1.0, -1.0, -1.0]) @ pose[:, :3].T  # OpenGL's axes to COLMAP's: y down, z ahead
            x, y, z, w = Rotation.from_matrix(turn).as_quat()
            shift = -turn @ pose[:, 3] * unit
            numbers = " ".join(f"{value:.12g}" for value in (w, x, y, z, *shift))
            views.append(
                f"{number} {numbers} {number} {number:05d}.png\n"
            )  # the second line of a view, its keypoints, is empty
    (sparse / "cameras.txt").write_text("\n".join(lenses) + "\n")
    (sparse / "images.txt").write_text("\n".join(views) + "\n")
    rows = zip((points * unit).tolist(), (colors * 255).round().int().tolist())
    lines = [f"{i} {p[0]:.9g} {p[1]:.9g} {p[2]:.9g} {c[0]} {c[1]} {c[2]} 0" for i, (p, c) in enumerate(rows, 1)]
    (sparse / "points3D.txt").write_text("\n".join(lines) + "\n")
