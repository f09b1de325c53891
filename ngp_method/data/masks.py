"""Masks beside pictures: which files they are, and which pixels they leave.

Two habits: nerfstudio's ``mask_path`` leaves what is not black; instant-ngp's ``dynamic_mask_NAME.png`` beside the picture
hides what is not black (``nerf_loader.cu`` paints those pixels in the colour that its training skips).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image
from torch import Tensor

from ngp_method.data.messages import say_once
from ngp_method.data.views import View, same_shape
from ngp_method.errors import fail
from ngp_method.pictures.opening import Header, is_picture, opened, read_header, turned

LOSSY_BLACK = 0.25
"""Up to this share of the brightest byte a mask in a lossy format is black: compression leaves noise along edges,"""
LEAST_LIGHT = 16
"""and a lossy mask with no byte of this is black altogether."""

MASK_FOLDERS = ("masks", "mask")
"""Where COLMAP's users keep masks, by the names of the pictures; transforms files name theirs, wherever they are."""

_KEY = "mask_files"


@dataclass(frozen=True)
class MaskFiles:
    """The masks of one image.

    Attributes:
        kept: black where pixels are left out, or None.
        hidden: black where pixels are left *in* (instant-ngp), or None.
    """

    kept: Path | None = None
    hidden: Path | None = None

    @staticmethod
    def of(outputs: DataparserOutputs) -> Sequence[MaskFiles] | None:
        """Those of all images of any parser's split, or None where none has any."""
        if _KEY in outputs.metadata:
            return [MaskFiles(*pair) for pair in outputs.metadata[_KEY]]
        files = outputs.mask_filenames
        return None if files is None else [MaskFiles(file) for file in files]


def metadata_of(views: Sequence[View]) -> dict[str, Any]:
    """What a parser's metadata says of the masks of its views; empty where none has any."""
    if all(view.mask is None and view.hidden is None for view in views):
        return {}
    return {_KEY: [(view.mask, view.hidden) for view in views]}


def names_for_nerfstudio(views: Sequence[View]) -> list[Path] | None:
    """``mask_filenames`` as nerfstudio has them, for every view or for none."""
    masks = [view.mask for view in views if view.mask is not None]
    return masks if masks and len(masks) == len(views) else None


def find_dynamic_mask(image: Path) -> Path | None:
    """instant-ngp's mask of a picture, or None."""
    file = image.with_name(f"dynamic_mask_{image.stem}.png")
    return file if file.is_file() else None


def say_masks(file: Path, views: Sequence[View]) -> None:
    """Says in one line each which masks are used, and of how many frames nothing is hidden."""
    count = sum(view.mask is not None for view in views)
    if 0 < count < len(views):
        say_once(
            f"{file} gives mask_path for {count} of {len(views)} frames; nothing is hidden in the other {len(views) - count}."
        )
    folder = next((file.parent / name for name in MASK_FOLDERS if (file.parent / name).is_dir()), None)
    if folder is not None and not count and any(is_picture(path) for path in folder.rglob("*")):
        say_once(f"The files in {folder} are not used: {file} gives no frame a mask_path.")
    hidden = [view.hidden for view in views if view.hidden is not None]
    if hidden:
        say_once(
            f"{len(hidden)} of {len(views)} images listed in {file} have instant-ngp's mask beside them, as {hidden[0].name}: "
            "what is not black in it is left out."
        )


def say_blank(names: Sequence[str], total: int) -> None:
    """Says in one line which images their masks hide altogether.

    Args:
        names: of those images.
        total: how many images the split has.
    """
    if names:
        say_once(
            f"{len(names)} of {total} images are hidden altogether by their masks, as {names[0]}; nothing of them is used."
        )


def decode_mask(files: MaskFiles, size: tuple[int, int], image: Path) -> Tensor:
    """The pixels of an image that its masks leave.

    Args:
        files: each of the shape of the image file, as stored or as EXIF turns it, in any resolution.
        size: width and height of the result; nearest pixels are taken.
        image: the image it belongs to.

    Returns:
        [height, width] bool.

    Raises:
        UserError: unreadable, or of another shape.
    """
    keep = np.ones(size[::-1], dtype=bool)
    if files.kept is not None:
        keep &= _marked(files.kept, size, image)
    if files.hidden is not None:
        keep &= ~_marked(files.hidden, size, image)
    return torch.from_numpy(keep)


def _marked(path: Path, size: tuple[int, int], image: Path) -> npt.NDArray[np.bool_]:
    """Where a mask file is not black, [height, width]."""
    header = read_header(image)
    with opened(path) as mask:
        marked = not_black(mask)
    if _must_turn(path, (marked.shape[1], marked.shape[0]), header, size, image):
        marked = np.asarray(turned(Image.fromarray(marked.astype(np.uint8)), header.orientation)) > 0
    rows = (np.arange(size[1]) + 0.5) * marked.shape[0] / size[1]
    columns = (np.arange(size[0]) + 0.5) * marked.shape[1] / size[0]
    return np.asarray(marked[rows.astype(np.int64)[:, None], columns.astype(np.int64)[None, :]])


def _must_turn(path: Path, found: tuple[int, int], header: Header, size: tuple[int, int], image: Path) -> bool:
    """Whether a mask is one of the stored pixels, while its picture is turned as EXIF asks for.

    Args:
        path: the mask.
        found: its size, which may be that of a smaller or larger copy.
        header: the picture's.
        size: in which the picture is used, turned or not.
        image: the picture.

    Raises:
        UserError: the mask is of another shape.
    """
    stored, upright = header.size, header.turned
    turn = abs(size[0] * stored[1] - size[1] * stored[0]) > abs(size[0] * upright[1] - size[1] * upright[0])
    if found in (upright if turn else stored, size):
        return False
    if turn and found == stored:
        return True
    if same_shape(found, upright if turn else stored):
        return False
    if turn and same_shape(found, stored):
        return True
    return fail(
        f"{path} is {found[0]}x{found[1]} pixels, its image {image.name} {stored[0]}x{stored[1]}, which is another shape; make "
        "a mask of that image's size."
    )


def not_black(mask: Image.Image) -> npt.NDArray[np.bool_]:
    """Where a mask of any mode is not black and not see-through, [height, width].

    A palette's colours count, not their numbers; one in floating point or 16 bits is black where it is 0; compression noise
    counts as black. Where it is see-through in places, those are black, and the rest is not if it is of one colour, whichever.
    """
    if mask.mode == "F" or mask.mode.startswith("I"):
        return np.asarray(np.nan_to_num(np.asarray(mask, dtype=np.float64)) > 0)
    lossy = mask.format in ("JPEG", "MPO", "WEBP", "HEIF", "AVIF")
    color = np.asarray(mask.convert("RGBA"))
    opaque, light = _light(color[..., 3], lossy), _light(color[..., :3], lossy).any(-1)
    alpha_alone = not opaque.all() and not light[opaque].any()
    return opaque if alpha_alone else np.asarray(opaque & light)


def _light(samples: npt.NDArray[np.uint8], lossy: bool) -> npt.NDArray[np.bool_]:
    """Bytes that are not black."""
    black = max(LEAST_LIGHT - 1, LOSSY_BLACK * float(samples.max(initial=0))) if lossy else 0
    return np.asarray(samples > black)
