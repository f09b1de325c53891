"""The data manager: nerfstudio's, with images kept as bytes and rays looked up instead of worked out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, cast

import torch
import tyro
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.geometry import geometry_for
from ngp_method.data.images import ByteDataset
from ngp_method.data.pixels import PixelBatches
from ngp_method.data.placement import Placement
from ngp_method.data.rays import CachedRayGenerator
from ngp_method.kernels.interface_batch import BatchKernels

GPU_SHARE = 0.25
"""Share of a GPU's free memory that images may take without being asked to; training needs the rest."""


@dataclass
class InstantHashDataManagerConfig(VanillaDataManagerConfig):
    """nerfstudio's data manager with images kept as bytes, pixels drawn uniformly and rays from a table."""

    _target: type = field(default_factory=lambda: InstantHashDataManager)
    """target class to instantiate"""
    dataparser: AnnotatedDataParserUnion = field(default_factory=AutoDataParserConfig)
    """Reads the scene. auto-data, the default, recognises the format."""
    train_num_rays_per_batch: Optional[int] = None  # type: ignore[assignment] # nerfstudio's own need a number
    """Rays of the first training step; after it their number follows the sample budget. Default: the budget / 256."""
    images_on_gpu: Optional[bool] = None  # type: ignore[assignment] # nerfstudio's own is one or the other
    """Keep the images' bytes on the GPU, so that batches are drawn there. Default: if they take less than a quarter of what is
    free on it."""
    eval_num_rays_per_batch: int = 4096
    """Rays of the evaluation batches whose loss is logged."""
    pixel_sampler: tyro.conf.Suppress[PixelSamplerConfig] = field(default_factory=PixelSamplerConfig)
    """Not used: pixels are drawn uniformly among those that masks leave."""
    patch_size: tyro.conf.Suppress[int] = 1
    """Not used: single pixels are drawn."""
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    """Not used: masks lie where the images do."""
    train_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    """Not used: all images are held in memory as bytes."""
    eval_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    """Not used: all images are held in memory as bytes."""
    train_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    """Not used: all images are held in memory as bytes."""
    eval_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    """Not used: all images are held in memory as bytes."""
    placement: tyro.conf.Suppress[Optional[tuple[float, ...]]] = None
    """Frame and box that the run began with (:class:`~ngp_method.data.placement.Placement`), written into its config.yml."""
    eval_image_indices: tyro.conf.Suppress[Optional[tuple[int, ...]]] = (0,)
    """Not used: every held-out image is evaluated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        first_rays = self.train_num_rays_per_batch
        if first_rays is not None and first_rays < 1:
            raise ValueError(f"train_num_rays_per_batch {first_rays}: a step needs at least one ray.")
        if self.patch_size != 1:
            raise ValueError(f"patch_size {self.patch_size}: this data manager draws single pixels; leave it at 1.")
        if self.train_num_images_to_sample_from != -1 or self.eval_num_images_to_sample_from != -1:
            raise ValueError(
                "num_images_to_sample_from: all images are held in memory as bytes; leave it at -1, and take "
                "auto-data --downscale-factor where they do not fit."
            )


class InstantHashDataManager(VanillaDataManager[ByteDataset]):
    """See :class:`InstantHashDataManagerConfig`.

    The training dataset's metadata, which nerfstudio hands to the model, has ``geometry`` (a
    :class:`~ngp_method.kernels.scene.SceneGeometry`, whichever parser was used) and ``train_cameras`` (nerfstudio ``Cameras``
    of the training images as they are trained on).
    """

    config: InstantHashDataManagerConfig
    train_batches: PixelBatches
    eval_batches: PixelBatches

    def create_train_dataset(self) -> ByteDataset:
        """The training images, and the scene's geometry in their metadata."""
        self._place()
        dataset = self.dataset_of(self.train_dataparser_outputs)
        self._describe(dataset)
        dataset.metadata["train_cameras"] = dataset.cameras
        return dataset

    def create_eval_dataset(self) -> ByteDataset:
        """The images held out, in the same geometry."""
        outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
        outputs = self.placement.brought(outputs, self._found)
        dataset = self.dataset_of(outputs)
        self._describe(dataset)
        return dataset

    def dataset_of(self, outputs: DataparserOutputs) -> ByteDataset:
        """The images of a split."""
        return ByteDataset(outputs, self.config.camera_res_scale_factor)

    def _place(self) -> None:
        """Puts the training views where the run began, or settles where that is."""
        outputs = self.train_dataparser_outputs
        self._found = Placement.of(outputs, geometry_for(outputs, self.dataparser_config))
        if self.config.placement is None:
            self.config.placement = self._found.numbers()
            self.placement = self._found
        else:
            self.placement = Placement.from_numbers(self.config.placement)
            self.train_dataparser_outputs = self.placement.brought(outputs, self._found)
            brought = Placement.of(self.train_dataparser_outputs, self.placement.geometry)
            changes = self.placement.changes(self._found, brought)
            if changes is not None:
                CONSOLE.print(changes, soft_wrap=True)
        self.geometry = self.placement.geometry

    def _describe(self, dataset: ByteDataset) -> None:
        dataset.metadata = {**dataset.metadata, "geometry": self.geometry}
        dataset.scene_box = SceneBox(aabb=self.geometry.aabb)

    def setup_train(self) -> None:
        """Prepares batches of training pixels; images are decoded now, or when first needed outside of training."""
        CONSOLE.print("Setting up training dataset...")
        # Without a number of its own the pipeline sets one before the first batch; in evaluation there is no such pipeline.
        first = self.config.train_num_rays_per_batch or self.config.eval_num_rays_per_batch
        self.train_batches = self._batches(self.train_dataset, first)
        self.train_pixel_sampler: Any = self.train_batches
        self.train_ray_generator: Any = self._rays(self.train_dataset)
        if self.test_mode == "val":
            self.train_batches.load()

    def setup_eval(self) -> None:
        """Prepares batches of held-out pixels, and the loaders of whole held-out images that nerfstudio asks for."""
        CONSOLE.print("Setting up evaluation dataset...")
        self.eval_batches = self._batches(self.eval_dataset, self.config.eval_num_rays_per_batch)
        self.eval_pixel_sampler: Any = self.eval_batches
        self.eval_ray_generator: Any = self._rays(self.eval_dataset)
        # a held-out image that its mask hides altogether has no PSNR
        seen = cast(Any, tuple(self.eval_dataset.visible()))
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(
            self.eval_dataset, image_indices=seen or None, device=self.device
        )
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)
        if self.test_mode == "val":
            self.eval_batches.load()

    def _batches(self, dataset: ByteDataset, num_rays: int) -> PixelBatches:
        # nerfstudio seeds torch before it builds the pipeline: the sampler's own seed follows from that one
        seed = int(torch.randint(2**62, (1,)))
        return PixelBatches(dataset, num_rays, self.device, self._on_gpu(dataset), seed)

    def _on_gpu(self, dataset: ByteDataset) -> bool:
        """Whether a dataset's bytes are to lie on the device."""
        device = torch.device(self.device)
        if self.config.images_on_gpu is not None or device.type != "cuda":
            return bool(self.config.images_on_gpu)
        size, (free, _) = 4 * int(dataset.starts[-1]), torch.cuda.mem_get_info(device)
        fits = size < GPU_SHARE * free
        where = (
            "on the GPU" if fits else "in the host's memory, as they would take more than a quarter of what is free on the GPU"
        )
        CONSOLE.print(f"{len(dataset)} images ({size / 1e9:.2f} GB with alpha) are kept {where}.", soft_wrap=True)
        return fits

    def _rays(self, dataset: ByteDataset) -> CachedRayGenerator:
        tables: dict[tuple[float, ...], Tensor] = self.__dict__.setdefault("_ray_tables", {})
        return CachedRayGenerator(dataset.cameras, self.device, tables=tables)

    def use_kernels(self, kernels: BatchKernels) -> None:
        """Makes batches with the operations of a kernel set, on the device that it is for."""
        for name in ("train_batches", "train_ray_generator", "eval_batches", "eval_ray_generator"):
            if (maker := getattr(self, name, None)) is not None:
                maker.kernels = kernels

    def run_state(self) -> dict[str, Any]:
        """What the next batches depend on, for a checkpoint."""
        return {"train": self.train_batches.run_state(), "eval": self.eval_batches.run_state()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`run_state` gave."""
        self.train_batches.load_run_state(state["train"])
        self.eval_batches.load_run_state(state["eval"])

    def set_num_rays(self, num_rays: int) -> None:
        """Sets the rays of the following training batches; evaluation keeps its own number."""
        self.train_batches.set_num_rays_per_batch(num_rays)

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The next training batch.

        Returns:
            rays [n] and the batch: ``image`` [n, 3 or 4] float32 in [0, 1], ``indices`` [n, 3] camera, row, column.
        """
        self.train_count += 1
        batch = self.train_batches.sample()
        return self.train_ray_generator(batch["indices"]), batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The next batch of held-out pixels, shaped as in :meth:`next_train`."""
        self.eval_count += 1
        batch = self.eval_batches.sample()
        return self.eval_ray_generator(batch["indices"]), batch
