"""What the poses of many cameras have in common: the point they look at, and the way that is up.

Everything is float64 on the CPU. Axes are OpenGL's: a pose's columns are right, up, backwards, position.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARALLEL = 1e-6
"""Mean squared sine of the axes' angles below which their nearest point is not told by the axes alone."""


def nearest_to_axes(origins: Tensor, directions: Tensor) -> tuple[Tensor, float]:
    """The point nearest to all optical axes, least squares, and how far the axes are from parallel.

    Args:
        origins: [N, 3].
        directions: [N, 3] unit vectors along the axes, either way.

    Returns:
        The point [3]; of parallel axes, which have a line of them, the one nearest to the origin. And the least mean squared
        sine of the axes' angles with any one direction: 0 for parallel axes, 2/3 for axes in all directions.
    """
    # Projection across each axis: the point's mean squared distance from the axes is a quadratic form of their mean.
    across = torch.eye(3, dtype=torch.float64) - directions[:, :, None] * directions[:, None, :]
    mean, wanted = across.mean(0), (across @ origins[:, :, None]).mean(0)[:, 0]
    spread = float(torch.linalg.eigvalsh(mean)[0])
    if spread < PARALLEL:
        return torch.linalg.lstsq(mean, wanted[:, None], rcond=PARALLEL, driver="gelsd").solution[:, 0], spread
    return torch.linalg.solve(mean, wanted), spread


def up_of(poses: Tensor) -> Tensor:
    """The unit vector [3] that is up in the world of these cameras [N, 3, 4].

    nerfstudio's worlds have z up unless nobody turned them. The cameras' own mean is no substitute: where they look down from
    one side it leans with the way they look, by 33 degrees for an arc of 60 degrees at 35. It is taken only where it says
    clearly that z is not up: more than 37 degrees away from it.
    """
    mean, z = poses[:, :3, 1].double().cpu().mean(0), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    length = float(mean.norm())
    # Cameras that turned round their own axis have no common up.
    return mean / length if length > 0.1 and float(mean @ z) < 0.8 * length else z
