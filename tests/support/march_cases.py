"""Rays and grids for the marching tests, and the comparison with the oracle's dense walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.samples import PackedSamples
from ngp_method.kernels.scene import SceneGeometry

from . import oracle_volume
from .kernel_cases import generator

MOST_UNSURE = 0.03
"""Share of the steps that may lie too near a border to be judged in float32 (seen: 0.1 to 1 %)."""


class ForcedCone(SceneGeometry):
    """A scene whose cone angle does not follow from its scale, so that each is tried with the other."""

    @property
    def cone_angle(self) -> float:
        """1/256 for the unit cube, 0 beyond."""
        return 1 / 256 if self.aabb_scale == 1 else 0.0


@dataclass
class Case:
    """Arguments of one marching call."""

    rays_o: Tensor
    rays_d: Tensor
    t_min: Tensor
    t_max: Tensor
    jitter: Tensor
    occupied: Tensor
    geometry: SceneGeometry

    def march(self, kernels: Kernels, limit: int | None = None, start: Tensor | None = None, jitter: bool = True):  # type: ignore[no-untyped-def]
        """The call; ``start`` takes the place of t_min."""
        first = self.t_min if start is None else start
        shift = self.jitter if jitter else None
        return kernels.march(
            self.rays_o, self.rays_d, first, self.t_max, self.occupied, self.geometry, shift, max_samples=limit
        )

    def walk(self) -> oracle_volume.Walk:
        """The oracle's answer."""
        g = self.geometry
        scene = oracle_volume.Scene(g.center, g.unit_size, g.cascades, g.cone_angle, g.step_scale)
        numbers = [v.numpy() for v in (self.rays_o, self.rays_d, self.t_min, self.t_max, self.jitter)]
        return oracle_volume.walk(*numbers, self.occupied.numpy(), scene)

    def double(self) -> Case:
        """The same rays in float64."""
        numbers = [v.double() for v in (self.rays_o, self.rays_d, self.t_min, self.t_max, self.jitter)]
        return Case(*numbers, self.occupied, self.geometry)


def rays(geometry: SceneGeometry, grid: int, count: int, rng: torch.Generator, on_borders: bool) -> tuple[Tensor, Tensor]:
    """Origins and unit directions [6 * count, 3]: from inside, from outside inwards, along axes, in planes, through
    corners, from the centre. ``on_borders``: half of the rays along axes lie exactly on the borders of cells.
    """

    def normal() -> Tensor:
        return torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)

    def uniform(scale: float) -> Tensor:
        return (torch.rand(count, 3, generator=rng) - 0.5) * scale

    box, s = geometry.box_size, geometry.unit_size
    centre = torch.tensor(geometry.center)
    inside = uniform(box)
    outside = normal() * box * (1 + 0.5 * torch.rand(count, 1, generator=rng))
    inwards = torch.nn.functional.normalize(uniform(box) - outside, dim=-1)
    cell = s / grid
    start = torch.where(
        (torch.arange(count)[:, None] % 2 == 0) & torch.tensor(on_borders),
        (uniform(s) / cell).round() * cell,
        uniform(box),
    )
    axes = torch.eye(3)[torch.arange(count) % 3] * torch.where(torch.rand(count, 1, generator=rng) < 0.5, 1.0, -1.0)
    flat = normal() * (torch.arange(3) != torch.arange(count)[:, None] % 3)
    flat = torch.nn.functional.normalize(flat, dim=-1)
    # Diagonals from one corner of a cell through corners of the next: all three borders are met at once.
    signs = torch.where(torch.rand(count, 3, generator=rng) < 0.5, 1.0, -1.0)
    diagonal = signs / 3**0.5
    corner = -signs * (torch.randint(0, grid, (count, 1), generator=rng) * cell)
    origins = torch.cat([inside, outside, start - 0.25 * box * axes, uniform(box), corner, uniform(1e-3 * s)])
    return origins + centre, torch.cat([normal(), inwards, axes, flat, diagonal, normal()])


