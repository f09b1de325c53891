"""Checks a scene before anything is written: one sentence naming file and mend, exit code 1, no traceback.

What is wrong with a transforms file or a COLMAP model is found while it is read (:mod:`~ngp_method.data.transforms`,
:mod:`~ngp_method.data.colmap`, :mod:`~ngp_method.data.views`); what takes all of it together is found here. Image
files are opened but not decoded: one that is cut short ends the command, with the same sentence, when it is loaded.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig, DataparserOutputs
from torch import Tensor

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.geometry import geometry_for
from ngp_method.data.images import ByteDataset
from ngp_method.errors import fail
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.scene import SceneGeometry

__all__ = ["check_box", "check_cameras", "check_data", "sees_box"]

GRID = 9
"""Rays along each edge of an image that are asked whether they meet the scene's box."""


def check_data(config: Any) -> None:
    """Reads a scene as training will, and looks for what cannot be trained on.

    Args:
        config: a data parser's config, or a trainer's, whose ``data`` goes before its parser's.

    Raises:
        UserError: one sentence.
    """
    parser = config if isinstance(config, DataParserConfig) else _parser_of(config)
    train = _parse(parser, "train")
    held_out = _parse(parser, "val")
    check_cameras(train, parser.data)
    check_box(train, geometry_for(train, parser), parser.data)
    known = set(train.image_filenames)
    _check_headers(train, set())
    _check_headers(held_out, known)


def _parser_of(config: Any) -> DataParserConfig:
    manager = config.pipeline.datamanager
    parser = copy.copy(manager.dataparser)
    data = config.data if config.data is not None else manager.data
    if data is not None:
        parser.data = Path(data)
    assert isinstance(parser, DataParserConfig)
    return parser


def _parse(config: DataParserConfig, split: str) -> DataparserOutputs:
    """Outputs of a split; whatever another parser raises becomes one sentence."""
    if isinstance(config, AutoDataParserConfig):
        return config.setup().get_dataparser_outputs(split=split)
    name = type(config).__name__.removesuffix("Config")
    if not config.data.exists():
        fail(f"{config.data} does not exist; give the folder of a scene with --data DIR.")
    try:
        return config.setup().get_dataparser_outputs(split=split)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        fail(
            f"{config.data} cannot be read by {name} ({reason}); mend it, or leave the parser's name out, so that the "
            "format is recognised."
        )


def check_cameras(outputs: DataparserOutputs, data: Path) -> None:
    """Looks at each camera of any parser's training views.

    Raises:
        UserError: fewer than two views, or poses or focal lengths that are none.
    """
    cameras = outputs.cameras
    names = outputs.image_filenames
    if len(names) < 2:
        fail(f"{data} leaves {len(names)} image to train on; a radiance field needs views from at least two places.")
    finite = torch.isfinite(cameras.camera_to_worlds).flatten(1).all(1)
    if not bool(finite.all()):
        # a parser that centres its poses spreads one NaN over all of them
        which = str(names[int((~finite).nonzero()[0])]) if bool(finite.any()) else f"{data}: one of its frames"
        fail(f"{which} has a pose with NaN or infinity in it; mend or remove that frame.")
    sharp = torch.isfinite(cameras.fx) & torch.isfinite(cameras.fy) & (cameras.fx > 0) & (cameras.fy > 0)
    if not bool(sharp.all()):
        fail(f"{names[int((~sharp).nonzero()[0, 0])]} has no focal length above zero; give it in pixels.")


def check_box(outputs: DataparserOutputs, geometry: SceneGeometry, data: Path) -> None:
    """Looks whether the training views look at the scene's box.

    Raises:
        UserError: no camera sees it.
    """
    if not sees_box(outputs.cameras, geometry.aabb, geometry.near):
        low, high = (", ".join(f"{v:.3g}" for v in corner) for corner in geometry.aabb.tolist())
        count = len(outputs.image_filenames)
        fail(
            f"{data}: none of the {count} cameras sees the scene's box from ({low}) to ({high}); mend scale and "
            "offset of the transforms, or give auto-data --scale and --aabb-scale."
        )


def _check_headers(outputs: DataparserOutputs, known: set[Path]) -> None:
    dataset = ByteDataset(outputs)
    for index, path in enumerate(outputs.image_filenames):
        if path not in known:
            if not path.is_file():
                fail(f"{path} is listed and not there; put the image there or take it off the list.")
            dataset.check_header(index)


def sees_box(cameras: Cameras, aabb: Tensor, near: float) -> bool:
    """Whether any of a grid of rays of any camera meets a box beyond the near plane.

    Args:
        cameras: [N].
        aabb: [2, 3].
        near: distance before which nothing counts.
    """
    count = cameras.shape[0]
    edge = (torch.arange(GRID) + 0.5) / GRID
    rows, columns = torch.meshgrid(edge, edge, indexing="ij")
    grid = torch.stack([rows, columns], dim=-1).reshape(1, -1, 2)
    size = torch.cat([cameras.height, cameras.width], dim=-1).float().cpu()[:, None]
    coords = (grid * size).reshape(-1, 2)
    indices = torch.arange(count).repeat_interleave(GRID * GRID)[:, None]
    rays = cameras.to("cpu").generate_rays(camera_indices=indices, coords=coords)
    enter, leave = intersect_box(rays.origins, rays.directions, aabb, torch.tensor(near), torch.tensor(torch.inf))
    return bool((leave > enter).any())
