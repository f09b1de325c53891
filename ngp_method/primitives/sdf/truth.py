"""The mesh as it is seen, by rays against its triangles: what a learned distance is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from .field import Seen
from .lighting import colors
from .signed import SignedDistance


def look_at_mesh(shape: SignedDistance, rays_o: Tensor, rays_d: Tensor, up: Tensor) -> Seen:
    """What rays see of a mesh: its faces are flat, and lit without shadows.

    Args:
        shape: the mesh.
        rays_o, rays_d: [R, 3] in units of the cube, unit vectors.
        up: [3] what is upwards.
    """
    device = rays_o.device
    hits = shape.tree.nearest_hits(rays_o.cpu().numpy(), rays_d.cpu().numpy())
    hit = torch.from_numpy(hits.faces >= 0)
    t = torch.where(hit, torch.from_numpy(hits.ts).float(), 0.0)
    corners = torch.from_numpy(shape.mesh.vertices)[torch.from_numpy(shape.mesh.faces).long()[hits.faces[hit.numpy()]]]
    normals = torch.zeros(len(rays_o), 3)
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals[hit] = torch.nn.functional.normalize(across, dim=-1).float()
    seen, along = torch.zeros(len(rays_o), 3), rays_d.cpu()[hit]
    behind = (normals[hit] * along).sum(-1, keepdim=True) > 0  # an open surface is seen from both sides
    seen[hit] = colors(torch.where(behind, -normals[hit], normals[hit]), along, up.cpu())
    return Seen(hit.to(device), t.to(device), normals.to(device), seen.to(device), torch.zeros_like(t, dtype=torch.int32))
