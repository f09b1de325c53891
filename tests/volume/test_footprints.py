"""Samples as wide as their pixels, from the batch to the occupancy grid: one footprint for density, visibility and colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from ngp_method.fields.adam import NgpAdam
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.losses import blend
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.footprints import COARSEST, ProbeFootprints, probes_of
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Parts
from ngp_method.volume.rays import Rays, footprint_of
from ngp_method.volume.rendering import render_rays
from ngp_method.volume.step import Step, StepSettings
from ngp_method.volume.tracing import Tracer
from support.kernel_cases import kernels_of

SETTINGS = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
GEOMETRY = SceneGeometry(step_scale=8.0)
PIXEL = 2e-4
"""Area of a pixel at distance 1: 0.014 wide, a twelfth of the finest cells at the distance of the box."""


def _field(kernel_set: str, footprints: bool = True) -> tuple[Shading, OccupancyGrid]:
    """A field of fog, rendered with the weights that are trained."""
    torch.manual_seed(3)
    kernels = kernels_of(kernel_set)
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels, footprints=footprints)
    torch.nn.init.uniform_(network.vectors()["table"], -1.0, 1.0)
    network.keep_averages(kernels)
    return Shading(network, GEOMETRY), OccupancyGrid(GEOMETRY, kernels, 16)


def _rays(n: int, area: float | None) -> Rays:
    rng = torch.Generator().manual_seed(n)
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0] = -2.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    rays = Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))
    return rays if area is None else replace(rays, area=torch.full((n,), area))


def _traced(field: Shading, grid: OccupancyGrid, rays: Rays, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Colours of a training step whose rays begin where pictures' do."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand_like", torch.zeros_like)
        return Tracer(field.network, grid)(rays).found.rgbs.detach()


def _rendered(field: Shading, grid: OccupancyGrid, rays: Rays) -> Tensor:
    return render_rays(field, field.kernels, grid, rays).gathered.rgbs


@pytest.mark.parametrize("kernel_set", ["cpu-float32", "reference", "triton-float32"])
def test_training_and_pictures_see_the_same(kernel_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every width; and what they see depends on it."""
    field, grid = _field(kernel_set)
    found = []
    for area in (PIXEL, 16 * PIXEL):
        rays = _rays(40, area)
        colours = _rendered(field, grid, rays)
        torch.testing.assert_close(_traced(field, grid, rays, monkeypatch), colours, atol=2e-4, rtol=0)
        found.append(colours)
    assert (found[0] - found[1]).abs().max() > 0.01


def test_bundles_without_pixels_are_rendered_as_points() -> None:
    """nerfstudio's exports give an area of 1, ours none: both are what a pixel of no width is."""
    field, grid = _field("cpu-float32")
    narrow = _rendered(field, grid, _rays(40, 1e-16))
    assert torch.equal(_rendered(field, grid, _rays(40, 1.0)), _rendered(field, grid, _rays(40, 0.0)))
    torch.testing.assert_close(_rendered(field, grid, _rays(40, None)), narrow, atol=1e-5, rtol=0)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(field.density_in_unit(points), field.density_in_unit(points, torch.zeros(50)))


def test_a_field_without_footprints_knows_no_pixels() -> None:
    field, grid = _field("cpu-float32", footprints=False)
    assert torch.equal(_rendered(field, grid, _rays(40, 16 * PIXEL)), _rendered(field, grid, _rays(40, None)))


def test_footprints_need_levels() -> None:
    encoding = build_encoding("frequency", SETTINGS)
    with pytest.raises(ValueError, match="levels"):
        RadianceNetwork(encoding, kernels_of("reference"), footprints=True)


def test_normals_are_those_of_the_width() -> None:
    """Against differences of the density of samples that wide."""
    field, _ = _field("reference")
    points = 0.2 + 0.6 * torch.rand(60, 3, generator=torch.Generator().manual_seed(2))
    wide, step = torch.full((60,), 0.03), 2e-4
    slopes = torch.stack(
        [
            torch.log(field.density_in_unit(points + d, wide)) - torch.log(field.density_in_unit(points - d, wide))
            for d in step * torch.eye(3)
        ],
        -1,
    )
    expected = -torch.nn.functional.normalize(slopes, dim=-1)
    agree = (field.normals(points, wide) * expected).sum(-1)
    assert agree.median() > 0.999, "but for points whose differences cross a cell's border"
    other = (field.normals(points) * expected).sum(-1)
    assert other.median() < 0.99, "points have others"


@dataclass
class _Cameras:
    camera_to_worlds: Tensor
    fx: Tensor
    fy: Tensor


