"""A learned distance: what is asked of it, and how it is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...fields.function import FunctionNetwork
from .lighting import shade
from .tracing import DistanceBounds, cut_to_box, trace

LEAST_STEP = 5e-4
"""Of differences, in edges of the cube (testbed_sdf.cu)."""

STEPS_SHOWN = 32
"""Evaluations of the network along a ray that are shown as 1."""


@dataclass(frozen=True)
class Seen:
    """What R rays see of a surface.

    Attributes:
        hit: [R] bool.
        t: [R] distance along the ray, in edges of the unit cube; 0 where nothing is met.
        normals: [R, 3] unit vectors, those of the surface itself; zero where nothing is met, or if they were not wanted.
        colors: [R, 3] sRGB, zero where nothing is met; None if they were not wanted.
        steps: [R] int32, evaluations of the network.
    """

    hit: Tensor
    t: Tensor
    normals: Tensor
    colors: Tensor | None
    steps: Tensor


class DistanceField:
    """A network as a signed distance in the unit cube, negative inside.

    Args:
        network: [N, 3] positions in [0, 1] -> [N, 1].
    """

    def __init__(self, network: FunctionNetwork) -> None:
        self.network = network
        self._bounds: DistanceBounds | None = None

    def forget_bounds(self) -> None:
        """To be told when the network has changed: what bounds its distances is made anew when it is needed."""
        self._bounds = None

    @property
    def bounds(self) -> DistanceBounds:
        """Lower bounds of the distance, made when they are first asked for."""
        if self._bounds is None:
            self._bounds = DistanceBounds(self.distance, self.network.mlp_params.device)
        return self._bounds

    @torch.no_grad()
    def distance(self, positions: Tensor) -> Tensor:
        """Distances [N] of positions [N, 3] in [0, 1]."""
        return self.network.value_at(positions)[:, 0]

    def normal(self, positions: Tensor) -> Tensor:
        """Unit vectors [N, 3] in which the distance grows: its gradient, which is piecewise smooth."""
        return torch.nn.functional.normalize(self.network.value_and_gradient(positions)[1], dim=-1)

    def normal_of_pixel(self, positions: Tensor, widths: Tensor) -> Tensor:
        """Unit vectors [N, 3] in which the distance grows over what a pixel covers, by central differences.

        The gradient jumps at each border of a cell of the grid, which shows as grain where many lie within a pixel (the paper's
        section 6 names it). instant-ngp shades with differences over 5e-4 too (testbed_sdf.cu 1066 to 1106).

        Args:
            positions: [N, 3].
            widths: [N] sides of the pixels on the surface.
        """
        steps = (0.5 * widths).clamp(min=LEAST_STEP)[:, None, None] * torch.eye(3, device=positions.device)
        around = torch.stack([positions[:, None] + steps, positions[:, None] - steps])
        value = self.distance(around.clamp(0.0, 1.0).view(-1, 3)).view(2, -1, 3)
        return torch.nn.functional.normalize(value[0] - value[1], dim=-1)

    def everywhere(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [N] and their gradients [N, 3] of any positions [N, 3], those outside of the cube included.

        There it is the distance at the nearest place of the cube and that to it together: no less than the true one, and off by
        no more than the place's own.
        """
        inside = positions.clamp(0.0, 1.0)
        value, gradient = self.network.value_and_gradient(inside)
        away = positions - inside
        to_cube = away.norm(dim=-1)
        outside = to_cube > 0
        direction = away / to_cube.clamp(min=1e-12)[:, None]
        return value[:, 0] + to_cube, torch.where(outside[:, None], torch.where(away != 0, direction, gradient), gradient)

    @torch.no_grad()
    def look(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        up: Tensor,
        pixel: Tensor | None = None,
        wants: Callable[[str], bool] | None = None,
        exact: bool = False,
    ) -> Seen:
        """What rays see.

        Args:
            rays_o, rays_d: [R, 3] in units of the cube, unit vectors.
            up: [3] what is upwards.
            pixel: [R] side of a ray's pixel at distance 1.
            wants: whether "colors" and "normals" are wanted; None: both.
            exact: find the surface to a hair, not to half a pixel, which is enough to the eye.
        """
        t_min, t_max = cut_to_box(rays_o, rays_d)
        hits = trace(self.distance, rays_o, rays_d, t_min, t_max, self.bounds, None if exact else pixel)
        found = torch.nonzero(hits.hit).squeeze(1)
        o, d, t = rays_o[found], rays_d[found], hits.t[found]
        at = (o + t[:, None] * d).clamp(0.0, 1.0)
        normals, colors = torch.zeros_like(rays_d), None
        if wants is None or wants("normals"):
            normals[found] = self.normal(at)
        if wants is None or wants("colors"):
            widths = torch.zeros_like(t) if pixel is None else pixel[found] * t
            colors = torch.zeros_like(rays_d)
            colors[found] = shade(self.distance, at, self.normal_of_pixel(at, widths), d, up, self.bounds)
        return Seen(hits.hit, torch.where(hits.hit, hits.t, 0.0), normals, colors, hits.steps)


INSIDE, OUTSIDE = (0.93, 0.55, 0.25), (0.30, 0.52, 0.82)
"""Colours of a slice, sRGB."""

LINES = 20
"""Lines of equal distance for each edge of the cube."""


def slice_colors(distances: Tensor) -> Tensor:
    """Distances [N] in edges of the cube -> colours [N, 3]: inside, outside, and lines where they are alike."""
    inside, outside = torch.tensor(INSIDE).to(distances), torch.tensor(OUTSIDE).to(distances)
    base = torch.where(distances[:, None] < 0, inside, outside)
    fade = 0.45 + 0.55 * torch.exp(-4.0 * distances.abs())[:, None]
    phase = (distances.abs() * LINES) % 1.0
    line = (torch.minimum(phase, 1.0 - phase) * 12.0).clamp(max=1.0)[:, None]
    surface = (distances.abs() * 250.0).clamp(max=1.0)[:, None]
    return base * fade * (0.6 + 0.4 * line) * surface
