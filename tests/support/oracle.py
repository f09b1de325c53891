"""The oracle: every operation once more in float64, written as loops from the papers and the numerics contract.

Nothing of the package is used here. Indices are Python integers, gradients come from the complex step
(f(x + ih) has the derivative in its imaginary part, free of cancellation: Squire and Trapp 1998), never from a formula
that a kernel might share. Slow, so for small sizes; the reference is held to this, and the kernels to the reference.
Marching and compositing are in :mod:`oracle_volume`.
"""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HASH_FACTORS = (1, 2654435761, 805459861)
"""Mueller et al. 2022, below equation 4."""

STEP = 1e-40
"""Complex step: its square vanishes in float64, so the derivative is exact to rounding."""


def complex_step(function: Callable[[np.ndarray], Any], at: np.ndarray) -> np.ndarray:
    """Gradient of a real function of a real array, one element at a time."""
    gradient = np.zeros(at.shape)
    point = at.astype(np.complex128)
    for index in np.ndindex(*at.shape):
        point[index] += 1j * STEP
        gradient[index] = np.imag(function(point)) / STEP
        point[index] = at[index]
    return gradient


@dataclass
class GridLevel:
    """One level of the hash grid: lattice scale and resolution, entries and where they begin."""

    scale: float
    resolution: int
    entries: int
    offset: int
    dense: bool