def _cameras(*focal: float) -> _Cameras:
    """Looking from 3 away, one for each focal length."""
    poses = torch.eye(3, 4).repeat(len(focal), 1, 1)
    poses[:, 2, 3] = 3.0
    lengths = torch.tensor(focal)[:, None]
    return _Cameras(poses, lengths, lengths)


def test_probes_have_the_width_of_some_pixel_at_some_level() -> None:
    """Of cameras of one size: their pixels and three levels of the pyramid above them, each as often."""
    geometry = SceneGeometry(unit_size=2.0)
    probes = ProbeFootprints(_cameras(500.0, 500.0), geometry)
    torch.manual_seed(1)
    middle = torch.full((4000, 3), 0.5)
    found = probes(middle) * geometry.box_size / 3.0
    own = float(footprint_of(torch.tensor([1 / 500.0**2]))[0])
    levels = (found / own).log2()
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    counts = levels.round().long().bincount(minlength=4)
    assert len(counts) == 4
    assert (counts > 800).all()
    near = probes(torch.tensor([[0.5, 0.5, 1.0]]).repeat(4000, 1))
    assert float(near.amax()) < float(found.amax() * 3.0 / geometry.box_size), "narrower nearer to the camera"


def test_probes_of_pictures_of_several_sizes_go_no_further_than_the_coarsest() -> None:
    probes = ProbeFootprints(_cameras(800.0, 400.0, 200.0, 100.0), SceneGeometry())
    torch.manual_seed(1)
    found = probes(torch.full((4000, 3), 0.5)) / 3.0 * SceneGeometry().box_size
    finest = float(footprint_of(torch.tensor([1 / 800.0**2]))[0])
    assert float(found.amin()) == pytest.approx(finest, rel=1e-4)
    assert float(found.amax()) == pytest.approx(COARSEST * finest, rel=1e-4)


def test_without_cameras_there_are_no_probes() -> None:
    assert probes_of(None, GEOMETRY) is None
    assert probes_of(_Cameras(torch.zeros(0, 3, 4), torch.zeros(0, 1), torch.zeros(0, 1)), GEOMETRY) is None


class _FaintFromNearBy(Shading):
    """Holds something only for who looks from far away."""

    @torch.no_grad()
    def density_in_unit(self, positions: Tensor, footprints: Tensor | None = None) -> Tensor:
        wide = positions.new_zeros(len(positions)) if footprints is None else footprints
        return torch.where((wide > 0.02) & (positions[:, 0] > 0.5), 1e4, 0.0)


@pytest.mark.parametrize("probed", [True, False])
def test_a_cell_is_kept_if_any_scale_sees_something(probed: bool) -> None:
    field, grid = _field("cpu-float32")
    faint = _FaintFromNearBy(field.network, GEOMETRY)
    probes = ProbeFootprints(_cameras(50.0), GEOMETRY) if probed else None
    step = Step(faint, grid, Parts([PlainBackground()]), StepSettings(), probes)
    torch.manual_seed(1)
    for number in range(40):
        step.counts = {"rays": 1, "marched": 1 << 16, "kept": 1 << 16}
        step.after(number)
    half = grid.binaries[0, 8:].float().mean()
    assert half > 0.99 if probed else half < 0.01


def _error_after(steps: int, footprints: bool) -> float:
    """Mean absolute error of a field trained on narrow rays that are red, and wide ones of the same lines that are blue."""
    field, grid = _field("cpu-float32", footprints)
    step = Step(field, grid, Parts([PlainBackground()]), StepSettings(average_interval=1, average_decay=0.5))
    optimizer, lines = NgpAdam(field.network.vectors().values()), _rays(100, PIXEL)
    twice = torch.arange(100).repeat(2)
    wide = torch.arange(200) >= 100
    rays = replace(lines[twice], area=torch.where(wide, 16 * PIXEL, PIXEL))
    pixels = torch.where(wide[:, None], torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 0.0, 1.0]))
    for number in range(steps):
        step.before(number)
        sum(step(rays, pixels).values(), torch.zeros(())).backward()
        optimizer.step()
        step.after(number)
    field.network.eval()
    found = render_rays(field, field.kernels, grid, rays).gathered
    return float((blend(found.rgbs, found.opacities, torch.zeros(3)) - pixels[:, :3]).abs().mean())


def test_a_step_trains_on_pixels_of_two_sizes() -> None:
    """A field of points gives both the mean of their colours, and is off by a third."""
    assert _error_after(200, footprints=True) < 0.15
    assert _error_after(200, footprints=False) > 0.3
