"""A capture in the world: where its cameras stand there, how that came from its files, and where its box lies.

Every format is put there in float64 and near the origin, as all that comes after is float32: positions of a survey have seven
digits before the point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from nerfstudio.cameras import camera_utils
from torch import Tensor

from ngp_method.data.capture import Capture, NgpFrame
from ngp_method.data.geometry import BLENDER_EDGE, NEAR, geometry_from_ngp, geometry_from_sight, holds, with_near
from ngp_method.data.messages import say_once
from ngp_method.data.sight import Sight, sight_of_views, stand_together
from ngp_method.data.transforms import power_of_two
from ngp_method.errors import fail
from ngp_method.kernels.scene import SceneGeometry

MOST_LOST = 1e-3
"""Share of the cameras' spread that float32 may take from their positions: a tenth of a percent is less than pixels tell."""


class Wishes(Protocol):
    """What a user may ask for, as :class:`~ngp_method.data.auto.AutoDataParserConfig` documents it."""

    @property
    def scale(self) -> float | None: ...
    @property
    def aabb_scale(self) -> int | None: ...
    @property
    def near(self) -> float | None: ...
    @property
    def orientation_method(self) -> str: ...
    @property
    def center_method(self) -> str: ...
    @property
    def auto_scale_poses(self) -> bool: ...


@dataclass
class Placed:
    """A capture in the world.

    Attributes:
        poses: camera to world of every view, [N, 3, 4] float32.
        transform: [3, 4] float64, and scale: original position p -> scale * (transform @ p), as nerfstudio stores them.
        geometry: where the unit cube lies.
    """

    poses: Tensor
    transform: Tensor
    scale: float
    geometry: SceneGeometry


def place(capture: Capture, config: Wishes) -> Placed:
    """Maps a capture to the world frame and finds its geometry; the same for every split.

    instant-ngp: world = position * scale + offset - 0.5, the unit cube being [-0.5, 0.5]^3. Blender: the world is the
    file's where its box is that of Blender scenes, else as for instant-ngp. nerfstudio and COLMAP: turned upright, centred
    and scaled as nerfstudio's own parsers do it.

    Raises:
        UserError: a setting that is none, or positions that float32 does not hold.
    """
    poses = torch.from_numpy(np.stack([view.pose for view in capture.views]))
    _say_strays(capture, poses)
    how: Callable[[Capture, Tensor, Wishes], Placed] = {
        "instant-ngp": _place_ngp,
        "blender": _place_blender,
        "nerfstudio": _place_nerfstudio,
        "colmap": _place_nerfstudio,
        "llff": _place_nerfstudio,
    }[capture.kind]
    placed = how(capture, poses, config)
    _check_digits(capture, placed.poses[:, :, 3], config)
    geometry = placed.geometry
    if config.near is not None:
        if not 0.0 <= config.near < geometry.aabb_scale:
            fail(f"--near {config.near:g}: give a distance in unit cubes, from 0 to {geometry.aabb_scale}.")
        geometry = dataclasses.replace(geometry, near=config.near * geometry.unit_size)
    return dataclasses.replace(placed, poses=placed.poses.float(), geometry=geometry)


def _say_strays(capture: Capture, poses: Tensor) -> None:
    kept = stand_together(poses[:, :, 3])
    if not bool(kept.all()):
        count, first = int((~kept).sum()), capture.views[int((~kept).nonzero()[0])].image.name
        say_once(
            f"{count} of {len(kept)} cameras in {capture.file} stand far off all others, as that of {first}; frame and box "
            "follow from the rest."
        )


def _check_digits(capture: Capture, origins: Tensor, config: Wishes) -> None:
    """Looks what is left of positions [N, 3] float64 in float32."""
    origins = origins[stand_together(origins)]
    lost = float((origins.float().double() - origins).abs().max())
    spread = float((origins.amax(0) - origins.amin(0)).max())
    if lost > MOST_LOST * spread > 0.0:
        asked = config.center_method == "none" and capture.kind in ("nerfstudio", "colmap", "llff")
        by = "--center-method none" if asked else "scale and offset"
        fail(
            f"{capture.file}: {by} would leave the cameras at positions as large as {float(origins.abs().max()):.3g}, with "
            f"{spread:.3g} between them, which single precision does not hold; "
            + ("leave it out." if asked else "take both out of the file, and the box is found.")
        )


def _override(frame: NgpFrame, config: Wishes) -> NgpFrame:
    if config.scale is not None:
        frame = dataclasses.replace(frame, scale=_positive(config.scale))
    if config.aabb_scale is not None:
        frame = dataclasses.replace(frame, aabb_scale=power_of_two(config.aabb_scale, "--aabb-scale"))
    return frame


def _override_geometry(geometry: SceneGeometry, origins: Tensor, world_scale: float, config: Wishes) -> SceneGeometry:
    """The command line's scale and aabb_scale in place of those found; the near plane follows."""
    if config.scale is None and config.aabb_scale is None:
        return geometry
    if config.scale is not None:
        geometry = dataclasses.replace(geometry, unit_size=world_scale / _positive(config.scale), reason="--scale")
    if config.aabb_scale is not None:
        size = power_of_two(config.aabb_scale, "--aabb-scale")
        geometry = dataclasses.replace(geometry, aabb_scale=size, reason="--aabb-scale")
    return with_near(geometry, origins, NEAR * geometry.unit_size)