def grid_levels(levels: int, log2_table: int, coarsest: int, finest: int, dims: int = 3) -> list[GridLevel]:
    """Sizes of all levels, the geometric progression in 60 decimal digits and only then rounded to float32."""
    found, offset = [], 0
    with decimal.localcontext() as context:
        context.prec = 60
        growth = decimal.Decimal(1)
        if levels > 1:
            growth = ((decimal.Decimal(finest) / decimal.Decimal(coarsest)).ln() / (levels - 1)).exp()
        for level in range(levels):
            exact = coarsest * growth**level - 1
            scale = float(np.float32(float(exact)))
            resolution = math.ceil(scale) + 1
            points = math.prod([resolution] * dims)
            entries = min((points + 7) // 8 * 8, 2**log2_table)
            found.append(GridLevel(scale, resolution, entries, offset, points <= 2**log2_table))
            offset += entries
    return found


def entry(level: GridLevel, *point: int) -> int:
    """Where a lattice point's features lie in the table, in entries."""
    index, stride = 0, 1
    for coordinate, factor in zip(point, HASH_FACTORS):
        if level.dense:
            index += coordinate * stride
        else:
            index ^= (coordinate * factor) % 2**32
        stride *= level.resolution
    return level.offset + index % level.entries


def corners(level: GridLevel, position: Sequence[Any]) -> list[tuple[int, Any]]:
    """The (entry, weight) of all corners, four or eight; complex positions give complex weights."""
    whole, part = [], []
    for coordinate in position:
        lattice = coordinate * level.scale + 0.5
        cell = math.floor(lattice.real)
        whole.append(cell)
        part.append(lattice - cell)
    found = []
    for steps in itertools.product((0, 1), repeat=len(whole)):
        weight = 1.0
        for step, fraction in zip(steps, part):
            weight = weight * (fraction if step else 1.0 - fraction)
        found.append((entry(level, *(cell + step for cell, step in zip(whole, steps))), weight))
    return found


def hash_encode(position: Sequence[Any], table: np.ndarray, levels: list[GridLevel]) -> list[Any]:
    """Features of one position; table is [entries, F]."""
    features: list[Any] = []
    for level in levels:
        found = corners(level, position)
        for f in range(table.shape[1]):
            features.append(sum(weight * table[index, f] for index, weight in found))
    return features


def hash_encode_all(positions: np.ndarray, table: np.ndarray, levels: list[GridLevel]) -> np.ndarray:
    """[N, L * F]."""
    rows = [hash_encode([float(v) for v in p], table, levels) for p in positions]
    return np.array(rows, np.float64).reshape(len(rows), len(levels) * table.shape[1])


def hash_table_gradient(
    positions: np.ndarray, cotangent: np.ndarray, shape: tuple[int, int], levels: list[GridLevel]
) -> np.ndarray:
    """Sum of weight times cotangent into every entry, [entries, F]."""
    gradient = np.zeros(shape)
    for position, row in zip(positions, cotangent):
        for number, level in enumerate(levels):
            for index, weight in corners(level, [float(v) for v in position]):
                for f in range(shape[1]):
                    gradient[index, f] += weight * row[number * shape[1] + f]
    return gradient


def hash_position_gradient(
    positions: np.ndarray, cotangent: np.ndarray, table: np.ndarray, levels: list[GridLevel]
) -> np.ndarray:
    """[N, D]; on a cell border the derivative of the cell above."""
    rows = []
    for position, row in zip(positions, cotangent):

        def loss(point: np.ndarray, row: np.ndarray = row) -> Any:
            return sum(c * v for c, v in zip(row, hash_encode([complex(v) for v in point], table, levels)))

        rows.append(complex_step(loss, position))
    return np.array(rows).reshape(len(rows), positions.shape[1])


def legendre(degree: int, order: int, z: float) -> float:
    """Associated Legendre function with the Condon-Shortley phase, by its three-term recurrence in the degree."""
    value = 1.0
    for k in range(1, order + 1):
        value *= -(2 * k - 1) * math.sqrt(max(1.0 - z * z, 0.0))
    previous = 0.0
    for n in range(order + 1, degree + 1):
        value, previous = ((2 * n - 1) * z * value - (n + order - 1) * previous) / (n - order), value
    return value


def spherical_harmonics(direction: Sequence[float]) -> list[float]:
    """Real harmonics of bands 0 to 3, orders -l to l: sqrt(2) times real (m > 0) and imaginary part of Y_l^|m|."""
    x, y, z = direction
    azimuth = math.atan2(y, x)
    values = []
    for band in range(4):
        for order in range(-band, band + 1):
            m = abs(order)
            norm = math.sqrt((2 * band + 1) / (4 * math.pi) * math.factorial(band - m) / math.factorial(band + m))
            value = norm * legendre(band, m, z)
            if order > 0:
                value *= math.sqrt(2.0) * math.cos(m * azimuth)
            elif order < 0:
                value *= math.sqrt(2.0) * math.sin(m * azimuth)
            values.append(value)
    return values


def mlp(inputs: np.ndarray, weights: np.ndarray, n_in: int, n_out: int, width: int, hidden: int) -> np.ndarray:
    """[N, n_out] of a perceptron without biases; the flat weights cut up by counting, not by a layout.

    Args:
        inputs: [N, n_in], real or complex.
        weights: flat, row-major [out, in] matrices; inputs and last outputs padded to a multiple of 16.
    """
    columns = n_in + (-n_in % 16)
    last = n_out + (-n_out % 16)
    values = np.zeros((inputs.shape[0], columns), np.result_type(inputs, weights))
    values[:, :n_in] = inputs
    begin = 0
    for layer in range(hidden + 1):
        rows = width if layer < hidden else last
        matrix = weights[begin : begin + rows * columns].reshape(rows, columns)
        begin += rows * columns
        values = np.einsum("ni,oi->no", values, matrix)
        if layer < hidden:
            values = np.where(values.real > 0, values, 0)
        columns = rows
    assert begin == weights.shape[0]
    return values[:, :n_out]


def adam(
    values: np.ndarray, gradients: list[np.ndarray], rate: float, beta1: float, beta2: float, epsilon: float, l2: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Adam (Kingma and Ba 2015, algorithm 1) parameter by parameter; one whose gradient is zero sleeps through the
    step.

    Returns:
        Values, first moments, second moments and step counts after all steps.
    """
    moved, first, second, count = (np.zeros(values.shape) for _ in range(4))
    for index in range(values.shape[0]):
        theta, m, v, t = float(values[index]), 0.0, 0.0, 0
        for gradient in gradients:
            g = float(gradient[index])
            if g == 0.0:
                continue
            t += 1
            g += l2 * theta
            m = beta1 * m + (1.0 - beta1) * g
            v = beta2 * v + (1.0 - beta2) * g * g
            theta -= rate * (m / (1.0 - beta1**t)) / (math.sqrt(v / (1.0 - beta2**t)) + epsilon)
        moved[index], first[index], second[index], count[index] = theta, m, v, t
    return moved, first, second, count
