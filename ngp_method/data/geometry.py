"""Where the unit cube lies, how far the scene reaches and where rays begin: the one rule for every format.

1. **The file says so.** instant-ngp's ``scale``, ``offset`` and ``aabb_scale`` are taken as they are. A file that gives no
   scale and offset has instant-ngp's (0.33 and 0.5), a Blender scene the box +-1.5 of NeRF's synthetic scenes, where such a
   box can be the scene's: what the cameras look at lies in it, and is neither far larger nor far smaller (:func:`holds`).
   A scene in another unit, or of another place, is none of them; nor is an opaque one in Blender's layout, seen from inside.
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
from typing import Any

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from torch import Tensor

from ngp_method.data.capture import NgpFrame
from ngp_method.data.sight import FEW, Sight, focus_of, is_transparent, sight_of, stand_together
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

LEAST_SEEN = 0.125
"""A unit cube has to be no more than eight times as large as what the cameras see at their focus: hash levels finer than the
pixels are lost on a scene that is one small place of it."""

MOST_SEEN = 1.5
"""What the cameras see at their focus may be one and a half times as large as the whole box: of NeRF's synthetic scenes it is
0.97, and pictures have a margin round what they show."""

SAME_PLACE = 1e-9
"""Cameras that differ by less than this share of their coordinates, in float64, stand in one place."""

LEAST_SPREAD = 1.0 / 512.0
"""Cameras without a focus may stand as close together as this, in unit cubes."""


def geometry_from_sight(sight: Sight) -> SceneGeometry:
    """Cases 2 to 4 of the rule (see the module's first lines)."""
    sight = sight.only(stand_together(sight.origins))
    focus = focus_of(sight)
    if focus is None:
        return _outward(sight)
    distance = torch.linalg.norm(sight.origins - focus, dim=-1)
    if sight.transparent:
        unit = _seen_at(focus, sight)
        geometry = _geometry(focus, unit, 1, "an object cut out, seen from around")
    else:
        unit = float(distance.median()) / FOCUS_DISTANCE
        scale, source = _reach(sight, focus, unit)
        geometry = _geometry(focus, unit, scale, f"cameras around a focus, {source}")
    return with_near(geometry, sight.origins, min(NEAR * unit, 0.2 * float(distance.min())))


def holds(geometry: SceneGeometry, sight: Sight) -> bool:
    """Whether a box can be the scene's: one that a format has by convention may be meant for another unit, or another place."""
    sight = sight.only(stand_together(sight.origins))
    focus = focus_of(sight)
    if focus is None:
        spread = float((sight.origins.amax(0) - sight.origins.amin(0)).max())
        apart = spread >= LEAST_SPREAD * geometry.unit_size or spread <= SAME_PLACE * float(sight.origins.abs().max())
        return apart and float(_inside(geometry, sight.origins).double().mean()) >= 1.0 - FEW
    seen = _seen_at(focus, sight)
    large = LEAST_SEEN * geometry.unit_size <= seen <= MOST_SEEN * geometry.box_size
    return large and bool(_inside(geometry, focus))


def _inside(geometry: SceneGeometry, positions: Tensor) -> Tensor:
    """Which positions [..., 3] float64 lie in the box, [...] bool; in float64, for coordinates as large as a survey's."""
    center = torch.tensor(geometry.center, dtype=torch.float64)
    return ((positions.double() - center).abs() < 0.5 * geometry.box_size).all(-1)


def _seen_at(focus: Tensor, sight: Sight) -> float:
    """How wide the cameras see at their focus: half of them more, half less."""
    return 2.0 * float((torch.linalg.norm(sight.origins - focus, dim=-1) * sight.tan_half).median())


def _outward(sight: Sight) -> SceneGeometry:
    center = sight.origins.mean(0)
    unit = 2.0 * float((sight.origins - center).abs().max())
    if sight.points is not None:
        unit = max(unit, 2.0 * _extent(sight.points, center) / UNBOUNDED_SCALE)
    if unit <= SAME_PLACE * float(sight.origins.abs().max()):
        unit = 1.0  # all stand in one place, and there is no length to go by
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
    return dataclasses.replace(geometry, near=near if bool(_inside(geometry, origins).any()) else 0.0)


def geometry_from_ngp(frame: NgpFrame, origins: Tensor, reason: str) -> SceneGeometry:
    """Case 1 for instant-ngp's own frame: its box in the frame of the file.

    Args:
        frame: the file's mapping.
        origins: camera positions in the file's frame [N, 3].
        reason: see :class:`SceneGeometry`.
    """
    x, y, z = ((0.5 - o) / frame.scale for o in frame.offset)
    geometry = SceneGeometry((x, y, z), 1.0 / frame.scale, frame.aabb_scale, 0.0, reason)
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
