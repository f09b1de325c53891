"""Where the unit cube lies, how far the scene reaches and where rays begin: the one rule for every format.

1. **The file says so.** instant-ngp's ``scale``, ``offset`` and ``aabb_scale`` are taken as they are; a Blender scene
   without them is the box +-1.5 of NeRF's synthetic scenes, unless it is opaque and seen from inside that box.
2. **An object cut out** (the images have transparent pixels) and seen from around: one unit cube, as large as what the
   cameras see at their common focus, nothing beyond it.
3. **A scene looked at from around**: the unit cube is centred on the focus, the cameras' median distance from it is
   1.32 unit cubes: instant-ngp's ``colmap2nerf.py`` scales that distance to 4 units, and 4 x 0.33 = 1.32.
4. **Cameras that look outward or all one way**: the unit cube holds the cameras.

In 3 and 4 the scene reaches as far as the sparse points do (98th percentile, a tenth to spare) and at least around the
cameras; without points ``aabb_scale`` is 16, as in the example of a scene with a background in instant-ngp's guide.
(In doubt the guide says 128; three more cascades of the occupancy grid cost a CPU more than they show.) It is never
more than 16 by itself: ``--aabb-scale`` is.

**Near plane.** Where a camera stands inside the box, nothing is sampled within 0.1 unit cubes of it: instant-ngp starts
at the lens but presses density down nearer than 0.1 (``near_distance``, testbed.h), so nothing is expected there, and
what one camera alone sees is where floaters grow. In case 4, where cameras walk among things, it is half of that; it is
never more than a fifth of the way to the focus. Where all cameras stand outside, the box itself is the near plane.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from torch import Tensor

from ngp_method.data.capture import NgpFrame
from ngp_method.data.decoding import opened, to_color
from ngp_method.data.poses import nearest_to_axes
from ngp_method.kernels.scene import MAX_AABB_SCALE, SceneGeometry

BLENDER_EDGE = 3.0
"""Edge of NeRF's synthetic scenes, as nerfstudio's Blender parser has it."""

FOCUS_DISTANCE = 4.0 * 0.33
"""Cameras' distance from the focus in unit cubes (instant-ngp, scripts/colmap2nerf.py and nerf_loader.h)."""

UNBOUNDED_SCALE = 16
"""``aabb_scale`` of scenes with a background of unknown extent (the example in instant-ngp's nerf_dataset_tips.md)."""

NEAR = 0.1
"""instant-ngp's ``near_distance``, in unit cubes (testbed.h)."""

POINTS_PERCENTILE = 98.0
"""Sparse reconstructions have a percent or so of stray points far out."""

CONVERGENCE = 0.01
"""Least mean squared sine of the viewing directions' angles for them to have a focus (5.7 degrees rms)."""


@dataclass
class Sight:
    """What the rule looks at, in one frame.

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


def sight_of(cameras: Cameras, points: Tensor | None, transparent: bool) -> Sight:
    """The rule's view of nerfstudio cameras [N]."""
    poses = cameras.camera_to_worlds.double().cpu()
    directions = torch.nn.functional.normalize(-poses[:, :, 2], dim=-1)
    half = torch.maximum(cameras.width / (2 * cameras.fx), cameras.height / (2 * cameras.fy)).double().cpu()[:, 0]
    fisheye = cameras.camera_type.cpu()[:, 0] != CameraType.PERSPECTIVE.value
    # an equidistant lens has the angle where a pinhole has its tangent; beyond 60 degrees either sees everything
    tan_half = torch.where(fisheye, torch.tan(half.clamp(max=math.pi / 3)), half).clamp(max=math.tan(math.pi / 3))
    return Sight(poses[:, :, 3], directions, tan_half, None if points is None else points.double().cpu(), transparent)


def focus_of(sight: Sight) -> Tensor | None:
    """The point nearest to all viewing axes, [3]; None where they do not meet in front of the cameras."""
    focus, spread = nearest_to_axes(sight.origins, sight.directions)
    if spread < CONVERGENCE:
        return None
    ahead = ((focus - sight.origins) * sight.directions).sum(-1) > 0
    return focus if float(ahead.double().mean()) >= 0.9 else None


def geometry_from_sight(sight: Sight) -> SceneGeometry:
    """Cases 2 to 4 of the rule (see the module's first lines)."""
    focus = focus_of(sight)
    if focus is None:
        return _outward(sight)
    distance = torch.linalg.norm(sight.origins - focus, dim=-1)
    if sight.transparent:
        unit = 2.0 * float((distance * sight.tan_half).median())
        geometry = _geometry(focus, unit, 1, "an object cut out, seen from around")
    else:
        unit = float(distance.median()) / FOCUS_DISTANCE
        scale, source = _reach(sight, focus, unit)
        geometry = _geometry(focus, unit, scale, f"cameras around a focus, {source}")
    return with_near(geometry, sight.origins, min(NEAR * unit, 0.2 * float(distance.min())))


