"""The picture in space: rays meet the pixel that stands where they go, near and far."""

from __future__ import annotations

import torch
from torch import Tensor

from ngp_method.primitives.image.plane import SPREAD, Plane


def rays_to(plane: Plane, uv: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Rays from a point to positions in the picture, by hand: the top left corner is at (-aspect / 2, 1 / 2, 0)."""
    to = torch.stack([(uv[:, 0] - 0.5) * plane.aspect, 0.5 - uv[:, 1], torch.zeros(len(uv), dtype=uv.dtype)], -1)
    d = torch.nn.functional.normalize(to - origin, dim=-1)
    return origin.expand_as(d).float(), d.float()


def test_rays_meet_the_position_they_go_to() -> None:
    plane = Plane(300, 200)
    uv = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for origin in ([0.0, 0.0, 1.5], [2.0, -1.0, 0.3], [0.1, 0.2, -2.0]):  # the back of it is seen too
        met = plane.meet(*rays_to(plane, uv, torch.tensor(origin, dtype=torch.float64)))
        assert bool(met.hit.all())
        assert float((met.uv - uv).abs().max()) < 2e-6
        assert float(met.distances.min()) > 0


def test_rays_that_miss() -> None:
    plane = Plane(300, 200)
    o = torch.tensor([[0.0, 0.0, 1.0]]).repeat(4, 1)
    d = torch.nn.functional.normalize(torch.tensor([[0, 0, 1.0], [1.0, 0, 0], [0.8, 0, -1.0], [0, 0.51, -1.0]]), dim=-1)
    met = plane.meet(o, d, torch.full((4, 1), 1e-6))
    assert not bool(met.hit.any())
    assert not bool(met.distances.any() or met.footprints.any())
    assert bool(met.uv.isfinite().all())


def test_zoomed_in_to_a_thousandth_of_a_pixel() -> None:
    """In a picture of 100,000 pixels, two rays that are a thousandth of a pixel apart meet it that far apart."""
    plane, size = Plane(100_000, 100_000), 100_000
    center = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    origin = torch.tensor([-0.25, -0.25, 1e-5], dtype=torch.float64)
    across = torch.cat([center, center + torch.tensor([[1e-3 / size, 0.0]])])
    o, d = rays_to(plane, across, origin)
    t = -o[:, 2].double() / d[:, 2].double()
    exact = (o[:, 0].double() + t * d[:, 0].double()).diff()
    met = plane.meet(o, d)
    assert float(exact) * size > 0.9e-3  # the rays themselves can be told apart
    assert abs(float(met.uv[:, 0].diff()) - float(exact)) * size < 5e-3  # float32's own spacing at 0.25: 3e-3 pixels


def test_the_top_is_up_and_the_left_is_left() -> None:
    plane = Plane(400, 200)
    o = torch.tensor([[0.0, 0.0, 1.0]]).repeat(2, 1)
    d = torch.nn.functional.normalize(torch.tensor([[0.0, 0.4, -1.0], [-0.9, 0.0, -1.0]]), dim=-1)
    met = plane.meet(o, d)
    torch.testing.assert_close(met.uv, torch.tensor([[0.5, 0.1], [0.05, 0.5]]))


def test_samples_of_a_pixel_that_covers_many() -> None:
    """One sample where a pixel of the view is one of the picture; else four, whose mean is that of what lies under it."""
    plane = Plane(100, 100)
    o, d = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    near = plane.meet(o, d, torch.tensor([[(1.0 / 100) ** 2]]))
    torch.testing.assert_close(near.footprints, torch.tensor([1.0]))
    assert plane.samples(near).shape == (1, 1, 2)
    far = plane.meet(o, d, torch.tensor([[(8 / 100) ** 2]]))
    positions = plane.samples(far)
    assert positions.shape == (4, 1, 2)
    offsets = (positions[:, 0] - 0.5) * 100 / 8  # in pixels of the view
    torch.testing.assert_close(offsets, torch.tensor(SPREAD), atol=1e-5, rtol=0)
    assert float(offsets.mean(0).abs().max()) < 1e-5
    assert all(len(set(axis.tolist())) == 4 for axis in torch.tensor(SPREAD).T)
    border = plane.meet(torch.tensor([[0.5, 0.5, 1.0]]), d, torch.tensor([[(8 / 100) ** 2]]))
    assert bool(((plane.samples(border) >= 0) & (plane.samples(border) <= 1)).all())
    assert plane.samples(plane.meet(o[:0], d[:0])).shape == (1, 0, 2)
