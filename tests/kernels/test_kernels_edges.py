"""Every kernel set where numbers are not what they should be: nothing crashes, nothing hangs, nothing else is touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.fields.trained import TrainedVector
from ngp_method.kernels import AdamSettings, AdamState, Kernels
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts, sums_before
from ngp_method.kernels.scene import LEAST_SHARE, SceneGeometry
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Parts
from ngp_method.volume.rays import Rays
from ngp_method.volume.rendering import render_rays
from ngp_method.volume.step import Step, StepSettings
from support import tolerances as tol
from support.kernel_cases import SETS, array, assert_near, generator, kernels_of, low_precision, nan_memory  # noqa: F401

ALL = ["reference", *SETS]
pytestmark = [pytest.mark.usefixtures("nan_memory")]

GRID = HashGridLayout(n_levels=3, log2_hashmap_size=10, base_resolution=5, finest_resolution=20)
"""Two dense levels and a hashed one."""

INF, NAN = float("inf"), float("nan")
ODD = [NAN, INF, -INF, -1.0, 2.0, 1e9, -1e9, 3e38, -1e-30, 1.0000001, 4294967296.0]
"""Coordinates outside [0, 1]."""


def _odd_positions() -> tuple[Tensor, Tensor]:
    """Positions of which one, two or three coordinates are odd, among good ones; and whether each is good."""
    x = torch.rand(8 * len(ODD) + 5, 3, generator=generator(1))
    for number, value in enumerate(ODD):
        for axes in range(8):
            for axis in range(3):
                if axes >> axis & 1:
                    x[8 * number + axes, axis] = value
    return x, (x >= 0) & (x <= 1)


def _encoded(kernels: Kernels, x: Tensor, table: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, gradients of table and positions, and that of the table of a loss on the latter."""
    x, table = x.clone().requires_grad_(), table.clone().requires_grad_()
    features = kernels.dense_features(kernels.hash_encode(x, table, GRID))
    d_x, d_table = torch.autograd.grad((features * c).sum(), [x, table], create_graph=True)
    (second,) = torch.autograd.grad((d_x * x.detach().nan_to_num(0.5, 0.5, 0.5).cos()).sum(), table)
    return features.detach(), d_table.detach(), d_x.detach(), second


@pytest.mark.parametrize("kernel_set", ALL)
def test_positions_outside_the_box_count_as_the_nearest_inside(kernel_set: str) -> None:
    kernels, (x, good) = kernels_of(kernel_set), _odd_positions()
    table, c = torch.rand(GRID.n_params, generator=generator(2)), torch.randn(len(x), 6, generator=generator(3))
    nearest = torch.where(x.isnan(), 0.0, x.clamp(0.0, 1.0))
    odd, plain = _encoded(kernels, x, table, c), _encoded(kernels, nearest, table, c)
    assert torch.equal(odd[0], plain[0]), "features"
    assert_near(odd[1], plain[1], 1e-4, "table gradient")
    assert torch.equal(odd[2][good], plain[2][good]), "position gradient"
    assert not odd[2][~good].any(), "nothing changes with a coordinate outside"
    assert odd[3].isfinite().all(), "second order"


@pytest.mark.parametrize("kernel_set", SETS)
def test_the_second_order_ignores_coordinates_outside(kernel_set: str) -> None:
    (x, _), table = _odd_positions(), torch.rand(GRID.n_params, generator=generator(2))
    table, c = table.half().float(), torch.randn(len(x), 6, generator=generator(3))
    mine, exact = (_encoded(kernels, x, table, c)[3] for kernels in (kernels_of(kernel_set), kernels_of("reference")))
    allowed = 0.02 if low_precision(kernel_set) else 1e-4
    assert tol.rms(array(mine) - array(exact)) <= allowed * tol.rms(array(exact))


@pytest.mark.parametrize("kernel_set", ALL)
def test_densities_and_colours_anywhere(kernel_set: str) -> None:
    """What the README's example calls with anybody's positions."""
    torch.manual_seed(0)
    settings = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
    network = RadianceNetwork(build_encoding("hash", settings), kernels_of(kernel_set)).eval()
    x, _ = _odd_positions()
    found = Shading(network, SceneGeometry()).density_in_unit(x)
    assert found.shape == (len(x),)
    assert found.isfinite().all()
    layout = MLPLayout(6, 16)
    weights = torch.randn(layout.n_params, generator=generator(4))
    raw = kernels_of(kernel_set).encode_mlp(x, torch.rand(GRID.n_params), weights, GRID, layout, 16)
    assert raw.isfinite().all()


