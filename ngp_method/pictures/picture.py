"""Picture: what one file holds, with its samples as they are stored and a stripe of rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from ngp_method.errors import UserError, fail
from ngp_method.pictures.exr import read_exr
from ngp_method.pictures.opening import IMAGE_ERRORS, header_of, opened, to_bytes, unreadable
from ngp_method.pictures.png import is_png, png_stripes, read_png_header
from ngp_method.pictures.stored import Stored
from ngp_method.pictures.tiff import NotOurs, read_tiff

SAVE_ANEW = "save it anew from a program that opens it, or give another picture"
_STRIPE_BYTES = 4 << 20
_VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"avc1", b"M4V ")


def read_picture(path: Path) -> Stored:
    """What a picture file holds; its pixels are decoded when ``stripes`` is asked for them.

    PNG, TIFF and EXR are read a stripe at a time and with all their bits, Radiance's HDR by OpenCV, all others (JPEG, WebP,
    AVIF, HEIC, GIF, BMP, ...) by Pillow, which decodes a picture whole.

    Raises:
        UserError: no file, no picture, a broken one, or one of samples that are neither of 8 or 16 bits nor floats.
    """
    if path.is_dir():
        fail(f"{path} is a folder; give the picture file itself.")
    if not path.is_file():
        fail(f"{path} is not there; give the path of a picture file.")
    try:
        found = _by_content(path)
    except IMAGE_ERRORS as error:
        fail(unreadable(path, error, SAVE_ANEW))
    if min(found.shape) < 1:
        fail(f"{path} has no pixels ({found.width}x{found.height}); give another picture.")
    return found


def guarded(path: Path, stripes: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Stripes whose decoding ends with one sentence where the file is broken."""
    try:
        yield from stripes
    except UserError:
        raise
    except IMAGE_ERRORS as error:
        fail(unreadable(path, error, SAVE_ANEW))


def _by_content(path: Path) -> Stored:
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        fail(f"{path} is empty; give another picture.")
    if start.startswith(b"%PDF"):
        fail(f"{path} is a PDF; export the page you want as PNG or TIFF.")
    video = start[4:8] == b"ftyp" and start[8:12] in _VIDEO_BRANDS
    if video or start[:4] == b"\x1aE\xdf\xa3" or (start[:4] == b"RIFF" and start[8:12] == b"AVI "):
        fail(f"{path} is a video; export the frame you want as PNG.")
    if is_png(path):
        return _png(path)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        try:
            return read_tiff(path)
        except NotOurs as why:
            return _whole_by_opencv(path, why.notes) if why.deep else _by_pillow(path, why.notes)
    if start[:4] == b"\x76\x2f\x31\x01":
        return read_exr(path)
    if start.startswith((b"#?RADIANCE", b"#?RGBE")):
        return _whole_by_opencv(path, [])
    return _by_pillow(path, [])


def _png(path: Path) -> Stored:
    header = read_png_header(path)
    notes = ["Of an animation the first picture is taken."] if header.animated else []
    if header.interlaced:
        return _whole_by_opencv(path, notes) if header.depth == 16 else _by_pillow(path, notes)
    shape = (header.height, header.width, header.channels)
    exif = Image.Exif()
    if header.exif:
        exif.load(header.exif)
    return Stored(
        path,
        shape,
        header.dtype,
        lambda: png_stripes(path, header),
        orientation=_upright(exif.get(ExifTags.Base.Orientation, 1)),
        profile=header.profile,
        notes=notes,
    )


def _upright(number: Any) -> int:
    return int(number) if number in range(1, 9) else 1


def _whole_by_opencv(path: Path, notes: list[str]) -> Stored:
    """What only OpenCV reads with all its bits: HDR, and TIFFs of 16 bits or floats packed in ways tifffile does not know."""
    import cv2  # slow to import, and few pictures need it

    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None:
        raise OSError("it is broken, or packed in a way that OpenCV does not know")
    samples = np.asarray(found).reshape(*found.shape[:2], -1)
    if samples.dtype == np.float64:
        samples = samples.astype(np.float32)
    if samples.dtype not in (np.uint8, np.uint16, np.float32):
        fail(f"{path} has samples of {samples.dtype}; save it with 8 or 16 bits a sample, or as floats.")
    if samples.shape[2] >= 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    shape = (samples.shape[0], samples.shape[1], samples.shape[2])
    return Stored(path, shape, samples.dtype, lambda: iter([samples]), notes=notes)


_MODES: dict[str, tuple[str, int]] = {"1": ("L", 1), "L": ("L", 1), "LA": ("LA", 2), "La": ("LA", 2)}
"""Pillow's modes that stay grey -> mode and channels they are taken as."""


def _by_pillow(path: Path, notes: list[str]) -> Stored:
    """A picture that Pillow decodes whole; it is taken out of it a stripe at a time, so that no second copy is made."""
    with opened(path, SAVE_ANEW) as image:
        mode, profile, notes = image.mode, image.info.get("icc_profile"), list(notes)
        clear = image.has_transparency_data or "A" in image.getbands()
        if getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", "TIFF"):
            notes.append(f"Of {image.n_frames} pictures in the file the first is taken.")  # type: ignore[attr-defined]
        orientation, (width, height) = header_of(image).orientation, image.size
    target, channels = _MODES.get(mode, ("RGBA", 4) if clear else ("RGB", 3))
    if target == "L" and clear:
        target, channels = "LA", 2
    dtype: npt.DTypeLike = np.uint8
    if mode == "F" or mode.startswith("I"):
        target, channels, dtype = mode, 1, np.float32 if mode == "F" else np.uint16
    to_rgb = None
    if mode == "CMYK":
        to_rgb = _cmyk_to_rgb(profile)
        by = "by the profile in the file" if to_rgb else "without a profile, so that colours are approximate"
        notes.append(f"Printing colours (CMYK) are converted to sRGB {by}.")
        profile = None

    def stripes() -> Iterator[npt.NDArray[Any]]:
        with opened(path, SAVE_ANEW) as image:
            image.load()
            rows = max(1, _STRIPE_BYTES // (width * 4))
            for top in range(0, height, rows):
                part = image.crop((0, top, width, min(top + rows, height)))
                if to_rgb is not None:
                    part = ImageCms.applyTransform(part, to_rgb) or part
                elif part.mode != target:
                    part.info = {k: v for k, v in image.info.items() if k == "transparency"}
                    part = part.convert("RGBA").convert(target) if mode == "1" and clear else part.convert(target)
                samples = np.asarray(part)
                if dtype == np.uint16:
                    to_bytes(samples)  # a ValueError for what is beyond 16 bits
                yield samples.astype(dtype, copy=False).reshape(len(samples), width, channels)

    return Stored(path, (height, width, channels), np.dtype(dtype), stripes, None, orientation, profile, notes)


def _cmyk_to_rgb(profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """The transform of an embedded profile to sRGB; None where there is none, or none that can be used."""
    if not profile:
        return None
    try:
        printing = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(printing, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
