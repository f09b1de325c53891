"""Images kept as bytes: a nerfstudio dataset that decodes each file once and converts to float where it is sampled.

nerfstudio's cache holds float32 images: 3.1 GB for the 50 photographs of instant-ngp's fox at full size. Bytes are a
quarter of that, and they are what the files hold.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image
from rich.progress import track
from torch import Tensor

from ngp_method.data.views import unreadable
from ngp_method.errors import fail


def decode(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image file as RGB or RGBA bytes.

    Args:
        path: any image Pillow reads; grey, palette, CMYK and 16-bit images are converted.
        size: width and height to resize to (bilinear over the whole footprint, alpha-weighted, as nerfstudio does).

    Returns:
        [height, width, 3 or 4] uint8; alpha is straight, not premultiplied.

    Raises:
        UserError: unreadable or cut short.
    """
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I;16") or image.mode == "I":
                # Pillow's own conversion clips 16-bit values instead of scaling them
                image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            alpha = "A" in image.getbands() or "transparency" in image.info
            mode = "RGBA" if alpha else "RGB"
            converted = image if image.mode == mode else image.convert(mode)
            if converted.size != size:
                converted = converted.resize(size, resample=Image.Resampling.BILINEAR)
            return np.array(converted, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        fail(unreadable(path, error))


def check_size(path: Path, found: tuple[int, int], expected: tuple[int, int], factor: float) -> None:
    """Compares an image file's size with what the scene's file says of it.

    Args:
        path: the image.
        found: its width and height.
        expected: the camera's, made smaller by ``factor``.
        factor: what the parser divided the camera's size by.

    Raises:
        UserError: they differ.
    """
    if (max(1, int(found[0] / factor)), max(1, int(found[1] / factor))) != expected:
        said = f"{expected[0]}x{expected[1]}" if factor == 1.0 else f"{expected[0]}x{expected[1]} times {factor:g}"
        fail(
            f"{path} is {found[0]}x{found[1]} pixels, but its camera is for {said}; put the image of that size there "
            "or mend w and h."
        )


def decode_mask(path: Path, size: tuple[int, int], image: Path) -> Tensor:
    """A mask file as booleans: what is not black is kept.

    Args:
        path: the mask, of the image file's size or of ``size``.
        size: width and height of the result; nearest pixels are taken.
        image: the image it belongs to.

    Returns:
        [height, width] bool.

    Raises:
        UserError: unreadable, or of neither size.
    """
    try:
        with Image.open(path) as mask:
            found = mask.size
            array = np.asarray(mask)
        with Image.open(image) as other:
            whole = other.size
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        fail(unreadable(path, error))
    if found not in (whole, size):
        fail(f"{path} is {found[0]}x{found[1]} pixels, its image {image.name} {whole[0]}x{whole[1]}; make them equal.")
    keep = array.reshape(found[1], found[0], -1).any(-1)
    rows = (np.arange(size[1]) + 0.5) * found[1] / size[1]
    columns = (np.arange(size[0]) + 0.5) * found[0] / size[0]
    return torch.from_numpy(keep[rows.astype(np.int64)[:, None], columns.astype(np.int64)[None, :]])


class ByteDataset(InputDataset):
    """nerfstudio's dataset with the images in one byte tensor, once :meth:`load` has run.

    ``dataset[i]["image"]`` is float32 in [0, 1], [H, W, 3 or 4], as nerfstudio's; alpha is kept unless the parser gave
    an ``alpha_color`` to blend with.

    Attributes:
        pixels: all images one after the other, [P, C] uint8, C = 4 if any image has alpha; None before :meth:`load`.
        starts: first row of each image in ``pixels``, and P; [N + 1] int64.
    """

    pixels: Tensor | None = None

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        if dataparser_outputs.cameras.ndim == 0:
            # nerfstudio 1.1.5's instant-ngp-data indexes its poses with a tensor of one number, which drops a dimension.
            fail(
                f"{dataparser_outputs.image_filenames[0]} is the only image of its split, and nerfstudio's instant-ngp-data "
                "loses the pose of a single image: leave the subcommand out, or give it another --train-split-fraction."
            )
        super().__init__(dataparser_outputs, scale_factor)
        self._full_size = dataparser_outputs.cameras
        self._factor = float(dataparser_outputs.metadata.get("image_downscale", 1.0))
        counts = (self.cameras.width * self.cameras.height).reshape(-1).cpu()
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image as it is trained on."""
        return int(self.cameras.width[index]), int(self.cameras.height[index])

    def check_header(self, index: int) -> None:
        """Opens an image without decoding it and compares its size.

        Raises:
            UserError: unreadable, or of another size than its camera.
        """
        path = self.image_filenames[index]
        try:
            with Image.open(path) as image:
                found = image.size
        except (OSError, SyntaxError, ValueError) as error:
            fail(unreadable(path, error))
        expected = int(self._full_size.width[index]), int(self._full_size.height[index])
        check_size(path, found, expected, self._factor)

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """The image, [H, W, 3 or 4] uint8; from memory if it is there.

        Raises:
            UserError: unreadable, or of another size than its camera.
        """
        width, height = self.size(image_idx)
        if self.pixels is not None:
            rows = self.pixels[self.starts[image_idx] : self.starts[image_idx + 1]]
            return rows.reshape(height, width, -1).cpu().numpy()
        self.check_header(image_idx)
        return decode(self.image_filenames[image_idx], (width, height))

    def mask(self, index: int) -> Tensor | None:
        """The pixels of an image that may be trained on, [H, W] bool; None where the scene has no masks."""
        files = self._dataparser_outputs.mask_filenames
        if files is None:
            return None
        return decode_mask(files[index], self.size(index), self.image_filenames[index])

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """One image as nerfstudio's dataset gives it: ``image_idx``, ``image``, and ``mask`` [H, W, 1] bool if any."""
        image = self.get_image_float32(image_idx) if image_type == "float32" else self.get_image_uint8(image_idx)
        data: dict[str, Any] = {"image_idx": image_idx, "image": image}
        mask = self.mask(image_idx)
        if mask is not None:
            data["mask"] = mask[..., None]
            if self.mask_color:
                data["image"] = torch.where(data["mask"], image, torch.tensor(self.mask_color).to(image))
        data.update(self.get_metadata(data))
        return data

    def load(self, device: torch.device | str = "cpu") -> Tensor:
        """Decodes all images into :attr:`pixels`, with a bar; at once where they are there already.

        Args:
            device: where the bytes are to lie.

        Returns:
            :attr:`pixels`, [P, C] uint8.

        Raises:
            UserError: an image is unreadable or of the wrong size.
        """
        if self.pixels is None:
            self.pixels = self._decode_all().to(device)
        return self.pixels

    def _decode_all(self) -> Tensor:
        total = int(self.starts[-1])
        store = torch.empty((total, 3), dtype=torch.uint8)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            decoded = pool.map(self.get_image_uint8, range(len(self)))
            for index, image in enumerate(track(decoded, "Loading images", total=len(self), transient=True)):
                if image.shape[2] == 4 and store.shape[1] == 3:
                    # the first image with alpha: room for it, and those before it are opaque
                    wider = torch.full((total, 4), 255, dtype=torch.uint8)
                    wider[: self.starts[index], :3] = store[: self.starts[index]]
                    store = wider
                rows = store[self.starts[index] : self.starts[index + 1]]
                rows[:, : image.shape[2]] = image.reshape(-1, image.shape[2])
                if image.shape[2] < rows.shape[1]:
                    rows[:, 3] = 255
        return store
