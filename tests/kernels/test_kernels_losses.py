"""Losses, the density head and what says which rays had room, of every kernel set against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.losses import LOSSES
from ngp_method.kernels.scene import SceneGeometry
from support import tolerances as tol
from support.kernel_cases import SETS, SIZES, assert_near, generator, kernels_of, nan_memory  # noqa: F401 - a fixture

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")


def _rays(n: int, channels: int) -> tuple[Tensor, ...]:
    """Colours and opacities whose errors lie on both sides of the Huber loss's kink, pixels, background."""
    rng = generator(n + channels)
    opacities = torch.rand(n, generator=rng)
    pixels, background = torch.rand(n, channels, generator=rng), torch.rand(n, 3, generator=rng)
    rgbs = opacities[:, None] * (pixels[:, :3] + 0.3 * torch.randn(n, 3, generator=rng))
    return rgbs, opacities, pixels, background


@pytest.mark.parametrize("n", [n for n in SIZES if n])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("left_out", [False, True])
def test_color_loss(kernel_set: str, n: int, channels: int, loss: str, left_out: bool) -> None:
    rgbs, opacities, pixels, background = _rays(n, channels)
    room = torch.arange(n) % 3 != 1 if left_out else None
    found = []
    for kernels, kind in ((kernels_of(kernel_set), torch.float32), (REFERENCE, torch.float64)):
        leaves = [t.detach().to(kind).requires_grad_() for t in (rgbs, opacities)]
        got = kernels.color_loss(*leaves, pixels.to(kind), background.to(kind), room, loss)
        assert not got.mse.requires_grad
        (3.0 * got.loss).backward()
        found.append((got, [leaf.grad for leaf in leaves]))
    (got, gradients), (truth, expected) = found
    for a, b in ((got.loss, truth.loss), (got.mse, truth.mse)):
        assert_near(a, b, tol.LOSS_32 * float(truth.loss.detach() + truth.mse), "sum")
    for a, b in zip(gradients, expected):
        assert a is not None
        assert b is not None
        assert_near(a, b, tol.LOSS_32 * float(b.abs().max()), "gradient")
        if room is not None:
            assert (a[~room] == 0).all()


def test_color_loss_over_one_color_and_over_one_that_is_trained(kernel_set: str) -> None:
    """A background [3] is that of every ray; one that is trained has a gradient."""
    rgbs, opacities, pixels, _ = _rays(31, 4)
    color, kernels = torch.tensor([0.2, 0.5, 1.0]), kernels_of(kernel_set)
    one = kernels.color_loss(rgbs, opacities, pixels, color, None, "huber")
    each = kernels.color_loss(rgbs, opacities, pixels, color.expand(31, 3), None, "huber")
    torch.testing.assert_close(one.loss, each.loss, rtol=tol.LOSS_32, atol=0)
    gradients = []
    for some in (kernels, REFERENCE):
        trained = color.clone().requires_grad_()
        some.color_loss(rgbs, opacities, pixels, trained, None, "huber").loss.backward()
        gradients.append(trained.grad)
    torch.testing.assert_close(*gradients)
    assert (gradients[0] != 0).all()


def test_color_loss_is_differentiated_once(kernel_set: str) -> None:
    """A set that has no second derivative says so."""
    rgbs, opacities, pixels, background = _rays(40, 4)
    rgbs.requires_grad_()
    (slope,) = torch.autograd.grad(
        kernels_of(kernel_set).color_loss(rgbs, opacities, pixels, background, None, "mse").loss, rgbs, create_graph=True
    )
    if "triton" in kernel_set:
        with pytest.raises(RuntimeError, match="differentiate twice"):
            slope.sum().backward()
    else:
        slope.sum().backward()
        torch.testing.assert_close(rgbs.grad, torch.full((40, 3), 2.0 / 120))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("ways", ["sigmas", "raw", "both"])
def test_density_head(kernel_set: str, n: int, ways: str) -> None:
    """Also where raw is beyond the clamp of the gradient, and where either gradient is missing."""
    rng = generator(n)
    raw = 8.0 * torch.randn(n, 16, generator=rng)
    d_sigma, d_raw = torch.randn(n, generator=rng), torch.randn(n, 16, generator=rng)
    found = []
    for kernels, kind in ((kernels_of(kernel_set), torch.float32), (REFERENCE, torch.float64)):
        leaf = raw.detach().to(kind).requires_grad_()
        sigmas, same = kernels.density_head(leaf, 2.5)
        torch.testing.assert_close(same, leaf, rtol=0, atol=0)
        total = (sigmas * d_sigma.to(kind)).sum() if ways != "raw" else torch.zeros((), dtype=kind)
        total = total + ((same * d_raw.to(kind)).sum() if ways != "sigmas" else 0.0)
        total.backward()
        assert leaf.grad is not None
        found.append((sigmas.detach(), leaf.grad))
    for a, b in zip(*found):
        torch.testing.assert_close(a.double(), b, rtol=tol.EXP_32, atol=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_room(kernel_set: str, n: int) -> None:
    """Up to the first ray whose samples have no slots: with a slot to spare, half as many as there are samples, and none."""
    kernels, geometry = kernels_of(kernel_set), SceneGeometry(step_scale=8.0)
    rng = generator(n)
    o = torch.rand(n, 3, generator=rng) - 0.5
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    t_min, t_max = torch.zeros(n), torch.full((n,), 0.3)
    occupied = torch.rand(1, 16, 16, 16, generator=rng) < 0.3
    whole, resume = kernels.march(o, d, t_min, t_max, occupied, geometry)
    for slots in (whole.n_samples + 1, whole.n_samples // 2, 0):
        samples, resume = kernels.march(o, d, t_min, t_max, occupied, geometry, capacity=slots)
        room, numbers = kernels.room(samples, resume, t_max)
        assert room.dtype == torch.bool
        assert (room == (whole.packed_info.sum(1) <= slots)).all()
        assert numbers.tolist() == [int(samples.packed_info[:, 1].sum()), int(room.sum())]
