"""Pixels drawn uniformly from all images of a split, straight from their bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from ngp_method.data.images import ByteDataset
from ngp_method.errors import fail


class PixelBatches:
    """Draws batches of pixels, each pixel of each image being equally likely; masked ones are never drawn.

    Stands where nerfstudio's data manager has a ``PixelSampler``: commands that want more rays a batch set
    :attr:`num_rays_per_batch`.

    Args:
        dataset: the split's images; loaded by :meth:`load`, or by the first batch.
        num_rays: pixels a batch.
        device: where batches go.
        on_device: whether the bytes lie on ``device`` too, or stay in main memory.
        seed: of this sampler's own generator, so that a batch depends on nothing but the seed and the batches before.
    """

    def __init__(self, dataset: ByteDataset, num_rays: int, device: torch.device | str, on_device: bool, seed: int) -> None:
        self.device = torch.device(device)
        self.store = self.device if on_device else torch.device("cpu")
        self.num_rays_per_batch = num_rays
        self.dataset = dataset
        self.generator = torch.Generator(device=self.store).manual_seed(seed)
        self.pixels: Tensor | None = None

    def load(self) -> Tensor:
        """Brings images and masks into memory, if they are not there.

        Returns:
            the images' bytes, [P, C] uint8.

        Raises:
            UserError: an image or mask is unreadable or of the wrong size, or the masks leave no pixel.
        """
        if self.pixels is not None:
            return self.pixels
        dataset = self.dataset
        pixels = dataset.load(self.store)
        self.starts = dataset.starts.to(self.store)
        self.widths = dataset.cameras.width.reshape(-1).to(self.store)
        sizes = {dataset.size(i) for i in range(len(dataset))}
        self.image_pixels = int(self.starts[1]) if len(sizes) == 1 else None
        mask = _mask(dataset)
        self.mask = None if mask is None else mask.to(self.store)
        self.kept = 1.0 if mask is None else float(mask.double().mean())
        if self.kept == 0.0:
            fail(f"The masks of the {len(dataset)} images leave no pixel; mend the mask files (black is left out).")
        self.pixels = pixels
        return pixels

    def set_num_rays_per_batch(self, num_rays: int) -> None:
        """Sets how many pixels the next batches have; at least 1."""
        self.num_rays_per_batch = max(1, int(num_rays))

    def sample(self) -> dict[str, Tensor]:
        """The next batch.

        Returns:
            ``image``: [n, 3 or 4] float32 in [0, 1], alpha straight; ``indices``: camera, row, column, [n, 3] int64.
        """
        pixels = self.load()
        chosen = self._draw(len(pixels), self.num_rays_per_batch)
        if self.image_pixels is not None:
            image = torch.div(chosen, self.image_pixels, rounding_mode="floor")
        else:
            image = torch.searchsorted(self.starts, chosen, right=True) - 1
        within = chosen - self.starts.index_select(0, image)
        width = self.widths.index_select(0, image)
        row = torch.div(within, width, rounding_mode="floor")
        indices = torch.stack([image, row, within - row * width], dim=-1)
        # index_select takes less than half the time of pixels[chosen]
        colors = self._to_device(pixels.index_select(0, chosen)).float().mul_(1.0 / 255.0)
        return {"image": colors, "indices": self._to_device(indices)}

    def _to_device(self, drawn: Tensor) -> Tensor:
        """To where training goes on; from the host to a GPU by way of pinned memory, so that the host need not wait."""
        if self.device.type == "cuda" and drawn.device.type == "cpu":
            return drawn.pin_memory().to(self.device, non_blocking=True)
        return drawn.to(self.device)

    def _draw(self, total: int, count: int) -> Tensor:
        """Rows of ``pixels``, [count] int64; by rejection where there are masks."""
        if self.mask is None:
            return self._integers(total, count)
        drawn: list[Tensor] = []
        missing = count
        while missing > 0:
            tries = self._integers(total, int(1.1 * missing / self.kept) + 16)
            good = tries[self.mask[tries]][:missing]
            drawn.append(good)
            missing -= len(good)
        return torch.cat(drawn)

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.generator.device)


def _mask(dataset: ByteDataset) -> Tensor | None:
    """Pixels that may be drawn, [P] bool; None where all may."""
    radius = (dataset.cameras.metadata or {}).get("fisheye_crop_radius")
    parts = []
    for index in range(len(dataset)):
        keep = dataset.mask(index)
        if keep is None and radius is None:
            return None
        width, height = dataset.size(index)
        if keep is None:
            keep = torch.ones((height, width), dtype=torch.bool)
        if radius is not None:
            # nerfstudio's circle: about the middle of the image, in pixels of the parser's cameras
            y, x = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
            keep = keep & (x * x + y * y < (float(radius) * dataset.scale_factor) ** 2)
        parts.append(keep.reshape(-1))
    return torch.cat(parts)
