"""Pixels picked, rays looked up and rays cut to the box, of every kernel set against the reference in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.batch import ROW_FLOATS, PixelTable, RayTable, intersect_box
from support import tolerances as tol
from support.kernel_cases import SETS, SIZES, array, assert_near, generator, kernels_of, nan_memory  # noqa: F401 - a fixture

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")
PICTURES = ((7, 5), (3, 11), (16, 2))
"""Width and height of each."""
BOX = torch.tensor([[-1.0, -2.0, 0.5], [1.5, 2.0, 3.0]])


def _pixels(channels: int) -> tuple[PixelTable, Tensor, Tensor]:
    """Pictures of several sizes, and the number and the picture of each of their pixels."""
    counts = torch.tensor([width * height for width, height in PICTURES])
    pixels = torch.randint(256, (int(counts.sum()), channels), generator=generator(channels), dtype=torch.uint8)
    table = PixelTable(pixels, counts.cumsum(0) - counts, torch.tensor([width for width, _ in PICTURES]))
    return table, torch.arange(len(pixels)), torch.arange(len(counts)).repeat_interleave(counts)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("channels", [3, 4])
def test_pixels_and_their_places(kernel_set: str, n: int, channels: int) -> None:
    table, every, views = _pixels(channels)
    chosen = torch.randint(len(every), (n,), generator=generator(n)) if n != 1 else every[-1:]
    colors, indices = kernels_of(kernel_set).pick_pixels(chosen, views[chosen], table)
    assert torch.equal(colors, table.pixels[chosen].float() * (1 / 255))
    places = [(view, y, x) for view, (width, height) in enumerate(PICTURES) for y in range(height) for x in range(width)]
    assert torch.equal(indices, torch.tensor(places)[chosen])
    assert (colors.dtype, colors.shape) == (torch.float32, (n, channels))


def _rays(kind: torch.dtype) -> tuple[RayTable, Tensor]:
    """Four cameras that share two lenses, and every pixel of theirs."""
    rng, lens = generator(3), torch.tensor([0, 1, 1, 0])
    sizes = PICTURES[:2]
    count = [width * height for width, height in sizes]
    rows = torch.rand(sum(count), ROW_FLOATS, generator=rng) + 0.5
    rows[:, :3] = torch.nn.functional.normalize(torch.randn(sum(count), 3, generator=rng), dim=-1)
    rotations = torch.linalg.qr(torch.randn(4, 3, 3, generator=rng)).Q * torch.tensor([1.0, 1.0, 2.0, 0.5])[:, None, None]
    places = [(camera, y, x) for camera, k in enumerate(lens.tolist()) for y in range(sizes[k][1]) for x in range(sizes[k][0])]
    starts, widths = torch.tensor([0, count[0]])[lens], torch.tensor([width for width, _ in sizes])[lens]
    origins = torch.randn(4, 3, generator=rng)
    return RayTable(rows.to(kind), starts, widths, rotations.to(kind), origins.to(kind)), torch.tensor(places)


@pytest.mark.parametrize("n", SIZES)
def test_rays_of_pixels(kernel_set: str, n: int) -> None:
    table, places = _rays(torch.float32)
    chosen = places[torch.randint(len(places), (n,), generator=generator(n))]
    got = kernels_of(kernel_set).table_rays(chosen, table)
    truth = REFERENCE.table_rays(chosen, _rays(torch.float64)[0])
    assert torch.equal(got.o, truth.o.float())
    assert torch.equal(got.area, truth.area.float())
    assert_near(got.d, truth.d, tol.RAYS_32, "unit directions, of poses that scale as well")
    assert_near(got.norm, truth.norm, 8 * tol.RAYS_32, "lengths up to 4")
    whole = kernels_of(kernel_set).table_rays(places, table)
    (third,) = (table.rows[table.starts[2] :][: (places[:, 0] == 2).sum()],)
    turned = third[:, :3] @ table.rotations[2].T
    assert_near(whole.d[places[:, 0] == 2], turned / turned.norm(dim=-1, keepdim=True), 4 * tol.RAYS_32, "row by row")


def _lines(n: int) -> tuple[Tensor, Tensor]:
    """Origins in and around the box, directions of any length, among them zeros and ones along the axes."""
    rng = generator(n, 2)
    o, d = 4 * torch.randn(n, 3, generator=rng), 3 * torch.randn(n, 3, generator=rng)
    d[::5, 1] = 0.0
    d[::7, 0] = d[::7, 2] = 0.0
    d[::31] = 0.0
    return o, d


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("near", [0.0, 0.7, None])
@pytest.mark.parametrize("far", [math.inf, 2.5, None])
def test_rays_in_the_box(kernel_set: str, n: int, near: float | None, far: float | None) -> None:
    """None: each ray's own."""
    o, directions = _lines(n)
    nears = near if near is not None else torch.rand(n, generator=generator(n, 1))
    fars = far if far is not None else 1 + 3 * torch.rand(n, generator=generator(n, 2))
    got = kernels_of(kernel_set).enter_box(o, directions, BOX, nears, fars)

    def double(value: Tensor | float) -> Tensor | float:
        return value.double() if isinstance(value, Tensor) else value

    truth = REFERENCE.enter_box(o.double(), directions.double(), BOX.double(), double(nears), double(fars))
    assert_near(got[0], truth[0], tol.RAYS_32, "directions")
    assert got[0].is_contiguous()
    for one, other, what in zip(got[1:], truth[1:], ("begin", "end")):
        known = other.abs() < 1e6  # beyond: of a direction that is 0 along an axis, either everything or nothing
        assert torch.equal(known, one.double().abs() < 1e6)
        assert torch.equal(one[~known] > 0, other[~known] > 0)
        limit = tol.RAYS_32 * other[known].abs()
        assert bool(((one[known].double() - other[known]).abs() <= limit).all()), what
    met = (got[1] < got[2]) & (got[0] != 0).any(-1)  # a direction of nothing says nothing
    middle = (o + got[0] * (0.5 * (got[1] + got[2]))[:, None])[met]
    assert bool(((middle >= BOX[0] - 1e-4) & (middle <= BOX[1] + 1e-4)).all())
    if n > 1000 and far == math.inf:
        assert 0.02 < float(met.float().mean()) < 0.98, "some meet the box, some do not"


