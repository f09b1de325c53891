"""World units: cascades, steps and the map to the unit cube, against instant-ngp's constants."""

from __future__ import annotations

import math

import pytest
import torch

from ngp_method.kernels.scene import SceneGeometry


@pytest.mark.parametrize("power", range(8))
def test_constants_follow_the_scale(power: int) -> None:
    scale = 2**power
    scene = SceneGeometry((1.0, -2.0, 3.0), 0.5, scale)
    assert scene.cascades == power + 1
    assert scene.cone_angle == (0.0 if scale == 1 else 1 / 256)
    assert scene.nmax == 2048 * scale
    assert scene.box_size == 0.5 * scale
    assert scene.min_step == pytest.approx(0.5 * math.sqrt(3) / 1024, rel=1e-15)
    assert scene.max_step == pytest.approx(0.5 * math.sqrt(3), rel=1e-15)


def test_boxes() -> None:
    scene = SceneGeometry((1.0, -2.0, 3.0), 0.5, 4)
    assert scene.aabb.tolist() == [[0.0, -3.0, 2.0], [2.0, -1.0, 4.0]]
    assert scene.unit_aabb.tolist() == [[0.75, -2.25, 2.75], [1.25, -1.75, 3.25]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalize_maps_the_whole_box_to_the_unit_cube(dtype: torch.dtype) -> None:
    scene = SceneGeometry((1.0, -2.0, 3.0), 0.5, 4)
    corners = scene.aabb.to(dtype)
    centre = torch.tensor([scene.center], dtype=dtype)
    got = scene.normalize(torch.cat([corners, centre]))
    assert got.dtype == dtype
    assert got.tolist() == [[0.0] * 3, [1.0] * 3, [0.5] * 3]
    assert scene.normalize(torch.zeros(0, 3, dtype=dtype)).shape == (0, 3)


@pytest.mark.parametrize("scale", [0, 3, 256, -2, 2.0])
def test_scale_must_be_a_power_of_two(scale: int) -> None:
    with pytest.raises(ValueError, match="power of two from 1 to 128"):
        SceneGeometry(aabb_scale=scale)


def test_coarser_steps() -> None:
    coarse, fine = SceneGeometry(unit_size=0.5, step_scale=4.0), SceneGeometry(unit_size=0.5)
    assert coarse.min_step == 4 * fine.min_step
    assert coarse.max_step == fine.max_step
    for scale in (0.5, 0.0, math.nan):
        with pytest.raises(ValueError, match="step_scale must be at least 1"):
            SceneGeometry(step_scale=scale)


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_unit_cube_must_have_an_edge(size: float) -> None:
    with pytest.raises(ValueError, match="positive length"):
        SceneGeometry(unit_size=size)


def test_describe_is_one_line_that_says_why() -> None:
    line = SceneGeometry(aabb_scale=16, near=0.1, reason="from transforms.json").describe()
    assert "\n" not in line
    for part in ("aabb_scale 16", "5 cascade(s)", "near 0.1", "from transforms.json"):
        assert part in line


def test_constants_are_made_once_for_a_type_and_can_be_trained_with() -> None:
    geometry = SceneGeometry(center=(1.0, 2.0, 3.0), unit_size=2.0, aabb_scale=4)
    single, double = torch.zeros(3), torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode():
        first = geometry.aabb_like(single)
    assert torch.equal(first, geometry.aabb)
    assert geometry.aabb_like(torch.ones(7)) is first
    assert geometry.aabb_like(double).dtype == torch.float64
    x = torch.rand(5, 3, requires_grad=True)
    (x * first[0]).sum().backward()  # a tensor of inference mode would refuse
    assert x.grad is not None
