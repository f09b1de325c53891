"""A training step's way from rays to colours: march, the density of everything, gradients of what is seen, compositing.

On a GPU the host waits for the device once in a step, for the number of samples that are trained on: what is computed next is
as large as that, and so is the next step's number of rays. For the samples that are marched it does not wait: as many slots as
the last step lets expect are set aside. Should they not do, the last rays are left out of this step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.network import RadianceNetwork
from ..kernels import Composited
from ..kernels.samples import PackedSamples
from ..kernels.scene import MAX_STEPS
from .occupancy import OccupancyGrid
from .rays import Rays
from .rendering import T_MIN

MARGIN = 1.125
"""Slots for an expected marched sample: a batch of some thousand rays differs from the next by a few in a hundred."""

SPARE = 8 * MAX_STEPS
"""Slots on top, for batches of few rays."""

FORGET = 0.9
"""Samples expected of a ray fall by no more than this a step, so that one odd batch does not leave out half the next."""


@dataclass
class Traced:
    """Rays of a training step, and what they cost.

    Attributes:
        found: colours, opacities and depths of the rays, with gradients.
        room: [R] bool, rays there was room for; None if there was for all. The others met nothing and must not count.
        marched: samples in occupied cells.
        kept: those of them before the transmittance ran out, trained on.
    """

    found: Composited
    room: Tensor | None
    marched: int
    kept: int


class Tracer:
    """Traces batches of rays with gradients.

    Args:
        network: the field.
        grid: occupied cells.
        exact: wait for the number of marched samples, too (on a processor there is nothing to wait for).
    """

    def __init__(self, network: RadianceNetwork, grid: OccupancyGrid, exact: bool = False) -> None:
        self.network, self.grid = network, grid
        self.exact = exact or not network.kernels.asynchronous
        self._per_ray = float(MAX_STEPS)
        self._note: Tensor | None = None

    def capacity(self, n_rays: int) -> int | None:
        """Slots for the samples of so many rays; None: as many as there will be."""
        return None if self.exact else int(MARGIN * self._per_ray * n_rays) + SPARE

    def __call__(self, rays: Rays) -> Traced:
        """Trace rays, each begun at a random part of its first step.

        Args:
            rays: cut to the scene box; origins and directions get gradients if they ask for them.
        """
        where = rays.detach()
        jitter, capacity, room = torch.rand_like(where.t_min), self.capacity(rays.n_rays), None
        samples, resume = self.grid.march(where.o, where.d, where.t_min, where.t_max, jitter=jitter, capacity=capacity)
        if capacity is not None:
            counts = samples.packed_info[:, 1]
            room = (counts > 0) | (resume >= where.t_max)
            self._take_note(torch.stack([counts.sum(), room.sum()]))
        found, kept = self._shade_and_composite(rays, samples)
        return Traced(found, room, samples.n_samples if capacity is None else self._marched(), kept)

    def _take_note(self, numbers: Tensor) -> None:
        """Have numbers copied to the host, which may read them once it has waited for anything queued later."""
        if self._note is None:
            self._note = torch.zeros(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.is_cuda)
        self._note.copy_(numbers, non_blocking=True)

    def _marched(self) -> int:
        """Samples marched, once the host has waited for those that are kept; and what to expect next."""
        assert self._note is not None
        marched, rays = self._note.tolist()
        self._per_ray = max(marched / max(1, rays), FORGET * self._per_ray)
        return int(marched)

    def _shade_and_composite(self, rays: Rays, samples: PackedSamples) -> tuple[Composited, int]:
        """Density of every sample without gradients, then everything of those in front of the opaque.

        Which samples are kept does not depend on the rays in a way that could be differentiated; where the kept ones lie does,
        and is computed once more, with gradients, for rays that want them.
        """
        network, geometry = self.network, self.grid.geometry
        kernels, weights, unit = network.kernels, network.weights(), geometry.unit_size
        with torch.no_grad():
            positions = kernels.points(rays.o, rays.d, samples, geometry)
            features = network.encode(positions, weights)
            sigmas = network.density_only(features, weights) / unit
            counts = kernels.visible_counts(sigmas, samples, T_MIN)
            samples, (features, positions) = kernels.keep_first(samples, counts, [features, positions])
        if rays.wants_gradient:
            positions = kernels.points(rays.o, rays.d, samples, geometry)
        harmonics = kernels.spread(kernels.sh_encode(rays.d), samples)
        features = network.encode(positions, weights, features)
        sigmas, raw = network.density(features, weights)
        rgbs = network.color(raw, harmonics, weights)
        return kernels.composite(sigmas / unit, rgbs, samples), samples.n_samples
