"""One training step: losses, what is done before and after it, and the parts that may change its way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ngp_method.fields.adam import NgpAdam
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.losses import blend
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Part, Parts
from ngp_method.volume.ray_budget import MARCHED_WEIGHT, RAY_MULTIPLE
from ngp_method.volume.rays import Rays
from ngp_method.volume.rendering import Rendered
from ngp_method.volume.step import Step, StepSettings
from ngp_method.volume.tracing import Traced
from support.kernel_cases import kernels_of

SETTINGS = EncodingSettings(n_levels=4, log2_hashmap_size=9, base_resolution=4, finest_resolution=32)
GEOMETRY = SceneGeometry(step_scale=8.0)


class Tint(Part):
    """A colour that is learned: added to what rays gather, and kept small."""

    def __init__(self) -> None:
        super().__init__()
        self.tint = nn.Parameter(torch.tensor([0.1, 0.0, -0.1]))
        self.called: list[tuple[str, int]] = []

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"tint": [self.tint]}

    def rays(self, rays: Rays) -> Rays:
        return rays[torch.arange(rays.n_rays).flip(0)]

    def colors(self, rgbs: Tensor, rays: Rays) -> Tensor:
        return rgbs + self.tint

    def losses(self, traced: Traced) -> dict[str, Tensor]:
        return {"tint": self.tint.square().sum() + 0.0 * traced.found.weights.sum()}

    def outputs(self, rendered: Rendered) -> dict[str, Tensor]:
        return {"tint": self.tint.expand(rendered.gathered.rgbs.shape)}

    def before(self, step: int) -> None:
        self.called.append(("before", step))

    def after(self, step: int) -> None:
        self.called.append(("after", step))


class Green(Part):
    """A background of its own."""

    def background(self, rays: Rays) -> Tensor:
        return torch.tensor([0.0, 1.0, 0.0]).expand_as(rays.d)


def _rays(n: int) -> Rays:
    rng = torch.Generator().manual_seed(n)
    o = torch.rand(n, 3, generator=rng) - 0.5
    o[:, 0] = -2.0
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0.2]]).repeat(n, 1), dim=-1)
    return Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))


def _step(*parts: Part, **settings: int | float | str) -> Step:
    """Of a field of fog."""
    torch.manual_seed(3)
    kernels = kernels_of("cpu-float32")
    network = RadianceNetwork(build_encoding("hash", SETTINGS), kernels)
    torch.nn.init.uniform_(network.vectors()["table"], -1.0, 1.0)
    grid = OccupancyGrid(GEOMETRY, kernels, 16)
    return Step(Shading(network, GEOMETRY), grid, Parts([*parts, PlainBackground()]), StepSettings(**settings))  # type: ignore[arg-type]


def _prediction(step: Step, rays: Rays) -> Tensor:
    torch.manual_seed(5)
    found = step.predict(rays)
    return blend(found.rgbs, found.traced.found.opacities, found.background)


def test_a_part_changes_rays_colours_and_losses() -> None:
    rays, part = _rays(40), Tint()
    plain, with_part = _step(), _step(part)
    expected = _prediction(plain, rays[torch.arange(40).flip(0)]) + part.tint
    torch.testing.assert_close(_prediction(with_part, rays), expected)
    losses = with_part(rays, torch.rand(40, 4))
    assert losses.keys() == {"rgb_loss", "tint"}
    torch.testing.assert_close(losses["tint"], part.tint.square().sum())
    sum(losses.values(), torch.zeros(())).backward()
    assert part.tint.grad is not None
    assert (part.tint.grad != 0).all()
    assert with_part.parts.groups().keys() == {"tint"}


def test_the_first_background_is_the_one() -> None:
    """What is behind rays that met nothing; and only there, as the background of training is random otherwise."""
    rays = _rays(40)
    away = Rays(rays.o, -rays.d, torch.ones(40), torch.zeros(40))
    assert (_prediction(_step(Green()), away) == torch.tensor([0.0, 1.0, 0.0])).all()
    random = _prediction(_step(), away)
    assert 0.2 < random.std() < 0.4
    white = _step()
    white.parts.eval()
    assert (_prediction(white, away) == 1.0).all()
    nothing = _step()
    nothing.parts = Parts([Tint()])
    with pytest.raises(ValueError, match="behind the rays"):
        nothing(rays, torch.rand(40, 3))


def test_two_parts_of_one_name_are_refused() -> None:
    step = _step(Tint(), Tint())
    with pytest.raises(ValueError, match="'tint'"):
        step.parts.groups()
    with pytest.raises(ValueError, match="'tint'"):
        step(_rays(8), torch.rand(8, 3))


def test_steps_are_told_to_the_parts_and_train() -> None:
    """The average follows at its interval, the grid is updated, the number of rays fills the budget, and the loss falls."""
    part = Tint()
    step = _step(part, sample_budget=4096, average_interval=2)
    network = step.field.network
    optimizer = NgpAdam(network.vectors().values())
    rays, losses = _rays(200), []
    pixels = torch.tensor([0.2, 0.6, 0.4, 1.0]).expand(200, 4)
    for number in range(60):
        step.before(number)
        found = step(rays, pixels)
        losses.append(float(found["rgb_loss"].detach()))
        sum(found.values(), torch.zeros(())).backward()
        optimizer.step()
        assert all(vector.due is None for vector in network.vectors().values())
        step.after(number)
    assert losses[-1] < 0.5 * losses[0]
    assert int(network.average_count) == 30
    assert part.called == [(when, number) for number in range(60) for when in ("before", "after")]
    assert step.counts["rays"] == 200
    assert step.counts["kept"] > 0
    cost = max(step.counts["kept"], MARCHED_WEIGHT * step.counts["marched"]) / 200
    assert step.budget.rays == 4096 / cost // RAY_MULTIPLE * RAY_MULTIPLE
    assert (step.grid.occs > 0).any()
