"""Picture files of any kind -> RGB or RGBA bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ngp_method.errors import fail
from ngp_method.pictures.opening import float_sentence, header_of, opened, to_bytes, turned


def decode(path: Path, size: tuple[int, int], turn: bool = False) -> npt.NDArray[np.uint8]:
    """An image file as RGB or RGBA bytes.

    Args:
        path: any image Pillow reads; grey, palette, CMYK and 16-bit images are converted.
        size: width and height to resize to (bilinear over the whole footprint, alpha-weighted, as nerfstudio does).
        turn: turn the pixels as EXIF asks for; else they are taken as they are stored.

    Returns:
        [height, width, 3 or 4] uint8; alpha is straight, not premultiplied.

    Raises:
        UserError: unreadable, cut short, or in floating point.
    """
    with opened(path) as stored:
        image = turned(stored, header_of(stored).orientation) if turn else stored
        converted = to_color(image, path)
        if converted.size != size:
            converted = converted.resize(size, resample=Image.Resampling.BILINEAR)
        return np.array(converted, dtype=np.uint8)


def to_color(image: Image.Image, path: Path) -> Image.Image:
    """A picture of any mode as RGB, or as RGBA where it has alpha or a colour that stands for see-through.

    Raises:
        UserError: it is in floating point.
        ValueError: samples beyond 16 bits.
    """
    if image.mode == "F":
        fail(float_sentence(path))
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values instead of scaling them
        samples = np.asarray(image)
        gray = to_bytes(samples)
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            return Image.fromarray(gray).convert("RGB")
        alpha = np.where(samples == clear, 0, 255).astype(np.uint8)
        return Image.fromarray(np.stack([gray, gray, gray, alpha], axis=-1))
    mode = "RGBA" if image.has_transparency_data or "A" in image.getbands() else "RGB"
    return image if image.mode == mode else image.convert(mode)
