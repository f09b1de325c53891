"""Picture files of any kind opened, and what their headers say without decoding them."""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ngp_method.errors import fail

# Pillow refuses above 179 megapixels, to guard servers against small files that unpack to gigabytes: a user's own
# panorama is no attack. ByteDataset.load compares what all pictures take with the machine's memory.
Image.MAX_IMAGE_PIXELS = None

IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow and tifffile raise for files that are no pictures, or broken ones."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""Tried in this order where a frame names a file without its ending."""

PICTURE_ENDINGS = frozenset(
    {*(s.casefold() for s in IMAGE_SUFFIXES), ".dng", ".cr2", ".nef", ".arw", ".raw", ".exr", ".hdr", ".gif", ".ppm"}
)
"""What the names of pictures end in, those included that were converted before training."""

UNLIST = "put a sound file there or unlist it"
"""How a broken picture of a scene is mended."""

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_TURNING = (5, 6, 7, 8)
"""Values of EXIF's Orientation that exchange width and height."""


def is_picture(path: PurePath) -> bool:
    """Whether a name ends as those of pictures do."""
    return path.suffix.casefold() in PICTURE_ENDINGS


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself.

    Attributes:
        size: width and height of the pixels as they are stored.
        orientation: EXIF's number from 1 to 8; 1 is upright, 5 to 8 exchange width and height.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def turned(self) -> tuple[int, int]:
        """Width and height after the turn that EXIF asks for."""
        return self.size[::-1] if self.orientation in _TURNING else self.size


@cache
def reads_heif() -> bool:
    """Whether pillow-heif is installed; Pillow then opens HEIC files."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


@contextmanager
def opened(path: Path, mend: str = UNLIST) -> Iterator[Image.Image]:
    """A picture file opened by Pillow, or by tifffile where Pillow does not know a TIFF's layout of samples.

    Args:
        path: the file.
        mend: what the sentence for a broken file ends with.

    Raises:
        UserError: unreadable, of a kind that needs another package, or an error of :data:`IMAGE_ERRORS` inside the block.
    """
    try:
        reads_heif()
        try:
            image: Image.Image = Image.open(path)
            if isinstance(image, TiffImagePlugin.TiffImageFile) and _planes_of_16_bits(image):
                image = _by_content(path)
        except UnidentifiedImageError:
            image = _by_content(path)
        with image:
            yield image
    except IMAGE_ERRORS as error:
        fail(unreadable(path, error, mend))


def _planes_of_16_bits(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF has a plane for each colour, 16 bits a sample: Pillow 13 takes the bytes of those for samples."""
    planar, bits = (
        image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1),
        image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,)),
    )
    return planar == 2 and max(bits) > 8


def _by_content(path: Path) -> Image.Image:
    """A file that Pillow does not know: a TIFF of 16-bit colours; or the sentence for what it is."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        fail(f"{path} is a HEIC picture, which Pillow cannot read; pip install pillow-heif, or convert it to JPEG.")
    if start[4:8] == b"ftyp" and start[8:12] in _AVIF_BRANDS:
        fail(f"{path} is an AVIF picture, which this Pillow cannot read; pip install 'pillow>=11.3', or convert it to JPEG.")
    if start[:4] == b"\x76\x2f\x31\x01" or start.startswith((b"#?RADIANCE", b"#?RGBE")):
        fail(f"{path} is a picture in floating point (EXR or HDR), and only bytes are trained on; convert it to 8-bit PNG.")
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        import tifffile  # slow to import, and few scenes need it

        return _from_samples(np.asarray(tifffile.imread(path)), path)
    raise OSError("its kind is not known")


def _from_samples(samples: npt.NDArray[np.generic], path: Path) -> Image.Image:
    """[H, W] or [H, W, channels] of a TIFF, 8 or 16 bits a sample -> a picture of bytes."""
    if samples.dtype.kind == "f":
        fail(float_sentence(path))
    if samples.ndim == 3 and samples.shape[0] <= 4 < samples.shape[2]:
        samples = np.moveaxis(samples, 0, -1)  # samples in planes
    bands = samples.shape[2] if samples.ndim == 3 else 1
    if samples.dtype not in (np.uint8, np.uint16) or samples.ndim not in (2, 3) or bands > 4:
        raise ValueError(f"samples of {samples.dtype} in shape {list(samples.shape)}")
    return Image.fromarray(np.squeeze(to_bytes(samples)))


def to_bytes(samples: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Samples of 16 bits -> of 8, 65535 becoming 255; those of 8 stay.

    Raises:
        ValueError: a value outside of 16 bits.
    """
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    wide = samples.astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise ValueError("it has samples beyond 16 bits")
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def float_sentence(path: Path) -> str:
    return (
        f"{path} is a picture in floating point, which does not say how bright 1.0 is; convert it to an 8-bit or 16-bit PNG "
        "with the colours it should have."
    )


def read_header(path: Path) -> Header:
    """Size and orientation of a picture file; its pixels are not decoded.

    Raises:
        UserError: the file is no picture that can be read.
    """
    with opened(path) as image:
        return header_of(image)


def header_of(image: Image.Image) -> Header:
    """The same of a picture that is open."""
    if image.format == "PNG" and "exif" not in image.info:
        return Header(image.size)  # Pillow would decode the whole file to look for EXIF behind its pixels
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return Header(image.size, orientation if orientation in range(1, 9) else 1)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """A picture turned and mirrored as a value of EXIF's Orientation asks for, whatever the picture's own EXIF says."""
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def unreadable(path: Path, error: BaseException, mend: str = UNLIST) -> str:
    """The sentence for a file that is no image, or a broken one."""
    return f"{path} cannot be read as an image ({reason_of(error, path)}); {mend}."


def reason_of(error: BaseException, path: Path) -> str:
    """An exception's text without the path, which the sentence around it names already."""
    text = str(error).replace(str(path), "it").replace("''", "").strip()
    return text or type(error).__name__
