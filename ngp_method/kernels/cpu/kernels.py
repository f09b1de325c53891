"""CpuKernels: the table of operations, each a line or two that leads to its room."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adam import AdamSettings, AdamState
from ..defaults import Defaults, limited
from ..density_head import DensityHead, sigmas_of
from ..derived import Derived, changed, half_copies
from ..interface import Composited
from ..layout import HashGridLayout, MLPLayout
from ..samples import PackedSamples, counts_within
from ..scene import SceneGeometry
from . import adam, bfloat16, density_head, encode, mlp, mlp_bfloat16, pool, processor, rays, volume
from . import cells as grid_cells

PRECISIONS = ("bfloat16", "mixed", "float32")
"""What the kernels may compute in, the fastest first."""


def best_precision() -> str:
    """The first of :data:`PRECISIONS` for which the processor has instructions."""
    if bfloat16.TILES or bfloat16.DOTS:
        return "bfloat16"
    return "mixed" if processor.half_conversion() else "float32"


def _refusal(precision: str) -> str | None:
    """Half a sentence: why this processor cannot compute so; None where it can."""
    if precision == "bfloat16" and not bfloat16.engines():
        return bfloat16.why_not()
    if precision == "mixed" and not processor.half_conversion():
        return "this processor (or what numba compiles for) does not convert float16"
    return None


class CpuKernels(Defaults):
    """Numba kernels for any processor.

    Args:
        precision: ``bfloat16`` (features and hidden layers in bfloat16, table read as float16; see :mod:`.bfloat16` for what
            multiplies so), ``mixed`` (float32 but for the table, which is read as float16), ``float32`` (everything), or
            ``auto``: the first of them for which the processor itself has the instructions (all with AVX2 or NEON convert
            float16).
        threads: threads to use; default: what torch was set to.
    """

    name = "cpu"
    asynchronous = False

    def __init__(self, precision: str = "auto", threads: int | None = None) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, not '{precision}'.")
        refusal = _refusal(precision)
        if refusal is not None:
            raise ImportError(
                f"The kernels cpu-{precision} do not run here, as {refusal}: use --pipeline.model.kernels cpu-float32."
            )
        count = pool.use_threads(threads)
        if precision != "auto":
            self.name = f"cpu-{precision}"
        taken = best_precision() if precision == "auto" else precision
        self.low_precision = taken == "bfloat16"
        self.reads_half = taken in ("bfloat16", "mixed")
        self.half_tables = half_copies(encode.copy_half)
        self._grid = Derived(volume.pack_grid)
        kind = {
            "bfloat16": f"bfloat16 by {bfloat16.describe(bfloat16.engines()[0])}" if self.low_precision else "",
            "mixed": "float32, the hash table read as float16",
            "float32": "float32",
        }[taken]
        if precision == "auto" and not self.low_precision:
            kind += f" ({bfloat16.why_not()})"
        self.description = f"numba on {count} thread{'s' if count > 1 else ''}, {kind}"

    def hash_encode(
        self, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See the interface."""
        layout.check(positions)
        if layout.n_features_per_level == 1:
            raise ValueError("The cpu kernels need 2, 4 or 8 features per level; use --pipeline.model.kernels reference.")
        half = self.half_tables.of(table) if self.reads_half else None
        result = encode.HashEncode.apply(positions, table, half, self.low_precision, layout, footprints, features)
        assert isinstance(result, Tensor)
        return result

    def sh_encode(self, directions: Tensor) -> Tensor:
        """See the interface."""
        return rays.harmonics(directions, self.low_precision)

    def mlp(self, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        """See the interface."""
        if self.low_precision:
            return mlp_bfloat16.perceptron(parts, weights, layout, rows)
        return mlp.perceptron([encode.dense(part) for part in parts], weights, layout, rows)

    def density_head(self, raw: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """See the interface."""
        sigmas, same = DensityHead.apply(raw, unit, sigmas_of, density_head.with_slope)
        return sigmas, same

    def keep_first(
        self, samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
    ) -> tuple[PackedSamples, list[Tensor]]:
        """See the interface."""
        return volume.keep_first(samples, counts_within(counts, capacity), features)

    def spread(self, features: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        return volume.RUNS.spread(features, samples)

    def sum_runs(self, values: Tensor, samples: PackedSamples) -> Tensor:
        """See the interface."""
        return volume.RUNS.sum_runs(values, samples)

    def dense_features(self, features: Tensor) -> Tensor:
        """See the interface."""
        return encode.dense(features)

    def march(
        self, rays_o: Tensor, rays_d: Tensor, t_min: Tensor, t_max: Tensor, occupied: Tensor, geometry: SceneGeometry,
        jitter: Tensor | None = None, max_samples: int | None = None, capacity: int | None = None,
    ) -> tuple[PackedSamples, Tensor]:  # fmt: skip
        """See the interface."""
        grid = self._grid.of(occupied)
        samples, resume = volume.march(rays_o, rays_d, t_min, t_max, grid, geometry, jitter, max_samples)
        return limited(samples, resume, t_min, capacity)

    def points(self, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """See the interface."""
        return rays.points(rays_o, rays_d, samples, geometry)

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        """See the interface."""
        return volume.visible_counts(sigmas, samples, threshold)

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        """See the interface."""
        return volume.composite(sigmas, rgbs, samples)

    def adam_step(
        self, param: Tensor, grad: Tensor, state: AdamState, settings: AdamSettings, average: Tensor | None = None,
        weight: float = 0.0,
    ) -> None:  # fmt: skip
        """See the interface."""
        half = self.half_tables.current(param)
        adam.step(param, grad, state, settings, half)
        changed(param, None if half is None else self.half_tables)
        if average is not None:
            self.average(average, param, weight)

    def average(self, average: Tensor, value: Tensor, weight: float) -> None:
        """See the interface."""
        source, ranges = value.detach(), pool.chunks(average.shape[0], 16, at_least=1 << 16, per_thread=4)
        pool.run(lambda c: average[slice(*ranges[c])].lerp_(source[slice(*ranges[c])], weight), len(ranges))

    def draw_cells(self, values: Tensor, occupied: Tensor, n_turn: int, n_occupied: int, first: int, seed: int) -> Tensor:
        """See the interface."""
        return grid_cells.draw_cells(values, occupied, n_turn, n_occupied, first, seed)

    def cell_points(self, cells: Tensor, resolution: int, cascades: int, seed: int) -> Tensor:
        """See the interface."""
        return grid_cells.cell_points(cells, resolution, cascades, seed)

    def raise_cells(self, values: Tensor, cells: Tensor, found: Tensor, decay: float) -> None:
        """See the interface."""
        grid_cells.raise_cells(values, cells, found, decay)
