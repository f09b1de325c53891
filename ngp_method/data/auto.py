"""The data parser that looks at a folder and knows: instant-ngp, Blender, nerfstudio or COLMAP.

Registered with nerfstudio as ``auto-data`` and the method's default, so that ``ns-train instant-hash --data DIR`` needs
no other flag. Import-light: nerfstudio loads this module while its data managers are still being imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, cast

import numpy as np
import torch
from nerfstudio.cameras import camera_utils
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from torch import Tensor

from ngp_method.data.capture import Capture, NgpFrame, view_indices
from ngp_method.data.detect import Source, detect, read_capture
from ngp_method.data.frames import say_unplaced
from ngp_method.data.geometry import (
    BLENDER_EDGE,
    NEAR,
    geometry_from_ngp,
    geometry_from_sight,
    is_transparent,
    sight_of,
    with_near,
)
from ngp_method.data.masks import metadata_of, names_for_nerfstudio
from ngp_method.data.messages import say_once
from ngp_method.data.transforms import power_of_two
from ngp_method.data.views import to_cameras
from ngp_method.errors import fail
from ngp_method.kernels.scene import SceneGeometry


@dataclass
class AutoDataParserConfig(DataParserConfig):
    """A folder of posed images in any of four formats, which is recognised.

    instant-ngp ``transforms.json``, Blender ``transforms_train.json``, nerfstudio ``transforms.json``, COLMAP
    ``sparse/0`` beside ``images``.
    """

    _target: type = field(default_factory=lambda: AutoDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """The folder, or a transforms file in it."""
    eval_mode: Literal["interval", "fraction", "filename", "all"] = "interval"
    """How views are held out for evaluation where the data names no split of its own.
    interval: every eval-interval-th view. fraction: what train-split-fraction leaves over, evenly spaced.
    filename: by "train" or "eval" in the file names. all: every view trains and every view is evaluated."""
    eval_interval: int = 8
    """Every how many-th view is held out, from the first one on. Only used when eval-mode is interval."""
    train_split_fraction: float = 0.9
    """Share of the views to train on. Only used when eval-mode is fraction."""
    downscale_factor: Optional[float] = None
    """Makes images and cameras smaller by this factor as they are loaded (1 if not set). Files stay as they are."""
    aabb_scale: Optional[int] = None
    """Edge of the whole scene in unit cubes, a power of two from 1 to 128.
    If not set, it is the file's own, or follows from cameras, sparse points and transparency."""
    scale: Optional[float] = None
    """Unit cubes per unit of length in the data's files: more means a smaller unit cube, with finer detail in it.
    If not set, it is the file's own (0.33 for instant-ngp), or follows from the cameras."""
    near: Optional[float] = None
    """Distance from the camera, in unit cubes, before which nothing is sampled.
    If not set: 0.1 where cameras stand inside the scene's box (less where they stand among things), else 0."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How nerfstudio and COLMAP scenes are turned upright, as nerfstudio-data does."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """What the origin of nerfstudio and COLMAP scenes is, as in nerfstudio-data. The unit cube is placed on its own."""
    auto_scale_poses: bool = True
    """Whether nerfstudio and COLMAP scenes are scaled so that cameras lie within +-1, as nerfstudio-data does."""
    depth_unit_scale_factor: float = 1e-3
    """Metres per unit of the depth images that nerfstudio scenes may have."""


class AutoDataParser(DataParser):
    """See :class:`AutoDataParserConfig`. The outputs' ``metadata["geometry"]`` is a :class:`SceneGeometry`.

    nerfstudio's data manager sets ``downscale_factor = 1`` on the parser for inference, to spare its own parsers from
    opening images. This one opens headers at most, and keeps the cameras that were trained with.
    """

    config: AutoDataParserConfig
    includes_time: bool = False
    downscale_factor: Optional[float] = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        config = self.config
        if split not in ("train", "val", "test"):
            raise ValueError(f"Unknown split {split!r}: train, val or test.")
        source = detect(config.data)
        say_once(f"data: {source.kind} ({source.why}) in {source.folder}")
        capture = read_capture(source)
        if source.kind != "colmap":
            say_unplaced(capture.views)
        factor = _factor(config.downscale_factor)
        indices = view_indices(capture, split, config.eval_mode, config.eval_interval, config.train_split_fraction)
        placed = place(capture, config)

        views = [capture.views[i] for i in indices]
        camera_metadata: dict[str, Any] | None = None
        if capture.fisheye_crop_radius is not None and views[0].camera_type == CameraType.FISHEYE:
            camera_metadata = {"fisheye_crop_radius": capture.fisheye_crop_radius / factor}
        cameras = to_cameras(views, placed.poses[torch.tensor(indices, dtype=torch.long)], factor, camera_metadata)
        metadata: dict[str, Any] = {"geometry": placed.geometry, "image_downscale": factor, **metadata_of(views)}
        depths = [view.depth for view in views if view.depth is not None]
        if len(depths) == len(views):
            metadata |= {"depth_filenames": depths, "depth_unit_scale_factor": config.depth_unit_scale_factor}
        return PreciseOutputs(
            image_filenames=[view.image for view in views],
            cameras=cameras,
            alpha_color=None,
            scene_box=SceneBox(aabb=placed.geometry.aabb),
            mask_filenames=names_for_nerfstudio(views),
            metadata=metadata,
            dataparser_transform=placed.transform,
            dataparser_scale=placed.scale,
        )


class PreciseOutputs(DataparserOutputs):
    """nerfstudio's outputs with a transform in float64, which its own conversion of float32 poses does not take."""

    def transform_poses_to_original_space(
        self, poses: Tensor, camera_convention: Literal["opengl", "opencv"] = "opencv"
    ) -> Tensor:
        """World poses [N, 3, 4] -> the frame the data was captured in, [N, 3, 4] float64 (``ns-export cameras``)."""
        return super().transform_poses_to_original_space(poses.double(), camera_convention)


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


