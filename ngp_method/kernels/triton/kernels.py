"""TritonKernels: the table of operations, each a line or two that leads to its room."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..adam import AdamSettings, AdamState
from ..batch import PixelTable, RayTable, WorldRays
from ..defaults import Defaults
from ..density_head import DensityHead
from ..derived import changed, half_copies
from ..interface import Composited, Gathered
from ..layout import HashGridLayout, MLPLayout
from ..losses import ColorLoss
from ..samples import PackedSamples
from ..scene import SceneGeometry
from . import adam, batch, color_loss, compositing, density_head, device, encode, fused, marching, mlp, occupancy, packing, warm


class TritonKernels(Defaults):
    """Triton kernels for CUDA and ROCm devices (and, under TRITON_INTERPRET=1, for tests on a processor).

    The occupancy grid's updates are torch's: few launches over a few million cells, once in 16 steps.

    Features are [N, C] in ``dtype`` with strides (1, N rounded up to 16), see runs.py: feature-major, so that each level of the
    hash grid is written, and each row of a matrix product's operand read, in one run of neighbouring addresses.

    Args:
        precision: ``float32``, ``float16``, ``bfloat16``, or ``auto``: bfloat16 where the matrix units have it, else float16.

    Raises:
        ImportError: Triton, or a device it compiles for, is missing.
    """

    name = "triton"
    asynchronous = True
    capturable = True

    def __init__(self, precision: str = "auto") -> None:
        complaint = device.complaint()
        if complaint:
            raise ImportError(complaint)
        self.dtype = device.precision_of(precision)
        self.low_precision = self.dtype != torch.float32
        if precision == "float32":
            self.name = "triton-float32"
        self.half_tables = half_copies()
        kind = str(self.dtype).removeprefix("torch.")
        where = "Triton's interpreter" if device.interpreted() else torch.cuda.get_device_name()
        self.description = f"Triton on {where}, {kind}"

    def warm_up(self) -> Iterator[str]:
        """See the interface: kernels are compiled, many at a time."""
        if device.interpreted() or device.compiled_before():
            return
        yield "compiles its kernels for this GPU, once on this machine ..."
        began = time.monotonic()
        count = warm.compile_all(self.dtype)
        yield f"has compiled {count} kernels in {time.monotonic() - began:.0f} s"

    def pick_pixels(self, chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
        """See the interface."""
        return batch.pick_pixels(chosen, views, table)

    def table_rays(self, indices: Tensor, table: RayTable) -> WorldRays:
        """See the interface."""
        return batch.table_rays(indices, table)

    def enter_box(
        self, rays_o: Tensor, directions: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the interface."""
        return batch.enter_box(rays_o, directions, aabb, near, far)

    def hash_encode(
        self, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        layout.check(positions)
        half = self.half_tables.of(table) if self.low_precision else None
        return encode.hash_encode(positions, table, half, layout, self.dtype, footprints, features)

    def sh_encode(self, directions: Tensor) -> Tensor:
        """See the interface."""
        return encode.sh_encode(directions, self.dtype)

    def mlp(self, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        """See the interface."""
        return mlp.perceptron(parts, weights, layout, self.dtype, rows)

    def encode_mlp(
        self, positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        grid.check(positions)
        source = self.half_tables.of(table) if self.low_precision else table.detach()
        return fused.encode_mlp(positions, source, weights, grid, layout, self.dtype, rows, footprints)

    def sh_mlp(self, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout) -> Tensor:
        """See the interface."""
        return fused.sh_mlp(raw, rays_d, samples.ray_indices, weights, layout, self.dtype)

    def keep_first(
        self, samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
    ) -> tuple[PackedSamples, list[Tensor]]:
        """See the interface."""
        return packing.keep_first(samples, counts, features, capacity)

    def spread(self, features: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        return packing.RUNS.spread(features, samples)

    def sum_runs(self, values: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        return packing.RUNS.sum_runs(values, samples)

    def dense_features(self, features: Tensor) -> Tensor:
        """See the interface."""
        return features.float()

    def march(
        self, rays_o: Tensor, rays_d: Tensor, t_min: Tensor, t_max: Tensor, occupied: Tensor, geometry: SceneGeometry,
        jitter: Tensor | None = None, max_samples: int | None = None, capacity: int | None = None,
    ) -> tuple[PackedSamples, Tensor]:  # fmt: skip
        """See the interface."""
        return marching.march(rays_o, rays_d, t_min, t_max, occupied, geometry, jitter, max_samples, capacity)

    def points(self, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """See the interface."""
        return marching.points(rays_o, rays_d, samples, geometry)

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        """See the interface."""
        return compositing.visible_counts(sigmas, samples, threshold)

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        """See the interface."""
        return compositing.composite(sigmas, rgbs, samples)

    def accumulate(
        self, gathered: Gathered, rays: Tensor, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples,
        resume: Tensor, t: Tensor, t_max: Tensor, least: float, median: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See the interface: one launch."""
        return compositing.accumulate(gathered, rays, sigmas, rgbs, samples, resume, t, t_max, least, median)

    def density_head(self, raw: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """See the interface."""
        sigmas, same = DensityHead.apply(raw, unit, density_head.sigmas_of, density_head.with_slope)
        return sigmas, same

    def color_loss(
        self, rgbs: Tensor, opacities: Tensor, pixels: Tensor, background: Tensor, room: Tensor | None, loss: str
    ) -> ColorLoss:
        """See the interface."""
        return color_loss.color_loss(rgbs, opacities, pixels, background, room, loss)

    def room(self, samples: PackedSamples, resume: Tensor, t_max: Tensor) -> tuple[Tensor, Tensor]:
        """See the interface."""
        return packing.room(samples, resume, t_max)

    def prepare(self, table: Tensor | None, occupied: Tensor) -> None:
        """See the interface: the table's half copy, and the packed grid."""
        if table is not None and self.low_precision:
            self.half_tables.of(table)
        occupancy.GRIDS.of(occupied)

    def adam_step(
        self, param: Tensor, grad: Tensor, state: AdamState, settings: AdamSettings, average: Tensor | None = None,
        weight: float = 0.0,
    ) -> None:  # fmt: skip
        """See the interface."""
        half = self.half_tables.current(param)
        adam.step(param, grad, state, settings, half, average, weight)
        changed(param, None if half is None else self.half_tables)
