"""World <-> unit cube, cascades and step sizes: the one place that knows world units.

instant-ngp works in a frame in which the innermost cascade of the occupancy grid is the unit cube [0, 1]^3 and the
whole scene is the box [0.5 - s/2, 0.5 + s/2]^3 with s = ``aabb_scale``, a power of two (``nerf_loader.cu``). nerfstudio's
parsers deliver cameras in a *world* frame of their own. :class:`SceneGeometry` ties the two together; everything that
needs a length (steps, near plane, hash resolution) takes it from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .constants import constant

SQRT3 = math.sqrt(3.0)

MAX_STEPS = 1024
"""Steps that cross the unit cube's diagonal, and the most samples on one ray (instant-ngp, nerf_device.cuh)."""

MIN_STEP = SQRT3 / MAX_STEPS
"""Finest step, in unit-cube lengths."""

MAX_STEP = SQRT3
"""Coarsest step, in unit-cube lengths: the diagonal of the unit cube."""

CONE_ANGLE = 1.0 / 256.0
"""dt / t in scenes larger than the unit cube (instant-ngp testbed_nerf.cu); zero in those that are not."""

GRID_RESOLUTION = 128
"""Cells along an edge of one cascade of the occupancy grid."""

LEAST_SHARE = 2.0**-20
"""No step of a ray is shorter than this share of the t at which the ray ends. In float32 that is eight to sixteen times the
distance of neighbouring numbers: shorter steps would be lost in t + dt, and a ray from very far away would stand still.
Steps are longer for it from 1,773 edges of the unit cube on."""

MAX_AABB_SCALE = 128

NMAX_PER_SCALE = 2048
"""Finest hash-grid resolution for an ``aabb_scale`` of 1 (paper section 4: N_max = 2048 * scene size)."""


@dataclass(frozen=True)
class SceneGeometry:
    """Where the unit cube lies in the world, and how far the scene reaches beyond it.

    Attributes:
        center: world position of the unit cube's centre (0.5, 0.5, 0.5).
        unit_size: edge of the unit cube in world units, positive.
        aabb_scale: s, edge of the whole scene in unit cubes: a power of two from 1 to 128.
        near: distance along a (unit) ray, in world units, before which nothing is sampled.
        reason: half a sentence for the one line that says why this geometry was taken.
        step_scale: the finest step as a multiple of instant-ngp's, at least 1: images that resolve less need no finer steps.
    """

    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit_size: float = 1.0
    aabb_scale: int = 1
    near: float = 0.0
    reason: str = ""
    step_scale: float = 1.0

    def __post_init__(self) -> None:
        s = self.aabb_scale
        if not (isinstance(s, int) and 1 <= s <= MAX_AABB_SCALE and s & (s - 1) == 0):
            raise ValueError(f"aabb_scale must be a power of two from 1 to {MAX_AABB_SCALE}, not {s}.")
        if not self.step_scale >= 1.0:
            raise ValueError(f"step_scale must be at least 1, not {self.step_scale}.")
        if not (math.isfinite(self.unit_size) and self.unit_size > 0):
            raise ValueError(f"The unit cube's edge must be a positive length, not {self.unit_size}.")

    @property
    def cascades(self) -> int:
        """Number of nested occupancy grids, log2(s) + 1; cascade k covers 2^k unit cubes."""
        return int(math.log2(self.aabb_scale)) + 1

    @property
    def cone_angle(self) -> float:
        """dt / t of the step law: 0 in a scene of one unit cube, else 1/256."""
        return 0.0 if self.aabb_scale == 1 else CONE_ANGLE

    @property
    def nmax(self) -> int:
        """N_max of the hash grid, over the whole box."""
        return NMAX_PER_SCALE * self.aabb_scale

    @property
    def aabb(self) -> Tensor:
        """The whole scene in world units, [2, 3] float32: corner of least, corner of greatest coordinates."""
        return self._box(self.aabb_scale)

    @property
    def unit_aabb(self) -> Tensor:
        """The innermost cascade in world units, [2, 3] float32."""
        return self._box(1)

    def aabb_like(self, positions: Tensor) -> Tensor:
        """:attr:`aabb` on the device of a tensor and in its type, made once. Not to be written to."""
        return constant(self._corners, positions)

    @cached_property
    def _corners(self) -> tuple[tuple[float, ...], ...]:
        return tuple(map(tuple, self.aabb.tolist()))

    def _box(self, scale: float) -> Tensor:
        center = torch.tensor(self.center, dtype=torch.float32)
        half = 0.5 * scale * self.unit_size
        return torch.stack([center - half, center + half])

    def normalize(self, positions: Tensor) -> Tensor:
        """World positions [..., 3] -> [0, 1]^3 over the *whole* box (what the encodings take)."""
        lo = constant(self.center, positions) - 0.5 * self.box_size
        return (positions - lo) * (1.0 / self.box_size)

    @property
    def box_size(self) -> float:
        """Edge of the whole scene in world units."""
        return self.unit_size * self.aabb_scale

    @property
    def min_step(self) -> float:
        """Finest step in world units."""
        return MIN_STEP * self.unit_size * self.step_scale

    @property
    def max_step(self) -> float:
        """Coarsest step in world units."""
        return MAX_STEP * self.unit_size

    def step_size(self, t: Tensor, t_max: Tensor) -> Tensor:
        """The step law: dt at distance t of rays that end at t_max, world units (any shapes that broadcast)."""
        least = (t_max * LEAST_SHARE).clamp(min=self.min_step)
        return torch.minimum(torch.maximum(t * self.cone_angle, least), least.clamp(min=self.max_step))

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"scene: box {self.box_size:.3g} world units wide, aabb_scale {self.aabb_scale}, {self.cascades} cascade(s), "
            f"cone angle {self.cone_angle:.4g}, near {self.near:.3g}" + (f" ({self.reason})" if self.reason else "")
        )