def place(capture: Capture, config: AutoDataParserConfig) -> Placed:
    """Maps a capture to the world frame and finds its geometry; the same for every split.

    instant-ngp: world = position * scale + offset - 0.5, the unit cube being [-0.5, 0.5]^3. Blender: the world is the
    file's. nerfstudio and COLMAP: turned upright, centred and scaled as nerfstudio's own parsers do it.
    """
    how: Callable[[Capture, AutoDataParserConfig], Placed] = {
        "instant-ngp": _place_ngp,
        "blender": _place_blender,
        "nerfstudio": _place_nerfstudio,
        "colmap": _place_nerfstudio,
        "llff": _place_nerfstudio,
    }[capture.kind]
    placed = how(capture, config)
    geometry = placed.geometry
    if config.near is not None:
        if not 0.0 <= config.near < geometry.aabb_scale:
            fail(f"--near {config.near:g}: give a distance in unit cubes, from 0 to {geometry.aabb_scale}.")
        geometry = dataclasses.replace(geometry, near=config.near * geometry.unit_size)
    return dataclasses.replace(placed, geometry=geometry)


def _file_poses(capture: Capture) -> Tensor:
    return torch.from_numpy(np.stack([view.pose for view in capture.views]))


def _override(frame: NgpFrame, config: AutoDataParserConfig) -> NgpFrame:
    if config.scale is not None:
        frame = dataclasses.replace(frame, scale=_positive(config.scale))
    if config.aabb_scale is not None:
        frame = dataclasses.replace(frame, aabb_scale=power_of_two(config.aabb_scale, "--aabb-scale"))
    return frame


def _override_geometry(
    geometry: SceneGeometry, origins: Tensor, world_scale: float, config: AutoDataParserConfig
) -> SceneGeometry:
    """The command line's scale and aabb_scale in place of those found; the near plane follows."""
    if config.scale is None and config.aabb_scale is None:
        return geometry
    if config.scale is not None:
        geometry = dataclasses.replace(geometry, unit_size=world_scale / _positive(config.scale), reason="--scale")
    if config.aabb_scale is not None:
        size = power_of_two(config.aabb_scale, "--aabb-scale")
        geometry = dataclasses.replace(geometry, aabb_scale=size, reason="--aabb-scale")
    return with_near(geometry, origins, NEAR * geometry.unit_size)


