"""nerfstudio's bundles of rays as our rays: the one place where the one becomes the other."""

from __future__ import annotations

import math

import torch
from nerfstudio.cameras.rays import RayBundle

from ..kernels.scene import SceneGeometry
from ..volume.rays import Rays, intersect_box


def rays_of(bundle: RayBundle, geometry: SceneGeometry, near_plane: float | None) -> Rays:
    """Rays of a bundle of any shape, one after the other.

    Each may be sampled in the scene box, cut by the near plane (the scene's own where None is given) or by the bundle's own
    near and far (crop). nerfstudio's ``pixel_area`` is that of a pixel at distance 1.
    """
    o = bundle.origins.reshape(-1, 3).float().contiguous()
    d = torch.nn.functional.normalize(bundle.directions.reshape(-1, 3).float(), dim=-1).contiguous()
    default = near_plane if near_plane is not None else geometry.near
    near = float(max(default, 0.0)) if bundle.nears is None else bundle.nears.reshape(-1).float().clamp(min=0.0)
    far = math.inf if bundle.fars is None else bundle.fars.reshape(-1).float()
    t_min, t_max = intersect_box(o, d, geometry.aabb_like(o), near, far)
    camera = None if bundle.camera_indices is None else bundle.camera_indices.reshape(-1).long()
    radius = None if bundle.pixel_area is None else (bundle.pixel_area.reshape(-1).float() / math.pi).sqrt()
    return Rays(o, d, t_min, t_max, camera, radius)
