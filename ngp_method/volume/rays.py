"""Rays: what is known of each before it is traced, and where it may be sampled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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
        """[R] radius of the footprint at distance 1: that of a disc of the pixel's area. Made where it is asked for."""
        return None if self.area is None else (self.area / math.pi).sqrt()

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