def _place_ngp(capture: Capture, config: AutoDataParserConfig) -> Placed:
    frame = _override(cast(NgpFrame, capture.ngp), config)
    poses = _file_poses(capture)
    shift = torch.tensor(frame.offset, dtype=torch.float64) - 0.5
    poses[:, :, 3] = poses[:, :, 3] * frame.scale + shift
    transform = torch.eye(4, dtype=torch.float64)[:3]
    transform[:, 3] = shift / frame.scale
    geometry = geometry_from_ngp(frame, poses[:, :, 3], 0.0, f"{capture.file.name}'s own")
    return Placed(poses.float(), transform, frame.scale, geometry)


def _place_blender(capture: Capture, config: AutoDataParserConfig) -> Placed:
    poses = _file_poses(capture)
    origins = poses[:, :, 3]
    if capture.ngp is not None:
        frame = _override(capture.ngp, config)
        geometry = geometry_from_ngp(frame, origins, 1.0, f"{capture.file.name}'s own")
    else:
        # the box of the synthetic scenes is centred, whatever instant-ngp's offset would be
        frame = _override(NgpFrame(1.0 / BLENDER_EDGE, (0.5, 0.5, 0.5), 1), config)
        geometry = geometry_from_ngp(frame, origins, 1.0, "the box of Blender scenes")
        if geometry.near > 0.0 and not is_transparent(capture.views[0].image):
            # opaque pictures taken from inside that box: a real scene in Blender's layout
            sight = sight_of(to_cameras(capture.views, poses.float(), 1.0), None, False)
            geometry = _override_geometry(geometry_from_sight(sight), sight.origins, 1.0, config)
    return Placed(poses.float(), torch.eye(4, dtype=torch.float64)[:3], 1.0, geometry)


def _place_nerfstudio(capture: Capture, config: AutoDataParserConfig) -> Placed:
    square = torch.eye(4, dtype=torch.float64).repeat(len(capture.views), 1, 1)
    square[:, :3] = _file_poses(capture)
    # Positions of a survey have seven digits before the point, more than float32 holds. nerfstudio turns poses in one type or
    # another, so it is given positions near the origin, and what is taken off them is put back into the transform.
    middle = square[:, :3, 3].median(0).values
    square[:, :3, 3] -= middle
    poses, transform = camera_utils.auto_orient_and_center_poses(
        square.float(),
        method=cast(Any, capture.orientation or config.orientation_method),
        center_method=config.center_method,
    )
    poses, transform = poses.double(), transform.double()
    if config.center_method == "none":  # the origin stays where it was
        poses[:, :3, 3] += transform[:, :3] @ middle
    else:
        transform[:, 3] -= transform[:, :3] @ middle
    scale = 1.0
    if config.auto_scale_poses:
        reach = float(poses[:, :3, 3].abs().max())
        scale = 1.0 / reach if reach > 0.0 else 1.0
    poses = poses[:, :3].clone()
    poses[:, :, 3] *= scale

    points = None
    if capture.points is not None:
        moved = capture.points @ transform[:, :3].numpy().T + transform[:, 3].numpy()
        points = torch.from_numpy(moved * scale)
    sight = sight_of(to_cameras(capture.views, poses, 1.0), points, is_transparent(capture.views[0].image))
    geometry = _override_geometry(geometry_from_sight(sight), sight.origins, scale, config)

    full = transform
    if capture.applied_transform is not None:
        applied = torch.eye(4, dtype=torch.float64)
        applied[:3] = torch.from_numpy(capture.applied_transform)
        full = transform @ applied
    return Placed(poses.float(), full, scale * capture.applied_scale, geometry)


def _positive(scale: float) -> float:
    if not scale > 0.0:
        fail(f"--scale {scale:g}: give a number above zero.")
    return scale


def _factor(downscale: float | None) -> float:
    factor = 1.0 if downscale is None else float(downscale)
    if not factor >= 1.0:
        fail(f"--downscale-factor {factor:g}: give 1 or more.")
    return factor


auto_data = DataParserSpecification(
    config=AutoDataParserConfig(),
    description="Recognises instant-ngp, Blender, nerfstudio and COLMAP scenes by their files.",
)
"""What nerfstudio registers as ``auto-data``."""

__all__ = ["AutoDataParser", "AutoDataParserConfig", "Placed", "Source", "auto_data", "detect", "place"]
