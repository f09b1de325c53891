"""Rays from tables are nerfstudio's rays."""

from __future__ import annotations

import math

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from ngp_method.data.rays import CachedRayGenerator
from support import scenes

POSES = torch.from_numpy(scenes.orbit(5)[:, :3]).float()


def cameras(distortion: Tensor | None = None, kind: CameraType = CameraType.PERSPECTIVE, sizes: bool = False) -> Cameras:
    """Five cameras; with ``sizes``, of three different intrinsics and sizes."""
    step = torch.tensor([0, 1, 0, 2, 1]) if sizes else torch.zeros(5, dtype=torch.int64)
    return Cameras(
        camera_to_worlds=POSES,
        fx=40.0 + 3.0 * step,
        fy=44.0 - 2.0 * step,
        cx=25.3 + step,
        cy=19.6 - step,
        width=50 + 2 * step,
        height=40 + step,
        distortion_params=distortion,
        camera_type=kind,
    )


def all_pixels(cams: Cameras) -> Tensor:
    """Every pixel of every camera, shuffled: [n, 3] camera, row, column."""
    rows = []
    for i in range(len(cams)):
        y, x = torch.meshgrid(torch.arange(int(cams.height[i])), torch.arange(int(cams.width[i])), indexing="ij")
        rows.append(torch.stack([torch.full_like(x, i), y, x], dim=-1).reshape(-1, 3))
    indices = torch.cat(rows)
    return indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))]


OPENCV = torch.tensor([0.06, -0.08, 0.01, 0.0, -0.001, 0.002])
MILD = torch.tensor([0.02, 0.01, -0.004, 0.001, 0.0, 0.0])


@pytest.mark.parametrize(
    ("cams", "way"),
    [
        (cameras(), "pinhole"),
        (cameras(torch.zeros(6)), "pinhole"),
        (cameras(sizes=True), "pinhole"),
        (cameras(OPENCV), "table"),
        (cameras(OPENCV, sizes=True), "table"),
        (cameras(MILD, CameraType.FISHEYE), "table"),
        (cameras(None, CameraType.FISHEYE, sizes=True), "table"),
        (cameras(None, CameraType.EQUIRECTANGULAR), "nerfstudio"),
    ],
    ids=["pinhole", "no-distortion", "sizes", "opencv", "opencv-sizes", "fisheye", "fisheye-sizes", "equirectangular"],
)
@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_rays_are_nerfstudios(cams: Cameras, way: str, on_a_gpu: bool) -> None:
    """On a GPU pinholes are looked up as well."""
    indices = all_pixels(cams)
    generator = CachedRayGenerator(cams, pinhole_table=on_a_gpu)
    assert generator.way == ("table" if on_a_gpu and way == "pinhole" else way)
    ours = generator(indices)
    theirs = cams.generate_rays(camera_indices=indices[:, :1], coords=indices[:, 1:].float() + 0.5)
    # float32: unit vectors differ by their last bit or two; 1e-6 is about eight of them
    torch.testing.assert_close(ours.origins, theirs.origins, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.directions, theirs.directions, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.metadata["directions_norm"], theirs.metadata["directions_norm"], rtol=1e-6, atol=1e-6)
    assert ours.pixel_area is not None
    # an area is a product of differences of unit vectors 0.02 apart: their last bits are 1e-5 of it
    torch.testing.assert_close(ours.pixel_area, theirs.pixel_area, rtol=1e-4, atol=1e-6)
    assert torch.equal(ours.camera_indices, theirs.camera_indices)
    assert ours.shape == theirs.shape
    assert ours.directions.is_contiguous()


def test_middle_of_a_fisheye_looks_straight_ahead() -> None:
    """nerfstudio divides zero by zero there."""
    cams = cameras(None, CameraType.FISHEYE)
    cams.cx[:], cams.cy[:] = 25.5, 20.5
    rays = CachedRayGenerator(cams)(torch.tensor([[1, 20, 25]]))
    torch.testing.assert_close(rays.directions[0], -POSES[1, :, 2], rtol=0, atol=1e-6)


def test_table_too_large_goes_to_nerfstudio() -> None:
    cams = cameras(OPENCV, sizes=True)
    pixels = sum({int(w) * int(h) for w, h in zip(cams.width, cams.height, strict=True)})
    assert CachedRayGenerator(cams, cache_bytes=pixels * 20).way == "table"
    small = CachedRayGenerator(cams, cache_bytes=pixels * 20 - 1)
    assert small.way == "nerfstudio"
    assert CachedRayGenerator(cameras(sizes=True), cache_bytes=1, pinhole_table=True).way == "pinhole"
    indices = all_pixels(cams)[:100]
    large = CachedRayGenerator(cams)
    torch.testing.assert_close(small(indices).directions, large(indices).directions, rtol=0, atol=1e-6)


def test_tables_are_shared_between_splits() -> None:
    tables: dict[tuple[float, ...], Tensor] = {}
    first = CachedRayGenerator(cameras(OPENCV), tables=tables)
    second = CachedRayGenerator(cameras(OPENCV)[1:3], tables=tables)
    assert len(tables) == 1
    assert first.table is not None
    assert second.table is not None
    assert first.table.rows is second.table.rows


def test_no_rays() -> None:
    for cams in (cameras(), cameras(OPENCV)):
        rays = CachedRayGenerator(cams)(torch.zeros((0, 3), dtype=torch.int64))
        assert rays.origins.shape == (0, 3)
        assert rays.directions.shape == (0, 3)


def test_distorted_ray_projects_back_to_its_pixel() -> None:
    """OpenCV's projection, written out, brings every ray back to the pixel centre it came from."""
    cams = cameras(OPENCV)
    indices = all_pixels(cams)
    rays = CachedRayGenerator(cams)(indices)
    local = torch.einsum("nji,nj->ni", POSES[indices[:, 0], :, :3].double(), rays.directions.double())
    x, y = local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]
    k1, k2, k3, _, p1, p2 = OPENCV.double().tolist()
    r = x * x + y * y
    radial = 1 + k1 * r + k2 * r**2 + k3 * r**3
    u = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
    v = y * radial + 2 * p2 * x * y + p1 * (r + 2 * y * y)
    # nerfstudio stops after ten Newton steps in float32: a thousandth of a pixel
    torch.testing.assert_close(u * 40.0 + 25.3, indices[:, 2] + 0.5 + 0.0 * u, rtol=0, atol=1e-3)
    torch.testing.assert_close(v * 44.0 + 19.6, indices[:, 1] + 0.5 + 0.0 * v, rtol=0, atol=1e-3)
    assert math.isfinite(float(u.sum()))
