"""What the training images resolve, and what would be finer than that: steps along rays, and levels of the hash grid."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ..kernels.layout import HashGridLayout
from ..kernels.scene import SceneGeometry

PIXEL_SHARE = 2.0 / 3.0
"""Finest step as a share of a pixel's width (``benchmarks/cpu.py lego --set pipeline.model.step_scale=...``)."""

MAX_STEP_SCALE = 3.0
"""Coarsest finest step, in instant-ngp's: a cell of the occupancy grid (4.6 of them) must not be stepped over."""

CELLS_PER_PIXEL = 2.0
"""Cells of the finest level across a pixel: two samples for the shortest wave that pixels hold (Nyquist)."""

NEAREST = 0.1
"""Share of the cameras that may be nearer to the centre than the one whose pixels count for the levels: a single close-up is
not what the scene is seen from."""

LEAST_LEVELS = 4
"""Levels that are always kept."""


class Pinholes(Protocol):
    """What is needed of nerfstudio's ``Cameras``."""

    camera_to_worlds: Tensor
    fx: Tensor
    fy: Tensor


def _pixel_widths(cameras: Pinholes, geometry: SceneGeometry) -> Tensor:
    """[N] width of a pixel of each camera at the scene's centre, world units."""
    positions = cameras.camera_to_worlds.reshape(-1, 3, 4)[..., 3].cpu().float()
    distances = torch.linalg.norm(positions - torch.tensor(geometry.center), dim=-1)
    return distances / torch.maximum(cameras.fx.reshape(-1), cameras.fy.reshape(-1)).cpu().float()


def pixel_width(cameras: Pinholes, geometry: SceneGeometry) -> float:
    """Width of a pixel at the scene's centre, world units: half of the cameras have finer ones."""
    return float(_pixel_widths(cameras, geometry).median())


@torch.no_grad()
def step_scale_for(cameras: Pinholes, geometry: SceneGeometry) -> float:
    """Finest step worth taking, as a multiple of instant-ngp's: two thirds of a pixel's width at the scene's centre.

    instant-ngp's step is a quarter to a half of a pixel of its benchmark images (800x800, 1080p). Smaller images resolve
    less, and every step that they do not need is time. Where the step grows with distance (cone angle) it is left alone:
    it follows the pixels already.
    """
    if geometry.cone_angle > 0:
        return 1.0
    pixels = _pixel_widths(cameras, geometry)
    return float((PIXEL_SHARE * pixels.median() / geometry.min_step).clamp(1.0, MAX_STEP_SCALE))


@torch.no_grad()
def resolved_levels(cameras: Pinholes, geometry: SceneGeometry, grid: HashGridLayout) -> tuple[int, int]:
    """Levels of a hash grid that the images resolve: those up to half a pixel's width at the scene's centre.

    Finer ones learn noise of collisions and cost as much as the others. The growth from level to level stays as it is.

    Returns:
        Number of levels and resolution of the finest of them (L and N_max), for a grid of the same coarsest level.
    """
    if grid.n_levels <= LEAST_LEVELS or grid.per_level_scale <= 1.0:
        return grid.n_levels, grid.finest_resolution
    width = float(_pixel_widths(cameras, geometry).quantile(NEAREST))
    cells = CELLS_PER_PIXEL * geometry.box_size / max(width, 1e-30)
    steps = math.log(cells / grid.base_resolution) / math.log(grid.per_level_scale)
    levels = min(max(round(steps) + 1, LEAST_LEVELS), grid.n_levels)
    if levels == grid.n_levels:
        return levels, grid.finest_resolution
    return levels, round(grid.base_resolution * grid.per_level_scale ** (levels - 1))
