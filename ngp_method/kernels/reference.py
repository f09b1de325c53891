"""Plain torch, float32 or float64, any device: slow, readable, the judge of the other kernel sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .adam import ADAM_MAX_STEPS, AdamSettings, AdamState
from .constants import constant
from .defaults import Defaults, limited
from .footprints import with_scale
from .interface import Composited
from .layout import PRIMES, HashGridLayout, Level, MLPLayout
from .samples import PackedSamples, counts_within, packed_info_from_counts, sums_before
from .scene import MAX_STEPS, SceneGeometry
from .spherical import spherical_harmonics

UINT32 = 0xFFFFFFFF


class ReferenceKernels(Defaults):
    """Every operation of :class:`~.interface.Kernels` in torch; precision follows the tensors given."""

    name = "reference"
    description = "plain torch, the definition of every operation (slow)"
    asynchronous = False

    def hash_encode(
        self, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface; ``features`` is not needed here, as nothing is gained by it."""
        layout.check(positions)
        entries, positions = table.view(layout.n_entries, layout.n_features_per_level), in_unit_box(positions)
        encoded = [_encode_level(positions, entries, level) for level in layout.levels]
        found = torch.cat(encoded, -1)
        return found if footprints is None else with_scale(found, footprints, layout)

    def sh_encode(self, directions: Tensor) -> Tensor:
        """See the interface."""
        return spherical_harmonics(directions)

    def mlp(self, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        """See the interface."""
        hidden = torch.cat([self.dense_features(part) for part in parts], -1)
        missing = layout.padded_input - hidden.shape[-1]
        if missing:
            hidden = torch.nn.functional.pad(hidden, (0, missing))
        last = len(layout.shapes) - 1
        for index, (offset, (n_out, n_in)) in enumerate(zip(layout.offsets, layout.shapes)):
            matrix = weights[offset : offset + n_out * n_in].view(n_out, n_in)
            hidden = hidden @ matrix.t().to(hidden.dtype)
            if index != last:
                hidden = torch.relu(hidden)
        return hidden[:, : rows or layout.n_output_dims]

    def keep_first(
        self, samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
    ) -> tuple[PackedSamples, list[Tensor]]:
        """See the interface."""
        counts, rays = counts_within(counts, capacity), samples.ray_indices.long()
        order = torch.arange(samples.n_samples, device=rays.device) - samples.packed_info[:, 0].long()[rays]
        index = torch.nonzero(order < counts.long()[rays])[:, 0]
        return samples.take(index, counts), [one.detach()[index] for one in features]

    def spread(self, features: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        found = features[samples.ray_indices.long()]
        return torch.where(samples.real()[:, None], found, found.detach()) if found.requires_grad else found

    def sum_runs(self, values: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        real = torch.where(samples.real()[:, None], self.dense_features(values), 0.0)
        return real.new_zeros(samples.n_rays, real.shape[1]).index_add(0, samples.ray_indices.long(), real)

    def dense_features(self, features: Tensor) -> Tensor:
        """See the interface."""
        if features.ndim == 3:
            return features.permute(1, 0, 2).reshape(features.shape[1], 2 * features.shape[0]).float()
        return features

    def march(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        t_min: Tensor,
        t_max: Tensor,
        occupied: Tensor,
        geometry: SceneGeometry,
        jitter: Tensor | None = None,
        max_samples: int | None = None,
        capacity: int | None = None,
    ) -> tuple[PackedSamples, Tensor]:
        """See the interface: a dense walk, one interval of every ray at a time."""
        limit = max_samples or MAX_STEPS
        t = torch.where(t_min < 0.0, 0.0, t_min)
        if jitter is not None:
            t = t + jitter * geometry.step_size(t, t_max)
        counts = torch.zeros(t.shape[0], dtype=torch.int64, device=t.device)
        rays, starts, ends = [], [], []
        alive = torch.nonzero(t < t_max)[:, 0]
        while alive.numel():
            t_alive = t[alive]
            dt = geometry.step_size(t_alive, t_max[alive])
            middles = rays_o[alive] + rays_d[alive] * (t_alive + 0.5 * dt)[:, None]
            hit = alive[look_up(middles, dt, occupied, geometry)]
            rays.append(hit)
            starts.append(t[hit])
            counts[hit] += 1
            t[alive] = t_alive + dt
            ends.append(t[hit])
            alive = alive[(t[alive] < t_max[alive]) & (counts[alive] < limit)]
        return limited(_pack(rays, starts, ends, counts, t_min), t, t_min, capacity)

    def points(self, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """See the interface."""
        middles = 0.5 * (samples.t_starts + samples.t_ends)
        world = self.spread(rays_o, samples) + self.spread(rays_d, samples) * middles[:, None]
        unit = geometry.normalize(world)
        return torch.where((unit > 0.0) & (unit < 1.0), unit, unit.detach().clamp(0.0, 1.0))

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        """See the interface."""
        before = _transmittance(sigmas * (samples.t_ends - samples.t_starts), samples)
        visible = (before >= threshold).to(torch.int32)
        counts = torch.zeros(samples.n_rays, dtype=torch.int32, device=sigmas.device)
        return counts.index_add(0, samples.ray_indices.long(), visible)

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        """See the interface."""
        thickness = sigmas * (samples.t_ends - samples.t_starts)
        weights = _transmittance(thickness, samples) * -torch.expm1(-thickness)
        rays = samples.ray_indices.long()
        middles = 0.5 * (samples.t_starts + samples.t_ends)
        zeros = weights.new_zeros(samples.n_rays)
        return Composited(
            rgbs=weights.new_zeros(samples.n_rays, 3).index_add(0, rays, weights[:, None] * rgbs),
            opacities=zeros.index_add(0, rays, weights),
            depths=zeros.index_add(0, rays, weights * middles),
            weights=weights,
        )

    def adam_step(
        self,
        param: Tensor,
        grad: Tensor,
        state: AdamState,
        settings: AdamSettings,
        average: Tensor | None = None,
        weight: float = 0.0,
    ) -> None:
        """See the interface (tiny-cuda-nn adam.h: L2 is added to the gradient, steps are counted per parameter)."""
        with torch.no_grad():
            touched = grad != 0
            state.steps.add_(touched).clamp_(max=ADAM_MAX_STEPS)
            g = grad + settings.l2_reg * param
            first = settings.beta1 * state.exp_avg + (1 - settings.beta1) * g
            second = settings.beta2 * state.exp_avg_sq + (1 - settings.beta2) * g * g
            steps = state.steps.clamp(min=1).to(param.dtype)
            rate = settings.learning_rate * torch.sqrt(1 - settings.beta2**steps) / (1 - settings.beta1**steps)
            moved = param - rate * first / (torch.sqrt(second) + settings.epsilon)
            state.exp_avg.copy_(torch.where(touched, first, state.exp_avg))
            state.exp_avg_sq.copy_(torch.where(touched, second, state.exp_avg_sq))
            param.copy_(torch.where(touched, moved, param))
            grad.zero_()
        if average is not None:
            self.average(average, param, weight)


def in_unit_box(positions: Tensor) -> Tensor:
    """Positions [N, D], each coordinate brought to the nearest in [0, 1], NaN to 0; one that was not there has no gradient."""
    nearest = positions.detach().nan_to_num(0.0).clamp(0.0, 1.0)
    return torch.where((positions >= 0.0) & (positions <= 1.0), positions, nearest)


def _encode_level(positions: Tensor, entries: Tensor, level: Level) -> Tensor:
    """Linear interpolation along every axis in one level: [N, D] -> [N, F]."""
    lattice = positions * float(level.scale) + 0.5
    corner = torch.floor(lattice.detach())
    fraction = lattice - corner
    total: Tensor | float = 0.0
    n_dims = positions.shape[1]
    for bits in range(2**n_dims):
        offset = torch.tensor([bits >> axis & 1 for axis in range(n_dims)], device=positions.device)
        index = _entry_index(corner.long() + offset, level)
        weight = torch.where(offset.bool(), fraction, 1 - fraction).prod(-1, keepdim=True)
        total = total + weight * entries[index].to(weight.dtype)
    assert isinstance(total, Tensor)
    return total


def _entry_index(corner: Tensor, level: Level) -> Tensor:
    """Lattice point [N, D] int64 -> entry of the whole table [N]."""
    index = torch.zeros_like(corner[:, 0])
    for axis, along in enumerate(corner.unbind(-1)):
        if level.dense:
            index = index + along * level.resolution**axis
        else:
            index = index ^ (along * PRIMES[axis] & UINT32)
    return level.offset + index % level.entries


def cascade_of(positions: Tensor, dt: Tensor, geometry: SceneGeometry, resolution: int) -> Tensor:
    """Cascade in which a step is looked up (instant-ngp nerf_device.cuh, mip_from_pos and mip_from_dt).

    Args:
        positions: [N, 3] world units.
        dt: [N] world units.
        geometry: the scene.
        resolution: cells along an edge of a cascade.
    """
    centre = constant(geometry.center, positions)
    reach = ((positions - centre).abs().amax(-1)) / geometry.unit_size
    by_position = torch.frexp(reach)[1] + 1
    by_step = torch.frexp(dt / geometry.unit_size * 2 * resolution)[1]
    return torch.maximum(by_position, by_step).clamp(0, geometry.cascades - 1).long()


def look_up(positions: Tensor, dt: Tensor, occupied: Tensor, geometry: SceneGeometry) -> Tensor:
    """Whether the cell that holds each position is occupied, [N] bool; False outside the scene box."""
    resolution = occupied.shape[1]
    cascade = cascade_of(positions, dt, geometry, resolution)
    centre = constant(geometry.center, positions)
    unit = (positions - centre) / geometry.unit_size * torch.exp2(-cascade.to(positions.dtype))[:, None] + 0.5
    cell = torch.floor(unit * resolution).long()
    inside = ((cell >= 0) & (cell < resolution)).all(-1)
    x, y, z = cell.clamp(0, resolution - 1).unbind(-1)
    return occupied[cascade, x, y, z].bool() & inside


def _pack(rays: list[Tensor], starts: list[Tensor], ends: list[Tensor], counts: Tensor, like: Tensor) -> PackedSamples:
    """Samples gathered step by step -> ray by ray."""
    if not rays:
        rays, starts, ends = [counts.new_zeros(0)], [like.new_zeros(0)], [like.new_zeros(0)]
    order = torch.argsort(torch.cat(rays), stable=True)
    return PackedSamples(
        torch.cat(starts)[order],
        torch.cat(ends)[order],
        torch.cat(rays)[order].to(torch.int32),
        packed_info_from_counts(counts),
    )


def _transmittance(thickness: Tensor, samples: PackedSamples) -> Tensor:
    """exp(-sum of the optical thickness before each sample on its ray), [N]."""
    return torch.exp(-sums_before(thickness, samples))
