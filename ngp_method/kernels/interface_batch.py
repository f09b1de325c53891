"""The operations that make a batch: pixels, their rays, and where these may be sampled.

Conventions are those of :mod:`.interface`; what each computes stands in plain torch in :mod:`.batch`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .batch import PixelTable, RayTable, WorldRays


class BatchKernels(Protocol):
    """A part of :class:`~.interface.Kernels`."""

    def pick_pixels(self, chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
        """Colours and places of pixels.

        Args:
            chosen: [n] int64, their numbers in the table.
            views: [n] int64, the image that each lies in.
            table: the images.
        Returns:
            Colours [n, C] float32 in [0, 1]; image, row and column [n, 3] int64.
        """
        ...

    def table_rays(self, indices: Tensor, table: RayTable) -> WorldRays:
        """Rays through pixels, looked up and turned into the world. No gradient.

        Args:
            indices: [n, 3] int64: camera, row and column, all within the table.
            table: the cameras.
        """
        ...

    def enter_box(
        self, rays_o: Tensor, directions: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Unit directions, and where rays may be sampled.

        Args:
            rays_o: [R, 3] world units.
            directions: [R, 3] of any length; a gradient flows from the unit directions.
            aabb: [2, 3] world units.
            near, far: [R], or numbers: the interval that is cut to the box.
        Returns:
            [R, 3] unit directions (zeros stay zeros); [R] begin and [R] end, begin >= end where the box is missed.
        """
        ...