def make(geometry: SceneGeometry, density: float, grid: int = 32, count: int = 24, seed: int = 0, blobs: bool = False) -> Case:
    """A random grid and rays through it.

    Args:
        density: share of occupied cells.
        blobs: gather them in blocks of 8^3, so that most blocks are empty (a marcher may step over those whole).
    """
    rng = generator(seed, geometry.aabb_scale, grid, round(density * 1000))
    shape = (geometry.cascades, grid, grid, grid)
    occupied = torch.rand(shape, generator=rng) < density
    if blobs:
        blocks = torch.rand(geometry.cascades, *[grid // 8] * 3, generator=rng) < 0.2
        for axis in (1, 2, 3):
            blocks = blocks.repeat_interleave(8, axis)
        occupied &= blocks
    # In float32 only dyadic numbers are exactly on a border: the others would be anybody's guess all along the ray.
    dyadic = all(float(v * 1024).is_integer() for v in (*geometry.center, geometry.unit_size))
    dyadic &= grid & (grid - 1) == 0
    o, d = rays(geometry, grid, count, rng, dyadic)
    n, box = o.shape[0], geometry.box_size
    reach = (o - torch.tensor(geometry.center)).norm(dim=-1)
    # Most rays cross the whole box; some end inside it, some begin behind their end.
    t_max = (reach + box) * torch.where(torch.rand(n, generator=rng) < 0.8, 1.0, torch.rand(n, generator=rng))
    t_min = torch.where(torch.rand(n, generator=rng) < 0.5, 0.0, 0.3 * reach * torch.rand(n, generator=rng))
    t_min = torch.where(torch.rand(n, generator=rng) < 0.05, t_max * 1.5, t_min)
    t_min[:1] = t_max[:1]
    return Case(o, d, t_min, t_max, torch.rand(n, generator=rng), occupied, geometry)


def check_layout(samples: PackedSamples, n_rays: int) -> None:
    """Packed as :class:`PackedSamples` promises."""
    info, n = samples.packed_info, samples.t_starts.shape[0]
    assert samples.t_ends.shape == samples.ray_indices.shape == (n,)
    assert info.shape == (n_rays, 2)
    assert info.dtype == samples.ray_indices.dtype == torch.int32
    assert int(info[:, 1].sum()) == n
    assert torch.equal(info[:, 0], torch.cumsum(info[:, 1], 0) - info[:, 1])
    assert torch.equal(samples.ray_indices, torch.repeat_interleave(torch.arange(n_rays), info[:, 1]).int())


def compare(case: Case, samples: PackedSamples, resume: Tensor, limit: int = 1024) -> float:
    """Every sample against the dense walk; returns the share of steps too near a border to be judged.

    Begins and lengths of steps do not depend on the grid, so they must agree to the last bit; whether a step is a
    sample must agree wherever rounding cannot move its middle across a border.
    """
    walk = case.walk()
    check_layout(samples, case.rays_o.shape[0])
    starts, ends = samples.t_starts.numpy(), samples.t_ends.numpy()
    for ray, (first, count) in enumerate(samples.packed_info.tolist()):
        steps = int(walk.alive[:, ray].sum())
        t, dt = walk.t[:steps, ray], walk.dt[:steps, ray]
        mine = starts[first : first + count]
        where = np.searchsorted(t, mine)
        assert (where < steps).all(), f"ray {ray}: a sample begins at or after t_max"
        assert (t[where] == mine).all(), f"ray {ray}: a sample begins where no step begins"
        assert (np.diff(where) > 0).all(), f"ray {ray}: samples are not in order"
        assert (ends[first : first + count] == t[where] + dt[where]).all(), f"ray {ray}: a sample has a wrong length"
        last = steps if count < limit else int(where[-1]) + 1
        got = np.zeros(last, bool)
        got[where] = True
        wrong = np.flatnonzero((got != walk.hit[:last, ray]) & ~walk.unsure[:last, ray])
        assert not wrong.size, (
            f"ray {ray}: step {wrong[0]} at t = {t[wrong[0]]!r} is {'' if got[wrong[0]] else 'not '}a sample, "
            f"{wrong.size} steps differ from the dense walk"
        )
        if last:
            beyond = t[last - 1] + dt[last - 1]
            assert resume[ray].item() == beyond, f"ray {ray}: goes on from {resume[ray].item()!r}, not {beyond!r}"
        else:
            assert resume[ray] >= case.t_max[ray], f"ray {ray}: has no step, yet is not done"
    share = float(walk.unsure.sum() / max(walk.alive.sum(), 1))
    assert share <= MOST_UNSURE, f"{share:.3f} of the steps cannot be judged"
    return share
