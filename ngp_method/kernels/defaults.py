"""Operations that a kernel set inherits where it has nothing better: compositions of its others, and plain torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from . import cells as grid_cells
from . import gathering, losses
from .batch import PixelTable, RayTable, WorldRays, enter_box, pick_pixels, table_rays
from .density_head import DensityHead
from .footprints import sample_footprints
from .interface import Gathered, Kernels
from .layout import HashGridLayout, MLPLayout
from .samples import PackedSamples, first_rays
from .scene import SceneGeometry


def limited(samples: PackedSamples, resume: Tensor, t_min: Tensor, capacity: int | None) -> tuple[PackedSamples, Tensor]:
    """What ``march`` found, cut to a capacity (see the interface); without padding."""
    if capacity is None:
        return samples, resume
    samples, room = first_rays(samples, capacity)
    return samples, torch.where(room, resume, t_min)


class Defaults:
    """See :class:`~.interface.Kernels` for what each of them does."""

    capturable = False

    def warm_up(self) -> Iterator[str]:
        """See the interface: nothing."""
        return iter(())

    def pick_pixels(self, chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
        """See the interface."""
        return pick_pixels(chosen, views, table)

    def table_rays(self, indices: Tensor, table: RayTable) -> WorldRays:
        """See the interface."""
        return table_rays(indices, table)

    def enter_box(
        self, rays_o: Tensor, directions: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the interface."""
        return enter_box(rays_o, directions, aabb, near, far)

    @torch.no_grad()
    def encode_mlp(
        self: Kernels, positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface: two operations, one after the other."""
        return self.mlp([self.hash_encode(positions, table, grid, footprints)], weights, layout, rows)

    @torch.no_grad()
    def sh_mlp(
        self: Kernels, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout
    ) -> Tensor:
        """See the interface: harmonics of each ray, spread, and the perceptron."""
        return self.mlp([raw, self.spread(self.sh_encode(rays_d), samples)], weights, layout)

    def accumulate(
        self: Kernels, gathered: Gathered, rays: Tensor, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples,
        resume: Tensor, t: Tensor, t_max: Tensor, least: float, median: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See the interface: composited, then added."""
        return gathering.accumulate(self, gathered, rays, sigmas, rgbs, samples, resume, t, t_max, least, median)

    def footprints(self, radii: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """See the interface."""
        return sample_footprints(radii, samples, geometry)

    def density_head(self, raw: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """See the interface."""
        sigmas, same = DensityHead.apply(raw, unit)
        return sigmas, same

    def color_loss(
        self, rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
    ) -> losses.ColorLoss:
        """See the interface."""
        return losses.color_loss(rgbs, opacities, pixels, background, room, loss)

    def room(self, samples: PackedSamples, resume: Tensor, t_max: Tensor) -> tuple[Tensor, Tensor]:
        """See the interface."""
        counts = samples.packed_info[:, 1]
        room = (counts > 0) | (resume >= t_max)
        return room, torch.stack([counts.sum(), room.sum()]).to(torch.int32)

    def prepare(self, table: Tensor | None, occupied: Tensor) -> None:
        """See the interface: nothing is kept, or nothing is captured."""

    def average(self, average: Tensor, value: Tensor, weight: float) -> None:
        """See the interface."""
        average.lerp_(value.detach(), weight)

    def draw_cells(self, values: Tensor, occupied: Tensor, n_turn: int, n_occupied: int, first: int, seed: int) -> Tensor:
        """See the interface."""
        return grid_cells.draw_cells(values, occupied, n_turn, n_occupied, first, seed)

    def cell_points(self, cells: Tensor, resolution: int, cascades: int, seed: int) -> Tensor:
        """See the interface."""
        return grid_cells.cell_points(cells, resolution, cascades, seed)

    def raise_cells(self, values: Tensor, cells: Tensor, found: Tensor, decay: float) -> None:
        """See the interface."""
        grid_cells.raise_cells(values, cells, found, decay)
