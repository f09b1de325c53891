"""The data parser that looks at a folder and knows: instant-ngp, Blender, nerfstudio, COLMAP or LLFF.

Registered with nerfstudio as ``auto-data`` and the method's default, so that ``ns-train instant-hash --data DIR`` needs
no other flag. Import-light: nerfstudio loads this module while its data managers are still being imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from torch import Tensor

from ngp_method.data.capture import Capture, view_indices
from ngp_method.data.detect import detect, read_capture
from ngp_method.data.frames import say_unplaced
from ngp_method.data.masks import metadata_of, names_for_nerfstudio
from ngp_method.data.messages import say_once
from ngp_method.data.multiscale import scales_of
from ngp_method.data.views import to_cameras
from ngp_method.data.world import Placed, place
from ngp_method.errors import fail


@dataclass
class AutoDataParserConfig(DataParserConfig):
    """A folder of posed images in any of six formats, which is recognised.

    instant-ngp ``transforms.json``, Blender ``transforms_train.json``, multi-scale Blender ``metadata.json``, nerfstudio
    ``transforms.json``, COLMAP ``sparse/0`` beside ``images``, LLFF ``poses_bounds.npy`` beside ``images``.
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
    """How nerfstudio, COLMAP and LLFF scenes are turned upright, as nerfstudio-data does."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """What the origin of nerfstudio, COLMAP and LLFF scenes is, as in nerfstudio-data. The unit cube is placed on its own."""
    auto_scale_poses: bool = True
    """Whether nerfstudio, COLMAP and LLFF scenes are scaled so that cameras lie within +-1, as nerfstudio-data does."""
    depth_unit_scale_factor: float = 1e-3
    """Metres per unit of the depth images that nerfstudio scenes may have."""
    train_scales: Literal["all", "full"] = "all"
    """Of a multi-scale Blender scene, train on the images of all scales, or on those of full size alone."""


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
        if split == "train" and config.train_scales == "full":
            indices = [i for i in indices if capture.views[i].scale == 1]
        outputs = outputs_of(capture, indices, place(capture, config), factor)
        views = [capture.views[i] for i in indices]
        depths = [view.depth for view in views if view.depth is not None]
        if len(depths) == len(views):
            outputs.metadata |= {"depth_filenames": depths, "depth_unit_scale_factor": config.depth_unit_scale_factor}
        return outputs


class PreciseOutputs(DataparserOutputs):
    """nerfstudio's outputs with a transform in float64, which its own conversion of float32 poses does not take."""

    def transform_poses_to_original_space(
        self, poses: Tensor, camera_convention: Literal["opengl", "opencv"] = "opencv"
    ) -> Tensor:
        """World poses [N, 3, 4] -> the frame the data was captured in, [N, 3, 4] float64 (``ns-export cameras``)."""
        return super().transform_poses_to_original_space(poses.double(), camera_convention)


def outputs_of(capture: Capture, indices: Sequence[int], placed: Placed, factor: float = 1.0) -> PreciseOutputs:
    """What nerfstudio is given of some views of a capture.

    Args:
        capture: all views.
        indices: of those that are given.
        placed: where all of them stand in the world.
        factor: how many times smaller than on disk pictures and cameras are.
    """
    views = [capture.views[i] for i in indices]
    camera_metadata: dict[str, Any] | None = None
    if capture.fisheye_crop_radius is not None and views[0].lens.camera_type == CameraType.FISHEYE:
        camera_metadata = {"fisheye_crop_radius": capture.fisheye_crop_radius / factor}
    return PreciseOutputs(
        image_filenames=[view.image for view in views],
        cameras=to_cameras(views, placed.poses[torch.tensor(indices, dtype=torch.long)], factor, camera_metadata),
        alpha_color=None,
        scene_box=SceneBox(aabb=placed.geometry.aabb),
        mask_filenames=names_for_nerfstudio(views),
        metadata={
            "geometry": placed.geometry,
            "image_downscale": factor,
            **metadata_of(views),
            **scales_of(views),
        },
        dataparser_transform=placed.transform,
        dataparser_scale=placed.scale,
    )


def _factor(downscale: float | None) -> float:
    factor = 1.0 if downscale is None else float(downscale)
    if not factor >= 1.0:
        fail(f"--downscale-factor {factor:g}: give 1 or more.")
    return factor


auto_data = DataParserSpecification(
    config=AutoDataParserConfig(),
    description="Recognises instant-ngp, Blender, nerfstudio, COLMAP and LLFF scenes by their files.",
)
"""What nerfstudio registers as ``auto-data``."""

__all__ = ["AutoDataParser", "AutoDataParserConfig", "auto_data", "outputs_of"]
