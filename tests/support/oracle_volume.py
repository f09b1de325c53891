"""The oracle's marching and compositing: a dense walk of the grid and sums written out, in float64.

See :mod:`oracle`. The step law is instant-ngp's (``nerf_device.cuh``: ``calc_dt``, ``mip_from_pos``, ``mip_from_dt``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDOFF = {4: 2.0**-24, 8: 2.0**-53}
"""Unit roundoff by bytes of a number."""


@dataclass
class Scene:
    """What the walk must know, in world units; ``coarser``: finest step over instant-ngp's."""

    center: tuple[float, float, float]
    unit: float
    cascades: int
    cone: float
    coarser: float = 1.0


@dataclass
class Walk:
    """Every step of every ray, occupied or not.

    Attributes:
        t, dt: [S, R] begin and length of step s of ray r, in the walk's precision.
        alive: [S, R] whether the step begins before t_max.
        hit: [S, R] whether its middle lies in an occupied cell.
        unsure: [S, R] whether the middle lies so near a border (of a cell, of a cascade, of a step size's cascade) that
            float32 positions may fall on the other side.
    """

    t: np.ndarray
    dt: np.ndarray
    alive: np.ndarray
    hit: np.ndarray
    unsure: np.ndarray


def step_size(t: np.ndarray, scene: Scene) -> np.ndarray:
    """dt(t) in t's precision."""
    kind = t.dtype.type
    finest, coarsest = kind(scene.unit * np.sqrt(3.0) / 1024 * scene.coarser), kind(scene.unit * np.sqrt(3.0))
    return np.minimum(np.maximum(t * kind(scene.cone), finest), coarsest)


def step_sequence(t_min: np.ndarray, t_max: np.ndarray, jitter: np.ndarray, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Begins and lengths of all steps, [S, R] each: they do not depend on what is occupied."""
    t = t_min + jitter * step_size(t_min, scene)
    begins, lengths = [], []
    while (t < t_max).any():
        dt = step_size(t, scene)
        begins.append(t)
        lengths.append(dt)
        t = t + dt
    empty = np.zeros((0, t_min.shape[0]), t_min.dtype)
    return (np.stack(begins), np.stack(lengths)) if begins else (empty, empty)


def cascade(points: np.ndarray, still: np.ndarray, dt: np.ndarray, scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Cascade of a step by counting, and how near the choice is to another one (arguments as for :func:`look_up`).

    The least cascade whose cube holds the point (its half-edge 2^(k-1) unit cubes exceeds every coordinate) and whose
    cells are more than twice as long as the step; the outermost if there is none.
    """
    chosen = np.zeros(dt.shape, np.int64)
    near = np.full(dt.shape, np.inf)
    for k in range(scene.cascades - 1):
        half, longest = 2.0**k / 2, 2.0**k / grid / 2
        chosen += (np.abs(points) >= half).any(-1) | (dt >= longest)
        distance = np.abs(np.abs(points) - half)
        distance = np.where(still & (distance == 0), np.inf, distance).min(-1)
        near = np.minimum(near, np.minimum(distance, np.abs(dt - longest) / longest))
    return chosen, near


def look_up(
    points: np.ndarray, still: np.ndarray, dt: np.ndarray, occupied: np.ndarray, scene: Scene, slack: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(occupied, unsure) of points [..., 3] in unit cubes from the centre.

    Args:
        still: [..., 3] axes along which the ray does not move: a point exactly on a border there is no doubt.
        dt: [...] step length in unit cubes.
        slack: [...] how far float32 may have moved the point, in unit cubes.
    """
    grid = occupied.shape[1]
    chosen, near = cascade(points, still, dt, scene, grid)
    width = (2.0**chosen / grid)[..., None]
    lattice = points / width + grid / 2
    cell = np.floor(lattice).astype(np.int64)
    inside = ((cell >= 0) & (cell < grid)).all(-1)
    safe = np.clip(cell, 0, grid - 1)
    hit = occupied[chosen, safe[..., 0], safe[..., 1], safe[..., 2]] & inside
    distance = np.abs(lattice - np.rint(lattice)) * width
    distance = np.where(still & (distance == 0), np.inf, distance)
    return hit, (distance.min(-1) < slack) | (near < slack)


def walk(
    rays_o: np.ndarray, rays_d: np.ndarray, t_min: np.ndarray, t_max: np.ndarray, jitter: np.ndarray,
    occupied: np.ndarray, scene: Scene,
) -> Walk:  # fmt: skip
    """All steps of all rays; t in the precision of ``t_min``, everything else in float64.

    A step counts as unsure within eight roundings (in the precision of ``t_min``) of the largest number that enters its
    position: origin, centre and d * t are added, scaled and shifted.
    """
    t, dt = step_sequence(t_min, t_max, jitter, scene)
    o, d = rays_o.astype(np.float64), rays_d.astype(np.float64)
    middle = t.astype(np.float64) + dt.astype(np.float64) / 2
    points = (o + d * middle[..., None] - np.array(scene.center)) / scene.unit
    largest = np.abs(o).max(-1) + np.abs(scene.center).max() + np.abs(middle) + scene.unit * 2.0**scene.cascades
    still = np.broadcast_to(d == 0, points.shape)
    slack = 8 * ROUNDOFF[t.dtype.itemsize] * largest / scene.unit
    hit, unsure = look_up(points, still, dt.astype(np.float64) / scene.unit, occupied, scene, slack)
    alive = t < t_max
    return Walk(t, dt, alive, hit & alive, unsure & alive)


def weights(sigmas: np.ndarray, lengths: np.ndarray) -> list[Any]:
    """T_i * alpha_i of one ray (Max 1995, equation 27), each transmittance summed anew."""
    found: list[Any] = []
    for i in range(len(sigmas)):
        before = sum((sigmas[j] * lengths[j] for j in range(i)), 0.0 * sigmas[i])
        found.append(np.exp(-before) * (1.0 - np.exp(-sigmas[i] * lengths[i])))
    return found


def composite(sigmas: np.ndarray, rgbs: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[Any]:
    """[red, green, blue, opacity, depth] of one ray."""
    sums: list[Any] = [0.0] * 5
    for i, weight in enumerate(weights(sigmas, ends - starts)):
        for channel in range(3):
            sums[channel] = sums[channel] + weight * rgbs[i, channel]
        sums[3] = sums[3] + weight
        sums[4] = sums[4] + weight * (starts[i] + ends[i]) / 2
    return sums


def run_sums(values: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """[N, C] values of samples, so many of each ray one after the other -> sums of each ray, one term at a time."""
    sums, row = np.zeros((len(counts), values.shape[1]), values.dtype), 0
    for ray, count in enumerate(counts):
        for _ in range(count):
            for column in range(values.shape[1]):
                sums[ray, column] += values[row, column]
            row += 1
    assert row == len(values)
    return sums


def visible(sigmas: np.ndarray, lengths: np.ndarray, threshold: float) -> int:
    """Samples of one ray before which at least ``threshold`` of the light is left."""
    return sum(float(np.exp(-sum(sigmas[j] * lengths[j] for j in range(i)))) >= threshold for i in range(len(sigmas)))