def _from_afar(distance: float, n: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays towards the unit cube from so many of its edges away: origins, directions, t_min, t_max."""
    rng = generator(5)
    o = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1) * distance
    d = torch.nn.functional.normalize(0.3 * (torch.rand(n, 3, generator=rng) - 0.5) - o, dim=-1)
    t_min, t_max = intersect_box(o, d, torch.tensor([[-0.5] * 3, [0.5] * 3]), 0.0, INF)
    return o, d, t_min, t_max


@pytest.mark.parametrize("kernel_set", ALL)
@pytest.mark.parametrize("aabb_scale", [1, 4])
@pytest.mark.parametrize("distance", [2e3, 6e4, 1e7, 1e20, 1e38])
def test_rays_from_very_far_away_come_to_an_end(kernel_set: str, distance: float, aabb_scale: int) -> None:
    """t + dt was t in float32; now no step is lost."""
    geometry = SceneGeometry(aabb_scale=aabb_scale)
    occupied = torch.ones(geometry.cascades, 16, 16, 16, dtype=torch.bool)
    rays = _from_afar(distance)
    samples, resume = kernels_of(kernel_set).march(*rays, occupied, geometry, torch.rand(len(rays[0])))
    done = ~(resume < rays[3])
    assert (done | (samples.packed_info[:, 1] == 1024)).all()
    lengths = samples.t_ends - samples.t_starts
    assert (lengths > 0).all()
    if distance <= 6e4:
        assert samples.n_samples > (len(rays[0]) if aabb_scale == 1 else 0)  # in a cone a step is as long as the unit cube
        steps = geometry.step_size(samples.t_starts, rays[3][samples.ray_indices.long()])
        assert_near(lengths, steps, 2.0**-23 * distance * 2, "lengths of steps")
    if distance == 6e4 and aabb_scale == 1:
        assert (lengths >= distance * LEAST_SHARE * 0.8).all()


@pytest.mark.parametrize("kernel_set", ALL)
@pytest.mark.parametrize("aabb_scale", [1, 4])
def test_rays_that_are_none(kernel_set: str, aabb_scale: int) -> None:
    """NaN, infinity and zero in origins, directions and intervals: an end, and finite samples of the good rays."""
    geometry = SceneGeometry(aabb_scale=aabb_scale)
    occupied = torch.ones(geometry.cascades, 16, 16, 16, dtype=torch.bool)
    o, d, t_min, t_max = (torch.cat([v, v]) for v in _from_afar(2.0, 16))
    values = [NAN, INF, -INF, 0.0]
    for number, value in enumerate(values):
        o[number, number % 3] = value
        d[4 + number] = value
        t_min[8 + number], t_max[12 + number] = value, value
    t_max[12:14] = torch.tensor([INF, INF])
    samples, resume = kernels_of(kernel_set).march(o, d, t_min, t_max, occupied, geometry)
    clean = kernels_of(kernel_set).march(o[16:], d[16:], t_min[16:], t_max[16:], occupied, geometry)[0]
    assert samples.n_rays == len(resume) == 32
    first = int(samples.packed_info[16, 0])
    assert torch.equal(samples.t_starts[first:], clean.t_starts)
    assert torch.equal(samples.ray_indices[first:], clean.ray_indices + 16)


def _some_samples(counts: list[int]) -> tuple[PackedSamples, Tensor, Tensor]:
    """Samples of rays with so many each, densities, colours."""
    rng, number = generator(6, *counts), torch.tensor(counts)
    n = int(number.sum())
    lengths = 0.05 + 0.1 * torch.rand(n, generator=rng)
    ends = torch.cumsum(lengths, 0)
    samples = PackedSamples(ends - lengths, ends, ray_indices_from_counts(number), packed_info_from_counts(number))
    return samples, 3 * torch.rand(n, generator=rng), torch.rand(n, 3, generator=rng)


@pytest.mark.parametrize("kernel_set", ALL)
@pytest.mark.parametrize("density", [INF, 1e38, 1e15, NAN])
def test_one_rays_density_is_nobody_elses(kernel_set: str, density: float) -> None:
    """An infinite density makes its ray opaque; the sums, visibility and gradients of every other ray stay what they were."""
    kernels, (samples, sigmas, rgbs) = kernels_of(kernel_set), _some_samples([5, 0, 7, 3, 40, 1, 2])
    odd = sigmas.clone()
    odd[7] = density  # the third sample of the third ray
    others = torch.tensor([True, True, False, True, True, True, True])
    found, gradients = [], []
    for given in (sigmas, odd):
        leaf = given.clone().requires_grad_()
        one = kernels.composite(leaf, rgbs, samples)
        ((one.rgbs.sum(-1) + one.depths) * others).sum().backward()
        found.append(torch.cat([one.rgbs, one.opacities[:, None], one.depths[:, None]], -1))
        gradients.append(leaf.grad)
    theirs = others[samples.ray_indices.long()]
    assert_near(found[1][others], found[0][others], 1e-6, "other rays")
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert_near(gradients[1][theirs], gradients[0][theirs], 1e-6, "other rays' gradients")
    counts = [kernels.visible_counts(given, samples, 1e-4) for given in (sigmas, odd)]
    assert torch.equal(counts[0][others], counts[1][others])
    if density > 0:
        assert_near(found[1][2, 3], torch.tensor(1.0), 1e-6, "opacity")
        assert found[1].isfinite().all()
        assert int(counts[1][2]) == 3


def test_sums_before_each_sample() -> None:
    """Against numpy, ray by ray, in both precisions; and a sum's gradient is the number of samples behind."""
    samples, values, _ = _some_samples([5, 0, 7, 1, 33, 0])
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        given = values.to(dtype)
        exact = [np.cumsum(part) - part for part in np.split(given.double().numpy(), np.cumsum([5, 0, 7, 1, 33]))]
        assert_near(sums_before(given, samples), torch.from_numpy(np.concatenate(exact)), bound, "sums")
    leaf = values.clone().requires_grad_()
    sums_before(leaf, samples).sum().backward()
    behind = torch.cat([torch.arange(n - 1, -1, -1.0) for n in (5, 7, 1, 33)])
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, behind)


