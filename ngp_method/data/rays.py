"""Rays of sampled pixels, without working out the lens again for each of them.

nerfstudio makes each ray from scratch: ten Newton steps of undistortion for the pixel and for its two neighbours, 5 ms
for 4,096 rays. Directions in the camera's own axes depend on pixel and intrinsics alone, so they are worked out once
per distinct intrinsics and looked up.
"""

from __future__ import annotations

import torch
from nerfstudio.cameras import camera_utils
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ngp_method.kernels.batch import ROW_FLOATS, RayTable, to_world
from ngp_method.kernels.interface_batch import BatchKernels
from ngp_method.kernels.reference import ReferenceKernels
from ngp_method.volume.lens import FISHEYE, PERSPECTIVE, from_plane

CACHE_BYTES = 256 * 2**20
"""The most the table of directions may take; beyond it nerfstudio's own generator is asked for the sampled pixels."""

TABLED = (PERSPECTIVE, FISHEYE)
"""Lens models the table knows, both with nerfstudio's six distortion parameters; others go to nerfstudio."""

BAND_PIXELS = 2**14
"""Pixels undistorted at a time: their temporaries stay in the second-level cache."""


class CachedRayGenerator:
    """Camera, row and column -> ray; equal to ``cameras.generate_rays`` for rotations that are rotations.

    Three ways, chosen once: pinholes without distortion are computed outright (nothing to cache, any number of
    intrinsics), but on a GPU looked up, as a table takes a third of the launches; other lenses are looked up; what does not
    fit in ``cache_bytes``, is a lens of another kind or carries times goes to nerfstudio.

    Args:
        cameras: [N].
        device: where rays are made.
        cache_bytes: see :data:`CACHE_BYTES`.
        tables: tables made before, by intrinsics, to share (training and held-out views often have the same camera);
            those made here are added.
        pinhole_table: whether pinholes are looked up too; default: on a GPU.

    Attributes:
        way: ``pinhole``, ``table`` or ``nerfstudio``.
        table: the rays of all pixels, for ``table``.
        kernels: what looks them up; of the model's set once the pipeline is made.
    """

    def __init__(
        self,
        cameras: Cameras,
        device: torch.device | str = "cpu",
        cache_bytes: int = CACHE_BYTES,
        tables: dict[tuple[float, ...], Tensor] | None = None,
        pinhole_table: bool | None = None,
    ) -> None:
        self.cameras = cameras.to(device)
        self.device = torch.device(device)
        distorted = cameras.distortion_params is not None and bool((cameras.distortion_params != 0).any())
        types = cameras.camera_type.reshape(-1)
        self.table: RayTable | None = None
        self.kernels: BatchKernels = ReferenceKernels()
        poses = self.cameras.camera_to_worlds.float()
        self._rotation = poses[:, :, :3].contiguous()
        self._origin = poses[:, :, 3].contiguous()
        looked_up = self.device.type != "cpu" if pinhole_table is None else pinhole_table
        pinholes = not distorted and bool((types == PERSPECTIVE).all())
        if cameras.times is not None or not all(int(t) in TABLED for t in types.unique()):
            self.way = "nerfstudio"
        elif pinholes and not looked_up:
            self.way = "pinhole"
        else:
            rows, distinct, first = _distinct_intrinsics(cameras)
            sizes = (cameras.width * cameras.height).reshape(-1)[first]
            if int(sizes.sum()) * ROW_FLOATS * 4 > cache_bytes:
                self.way = "pinhole" if pinholes else "nerfstudio"
            else:
                self.way = "table"
                tables = {} if tables is None else tables
                for i in first.tolist():
                    if rows[i] not in tables:
                        tables[rows[i]] = _camera_rows(cameras, i).to(self.device)
                wanted = [tables[rows[i]] for i in first.tolist()]
                starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1].cpu()])
                self.table = RayTable(
                    wanted[0] if len(wanted) == 1 else torch.cat(wanted),
                    starts[distinct].to(self.device),
                    self.cameras.width.reshape(-1).long(),
                    self._rotation,
                    self._origin,
                )
        if self.way == "pinhole":
            c = self.cameras
            self._inverse = torch.cat([c.cx, c.cy, 1.0 / c.fx, 1.0 / c.fy], dim=-1).float().contiguous()

    def __call__(self, ray_indices: Tensor) -> RayBundle:
        """Rays through pixel centres.

        Args:
            ray_indices: camera, row, column, [n, 3] int64; n may be 0.

        Returns:
            ``RayBundle`` [n]: contiguous origins and unit directions [n, 3] float32, pixel_area [n, 1],
            camera_indices [n, 1], metadata ``directions_norm`` [n, 1].
        """
        ray_indices = ray_indices.to(self.device)
        camera = ray_indices[:, 0]
        if self.way == "nerfstudio":
            return self.cameras.generate_rays(camera_indices=ray_indices[:, :1], coords=ray_indices[:, 1:].float() + 0.5)
        if self.way == "pinhole":
            local = self._pinhole(camera, ray_indices[:, 1], ray_indices[:, 2])
            rays = to_world(*local, camera, self._rotation, self._origin)
        else:
            assert self.table is not None
            rays = self.kernels.table_rays(ray_indices, self.table)
        metadata = dict(self.cameras.metadata) if self.cameras.metadata is not None else {}
        metadata = {k: v[camera] for k, v in metadata.items() if isinstance(v, Tensor)}
        return RayBundle(
            origins=rays.o,
            directions=rays.d,
            pixel_area=rays.area,
            camera_indices=camera[:, None],
            metadata={**metadata, "directions_norm": rays.norm},
        )

    def _pinhole(self, camera: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit directions in camera axes [n, 3], pixel areas [n, 1], lengths before normalising [n, 1]."""
        cx, cy, ix, iy = self._inverse.index_select(0, camera).unbind(-1)
        x = (column + 0.5 - cx) * ix
        y = (row + 0.5 - cy) * iy
        norm = torch.sqrt(x * x + y * y + 1.0)
        local = torch.stack([x, -y, -torch.ones_like(x)], dim=-1) / norm[:, None]
        area = _chord(x, y, norm, ix, 0) * _chord(x, y, norm, iy, 1)
        return local, area[:, None], norm[:, None]


def _chord(x: Tensor, y: Tensor, norm: Tensor, step: Tensor, axis: int) -> Tensor:
    """Distance between the unit vectors through a pixel and through its neighbour along an axis, [n]."""
    u = x + step if axis == 0 else x
    v = y + step if axis == 1 else y
    other = torch.sqrt(u * u + v * v + 1.0)
    dx, dy, dz = u / other - x / norm, v / other - y / norm, 1.0 / other - 1.0 / norm
    return torch.sqrt(dx * dx + dy * dy + dz * dz)


def _distinct_intrinsics(cameras: Cameras) -> tuple[list[tuple[float, ...]], Tensor, Tensor]:
    """Each camera's intrinsics, which of the distinct ones it has [N], and the first camera with each of them [K]."""
    parts = [cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height, cameras.camera_type]
    if cameras.distortion_params is not None:
        parts.append(cameras.distortion_params)
    rows = torch.cat([part.double().cpu() for part in parts], dim=-1)
    _, inverse = torch.unique(rows, dim=0, return_inverse=True)
    count = int(inverse.max()) + 1
    first = torch.full((count,), len(rows), dtype=torch.int64)
    first.scatter_reduce_(0, inverse, torch.arange(len(rows)), reduce="amin")
    return [tuple(row) for row in rows.tolist()], inverse, first


def _camera_rows(cameras: Cameras, index: int) -> Tensor:
    """The table of one camera's pixels, row-major [H * W, 5]; the arithmetic is that of nerfstudio's ``Cameras``.

    A pixel's area is worked out from its right and its lower neighbour, which are pixels of the table themselves but
    for one more column and row: each is undistorted once, where nerfstudio does it three times.
    """
    width, height = int(cameras.width[index]), int(cameras.height[index])
    fx, fy, cx, cy = (float(value[index]) for value in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
    x = ((torch.arange(width + 1) + 0.5 - cx) / fx).float()
    y = ((torch.arange(height + 1) + 0.5 - cy) / fy).float()
    fisheye = int(cameras.camera_type[index]) == FISHEYE
    distortion = None if cameras.distortion_params is None else cameras.distortion_params[index].float().cpu()
    out = torch.empty((height, width, ROW_FLOATS), dtype=torch.float32)
    band = max(1, BAND_PIXELS // (width + 1))
    for top in range(0, height, band):
        rows = y[top : top + band + 1]
        coords = torch.stack([x.expand(len(rows), -1), rows[:, None].expand(-1, width + 1)], dim=-1)
        if distortion is not None and bool((distortion != 0).any()):
            coords = camera_utils.radial_and_tangential_undistort(coords, distortion)
        rays = from_plane(coords, fisheye)
        norm = torch.linalg.vector_norm(rays, dim=-1, keepdim=True)
        unit = rays / norm
        here = unit[:-1, :-1]
        right = torch.linalg.vector_norm(unit[:-1, 1:] - here, dim=-1, keepdim=True)
        below = torch.linalg.vector_norm(unit[1:, :-1] - here, dim=-1, keepdim=True)
        out[top : top + band] = torch.cat([here, right * below, norm[:-1, :-1]], dim=-1)
    return out.reshape(-1, ROW_FLOATS)
