"""A plain studio: one key light with a soft shadow, and a fill from above and below, less what is hidden from both.

Sources: soft shadows from the least distance / t on the way to the light (Quilez, "soft shadows in raymarched SDFs", 2010;
instant-ngp ``testbed_sdf.cu`` 200 to 215 likewise) and occlusion from distances along the normal (Evans, "Fast approximations
for global illumination on dynamic scenes", SIGGRAPH 2006).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...pictures.curves import to_srgb
from .tracing import Distance, DistanceBounds, cut_to_box, trace

ALBEDO = (0.55, 0.53, 0.50)
"""Of the clay that everything is made of, linear light."""

KEY, KEY_STRENGTH = (0.45, 0.75, 0.5), 1.1
"""Where the light stands, along right, up and front of the subject; and how bright it is."""

SKY, GROUND = (0.36, 0.40, 0.46), (0.16, 0.145, 0.13)
"""What comes from above and from below, linear light."""

SOFTNESS = 10.0
"""A ray that passes the surface at a tenth of its way to the light, or farther, is lit fully."""

OFFSET = 2e-3
"""Edges of the cube that a ray to the light begins above the surface: it would meet its own otherwise."""

TAPS = (0.01, 0.03, 0.07, 0.14)
"""Distances along the normal at which is asked how near the surface is, edges of the cube."""

SHADOW_STEPS = 64
"""Steps to the light at most: a ray that takes more passes close by, and is in the penumbra."""


def frame(up: Tensor) -> Tensor:
    """[3, 3] rows right, up, front of a subject that stands with ``up`` [3] upwards."""
    up = torch.nn.functional.normalize(up, dim=0)
    front = torch.zeros_like(up)
    front[(int(up.abs().argmax()) + 1) % 3] = 1.0
    right = torch.nn.functional.normalize(torch.linalg.cross(up, front), dim=0)
    return torch.stack([right, up, torch.linalg.cross(right, up)])


@torch.no_grad()
def shade(
    distance: Distance, positions: Tensor, normals: Tensor, rays_d: Tensor, up: Tensor, bounds: DistanceBounds | None = None
) -> Tensor:
    """Colours of points of the surface, with shadow and occlusion.

    Args:
        distance: of the subject; bounds: of the same.
        positions: [N, 3] in units of the cube; normals: [N, 3] unit vectors.
        rays_d: [N, 3] unit vectors along which they are looked at.
        up: [3] what is upwards.

    Returns:
        [N, 3] sRGB in [0, 1].
    """
    facing, key = towards_viewer(normals, rays_d), key_direction(up, positions)
    reached = torch.zeros_like(positions[:, 0])
    lit = torch.nonzero(facing @ key > 0).squeeze(1)
    reached[lit] = shadow(distance, positions[lit] + OFFSET * facing[lit], key, bounds)
    return colors(normals, rays_d, up, reached, occlusion(distance, positions, facing))


def colors(
    normals: Tensor, rays_d: Tensor, up: Tensor, reached: Tensor | float = 1.0, unhidden: Tensor | float = 1.0
) -> Tensor:
    """Colours of points of a surface whose light is known.

    Args:
        normals, rays_d, up: as in :func:`shade`.
        reached: [N] share of the key light that reaches them.
        unhidden: [N] share of the surroundings that they see.

    Returns:
        [N, 3] sRGB in [0, 1].
    """
    facing, key, above = towards_viewer(normals, rays_d), key_direction(up, normals), frame(up.to(normals))[1]
    light = (facing @ key).clamp(min=0.0) * reached
    sky, ground = (torch.tensor(v).to(normals) for v in (SKY, GROUND))
    ambient = (ground + (sky - ground) * (0.5 + 0.5 * (facing @ above))[:, None]) * torch.as_tensor(unhidden)[..., None]
    halfway = torch.nn.functional.normalize(key - rays_d, dim=-1)
    gloss = 0.08 * (facing * halfway).sum(-1).clamp(min=0.0) ** 24 * (light > 0)
    linear = torch.tensor(ALBEDO).to(normals) * (KEY_STRENGTH * light[:, None] + ambient) + gloss[:, None]
    return to_srgb(linear.clamp(0.0, 1.0))


def towards_viewer(normals: Tensor, rays_d: Tensor) -> Tensor:
    """Normals [N, 3], none of which points away from where rays [N, 3] come from: at an outline one may, and is bent back."""
    return torch.nn.functional.normalize(normals - (normals * rays_d).sum(-1, keepdim=True).clamp(min=0.0) * rays_d, dim=-1)


def key_direction(up: Tensor, like: Tensor) -> Tensor:
    """[3] unit vector to the light, of the type and on the device of ``like``."""
    return torch.nn.functional.normalize(torch.tensor(KEY).to(like) @ frame(up.to(like)), dim=0)


def shadow(distance: Distance, positions: Tensor, towards: Tensor, bounds: DistanceBounds | None) -> Tensor:
    """[N] share of a light far away in the direction ``towards`` [3] that reaches points [N, 3]."""
    rays_d = towards.expand_as(positions)
    t_min, t_max = cut_to_box(positions, rays_d)
    found = trace(distance, positions, rays_d, t_min, t_max, bounds, maximum_steps=SHADOW_STEPS)
    return torch.where(found.hit, 0.0, (SOFTNESS * found.nearest).clamp(max=1.0))


def occlusion(distance: Distance, positions: Tensor, normals: Tensor) -> Tensor:
    """[N] share of the surroundings that points [N, 3] with normals [N, 3] see: 1 in the open."""
    hidden, total = torch.zeros_like(positions[:, 0]), 0.0
    for index, tap in enumerate(TAPS):
        at = positions + tap * normals
        inside = ((at >= 0) & (at <= 1)).all(-1)
        weight = 0.7**index / tap
        missing = (tap - distance(at.clamp(0.0, 1.0))).clamp(0.0, tap)
        hidden += torch.where(inside, weight * missing, 0.0)
        total += weight * tap
    return (1.0 - hidden / total).clamp(0.05, 1.0)
