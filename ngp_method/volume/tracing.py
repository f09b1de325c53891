"""A training step's way from rays to colours: march, the density of everything, gradients of what is seen, compositing.

On a GPU the host waits for the device once in a step, for the number of samples that are trained on: what is computed next is
as large as that, and so is the next step's number of rays. For the samples that are marched it does not wait: as many slots as
the last steps let expect are set aside, and never more than a bound. Should they not do, the last rays are left out of this
step. Where nothing is known yet, at the start and after the occupancy grid has changed, it waits for those too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

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

REMEMBERED = 4
"""Steps whose samples a ray are remembered: slots are set aside for the most of them."""

EXACT_STEPS = 2
"""Steps at the start that wait for the number of marched samples. Rays may double from one step to the next, and a guess that
had to come down from the most there can be would set aside a hundred times what is needed."""


@dataclass(frozen=True)
class Slots:
    """How many slots are set aside in a step that asks the host for nothing: for samples marched, and for those kept."""

    marched: int
    kept: int


@dataclass
class Traced:
    """Rays of a training step, and what they cost.

    Attributes:
        rays: the R rays.
        samples: those trained on; with fixed slots, as many as there are slots.
        found: colours, opacities and depths of the rays, with gradients.
        room: [R] bool, rays there was room for; None if there was for all. The others met nothing and must not count.
        marched: samples in occupied cells; with fixed slots, the slots for them.
    """

    rays: Rays
    samples: PackedSamples
    found: Composited
    room: Tensor | None
    marched: int

    @property
    def kept(self) -> int:
        """Samples before the transmittance ran out, trained on; with fixed slots, the slots for them."""
        return self.samples.n_samples


class Tracer:
    """Traces batches of rays with gradients.

    Args:
        network: the field.
        grid: occupied cells.
        exact: wait for the number of marched samples, too (on a processor there is nothing to wait for).
        most_slots: most slots that are ever set aside without knowing; default: no bound.
    """

    def __init__(
        self, network: RadianceNetwork, grid: OccupancyGrid, exact: bool = False, most_slots: int | None = None
    ) -> None:
        self.network, self.grid = network, grid
        self.exact = exact or not network.kernels.asynchronous
        self.most_slots = most_slots
        self._per_ray: deque[float] = deque(maxlen=REMEMBERED)
        self._exact_left = EXACT_STEPS
        self._note: Tensor | None = None
        self._noted: torch.cuda.Event | None = None

    def grid_changed(self) -> None:
        """What was marched before tells nothing of what will be: the next step waits and sees."""
        self._per_ray.clear()
        self._exact_left = max(self._exact_left, 1)

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on, for a checkpoint."""
        return {"per_ray": list(self._per_ray), "exact_left": self._exact_left}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self._per_ray.clear()
        self._per_ray.extend(map(float, state["per_ray"]))
        self._exact_left = int(state["exact_left"])

    def capacity(self, n_rays: int) -> int | None:
        """Slots for the samples of so many rays; None: as many as there will be."""
        if self.exact or self._exact_left > 0 or not self._per_ray:
            return None
        slots = int(MARGIN * max(self._per_ray) * n_rays) + SPARE
        return slots if self.most_slots is None else min(slots, self.most_slots)

    def __call__(self, rays: Rays) -> Traced:
        """Trace rays, each begun at a random part of its first step.

        Args:
            rays: cut to the scene box; origins and directions get gradients if they ask for them.
        """
        where = rays.detach()
        jitter, capacity, room = torch.rand_like(where.t_min), self.capacity(rays.n_rays), None
        samples, resume = self.grid.march(where.o, where.d, where.t_min, where.t_max, jitter=jitter, capacity=capacity)
        if capacity is not None:
            room, numbers = self.network.kernels.room(samples, resume, where.t_max)
            self._take_note(numbers)
        found, kept, _ = self._shade_and_composite(rays, samples)
        marched, n_rays = self._marched() if capacity is not None else (samples.n_samples, rays.n_rays)
        if n_rays:
            self._per_ray.append(marched / n_rays)
            self._exact_left = max(0, self._exact_left - 1)
        return Traced(rays, kept, found, room, marched)

    def fixed(self, rays: Rays, slots: Slots) -> tuple[Traced, Tensor]:
        """Trace rays in buffers of a given size, without asking the host for anything: what a CUDA graph can hold.

        Rays that there is no room for, of either kind, are left out as in a march of a given capacity.

        Returns:
            What was traced, and int32 [4]: samples marched, rays they are of, samples kept, rays they are of. Rays that met
            nothing are counted with the others.
        """
        where, kernels = rays.detach(), self.network.kernels
        jitter = torch.rand_like(where.t_min)
        samples, resume = self.grid.march(where.o, where.d, where.t_min, where.t_max, jitter=jitter, capacity=slots.marched)
        room, numbers = kernels.room(samples, resume, where.t_max)
        found, kept, counts = self._shade_and_composite(rays, samples, slots.kept)
        room = room & ((kept.packed_info[:, 1] > 0) | (counts == 0))
        more = torch.stack([kept.packed_info[-1].sum(), room.sum()]).to(torch.int32)
        return Traced(rays, kept, found, room, slots.marched), torch.cat([numbers, more])

    def _take_note(self, numbers: Tensor) -> None:
        """Have numbers copied to the host, to be read once something queued later has been waited for."""
        if self._note is None:
            self._note = torch.zeros(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.is_cuda)
        self._note.copy_(numbers, non_blocking=True)
        if numbers.is_cuda:
            self._noted = self._noted or torch.cuda.Event()
            self._noted.record()

    def _marched(self) -> tuple[int, int]:
        """Samples marched, and rays there was room for. By now the copy is done, but for steps that waited for nothing."""
        assert self._note is not None
        if self._noted is not None:
            self._noted.synchronize()
        marched, rays = self._note.tolist()
        return int(marched), int(rays)

    def _shade_and_composite(
        self, rays: Rays, samples: PackedSamples, capacity: int | None = None
    ) -> tuple[Composited, PackedSamples, Tensor]:
        """Density of every sample without gradients, then everything of those in front of the opaque.

        Which samples are kept does not depend on the rays in a way that could be differentiated; where the kept ones lie does,
        and is computed once more, with gradients, for rays that want them.

        Returns:
            What rays have gathered, the kept samples (with a capacity, that many slots), and [R] how many each ray would keep.
        """
        network, geometry = self.network, self.grid.geometry
        kernels, weights, unit = network.kernels, network.weights(), geometry.unit_size
        radii = rays.footprint if network.footprints else None
        with torch.no_grad():
            positions = kernels.points(rays.o, rays.d, samples, geometry)
            features = network.encode(positions, weights, network.footprints_of(radii, samples, geometry))
            sigmas = network.density_only(features, weights, unit)
            counts = kernels.visible_counts(sigmas, samples, T_MIN)
            samples, (features, positions) = kernels.keep_first(samples, counts, [features, positions], capacity)
        if rays.wants_gradient:
            positions = kernels.points(rays.o, rays.d, samples, geometry)
        directions = kernels.spread(network.encode_directions(rays.d), samples)
        footprints = network.footprints_of(radii, samples, geometry)
        features = network.encode(positions, weights, footprints, features)
        sigmas, raw = network.density(features, weights, unit)
        rgbs = network.color(raw, directions, weights)
        return kernels.composite(sigmas, rgbs, samples), samples, counts
