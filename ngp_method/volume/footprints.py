"""Footprints of points that no ray belongs to: what the occupancy grid asks the density at.

A cell must be kept if it holds anything at any scale at which it may be seen: what is thin from near by is wide and faint from
far away. So each probe has the footprint of a pixel of a random training camera, of a random level of the pyramid above its
picture; as the grid keeps the greatest of what it finds, it comes to hold all of them (after PyNeRF, which asks at the
footprints of random training pixels).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..kernels.scene import SceneGeometry
from .rays import footprint_of
from .resolution import Pinholes

COARSEST = 8.0
"""The coarsest pixel that is asked for, in those of the finest training picture: three levels of the pyramid, as in mip-NeRF's
multi-scale pictures; coarser ones hide what is lost at their borders."""


class ProbeFootprints:
    """Footprints of probes, drawn anew each time.

    Args:
        cameras: of the training pictures.
        geometry: the scene box.

    Attributes:
        centers: [C, 3] where the cameras are, world units.
        radii: [C] standard deviation of a pixel's footprint at distance 1, world units.
        most: [C] how many times as wide the coarsest pixel is that is asked for.
    """

    def __init__(self, cameras: Pinholes, geometry: SceneGeometry) -> None:
        self.geometry = geometry
        self.centers = cameras.camera_to_worlds.detach().reshape(-1, 3, 4)[:, :, 3].float().cpu()
        area = 1.0 / (cameras.fx.detach().reshape(-1).float().cpu() * cameras.fy.detach().reshape(-1).float().cpu()).abs()
        self.radii = footprint_of(area)
        finest = self.radii[self.radii > 0].amin() if bool((self.radii > 0).any()) else torch.tensor(0.0)
        self.most = (COARSEST * finest / self.radii.clamp(min=1e-30)).clamp(min=1.0, max=COARSEST)

    def __call__(self, positions: Tensor) -> Tensor:
        """Points [N, 3] in [0, 1] over the scene box -> standard deviations [N], in edges of the box."""
        geometry, device, n = self.geometry, positions.device, positions.shape[0]
        self.centers, self.radii, self.most = (part.to(device) for part in (self.centers, self.radii, self.most))
        drawn = torch.rand(2, n, device=device)
        camera = (drawn[0] * len(self.radii)).long().clamp(max=len(self.radii) - 1)
        world = (positions - 0.5) * geometry.box_size + torch.tensor(geometry.center, device=device)
        away = torch.linalg.vector_norm(world - self.centers[camera], dim=-1).clamp(min=geometry.near)
        # One of the levels 1, 2, 4, 8 that are no coarser than the coarsest.
        levels = torch.floor(torch.log2(self.most) + 1e-3)[camera] + 1.0
        wider = torch.exp2(torch.floor(drawn[1] * levels))
        return self.radii[camera] * wider * away * (1.0 / geometry.box_size)


def probes_of(cameras: Pinholes | None, geometry: SceneGeometry) -> ProbeFootprints | None:
    """Probes of the training cameras; None without any: points are all that is known."""
    if cameras is None or not math.prod(cameras.camera_to_worlds.shape[:-2]):
        return None
    return ProbeFootprints(cameras, geometry)
