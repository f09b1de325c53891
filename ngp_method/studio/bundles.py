"""nerfstudio's bundles of rays as our rays: the one place where the one becomes the other."""

from __future__ import annotations

import math

from nerfstudio.cameras.rays import RayBundle

from ..kernels.interface_batch import BatchKernels
from ..kernels.scene import SceneGeometry
from ..volume.rays import Rays


def rays_of(bundle: RayBundle, geometry: SceneGeometry, near_plane: float | None, kernels: BatchKernels) -> Rays:
    """Rays of a bundle of any shape, one after the other.

    Each may be sampled in the scene box, cut by the near plane (the scene's own where None is given) or by the bundle's own
    near and far (crop). nerfstudio's ``pixel_area`` is that of a pixel at distance 1.
    """
    o = bundle.origins.reshape(-1, 3).float().contiguous()
    default = near_plane if near_plane is not None else geometry.near
    near = float(max(default, 0.0)) if bundle.nears is None else bundle.nears.reshape(-1).float().clamp(min=0.0)
    far = math.inf if bundle.fars is None else bundle.fars.reshape(-1).float()
    d, t_min, t_max = kernels.enter_box(o, bundle.directions.reshape(-1, 3).float(), geometry.aabb_like(o), near, far)
    camera = None if bundle.camera_indices is None else bundle.camera_indices.reshape(-1).long()
    area = None if bundle.pixel_area is None else bundle.pixel_area.reshape(-1).float()
    return Rays(o, d, t_min, t_max, camera, area)