def _outward(sight: Sight) -> SceneGeometry:
    center = sight.origins.mean(0)
    unit = 2.0 * float((sight.origins - center).abs().max())
    if sight.points is not None:
        unit = max(unit, 2.0 * _extent(sight.points, center) / UNBOUNDED_SCALE)
    unit = unit if unit > 1e-6 else 1.0
    scale, source = _reach(sight, center, unit)
    geometry = _geometry(center, unit, scale, f"cameras that look outward or one way, {source}")
    return with_near(geometry, sight.origins, 0.5 * NEAR * unit)


def _reach(sight: Sight, center: Tensor, unit: float) -> tuple[int, str]:
    """aabb_scale for a scene with a background, and what it was taken from."""
    if sight.points is None or len(sight.points) < 100:
        return UNBOUNDED_SCALE, "background of unknown extent"
    cameras = float((sight.origins - center).abs().max())
    need = 2.0 * max(_extent(sight.points, center), cameras) / unit
    return min(next_power_of_two(need), UNBOUNDED_SCALE), f"{len(sight.points)} sparse points"


def _extent(points: Tensor, center: Tensor) -> float:
    return 1.1 * float(np.percentile((points - center).abs().amax(-1).numpy(), POINTS_PERCENTILE))


def _geometry(center: Tensor, unit: float, scale: int, reason: str) -> SceneGeometry:
    x, y, z = (float(v) for v in center)
    return SceneGeometry((x, y, z), unit, scale, 0.0, reason)


def next_power_of_two(value: float) -> int:
    """The least power of two from 1 to 128 that is not below ``value``."""
    return min(MAX_AABB_SCALE, 2 ** max(0, math.ceil(math.log2(max(value, 1.0)) - 1e-6)))


def with_near(geometry: SceneGeometry, origins: Tensor, near: float) -> SceneGeometry:
    """The geometry with a near plane, which it needs only where a camera [N, 3] stands inside its box."""
    low, high = geometry.aabb.to(origins)
    inside = bool(((origins > low) & (origins < high)).all(-1).any())
    return dataclasses.replace(geometry, near=near if inside else 0.0)


def geometry_from_ngp(frame: NgpFrame, origins: Tensor, world_scale: float, reason: str) -> SceneGeometry:
    """Case 1 for instant-ngp's own frame.

    Args:
        frame: the file's mapping.
        origins: camera positions in the world [N, 3].
        world_scale: world units per unit of the file, the file's axes and origin being kept; 0 where the world is
            instant-ngp's unit cube itself, centred on the origin.
        reason: see :class:`SceneGeometry`.
    """
    if world_scale == 0.0:
        geometry = SceneGeometry((0.0, 0.0, 0.0), 1.0, frame.aabb_scale, 0.0, reason)
    else:
        x, y, z = ((0.5 - o) / frame.scale * world_scale for o in frame.offset)
        geometry = SceneGeometry((x, y, z), world_scale / frame.scale, frame.aabb_scale, 0.0, reason)
    return with_near(geometry, origins, NEAR * geometry.unit_size)


def geometry_for(outputs: DataparserOutputs, parser_config: Any) -> SceneGeometry:
    """The geometry of any parser's training views.

    What :class:`~ngp_method.data.auto.AutoDataParser` found is taken as it is. ``instant-ngp-data`` and
    ``blender-data`` give a box that means what instant-ngp's does; for every other parser the box is nerfstudio's
    region of interest, which real scenes reach beyond, so the rule above is asked (times the parser's ``scene_scale``).

    Args:
        outputs: of the training split.
        parser_config: the parser's config.
    """
    known = outputs.metadata.get("geometry")
    if isinstance(known, SceneGeometry):
        return known
    origins = outputs.cameras.camera_to_worlds[:, :, 3].double().cpu()
    box = outputs.scene_box.aabb.double()
    edge = float((box[1] - box[0]).max())
    center = box.mean(0)
    if isinstance(parser_config, InstantNGPDataParserConfig):
        geometry = _geometry(center, 1.0, next_power_of_two(edge), "instant-ngp-data's box")
        return with_near(geometry, origins, NEAR)
    if isinstance(parser_config, BlenderDataParserConfig):
        unit = edge * parser_config.scale_factor
        return with_near(_geometry(center, unit, 1, "blender-data's box"), origins, NEAR * unit)
    points = outputs.metadata.get("points3D_xyz")
    sight = sight_of(outputs.cameras, points, is_transparent(outputs.image_filenames[0]))
    geometry = geometry_from_sight(sight)
    scale = float(getattr(parser_config, "scene_scale", 1.0))
    return geometry if scale == 1.0 else dataclasses.replace(geometry, unit_size=geometry.unit_size * scale)


def is_transparent(path: Path) -> bool:
    """Whether at least a hundredth of an image's pixels are see-through."""
    with opened(path) as image:
        color = to_color(image, path)
        if color.mode != "RGBA":
            return False
        alpha = np.asarray(color)[:, :, 3]
    return bool((alpha < 128).mean() > 0.01)
