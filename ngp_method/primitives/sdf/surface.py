"""The surface of a learned distance as closed triangles, by marching cubes (scikit-image: Lewiner et al. 2003, whose cases
leave no hole)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from .tracing import Distance

BLOCK = 8
"""Samples along an edge of a block: those far from the surface are not looked into."""

SLACK = 1.25
"""A learned distance may change by so much more than one moves: blocks within this many half diagonals are looked into."""

BLOCKS_AT_A_TIME = 512
"""Looked into at once: 262,144 points."""

MOST_FACES = 24_000_000
"""Triangles of a surface at most: a thousand samples a side give 6 to 10 million, a function that is noise yet gives three a
cell, more than there is memory for."""

Advance = Callable[[float], None]


class NoSurfaceYetError(ValueError):
    """The function changes its sign everywhere; the text is one sentence, of what was looked at."""


def sample_distance(distance: Distance, resolution: int, device: torch.device, advance: Advance) -> npt.NDArray[np.float32]:
    """Distances on a lattice over [0, 1]^3, exact near the surface; far from it only their sign and rough size are.

    Args:
        distance: of positions [N, 3].
        resolution: samples along an edge, of which the first lies at 0 and the last at 1.
        device: where it computes.
        advance: told the share of the work done since the last call.

    Returns:
        [resolution, resolution, resolution] float32, axes x, y, z.
    """
    spacing, count = 1.0 / (resolution - 1), math.ceil(resolution / BLOCK)
    axis = torch.arange(count, device=device)
    blocks = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    middle = ((blocks * BLOCK + 0.5 * (BLOCK - 1)) * spacing).clamp(max=1.0)
    far = distance(middle)
    near = far.abs() <= SLACK * 0.5 * math.sqrt(3) * BLOCK * spacing
    values = torch.empty((count * BLOCK,) * 3)
    tiled = values.view(count, BLOCK, count, BLOCK, count, BLOCK).permute(0, 2, 4, 1, 3, 5)
    tiled[:] = far.view(count, count, count, 1, 1, 1).cpu()
    chosen = blocks[near]
    inner = torch.arange(BLOCK, device=device)
    within = torch.stack(torch.meshgrid(inner, inner, inner, indexing="ij"), -1).reshape(1, -1, 3)
    for first in range(0, len(chosen), BLOCKS_AT_A_TIME):
        some = chosen[first : first + BLOCKS_AT_A_TIME]
        positions = ((some[:, None] * BLOCK + within) * spacing).clamp(max=1.0).reshape(-1, 3)
        found = distance(positions).view(len(some), BLOCK, BLOCK, BLOCK).cpu()
        x, y, z = some.cpu().unbind(-1)
        tiled[x, y, z] = found
        advance(len(some) / len(chosen))
    return values[:resolution, :resolution, :resolution].numpy()


def _faces_expected(values: npt.NDArray[np.float32]) -> int:
    """About as many triangles as marching cubes will make: a vertex on each edge of the lattice where the sign changes, and two
    triangles for each vertex of a closed surface."""
    inside = values < 0
    return 2 * sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))


def extract_surface(
    distance: Distance,
    resolution: int,
    device: torch.device,
    advance: Advance = lambda share: None,
    most_faces: int = MOST_FACES,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """The surface where a distance is zero, its normals outward; closed where the cube cuts it.

    Args:
        distance, resolution, device: as in :func:`sample_distance`.
        advance: told the share of the work done since the last call.
        most_faces: triangles beyond which there is no surface to speak of.

    Raises:
        NoSurfaceYetError: there would be more.

    Returns:
        Vertices float64 [V, 3] in units of the cube and faces int32 [F, 3]; none of either where the distance has one sign.
    """
    from skimage.measure import marching_cubes  # slow to import

    values = sample_distance(distance, resolution, device, lambda share: advance(0.6 * share))
    # A layer of outside all around closes the surface where the cube cuts it.
    values = np.pad(values, 1, constant_values=max(1.0 / resolution, float(values.max())))
    if values.min() >= 0:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int32)
    expected = _faces_expected(values)
    if expected > most_faces:
        raise NoSurfaceYetError(f"the learned distance is noise yet (some {expected:,} triangles at {resolution}^3)")
    # "descent" has the faces turn outward from low values: the axes are x, y, z here, scikit-image thinks of z, y, x.
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    advance(0.4)
    placed: npt.NDArray[np.float64] = (vertices.astype(np.float64) - 1.0) / (resolution - 1)
    return placed.clip(0.0, 1.0), faces.astype(np.int32)
