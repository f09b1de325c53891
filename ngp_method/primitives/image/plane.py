"""A picture in space: a rectangle that rays meet, so that it can be looked at with any camera.

The rectangle lies in the plane z = 0, is 1 high and width / height wide, has its middle at the origin and its top towards +y;
one who stands on the side of +z sees it upright. (instant-ngp ``testbed_image.cu`` has it at z = 0.5 of the unit cube.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPREAD = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
"""Where four samples lie in a pixel of the view, from its middle: a turned grid, with no two in a row or a column."""

NEAR = 1.25
"""Pixels of the picture beneath a pixel of the view, along a side, up to which one sample is enough: a view that has as many
pixels as the picture shows each of them alone, also where rounding makes it a few less."""


@dataclass(frozen=True)
class Met:
    """Where R rays meet the plane.

    Attributes:
        uv: [R, 2] position in the picture, x to the right and y downwards, both 0 to 1 within it.
        distances: [R] world units along the ray; 0 where it misses.
        hit: [R] bool: it meets the rectangle, ahead of it.
        footprints: [R] side of the ray's pixel on the plane, in pixels of the picture (at least one side, where it is slanted).
    """

    uv: Tensor
    distances: Tensor
    hit: Tensor
    footprints: Tensor


@dataclass(frozen=True)
class Plane:
    """The rectangle of a picture of width x height pixels."""

    width: int
    height: int

    @property
    def aspect(self) -> float:
        """Width of the rectangle, whose height is 1."""
        return self.width / self.height

    @property
    def viewing_distance(self) -> float:
        """From where the whole of it is seen within 53 degrees."""
        return max(1.0, self.aspect)

    def meet(self, rays_o: Tensor, rays_d: Tensor, pixel_area: Tensor | None = None) -> Met:
        """Where rays meet it.

        Args:
            rays_o, rays_d: [R, 3] world units, unit vectors.
            pixel_area: [R] or [R, 1] area of each ray's pixel at distance 1, world units squared; None: rays are lines.
        """
        o, d = rays_o.double(), rays_d.double()  # zoomed in, a pixel is a millionth of the way
        t = -o[:, 2] / d[:, 2]
        at = o + t[:, None] * d
        uv = torch.stack([at[:, 0] / self.aspect + 0.5, 0.5 - at[:, 1]], -1)
        hit = (t > 0) & t.isfinite() & (uv >= 0).all(-1) & (uv <= 1).all(-1)
        if pixel_area is None:
            footprints = torch.zeros_like(t)
        else:
            footprints = pixel_area.reshape(-1).double().sqrt() * t * self.height
        zero = torch.zeros((), dtype=t.dtype, device=t.device)
        return Met(
            torch.where(hit[:, None], uv, zero).float(),
            torch.where(hit, t, zero).float(),
            hit,
            torch.where(hit, footprints, zero).float(),
        )

    def samples(self, met: Met) -> Tensor:
        """Positions [S, R, 2] to be averaged for each ray, S = 1 or 4: more where a ray's pixel covers several of the picture.

        One for all if no ray has more under it than :data:`NEAR`.
        """
        if not met.footprints.numel() or float(met.footprints.max()) <= NEAR:
            return met.uv[None]
        offsets = torch.tensor(SPREAD, device=met.uv.device)[:, None]
        pixel = torch.tensor([1.0 / self.width, 1.0 / self.height], device=met.uv.device)
        return (met.uv + offsets * met.footprints[None, :, None] * pixel).clamp(0.0, 1.0)