@pytest.mark.parametrize("kernel_set", ALL)
def test_a_gradient_that_two_share_is_left_alone(kernel_set: str) -> None:
    """raw + latent gives both one gradient: that of the density belongs to raw alone."""
    kernels = kernels_of(kernel_set)
    leaf, latent = torch.randn(50, 16, generator=generator(8)).requires_grad_(), torch.zeros(50, 16, requires_grad=True)
    sigmas, raw = kernels.density_head(leaf * 1.0, 0.5)
    (10.0 * sigmas.sum() + (raw + latent).sum()).backward()
    assert latent.grad is not None
    assert leaf.grad is not None
    assert torch.equal(latent.grad, torch.ones(50, 16))
    assert torch.equal(leaf.grad[:, 1:], torch.ones(50, 15))
    torch.testing.assert_close(leaf.grad[:, 0], 1.0 + 20.0 * leaf.detach()[:, 0].exp())


@pytest.mark.parametrize("kernel_set", SETS)
@pytest.mark.parametrize("what", ["table", "weights"])
def test_a_step_between_the_two_passes_is_told(kernel_set: str, what: str) -> None:
    """The optimiser writes in place, past torch; a backward pass that needs the former values raises all the same."""
    kernels = kernels_of(kernel_set)
    layout = MLPLayout(6, 16)
    table, weights = TrainedVector(torch.rand(GRID.n_params)), TrainedVector(torch.rand(layout.n_params))
    x = torch.rand(20, 3, requires_grad=True)
    raw = kernels.mlp([kernels.hash_encode(x, table, GRID)], weights, layout)
    param = table if what == "table" else weights
    state = AdamState(torch.zeros_like(param), torch.zeros_like(param), torch.zeros(param.shape, dtype=torch.int16))
    with torch.no_grad():
        kernels.adam_step(param, torch.ones_like(param), state, AdamSettings(1e-2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        raw.sum().backward()


@pytest.mark.parametrize("kernel_set", SETS)
def test_tables_of_inference_mode(kernel_set: str) -> None:
    """Torch counts no changes of them, so no copy is kept; they are encoded like any other."""
    kernels, x = kernels_of(kernel_set), torch.rand(20, 3)
    table = torch.rand(GRID.n_params)
    expected = kernels.dense_features(kernels.hash_encode(x, table, GRID))
    with torch.inference_mode():
        given = table.clone()
        assert torch.equal(kernels.dense_features(kernels.hash_encode(x, given, GRID)), expected)
        given.mul_(2.0)
        assert torch.equal(kernels.dense_features(kernels.hash_encode(x, given, GRID)), 2 * expected)


class _NoFloat64(TorchFunctionMode):
    """A device without float64, as Apple's: whatever makes a tensor of it raises."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(one, Tensor) and one.dtype == torch.float64:
                raise TypeError(f"float64 is made by {getattr(func, '__name__', func)}")
        return found


def test_the_reference_needs_no_float64() -> None:
    """A training step, an update of the grid and a rendering on a device that has none."""
    torch.manual_seed(0)
    settings = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
    kernels, geometry = kernels_of("reference"), SceneGeometry(step_scale=8.0)
    network = RadianceNetwork(build_encoding("hash", settings), kernels)
    field, grid = Shading(network, geometry), OccupancyGrid(geometry, kernels, 16)
    grid.binaries.fill_(True)
    step = Step(field, grid, Parts([PlainBackground("white")]), StepSettings(sample_budget=1 << 12))
    rays = Rays(*_from_afar(2.0, 20))
    with _NoFloat64():
        losses = step(rays, torch.rand(20, 3))
        sum(losses.values()).backward()  # type: ignore[union-attr]
        grid.update(500, field.density_in_unit)
        found = render_rays(field, kernels, grid, dataclasses.replace(rays, o=rays.o * 0.9), with_normals=True)
    assert found.gathered.rgbs.isfinite().all()
    with _NoFloat64(), pytest.raises(TypeError, match="float64"):
        torch.zeros(3).double()
