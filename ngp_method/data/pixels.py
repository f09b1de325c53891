"""Pixels drawn uniformly from all images of a split, straight from their bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ngp_method.data.images import ByteDataset
from ngp_method.data.masks import say_blank
from ngp_method.data.multiscale import WEIGHTS
from ngp_method.data.weighted import WeightedRuns
from ngp_method.errors import fail
from ngp_method.kernels.batch import PixelTable, pick_pixels
from ngp_method.kernels.interface_batch import BatchKernels
from ngp_method.kernels.reference import ReferenceKernels


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

    Attributes:
        kernels: what picks pixels that lie on ``device``; of the model's set once the pipeline is made.
    """

    def __init__(self, dataset: ByteDataset, num_rays: int, device: torch.device | str, on_device: bool, seed: int) -> None:
        self.device = torch.device(device)
        self.store = self.device if on_device else torch.device("cpu")
        self.num_rays_per_batch = num_rays
        self.dataset = dataset
        self.generator = torch.Generator(device=self.store).manual_seed(seed)
        self.kernels: BatchKernels = ReferenceKernels()
        self.table: PixelTable | None = None

    def load(self) -> PixelTable:
        """Brings images and masks into memory, if they are not there.

        Returns:
            the images' bytes, and where each image begins.

        Raises:
            UserError: an image or mask is unreadable or of the wrong size, or the masks leave no pixel.
        """
        if self.table is not None:
            return self.table
        dataset = self.dataset
        pixels = dataset.load(self.store)
        sizes = {dataset.size(i) for i in range(len(dataset))}
        self.image_pixels = int(dataset.starts[1]) if len(sizes) == 1 else None
        self.image_ends = dataset.starts[1:].to(self.store)
        runs = runs_of(dataset)
        self.kept = None if runs is None else KeptRuns(*runs[:2], self.store)
        if self.kept is not None and not self.kept.count:
            fail(f"The masks of the {len(dataset)} images leave no pixel; mend the mask files (black is left out).")
        self.weighted = weighted_runs(dataset, runs, self.store)
        widths = dataset.cameras.width.reshape(-1).long().to(self.store)
        self.table = PixelTable(pixels, dataset.starts[:-1].to(self.store), widths)
        return self.table

    def set_num_rays_per_batch(self, num_rays: int) -> None:
        """Sets how many pixels the next batches have; at least 1."""
        self.num_rays_per_batch = max(1, int(num_rays))

    def sample(self) -> dict[str, Tensor]:
        """The next batch.

        Returns:
            ``image``: [n, 3 or 4] float32 in [0, 1], alpha straight; ``indices``: camera, row, column, [n, 3] int64.
        """
        table = self.load()
        chosen = self._draw(len(table.pixels), self.num_rays_per_batch)
        if self.image_pixels is not None:
            views = torch.div(chosen, self.image_pixels, rounding_mode="floor")
        else:
            views = torch.searchsorted(self.image_ends, chosen, right=True)
        pick = self.kernels.pick_pixels if self.store == self.device else pick_pixels
        colors, indices = pick(chosen, views, table)
        return {"image": self._to_device(colors), "indices": self._to_device(indices)}

    def run_state(self) -> dict[str, Any]:
        """What the next batch depends on, for a checkpoint."""
        return {"generator": self.generator.get_state()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave, if pixels are drawn on a device of the same kind as then."""
        if state["generator"].shape == self.generator.get_state().shape:  # of a GPU 16 bytes, of a processor 5056
            self.generator.set_state(state["generator"].cpu())

    def _to_device(self, drawn: Tensor) -> Tensor:
        """To where training goes on; from the host to a GPU by way of pinned memory, so that the host need not wait."""
        if self.device.type == "cuda" and drawn.device.type == "cpu":
            return drawn.pin_memory().to(self.device, non_blocking=True)
        return drawn.to(self.device)

    def _draw(self, total: int, count: int) -> Tensor:
        """Rows of ``pixels``, [count] int64; of those alone that masks leave, by what images weigh."""
        if self.weighted is not None:
            return self.weighted.draw(count, self.generator)
        if self.kept is None:
            return self._integers(total, count)
        return self.kept.pixels(self._integers(self.kept.count, count))

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.generator.device)


class KeptRuns:
    """The pixels that masks leave, as runs of neighbours: one that is drawn is found by bisection, without drawing again.

    Masks are made of areas, so that runs are few; each takes 16 bytes.

    Args:
        starts, stops: first pixel of each run among all, and the one behind its last, [K] int64.
        device: where pixels are drawn.

    Attributes:
        count: how many pixels are kept.
    """

    def __init__(self, starts: Tensor, stops: Tensor, device: torch.device | str = "cpu") -> None:
        ends = (stops - starts).cumsum(0)
        self.count = int(ends[-1]) if len(ends) else 0
        self._ends, self._shift = ends.to(device), (stops - ends).to(device)

    def pixels(self, numbers: Tensor) -> Tensor:
        """Kept pixels by their number among the kept, [n] int64 -> their places among all, [n] int64."""
        run = torch.searchsorted(self._ends, numbers, right=True)
        return numbers + self._shift.index_select(0, run)


def runs_of(dataset: ByteDataset) -> tuple[Tensor, Tensor, Tensor] | None:
    """First pixels of the runs that the masks of a split leave, those behind their last, and their images, [K] int64 each; None
    where all pixels may be drawn."""
    bounds, blank = [], []
    for index in range(len(dataset)):
        keep = _mask(dataset, index)
        if keep is None:
            return None
        if not bool(keep.any()):
            blank.append(dataset.image_filenames[index].name)
        edges = torch.nn.functional.pad(keep.reshape(-1).to(torch.int8), (1, 1)).diff()
        first = int(dataset.starts[index])
        begins, ends = ((edges == sign).nonzero()[:, 0] + first for sign in (1, -1))
        bounds.append(torch.stack([begins, ends, torch.full_like(begins, index)]))
    say_blank(blank, len(dataset))
    starts, stops, images = torch.cat(bounds, dim=1)
    return starts, stops, images


def weighted_runs(
    dataset: ByteDataset, runs: tuple[Tensor, Tensor, Tensor] | None, device: torch.device | str
) -> WeightedRuns | None:
    """The runs that masks leave, else whole images, with what their images weigh; None where all weigh alike."""
    weights = dataset.metadata.get(WEIGHTS)
    if weights is None:
        return None
    of_images = torch.tensor(weights, dtype=torch.float64)
    if runs is None:
        return WeightedRuns(dataset.starts[:-1], dataset.starts[1:], of_images, device)
    return WeightedRuns(runs[0], runs[1], of_images[runs[2]], device)


def _mask(dataset: ByteDataset, index: int) -> Tensor | None:
    """Pixels of an image that may be drawn, [H, W] bool; None where all may."""
    radius = (dataset.cameras.metadata or {}).get("fisheye_crop_radius")
    keep = dataset.mask(index)
    if radius is None:
        return keep
    width, height = dataset.size(index)
    # nerfstudio's circle: about the middle of the image, in pixels of the parser's cameras
    y, x = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    circle = x * x + y * y < (float(radius) * dataset.scale_factor) ** 2
    return circle if keep is None else keep & circle
