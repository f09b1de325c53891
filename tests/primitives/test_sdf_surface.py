"""Surfaces of distances are closed, in place, with the right number of handles, wherever the cube cuts them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from ngp_method.primitives.sdf.surface import NoSurfaceYetError, extract_surface

CPU = torch.device("cpu")


def ball(p: Tensor) -> Tensor:
    """Radius 0.25."""
    return (p - torch.tensor([0.45, 0.5, 0.55])).norm(dim=-1) - 0.25


def torus(p: Tensor) -> Tensor:
    """Radii 0.3 and 0.1."""
    q = p - 0.5
    return torch.stack([q[:, :2].norm(dim=-1) - 0.3, q[:, 2]], -1).norm(dim=-1) - 0.1


def wavy(p: Tensor) -> Tensor:
    """A ball whose distance grows up to 1.2 times as fast as one moves, as learned ones do."""
    return ball(p) + 0.004 * torch.sin(50.0 * p[:, 0])


def half(p: Tensor) -> Tensor:
    """All of the cube below x = 0.3: its other five sides are the cube's."""
    return p[:, 0] - 0.3


SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], int, float]] = {
    "ball": (ball, 2, 4 / 3 * np.pi * 0.25**3),
    "torus": (torus, 0, 2 * np.pi**2 * 0.3 * 0.1**2),
    "wavy": (wavy, 2, 4 / 3 * np.pi * 0.25**3),
    "half": (half, 2, 0.3),
}
"""Distance, Euler characteristic, volume."""


@pytest.mark.parametrize("resolution", [64, 101])
@pytest.mark.parametrize("name", SHAPES)
def test_a_surface_is_closed_and_in_place(name: str, resolution: int) -> None:
    distance, euler, volume = SHAPES[name]
    shares: list[float] = []
    vertices, faces = extract_surface(distance, resolution, CPU, shares.append)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == euler
    assert mesh.volume == pytest.approx(volume, rel=0.03)  # positive: the normals are outward
    assert sum(shares) == pytest.approx(1.0)
    if name != "half":
        off = distance(torch.from_numpy(vertices)).abs()
        assert float(off.max()) < 0.15 / resolution
    assert vertices.min() >= 0
    assert vertices.max() <= 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_where_there_is_one_sign_alone(sign: float) -> None:
    """Outside everywhere: no surface. Inside everywhere: that of the cube."""
    vertices, faces = extract_surface(lambda p: torch.full((len(p),), sign), 20, CPU)
    if sign > 0:
        assert vertices.shape == faces.shape == (0, 3)
    else:
        assert trimesh.Trimesh(vertices, faces, process=False).is_watertight


def test_blocks_far_from_the_surface_are_not_looked_into() -> None:
    asked: list[int] = []

    def counted(p: Tensor) -> Tensor:
        asked.append(len(p))
        return ball(p)

    extract_surface(counted, 256, CPU)
    assert sum(asked) < 0.25 * 256**3


def test_noise_is_no_surface() -> None:
    """Said before memory runs out: there would be three triangles for each cell."""
    draw = torch.Generator().manual_seed(0)

    def noise(positions: Tensor) -> Tensor:
        return 1e-3 * torch.randn(len(positions), generator=draw)

    with pytest.raises(NoSurfaceYetError, match=r"noise yet \(some [0-9,]+ triangles at 32\^3\)"):
        extract_surface(noise, 32, torch.device("cpu"), most_faces=20_000)
    _, faces = extract_surface(noise, 32, torch.device("cpu"))
    assert len(faces) > 20_000