def test_a_view_of_directions_and_no_rays_left_out(kernel_set: str) -> None:
    """Directions as they come: a row for each axis, or one direction for all."""
    o, directions = _lines(31)
    kernels = kernels_of(kernel_set)
    rows = directions.T.contiguous().T
    for given in (rows, directions[:1].expand(31, 3)):
        for one, other in zip(
            kernels.enter_box(o, given, BOX, 0.0, math.inf), kernels.enter_box(o, given.contiguous(), BOX, 0.0, math.inf)
        ):
            assert_near(one, other, array(tol.RAYS_32 * other.abs()), "the same, up to the order of a sum")


def test_directions_have_a_gradient(kernel_set: str) -> None:
    o, directions = _lines(31)
    directions[directions.abs().sum(-1) == 0] = 1.0
    found = []
    for kernels, kind in ((kernels_of(kernel_set), torch.float32), (REFERENCE, torch.float64)):
        leaf = directions.detach().to(kind).clone().requires_grad_()
        unit, t_min, _ = kernels.enter_box(o.to(kind), leaf, BOX.to(kind), 0.0, math.inf)
        (unit * torch.arange(93).view(31, 3).to(kind)).sum().backward()
        assert leaf.grad is not None
        found.append(leaf.grad)
        again = intersect_box(o.to(kind), unit.detach(), BOX.to(kind), 0.0)
        assert_near(t_min, again[0], 1e-5 * float(again[0].abs().clamp(max=1e6).max()), "the same box")
    assert_near(found[0], found[1], 64 * tol.RAYS_32 * float(found[1].abs().max()), "gradient")
