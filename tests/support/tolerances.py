"""Every tolerance of the kernel tests, each with its reason.

u = 2^-24 is float32's unit roundoff: a single operation is off by at most u of its result.
"""

from __future__ import annotations

import numpy as np

ROUNDOFF32 = 2.0**-24
ROUNDOFF_BF16 = 2.0**-9

ORACLE_64 = 1e-12
"""Reference in float64 against the oracle, relative to the largest value: the same sums of under 100 terms in another
order, each off by 1e-16."""

SH_64 = 1e-13
"""Spherical harmonics in float64: a recurrence and two trigonometric functions against polynomials of degree 3."""

SH_32 = 16 * ROUNDOFF32
"""The same in float32: at most ten operations, results up to 1.1, cancellation in 5 zz - 1 and yy - 3 xx (factor 5)."""

SH_SLOPE = 5.0
"""Largest coefficient of a harmonic's derivative (10 times that of band 3, order 1: 4.6): errors of gradients of directions
are SH_32 times this for each unit of the harmonics' own gradients."""

LATTICE_EXACT = 24 * ROUNDOFF32
"""Interpolation where the lattice position is exact (dyadic positions, whole scales), relative to the largest table
entry: three products make a weight, eight weighted entries make the sum: 3 + 8 roundings of it at most, and as many
in the reference."""

GRADIENT_TERMS = 64 * ROUNDOFF32
"""Sums of gradients, relative to the sum of the terms' absolute values: a plain running sum of n terms is off by up
to n u of it, in practice sqrt(n) u; 4,099 samples share an entry at most, sqrt(4099) = 64."""

COMPOSITE_32 = 32 * ROUNDOFF32
"""Sums along a ray, relative to the largest term: each weight carries the roundings of the samples before it (1 -
alpha is off by u at most, absolutely), their errors average out over the up to 1,024 samples: sqrt(1024) u."""

COMPOSITE_GRADIENT_32 = 4 * COMPOSITE_32
"""Density gradients: differences of such sums (what is behind, what is left), each with the error of the whole sum."""

LOSS_32 = 64 * ROUNDOFF32
"""Sums over up to 4,099 rays of three channels, relative to the sum; and their gradients, relative to the largest: a dozen
operations on numbers up to 1, and roundings of the sum that average out."""

RAYS_32 = 16 * ROUNDOFF32
"""Unit vectors, and where rays meet planes, relative to the distance: a turn (5 u), a length (4 u), two quotients."""

EXP_32 = 64 * ROUNDOFF32
"""exp of raw up to 40 in size: raw itself is exact, but the argument is reduced by a rounded multiple of log 2 (up to 58 u)."""

MLP_32 = 64 * ROUNDOFF32
"""Sums of 64 products, relative to the root mean square of the result: 64 u at the very most per layer, sqrt(64) u
typically, over up to four layers and the reference's own error."""

ADAM_32 = 64 * ROUNDOFF32
"""Values and moments after some ten steps, relative to the largest: one minus beta2 is off by 3 u / 0.01 in float32
(about 5 u after the square root), and each step adds some roundings."""

FIRST_STEP = 2e-4
"""A first step of Adam relative to the learning rate: epsilon is 1e-15 / 1e-11 = 1e-4 of the root of the second
moment of the smallest gradient tried, 1e-10; the rest is ADAM_32."""

WEIGHT_SUM = 64 * ROUNDOFF32
"""By how much the float32 weights of a ray may sum to more than 1: roundings of up to 1,024 terms, averaging out."""

DRIFT_PER_STEP = 1 * ROUNDOFF32
"""Float32 against float64 along a ray: each step rounds t once (relative to t). It is a bound on the sum, step by
step."""

POINT_32 = 8 * ROUNDOFF32
"""Normalised middles: five operations on numbers as large as the box (times how far the camera is from it)."""

LOW_PRECISION_RMS = 2.0
LOW_PRECISION_MAX = 3.0
"""bfloat16 kernels: root mean square and largest error, as multiples of those of plain torch in the same precision on
the same numbers. Rounding points differ (a kernel keeps sums in float32 where torch rounds, or the other way round),
so single values differ by a rounding or two; twice over all is flash-attention's rule for its kernels."""

LOW_PRECISION_FLOOR = 4 * ROUNDOFF_BF16**2
"""Errors under this share of the largest value are not compared as multiples: plain torch may hit a value by luck."""

SAME_PRECISION = 3.0
"""Float32 kernels in a chain of operations, where no simple bound holds: root mean square error as a multiple of that
of plain torch in float32 (sums in another order, products fused or not; never a different function)."""

STANDARD_ERRORS = 5.0
"""Monte Carlo: deviation allowed, in standard errors of the mean. By chance alone one in 1.7 million fails; the seed
is fixed."""


def lattice_bound(scale: float, largest: float) -> float:
    """Bound on the interpolation's error for any float32 position.

    A lattice position x * scale + 0.5 carries two roundings of up to (scale + 1) u each; moving a corner's fraction
    by e moves the value by at most 2 * largest * e per axis; three axes. Crossing a cell's border changes nothing:
    the interpolation is continuous. LATTICE_EXACT covers the rest.
    """
    return largest * (3 * 2 * 2 * (scale + 1) * ROUNDOFF32 + LATTICE_EXACT)


def border_distance(scale: float) -> float:
    """Fraction of a cell around a border in which float32 may take the neighbouring cell (twice the two roundings
    above)."""
    return 4 * (scale + 1) * ROUNDOFF32


def rms(values: np.ndarray) -> float:
    """Root mean square (0 of nothing)."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
