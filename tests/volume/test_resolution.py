"""What the training images resolve: steps along rays, and levels of the hash grid."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ngp_method.kernels.layout import HashGridLayout
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.resolution import CELLS_PER_PIXEL, LEAST_LEVELS, resolved_levels, step_scale_for

GRID = HashGridLayout(log2_hashmap_size=17)


def _cameras(distances: list[float], focal: float) -> SimpleNamespace:
    """Along x, as far from the origin as is said."""
    poses = torch.eye(4)[:3].repeat(len(distances), 1, 1)
    poses[:, 0, 3] = torch.tensor(distances)
    same = torch.full((len(distances), 1), focal)
    return SimpleNamespace(camera_to_worlds=poses, fx=same, fy=0.9 * same)


@pytest.mark.parametrize("unit", [1e-3, 3.0, 5e4])
@pytest.mark.parametrize("focal", [60.0, 278.0, 1111.0])
def test_levels_end_at_half_a_pixel(unit: float, focal: float) -> None:
    """In any unit: the finest level is the one nearest to half a pixel's width, and the growth stays."""
    geometry = SceneGeometry(unit_size=unit)
    levels, finest = resolved_levels(_cameras([1.3 * unit] * 8, focal), geometry, GRID)
    wanted = CELLS_PER_PIXEL * focal / 1.3
    assert LEAST_LEVELS < levels <= 16
    if levels < 16:
        assert 1 / GRID.per_level_scale**0.5 - 0.01 < finest / wanted < GRID.per_level_scale**0.5 + 0.01
        cut = HashGridLayout(levels, 2, 17, 16, finest)
        assert abs(cut.per_level_scale / GRID.per_level_scale - 1) < 0.01
    else:
        assert finest == GRID.finest_resolution


def test_twice_the_pixels_is_two_more_levels() -> None:
    """The paper's growth here is 1.38: two levels are a factor of 1.91."""
    found = [
        resolved_levels(_cameras([4.0] * 5, focal), SceneGeometry(unit_size=3.0), GRID)[0] for focal in (139.0, 278.0, 556.0)
    ]
    assert found == [9, 11, 13]


def test_few_near_cameras_do_not_decide_and_many_do() -> None:
    geometry = SceneGeometry(unit_size=3.0)
    far = resolved_levels(_cameras([4.0] * 40, 278.0), geometry, GRID)
    assert resolved_levels(_cameras([4.0] * 38 + [0.1] * 2, 278.0), geometry, GRID) == far
    assert resolved_levels(_cameras([4.0] * 30 + [1.0] * 10, 278.0), geometry, GRID)[0] > far[0]


def test_at_the_centre_and_far_away() -> None:
    """A panorama turned on the spot keeps all levels; whoever sees next to nothing keeps some."""
    geometry = SceneGeometry()
    assert resolved_levels(_cameras([0.0] * 3, 278.0), geometry, GRID) == (16, 2048)
    assert resolved_levels(_cameras([1e6] * 3, 278.0), geometry, GRID)[0] == LEAST_LEVELS
    small = HashGridLayout(3, 2, 10, 8, 16)
    assert resolved_levels(_cameras([1e6] * 3, 278.0), geometry, small) == (3, 16)


def test_steps_are_of_a_pixel_and_not_wider_than_cells() -> None:
    geometry = SceneGeometry(unit_size=3.0)
    scales = [step_scale_for(_cameras([4.0] * 5, focal), geometry) for focal in (1e5, 1111.0, 1.0)]
    assert scales[0] == 1.0
    assert 1.0 <= scales[1] < 1.1 * 2 / 3 * 4.0 / 1111.0 / geometry.min_step + 1.0
    assert scales[2] == 3.0
    assert step_scale_for(_cameras([4.0] * 5, 1.0), SceneGeometry(aabb_scale=4)) == 1.0
