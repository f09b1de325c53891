"""What a scene's cameras look at, in the frame and the unit of whatever they are given in.

Nothing here is a length: thresholds are angles, shares of the cameras, or ratios of distances, so that a scene in millimetres
is the scene in kilometres. Reconstructions put single cameras far away or turn them round; those are not counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from ngp_method.data.decoding import to_color
from ngp_method.data.poses import nearest_to_axes
from ngp_method.data.views import View
from ngp_method.pictures.opening import opened

CONVERGENCE = 0.01
"""Least mean squared sine of the viewing directions' angles for them to have a focus (5.7 degrees rms)."""

FAR_OFF = 10.0
"""A camera stands apart that is this many times as far from the middle of all as half of them are: along a straight path it is
twice at most, and where some pictures are close-ups a few times."""

LOOKS_PAST = math.cos(math.radians(45.0))
"""A camera looks past the focus that has it more than 45 degrees off its axis: outside of most pictures."""

FEW = 0.1
"""Share of the cameras up to which such are strays; more of them belong to the scene."""


@dataclass
class Sight:
    """What the rule of :mod:`~ngp_method.data.geometry` looks at, in one frame.

    Attributes:
        origins: camera positions [N, 3].
        directions: viewing directions, unit, [N, 3].
        tan_half: tangent of the larger half field of view, [N].
        points: sparse points [M, 3] or None.
        transparent: whether the images are cut out.
    """

    origins: Tensor
    directions: Tensor
    tan_half: Tensor
    points: Tensor | None = None
    transparent: bool = False

    def only(self, kept: Tensor) -> Sight:
        """The same of some cameras, [N] bool."""
        origins, directions, tan_half = (x[kept] for x in (self.origins, self.directions, self.tan_half))
        return dataclasses.replace(self, origins=origins, directions=directions, tan_half=tan_half)


def sight_of(cameras: Cameras, points: Tensor | None, transparent: bool) -> Sight:
    """The sight of nerfstudio cameras [N]."""
    half = torch.maximum(cameras.width / (2 * cameras.fx), cameras.height / (2 * cameras.fy)).double().cpu()[:, 0]
    pinhole = cameras.camera_type.cpu()[:, 0] == CameraType.PERSPECTIVE.value
    return _sight(cameras.camera_to_worlds.double().cpu(), half, pinhole, points, transparent)


def sight_of_views(views: Sequence[View], poses: Tensor, points: Tensor | None, transparent: bool | None = None) -> Sight:
    """The sight of views that stand at poses [N, 3, 4] float64, cut out as is said; else, where the first picture is."""
    half = torch.tensor(
        [max(s.width / (2 * s.fx), s.height / (2 * s.fy)) for s in (view.lens for view in views)], dtype=torch.float64
    )
    pinhole = torch.tensor([view.lens.camera_type == CameraType.PERSPECTIVE for view in views])
    return _sight(poses, half, pinhole, points, is_transparent(views[0].image) if transparent is None else transparent)


def _sight(poses: Tensor, half: Tensor, pinhole: Tensor, points: Tensor | None, transparent: bool) -> Sight:
    directions = torch.nn.functional.normalize(-poses[:, :3, 2], dim=-1)
    # an equidistant lens has the angle where a pinhole has its tangent; beyond 60 degrees either sees everything
    tan_half = torch.where(pinhole, half, torch.tan(half.clamp(max=math.pi / 3))).clamp(max=math.tan(math.pi / 3))
    return Sight(poses[:, :3, 3], directions, tan_half, None if points is None else points.double().cpu(), transparent)


def stand_together(origins: Tensor) -> Tensor:
    """Which cameras [N, 3] do not stand far off all others, [N] bool; all of them where those are more than a few."""
    origins = origins.double()
    distance = torch.linalg.norm(origins - origins.median(0).values, dim=-1)
    far = distance > FAR_OFF * distance.median()
    return ~far if 0 < int(far.sum()) <= _few(len(origins)) and float(distance.median()) > 0.0 else torch.ones_like(far)


def _few(count: int) -> int:
    """How many of so many cameras may be strays: one of three tells nothing."""
    return max(1, int(FEW * count)) if count > 3 else 0


def focus_of(sight: Sight) -> Tensor | None:
    """The point nearest to all viewing axes, [3]; None where they do not meet in front of the cameras."""
    focus, spread = nearest_to_axes(sight.origins, sight.directions)
    past = _off_axis(sight, focus) < LOOKS_PAST
    if spread >= CONVERGENCE and 0 < int(past.sum()) <= _few(len(past)):
        focus, spread = nearest_to_axes(sight.origins[~past], sight.directions[~past])
    if spread < CONVERGENCE:
        return None
    return focus if float((_off_axis(sight, focus) > 0.0).double().mean()) >= 1.0 - FEW else None


def _off_axis(sight: Sight, point: Tensor) -> Tensor:
    """Cosine of the angle between each camera's axis and the way to a point, [N]."""
    return (torch.nn.functional.normalize(point - sight.origins, dim=-1) * sight.directions).sum(-1)


def is_transparent(path: Path) -> bool:
    """Whether at least a hundredth of an image's pixels are see-through."""
    with opened(path) as image:
        color = to_color(image, path)
        if color.mode != "RGBA":
            return False
        return is_cut_out(np.asarray(color))


def is_cut_out(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether at least a hundredth of the pixels [H, W, 3 or 4] of a picture are see-through."""
    return pixels.shape[-1] == 4 and bool((pixels[..., 3] < 128).mean() > 0.01)
