"""The density head, the loss on colours and who had room, against the reference, on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ngp_method.kernels.losses import LOSSES
from ngp_method.kernels.scene import SceneGeometry

from .gpu_check import REFERENCE, Cases
from .gpu_compare import Row, equal, near, tol


def density_head(cases: Cases) -> Iterator[Row]:
    """Densities, and the one gradient that both ways to the outputs meet in."""
    for n in (*cases.sizes, cases.large):
        raw, d_sigma, d_raw = 4 * cases.normal(n, 16), cases.normal(n), cases.normal(n, 16)
        found = []
        for kernels, kind in ((cases.kernels, torch.float32), (REFERENCE, torch.float64)):
            leaf = raw.detach().to(kind).requires_grad_()
            sigmas, same = kernels.density_head(leaf, 2.5)
            ((sigmas * d_sigma.to(kind)).sum() + (same * d_raw.to(kind)).sum()).backward()
            assert leaf.grad is not None
            found.append((sigmas.detach(), leaf.grad))
        (sigmas, grad), (truth, expected) = found
        largest = float(truth.max()) if n else 0.0
        yield near("density_head", "densities", sigmas, truth, tol.EXP_32 * largest)
        size = float(d_sigma.abs().max()) if n else 0.0
        yield near("density_head", "gradient", grad, expected, tol.EXP_32 * (largest * size + 8.0))


def color_loss(cases: Cases) -> Iterator[Row]:
    """Each loss, with and without alpha and rays left out: the sums, and gradients of colours and opacities."""
    for n in [size for size in (*cases.sizes, cases.large) if size]:
        for loss in LOSSES:
            for channels, left_out in ((3, False), (4, True)):
                opacities, pixels, background = cases.uniform(n), cases.uniform(n, channels), cases.uniform(n, 3)
                rgbs = opacities[:, None] * (pixels[:, :3] + 0.3 * cases.normal(n, 3))
                room = cases.uniform(n) < 0.7 if left_out else None
                found = []
                for kernels, kind in ((cases.kernels, torch.float32), (REFERENCE, torch.float64)):
                    leaves = [t.detach().to(kind).requires_grad_() for t in (rgbs, opacities)]
                    got = kernels.color_loss(*leaves, pixels.to(kind), background.to(kind), room, loss)
                    got.loss.backward()
                    found.append(([got.loss.detach(), got.mse], [leaf.grad for leaf in leaves]))
                total = tol.LOSS_32 * float(sum(found[1][0]))
                for name, one, other in zip(("loss", "squared error"), found[0][0], found[1][0]):
                    yield near("color_loss", name, one, other, total)
                for name, a, b in zip(("colour gradient", "opacity gradient"), found[0][1], found[1][1]):
                    assert a is not None
                    assert b is not None
                    yield near("color_loss", name, a, b, tol.LOSS_32 * float(b.abs().max()))


def room(cases: Cases) -> Iterator[Row]:
    """Of a march with half the slots that it needs: the same rays, and their number."""
    tiny = cases.device.type == "cpu"
    geometry, count = SceneGeometry(step_scale=16.0 if tiny else 1.0), 20 if tiny else 5000
    o, d = cases.uniform(count, 3) - 0.5, cases.directions(count)
    near_end, far_end = torch.zeros_like(o[:, 0]), torch.full_like(o[:, 0], 0.3)
    grid = torch.rand(1, 32, 32, 32, generator=cases.rng, device=cases.device) < 0.3
    whole, _ = cases.kernels.march(o, d, near_end, far_end, grid, geometry)
    samples, resume = cases.kernels.march(o, d, near_end, far_end, grid, geometry, capacity=whole.n_samples // 2)
    for name, got, truth in zip(
        ("rays", "numbers"), cases.kernels.room(samples, resume, far_end), REFERENCE.room(samples, resume, far_end)
    ):
        yield equal("room", name, got.int(), truth.int())


CHECKS = {"density_head": density_head, "color_loss": color_loss, "room": room}
