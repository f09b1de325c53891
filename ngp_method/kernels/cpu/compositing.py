"""Compositing kernels: transmittance, weights, sums and their gradients, a range of rays at a time."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .simd import LANES, spread_u
from .simd_memory import load, store

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
HALF = np.float32(0.5)


@njit(nogil=True, cache=True, error_model="numpy")
def visible(sigmas, t_starts, t_ends, packed_info, log_threshold, counts, begin, end):  # type: ignore[no-untyped-def]
    """Samples of each ray before which the optical thickness is at most -log(threshold)."""
    for r in range(begin, end):
        first, n = packed_info[r, 0], packed_info[r, 1]
        thickness, k = ZERO, 0
        while k < n and thickness <= -log_threshold:
            thickness += sigmas[first + k] * (t_ends[first + k] - t_starts[first + k])
            k += 1
        counts[r] = k


@njit(nogil=True, cache=True, error_model="numpy")
def forward(sigmas, rgbs, t_starts, t_ends, packed_info, colours, opacities, depths, weights, begin, end):  # type: ignore[no-untyped-def]
    """Weights and sums. rgbs are float32 rows [3, n_padded]; colours [R, 3]."""
    for r in range(begin, end):
        first, n = packed_info[r, 0], packed_info[r, 1]
        before = ONE
        red = green = blue = opacity = depth = ZERO
        for i in range(first, first + n):
            alpha = np.float32(-math.expm1(-sigmas[i] * (t_ends[i] - t_starts[i])))
            w = before * alpha
            weights[i] = w
            red += w * rgbs[0, i]
            green += w * rgbs[1, i]
            blue += w * rgbs[2, i]
            opacity += w
            depth += w * HALF * (t_starts[i] + t_ends[i])
            before *= ONE - alpha
        colours[r, 0], colours[r, 1], colours[r, 2] = red, green, blue
        opacities[r] = opacity
        depths[r] = depth


@njit(nogil=True, cache=True, error_model="numpy")
def backward(  # type: ignore[no-untyped-def]
    sigmas, rgbs, t_starts, t_ends, packed_info, weights, colours, opacities, depths,
    d_colours, d_opacities, d_depths, d_sigmas, d_rgbs, begin, end,
):  # fmt: skip
    """Gradients of densities and colours.

    With value v_i = d_colour . rgb_i + d_opacity + d_depth * middle_i and S_i = sum over j > i of weight_j * v_j:
    d sigma_i = dt_i * (T_{i+1} * v_i - S_i), T_{i+1} being the transmittance behind sample i.
    """
    for r in range(begin, end):
        first, n = packed_info[r, 0], packed_info[r, 1]
        g0, g1, g2, go, gd = d_colours[r, 0], d_colours[r, 1], d_colours[r, 2], d_opacities[r], d_depths[r]
        behind = g0 * colours[r, 0] + g1 * colours[r, 1] + g2 * colours[r, 2] + go * opacities[r] + gd * depths[r]
        after = ONE
        for i in range(first, first + n):
            dt = t_ends[i] - t_starts[i]
            w = weights[i]
            value = g0 * rgbs[0, i] + g1 * rgbs[1, i] + g2 * rgbs[2, i] + go + gd * HALF * (t_starts[i] + t_ends[i])
            behind -= w * value
            after -= w
            d_sigmas[i] = dt * (max(after, ZERO) * value - behind)
            d_rgbs[0, i] = g0 * w
            d_rgbs[1, i] = g1 * w
            d_rgbs[2, i] = g2 * w


@njit(nogil=True, cache=True, error_model="numpy")
def add_weight_gradient(  # type: ignore[no-untyped-def]
    t_starts, t_ends, packed_info, weights, d_weights, d_sigmas, begin, end
):
    """Adds to d_sigmas what gradients of the weights themselves bring: :func:`backward` with v_i = d_weight_i."""
    for r in range(begin, end):
        first, n = packed_info[r, 0], packed_info[r, 1]
        behind = ZERO
        for i in range(first, first + n):
            behind += weights[i] * d_weights[i]
        after = ONE
        for i in range(first, first + n):
            behind -= weights[i] * d_weights[i]
            after -= weights[i]
            d_sigmas[i] += (t_ends[i] - t_starts[i]) * (max(after, ZERO) * d_weights[i] - behind)


@njit(nogil=True, cache=True, error_model="numpy")
def copy_runs(source, target, old_first, new_first, counts, begin, end):  # type: ignore[no-untyped-def]
    """target[row, new run] = source[row, old run] for the runs of all rays, rows begin .. end - 1 (uint32).

    Sixteen at a time, also what lies behind a run: the next one, or the caller, writes over that. Runs are short.
    """
    for row in range(begin, end):
        a, b = source[row], target[row]
        for r in range(counts.shape[0]):
            i, j, n, k = np.int64(old_first[r]), np.int64(new_first[r]), np.int64(counts[r]), np.int64(0)
            while k < n and i + k + LANES <= a.size and j + k + LANES <= b.size:
                store(b, j + k, load(a, i + k))
                k += LANES
            while k < n:
                b[j + k] = a[i + k]
                k += 1


@njit(nogil=True, cache=True, error_model="numpy")
def fill_runs(source, target, first, counts, begin, end):  # type: ignore[no-untyped-def]
    """target[row, run of ray r] = source[row, r], rows begin .. end - 1, in the way of :func:`copy_runs`."""
    for row in range(begin, end):
        a, b = source[row], target[row]
        for r in range(counts.shape[0]):
            value, j, n, k = a[r], np.int64(first[r]), np.int64(counts[r]), np.int64(0)
            while k < n and j + k + LANES <= b.size:
                store(b, j + k, spread_u(value))
                k += LANES
            while k < n:
                b[j + k] = value
                k += 1


@njit(nogil=True, cache=True, error_model="numpy")
def sum_runs(source, target, first, counts, begin, end):  # type: ignore[no-untyped-def]
    """target[row, r] = sum of source[row, run of ray r], all rows, rays begin .. end - 1 (float32)."""
    for row in range(source.shape[0]):
        a, b = source[row], target[row]
        for r in range(begin, end):
            total, i = ZERO, first[r]
            for k in range(counts[r]):
                total += a[i + k]
            b[r] = total
