"""Hash-grid kernels for the gradient of positions, and for the second order: one level, a range of samples, one at a time.

The weight of a corner is a product over the axes of ``1 - fraction`` or ``fraction``. Its derivative along a direction v is
the same product of dual numbers (w, u), u being -scale * v or scale * v. The second order needs nothing but that derivative in
place of the value: of the features (:func:`encode_along`), of their gradient by positions (:func:`position_gradient` with a
direction) and by the table (:func:`scatter_along`). Rows and words are those of :mod:`.hashgrid`, and so is what a position
outside [0, 1] counts as; along an axis on which it lies outside nothing changes with it.

Of two dimensions, a cell has the four corners whose bit z is not set, at a fraction of zero along z: a weight of one, and a
derivative of zero.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .hashgrid import HALF, ONE, P1, P2

ZERO = np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _axis(x, v, scale):  # type: ignore[no-untyped-def]
    """A coordinate, and the direction's -> (cell, fraction, the fraction's derivative along the direction)."""
    inner = x if x > ZERO else ZERO  # NaN is not above zero
    inner = inner if inner < ONE else ONE
    p = inner * scale + HALF
    cell = np.int64(p)
    return cell, p - np.float32(cell), (scale * v if x == inner else ZERO)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _third(x, v, i, along, scale):  # type: ignore[no-untyped-def]
    """:func:`_axis` of sample i along z, and where there is no z the middle of nothing; v is read if ``along``."""
    if x.shape[0] < 3:
        return np.int64(0), ZERO, ZERO
    return _axis(x[2, i], v[2, i] if along else ONE, scale)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _entry(ix, iy, iz, corner, resolution, entries, dense):  # type: ignore[no-untyped-def]
    """Entry of one of the eight corners of a cell, its bits x, y, z."""
    jx, jy, jz = ix + (corner & 1), iy + ((corner >> 1) & 1), iz + ((corner >> 2) & 1)
    if dense:
        return (jx + jy * resolution + jz * resolution * resolution) % entries
    return np.int64((np.uint32(jx) ^ (np.uint32(jy) * P1) ^ (np.uint32(jz) * P2)) & np.uint32(entries - 1))


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _dual(far, fraction, slope):  # type: ignore[no-untyped-def]
    """(weight, its derivative) of one axis for the far or the near corner."""
    return (fraction, slope) if far else (ONE - fraction, -slope)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _slope(corner, fx, fy, fz, ux, uy, uz):  # type: ignore[no-untyped-def]
    """Derivative of a corner's weight along the direction."""
    wx, vx = _dual(corner & 1, fx, ux)
    wy, vy = _dual(corner & 2, fy, uy)
    wz, vz = _dual(corner & 4, fz, uz)
    return wx * (vy * wz + wy * vz) + vx * (wy * wz)


@njit(nogil=True, cache=True, error_model="numpy")
def encode_along(x, v, table, out, scale, resolution, entries, dense, features, row, begin, end):  # type: ignore[no-untyped-def]
    """Derivative of one level's features along a direction, into rows row .. row + features - 1 of out.

    Args:
        x, v: float32 [D, n_padded] positions and directions.
        table: float32 words of this level.
        out: float32 [rows, n_padded].
    """
    for i in range(begin, end):
        ix, fx, ux = _axis(x[0, i], v[0, i], scale)
        iy, fy, uy = _axis(x[1, i], v[1, i], scale)
        iz, fz, uz = _third(x, v, i, True, scale)
        for f in range(features):
            out[row + f, i] = ZERO
        for corner in range(1 << x.shape[0]):
            slope = _slope(corner, fx, fy, fz, ux, uy, uz)
            at = _entry(ix, iy, iz, corner, resolution, entries, dense) * features
            for f in range(features):
                out[row + f, i] += slope * table[at + f]


@njit(nogil=True, cache=True, error_model="numpy")
def position_gradient(  # type: ignore[no-untyped-def]
    x, v, along, table, upstream, out, scale, resolution, entries, dense, features, row, begin, end
):
    """Add d(features of one level) / d(position), times the upstream gradient, to out; or its derivative along a direction.

    Args:
        x: float32 [D, n_padded].
        v: float32 [D, n_padded] directions, read if ``along``.
        along: the derivative is asked for.
        table: float32 words of this level (the float32 parameters, whatever the forward pass read).
        upstream: float32 [rows, n_padded] gradients; rows row .. row + features - 1 are this level's.
        out: float32 [D, n_padded], added to.
    """
    for i in range(begin, end):
        ix, fx, ux = _axis(x[0, i], v[0, i] if along else ONE, scale)
        iy, fy, uy = _axis(x[1, i], v[1, i] if along else ONE, scale)
        iz, fz, uz = _third(x, v, i, along, scale)
        dx = dy = dz = ZERO
        for corner in range(1 << x.shape[0]):
            at = _entry(ix, iy, iz, corner, resolution, entries, dense) * features
            value = ZERO
            for f in range(features):
                value += table[at + f] * upstream[row + f, i]
            wx, vx = _dual(corner & 1, fx, ux)
            wy, vy = _dual(corner & 2, fy, uy)
            wz, vz = _dual(corner & 4, fz, uz)
            if along:
                across_x, across_y, across_z = vy * wz + wy * vz, vx * wz + wx * vz, vx * wy + wx * vy
            else:
                across_x, across_y, across_z = wy * wz, wx * wz, wx * wy
            dx += (value if corner & 1 else -value) * across_x
            dy += (value if corner & 2 else -value) * across_y
            dz += (value if corner & 4 else -value) * across_z
        if ZERO <= x[0, i] <= ONE:
            out[0, i] += scale * dx
        if ZERO <= x[1, i] <= ONE:
            out[1, i] += scale * dy
        if x.shape[0] > 2 and ZERO <= x[2, i] <= ONE:
            out[2, i] += scale * dz


@njit(nogil=True, cache=True, error_model="numpy")
def scatter_along(x, v, rows, grad, scale, resolution, entries, dense, features, row, n):  # type: ignore[no-untyped-def]
    """Add the gradient of one level's entries, that of the features' derivative along a direction.

    Args:
        x, v: float32 [D, n_padded] positions and directions.
        rows: float32 [C, n_padded] gradients; rows row .. row + features - 1 are this level's.
        grad: float32 gradient of this level's entries, features of an entry side by side.
    """
    for i in range(n):
        ix, fx, ux = _axis(x[0, i], v[0, i], scale)
        iy, fy, uy = _axis(x[1, i], v[1, i], scale)
        iz, fz, uz = _third(x, v, i, True, scale)
        for corner in range(1 << x.shape[0]):
            slope = _slope(corner, fx, fy, fz, ux, uy, uz)
            at = _entry(ix, iy, iz, corner, resolution, entries, dense) * features
            for f in range(features):
                grad[at + f] += slope * rows[row + f, i]