def _place_ngp(capture: Capture, poses: Tensor, config: Wishes) -> Placed:
    frame, name = cast(NgpFrame, capture.ngp), capture.file.name
    sight = sight_of_views(capture.views, poses, None, capture.transparent)
    fits = holds(geometry_from_ngp(frame, poses[:, :, 3], ""), sight)
    if fits or not frame.by_convention:
        if not fits and config.scale is None:
            say_once(
                f"{capture.file}: its scale and offset put the box where the cameras do not look, or make it far larger or "
                "smaller than what they see; if that is not meant, take them out, and the box follows from the cameras."
            )
        frame = _override(frame, config)
        return _in_unit_cube(poses, frame, geometry_from_ngp(frame, poses[:, :, 3], f"{name}'s own"))
    say_once(f"{capture.file} gives no scale, and instant-ngp's own does not suit its cameras; the box follows from them.")
    return _found(sight, poses, frame, config)


def _place_blender(capture: Capture, poses: Tensor, config: Wishes) -> Placed:
    if capture.ngp is not None and not capture.ngp.by_convention:
        return _place_ngp(capture, poses, config)
    sight = sight_of_views(capture.views, poses, None, capture.transparent)
    # the box of the synthetic scenes is centred, whatever instant-ngp's offset would be
    frame = capture.ngp or NgpFrame(1.0, (0.5, 0.5, 0.5), 1)
    frame = _override(dataclasses.replace(frame, scale=1.0 / BLENDER_EDGE, offset=(0.5, 0.5, 0.5)), config)
    geometry = geometry_from_ngp(frame, poses[:, :, 3], "the box of Blender scenes")
    real = geometry.near > 0.0 and not sight.transparent  # opaque pictures taken from inside that box
    if real or not holds(geometry, sight):
        if not real:
            say_once(f"{capture.file}: the box of Blender scenes does not suit its cameras; the box follows from them.")
        return _found(sight, poses, capture.ngp, config)
    return Placed(poses, torch.eye(4, dtype=torch.float64)[:3], 1.0, geometry)


def _found(sight: Sight, poses: Tensor, frame: NgpFrame | None, config: Wishes) -> Placed:
    """A capture in the unit cube that the cameras tell; ``aabb_scale`` is the file's where it says it."""
    geometry = geometry_from_sight(sight)
    if frame is not None and "aabb_scale" in frame.stated:
        geometry = dataclasses.replace(geometry, aabb_scale=frame.aabb_scale)
        geometry = with_near(geometry, sight.origins, geometry.near or NEAR * geometry.unit_size)
    geometry = _override_geometry(geometry, sight.origins, 1.0, config)
    scale = 1.0 / geometry.unit_size
    x, y, z = (0.5 - scale * c for c in geometry.center)
    return _in_unit_cube(poses, NgpFrame(scale, (x, y, z), geometry.aabb_scale), geometry)


def _in_unit_cube(poses: Tensor, frame: NgpFrame, geometry: SceneGeometry) -> Placed:
    """A capture in the world that is instant-ngp's unit cube, centred on the origin.

    Args:
        poses: in the file's frame, [N, 3, 4] float64.
        frame: the way to the unit cube.
        geometry: in the file's frame.
    """
    shift = torch.tensor(frame.offset, dtype=torch.float64) - 0.5
    world = poses.clone()
    world[:, :, 3] = poses[:, :, 3] * frame.scale + shift
    transform = torch.eye(4, dtype=torch.float64)[:3]
    transform[:, 3] = shift / frame.scale
    cube = SceneGeometry((0.0, 0.0, 0.0), 1.0, frame.aabb_scale, geometry.near * frame.scale, geometry.reason)
    return Placed(world, transform, frame.scale, cube)


def _place_nerfstudio(capture: Capture, poses: Tensor, config: Wishes) -> Placed:
    square = torch.eye(4, dtype=torch.float64).repeat(len(poses), 1, 1)
    square[:, :3] = poses
    # nerfstudio turns poses in one type or another, so it is given positions near the origin, and what is taken off them is
    # put back into the transform.
    middle = square[:, :3, 3].median(0).values
    square[:, :3, 3] -= middle
    kept = stand_together(square[:, :3, 3])
    turned, transform = camera_utils.auto_orient_and_center_poses(
        square[kept].float(),
        method=cast(Any, capture.orientation or config.orientation_method),
        center_method=cast(Any, config.center_method),
    )
    transform = transform.double()
    world = transform[:, :3] @ square[:, :3]
    world[:, :, 3] += transform[:, 3]
    world[kept] = turned.double()[:, :3]
    if config.center_method == "none":  # the origin stays where it was
        world[:, :, 3] += transform[:, :3] @ middle
    else:
        transform[:, 3] -= transform[:, :3] @ middle
    scale = 1.0
    if config.auto_scale_poses:
        reach = float(world[kept][:, :, 3].abs().max())
        scale = 1.0 / reach if reach > 0.0 else 1.0
    world[:, :, 3] *= scale

    points = None
    if capture.points is not None:
        moved = capture.points @ transform[:, :3].numpy().T + transform[:, 3].numpy()
        points = torch.from_numpy(moved * scale)
    sight = sight_of_views(capture.views, world, points, capture.transparent)
    geometry = _override_geometry(geometry_from_sight(sight), sight.origins, scale, config)

    full = transform
    if capture.applied_transform is not None:
        applied = torch.eye(4, dtype=torch.float64)
        applied[:3] = torch.from_numpy(capture.applied_transform)
        full = transform @ applied
    return Placed(world, full, scale * capture.applied_scale, geometry)


def _positive(scale: float) -> float:
    if not scale > 0.0:
        fail(f"--scale {scale:g}: give a number above zero.")
    return scale
