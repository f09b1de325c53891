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
from rich.progress import track
from torch import Tensor

from ngp_method.data.decoding import decode
from ngp_method.data.masks import MaskFiles, decode_mask, say_blank
from ngp_method.errors import fail
from ngp_method.pictures.opening import Header, read_header


def must_turn(path: Path, found: Header, expected: tuple[int, int], factor: float) -> bool:
    """Compares a picture's size with its camera's.

    Args:
        path: the picture.
        found: its header.
        expected: the camera's width and height, made smaller by ``factor``.
        factor: what the parser divided the camera's size by.

    Returns:
        whether the pixels must be turned as EXIF asks for: the camera is for the turned picture, not for the stored one.

    Raises:
        UserError: the camera is for neither.
    """
    for size in (found.size, found.turned):
        if (max(1, int(size[0] / factor)), max(1, int(size[1] / factor))) == expected:
            return size != found.size
    said = f"{expected[0]}x{expected[1]}" if factor == 1.0 else f"{expected[0]}x{expected[1]} times {factor:g}"
    return fail(
        f"{path} is {found.size[0]}x{found.size[1]} pixels, but its camera is for {said}; put the image of that size there "
        "or mend w and h."
    )


def check_memory(pixels: int, count: int) -> None:
    """Looks whether pictures fit into the machine's memory before they are decoded.

    Args:
        pixels: of all pictures together, 3 bytes each.
        count: of pictures, for the sentence.

    Raises:
        UserError: they take more than the machine has.
    """
    needed, there = 3 * pixels, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        fail(
            f"The {count} images need {needed / 1e9:.1f} GB of memory as bytes, and this machine has {there / 1e9:.1f} GB; "
            "make them smaller with auto-data --downscale-factor 2 or more."
        )


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
        self._mask_files = MaskFiles.of(dataparser_outputs)
        counts = (self.cameras.width * self.cameras.height).reshape(-1).cpu()
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image as it is trained on."""
        return int(self.cameras.width[index]), int(self.cameras.height[index])

    def check_header(self, index: int) -> bool:
        """Opens an image without decoding it and compares its size.

        Returns:
            whether its pixels are to be turned as EXIF asks for.

        Raises:
            UserError: unreadable, or of another size than its camera.
        """
        path = self.image_filenames[index]
        expected = int(self._full_size.width[index]), int(self._full_size.height[index])
        return must_turn(path, read_header(path), expected, self._factor)

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """The image, [H, W, 3 or 4] uint8; from memory if it is there.

        Raises:
            UserError: unreadable, or of another size than its camera.
        """
        width, height = self.size(image_idx)
        if self.pixels is not None:
            rows = self.pixels[self.starts[image_idx] : self.starts[image_idx + 1]]
            return rows.reshape(height, width, -1).cpu().numpy()
        return self.decoded(image_idx)

    def decoded(self, index: int) -> npt.NDArray[np.uint8]:
        """An image out of its file; see :meth:`get_numpy_image`."""
        return decode(self.image_filenames[index], self.size(index), self.check_header(index))

    def mask(self, index: int) -> Tensor | None:
        """The pixels of an image that may be trained on, [H, W] bool; None where the scene has no masks."""
        if self._mask_files is None:
            return None
        files = self._mask_files[index]
        return decode_mask(files, self.size(index), self.image_filenames[index])

    def visible(self) -> list[int]:
        """The images of which masks leave at least a pixel; the others are counted in one line.

        Raises:
            UserError: a mask is unreadable or of the wrong size.
        """
        masks = map(self.mask, range(len(self)))
        kept = [mask is None or bool(mask.any()) for mask in masks]
        say_blank([file.name for file, some in zip(self.image_filenames, kept, strict=True) if not some], len(self))
        return [index for index, some in enumerate(kept) if some]

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
        check_memory(total, len(self))
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
