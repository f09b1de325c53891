"""The operations a kernel set offers: names, shapes, dtypes, units, gradients.

A kernel set is an object with these methods and those of :mod:`.interface_batch` and :mod:`.interface_training`. ``reference``
(plain torch) is the definition; every other set is held to it in values and in gradients. Zero rays and zero samples are legal
everywhere.

Conventions
    N samples, R rays, C features. Positions are in [0, 1]^3 over the whole scene box, directions are unit vectors in
    [-1, 1]. Distances t are in world units along unit directions. Unless stated, tensors are float32.
    *Features* are what an encoding returns and an MLP takes: [N, C] float, or, where a kernel set has a compact layout of
    its own, bfloat16 [C / 2, N, 2] with feature 2p + j of sample n at [p, n, j]. ``dense_features`` makes [N, C] of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .interface_batch import BatchKernels
from .interface_training import TrainingKernels
from .layout import HashGridLayout, MLPLayout
from .samples import PackedSamples
from .scene import SceneGeometry


@dataclass
class Composited:
    """What volume rendering makes of a batch of rays.

    Attributes:
        rgbs: [R, 3] colour, premultiplied by opacity (no background).
        opacities: [R] sum of the weights, at most 1.
        depths: [R] sum of weight * (t_start + t_end) / 2, world units (not divided by the opacity).
        weights: [N] T_i * alpha_i (paper of Max 1995; NeRF equation 3).
    """

    rgbs: Tensor
    opacities: Tensor
    depths: Tensor
    weights: Tensor


@dataclass
class Gathered:
    """Sums of R rays so far, all float32 and row-major.

    Attributes:
        rgbs: [R, 3] colour, premultiplied by opacity.
        opacities: [R] sum of the weights.
        depths: [R] sum of weight * distance (world units along the unit direction), not divided by the opacity.
        median_depths: [R] distance at which the opacity passes one half; zero until then.
        n_samples: [R] samples evaluated.
    """

    rgbs: Tensor
    opacities: Tensor
    depths: Tensor
    median_depths: Tensor
    n_samples: Tensor


class Kernels(BatchKernels, TrainingKernels, Protocol):
    """One implementation of every operation."""

    name: str
    description: str
    asynchronous: bool
    """Whether the host goes on while the device works, and waits where it asks for a number."""
    capturable: bool
    """Whether a training step of it can be captured as a CUDA graph."""

    def warm_up(self) -> Iterator[str]:
        """Does what a first step would have to wait for: half a sentence before each part of it, and after. Mostly nothing."""
        ...

    def hash_encode(
        self, positions: Tensor, table: Tensor, layout: HashGridLayout, footprints: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Multiresolution hash encoding with linear interpolation along every axis (paper section 3).

        Args:
            positions: [N, D] in [0, 1], D = layout.n_dims (others raise a ValueError); gradient supported. A coordinate
                outside counts as the nearest inside, NaN as 0, and has no gradient.
            table: [n_params] float32; gradient supported. Both gradients may be differentiated once more, as may those of
                ``mlp`` and ``density_head`` (normals that are trained on).
            layout: levels and sizes.
            footprints: [N] how wide each sample is: the features of each level are multiplied by that level's weight, and
                features of the width follow them (:mod:`.footprints`). No gradient. None: samples are points.
            features: what this operation returned for just these arguments before: not computed again.
        Returns:
            Features, C = L * F; of footprints C = :func:`~.footprints.wide_output_dims`.
        """
        ...

    def sh_encode(self, directions: Tensor) -> Tensor:
        """Real spherical harmonics of degree 4: unit directions [N, 3] -> features, C = 16.

        Gradient supported, to the first order (again raises): that of the polynomials in :mod:`.spherical`, of any length.
        """
        ...

    def mlp(self, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        """Perceptron on the concatenation of ``parts`` along the feature axis.

        Args:
            parts: features with C_0, C_1, ... adding up to layout.n_input_dims; gradients supported.
            weights: [n_params] float32; gradient supported.
            layout: widths.
            rows: outputs wanted, the first ones; default layout.n_output_dims.
        Returns:
            [N, rows] float32 (any strides).
        """
        ...

    def density_head(self, raw: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """What the density MLP's outputs say of the density.

        Args:
            raw: [N, C] outputs, the first the logarithm of the density per edge of the unit cube; gradient supported. Its
                gradient uses exp(clamp(raw, -15, 15)) (instant-ngp nerf_device.cuh, network_to_density_derivative).
            unit: world units of that edge.
        Returns:
            Densities [N] per world unit, and ``raw`` itself: both ways to it meet in one gradient.
        """
        ...

    def footprints(self, radii: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """How wide samples are: [N] float32 standard deviations in edges of the scene box. No gradient.

        Args:
            radii: [R] standard deviation of each ray's footprint at distance 1, world units.
            samples: N samples of the R rays, each as wide as its ray at the middle of the interval.
            geometry: the scene box.
        """
        ...

    def encode_mlp(
        self, positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, rows: int,
        footprints: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """``mlp([hash_encode(positions, table, grid, footprints)], weights, layout, rows)`` without gradients, [N, rows]
        float32.

        Where a kernel set makes one kernel of the two, features never reach memory.
        """
        ...

    def sh_mlp(self, raw: Tensor, rays_d: Tensor, samples: PackedSamples, weights: Tensor, layout: MLPLayout) -> Tensor:
        """``mlp([raw, spread(sh_encode(rays_d), samples)], weights, layout)`` without gradients, [N, n_output_dims] float32.

        Args:
            raw: [N, C] features.
            rays_d: [R, 3] unit directions of the rays.
            samples: N samples of the R rays.
            weights: [n_params] float32.
            layout: C + 16 inputs.
        """
        ...

    def keep_first(
        self, samples: PackedSamples, counts: Tensor, features: Sequence[Tensor], capacity: int | None = None
    ) -> tuple[PackedSamples, list[Tensor]]:
        """The first counts[r] samples of each ray, and what belongs to them.

        Args:
            samples: R rays.
            counts: [R] int32, none above the ray's number of samples.
            features: features (or positions) of all samples. No gradient.
            capacity: most samples of all rays, as in ``march``: a ray whose samples would end beyond it, and every ray behind
                that one, is left without samples. An asynchronous set returns so many slots, without waiting; features of
                padding are zero.
        """
        ...

    def spread(self, features: Tensor, samples: PackedSamples) -> Tensor:
        """Features of each ray -> features of each sample: those of its ray.

        Its gradient is ``sum_runs``, for features in any layout and of any type (summed in float32, rounded once to that type).
        Padding (see ``march``) gets anything finite, and what flows back from it counts for nothing.
        """
        ...

    def sum_runs(self, values: Tensor, samples: PackedSamples) -> Tensor:
        """Sums over the samples of each ray, the adjoint of ``spread``.

        By rays and in one order: the same numbers, the same sums. Its gradient, to any order, is ``spread``, zero in padding.

        Args:
            values: [N, C], or features in any layout. Of padding (see ``march``) nothing is read, not even NaN.
            samples: N samples of R rays.
        Returns:
            [R, C] float32, summed as such (any strides); zeros for a ray without samples.
        """
        ...

    def dense_features(self, features: Tensor) -> Tensor:
        """[N, C] float32 of features in any layout."""
        ...

    def march(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        t_min: Tensor,
        t_max: Tensor,
        occupied: Tensor,
        geometry: SceneGeometry,
        jitter: Tensor | None = None,
        max_samples: int | None = None,
        capacity: int | None = None,
    ) -> tuple[PackedSamples, Tensor]:
        """Steps along rays through the occupied cells (instant-ngp's step law, see :mod:`.scene`).

        A ray starts at t_min + jitter * dt(t_min) and goes on by dt(t) = clamp(t * cone_angle, min_step, max_step), or by
        2^-20 of its t_max where that is more (SceneGeometry.step_size), so that every ray comes to an end. The
        interval [t, t + dt] is a sample if the cell that holds its middle is occupied, in the cascade that both contains
        the middle and has cells of more than twice the step; it is dropped otherwise. Ends at t >= t_max or after
        ``max_samples`` samples.

        Args:
            rays_o: [R, 3] world units.
            rays_d: [R, 3] unit vectors.
            t_min: [R] start of each ray, one below zero counts as zero; a ray with t_min >= t_max, or with NaN in either, has
                no samples.
            t_max: [R] end of each ray.
            occupied: [K, G, G, G] bool, cascade by cascade (x, y, z).
            geometry: unit cube, cascades and steps.
            jitter: [R] in [0, 1), in steps; None for zero.
            max_samples: most samples of one ray; None for instant-ngp's 1,024.
            capacity: most samples of all rays. A ray whose samples end beyond it, and every ray behind that one, is left
                without samples and goes on from its t_min: no samples and ``resume < t_max`` tell it from one that met
                nothing, and a loss must leave it out. An asynchronous set returns so many slots, without waiting; those
                behind the last run are *padding*: intervals [0, 0] of the last ray, which count for nothing.
        Returns:
            The samples, and [R] the t from which each ray would go on (t_max or more: it is done).
        """
        ...

    def points(self, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """Middles of the intervals, [N, 3] in [0, 1]^3 over the scene box, clamped to it.

        Args:
            rays_o, rays_d: [R, 3] world units, unit vectors; gradients supported, to the first order (again raises).
            samples: N samples of the R rays. Padding (see ``march``) counts for nothing in the gradients.
            geometry: the scene box. A coordinate at its border, clamped to it or there by itself, carries no gradient.
        """
        ...

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        """[R] int32: samples of each ray before which the transmittance is at least ``threshold``. No gradient."""
        ...

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        """Volume rendering of packed samples.

        Args:
            sigmas: [N] densities per world unit, non-negative; gradient supported.
            rgbs: [N, 3]; gradient supported.
            samples: the intervals.
        Returns:
            Sums per ray, and the weights of the samples. Gradients flow from all four, to the first order: a set whose gradient
            cannot be differentiated again raises where that is asked for.
        """
        ...

    def accumulate(
        self, gathered: Gathered, rays: Tensor, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples,
        resume: Tensor, t: Tensor, t_max: Tensor, least: float, median: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Add one round's samples behind what rays have gathered, in place: all that ends a round of rendering. No gradient.

        Args:
            gathered: of all R rays.
            rays: [A] int64, which of them are in this round, each once.
            sigmas: [N] densities per world unit; rgbs: [N, 3].
            samples: the A rays' samples of this round.
            resume: [A] where marching stopped; written to ``t``.
            t: [R] where each ray stands; t_max: [R] where it ends.
            least: transmittance at which a ray is done.
            median: opacity at which the median depth lies.
        Returns:
            [N] weights as shares of the whole ray's light, and [A] bool: which rays go on.
        """
        ...
