"""Rays: what is known of each before it is traced, and where it may be sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_AREA = 1e-2
"""No pixel is as large as this at distance 1 (6 degrees across): bundles that are not of pixels have an area of 1 (nerfstudio's
exports and its test of what is hidden), and stand for points."""

FOOTPRINT_SHARE = 0.5
"""Standard deviation of a sample in radii of its cone: that of a disc along either axis. 0.354 (Zip-NeRF's for each of six
points) and 0.612 (those and their own spread) train no better."""


def cone_radius(area: Tensor) -> Tensor:
    """Radius at distance 1 of the cones of pixels, by their area there; 0 where that is no pixel's (see MOST_AREA)."""
    return torch.where(area < MOST_AREA, (area.clamp(min=0.0) / 3.0).sqrt(), 0.0)


def footprint_of(area: Tensor) -> Tensor:
    """Standard deviation across the ray, at distance 1, of what a sample of a pixel stands for."""
    return FOOTPRINT_SHARE * cone_radius(area)


@dataclass(frozen=True, eq=False)
class Rays:
    """R rays. Another value of anything: ``dataclasses.replace``.

    Attributes:
        o: [R, 3] float32 origins, world units.
        d: [R, 3] float32 unit vectors.
        t_min: [R] float32 distance at which sampling begins, world units; a ray with t_min >= t_max has no samples.
        t_max: [R] float32 distance at which it ends, no further than the scene box.
        camera: [R] int64 number of the camera among those that the caller knows, or None where there is none.
        area: [R] float32 area of the pixel's footprint at distance 1, or None.
    """

    o: Tensor
    d: Tensor
    t_min: Tensor
    t_max: Tensor
    camera: Tensor | None = None
    area: Tensor | None = None

    @property
    def radius(self) -> Tensor | None:
        """[R] radius of the cone around each ray at distance 1, world units; 0 for rays without a pixel, None for no pixels.

        2 / sqrt(12) of a pixel's width, so that a section of the cone has the variance of the pixel (mip-NeRF, section 3.1),
        along unit directions (there: along those that reach the image plane).
        """
        return None if self.area is None else cone_radius(self.area)

    @property
    def footprint(self) -> Tensor | None:
        """[R] standard deviation of a sample across the ray at distance 1, world units; None where all samples are points."""
        return None if self.area is None else footprint_of(self.area)

    @property
    def n_rays(self) -> int:
        """Number of rays, R."""
        return int(self.o.shape[0])

    @property
    def wants_gradient(self) -> bool:
        """Whether anything differentiates by where the rays lie."""
        return torch.is_grad_enabled() and (self.o.requires_grad or self.d.requires_grad)

    def __getitem__(self, index: slice | Tensor) -> Rays:
        """Some of them: a slice, [R] bool, or their numbers."""
        camera = None if self.camera is None else self.camera[index]
        area = None if self.area is None else self.area[index]
        return Rays(self.o[index], self.d[index], self.t_min[index], self.t_max[index], camera, area)

    def split(self, size: int) -> Iterator[Rays]:
        """So many at a time; no rays are one part without rays."""
        for begin in range(0, max(self.n_rays, 1), size):
            yield self[begin : begin + size]

    def detach(self) -> Rays:
        """The same without gradients."""
        return Rays(self.o.detach(), self.d.detach(), self.t_min.detach(), self.t_max.detach(), self.camera, self.area)
