"""Procedural bitmaps of the demo scene, painted with numpy alone.

Every function returns sRGB colours as uint8 (H, W, 3). Row 0 is v = 1: a picture that is upright in an image viewer is
upright on a surface whose v points up. Same arguments, same bitmap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bitmap = NDArray[np.uint8]
Colour = tuple[int, int, int]

WALNUT, WALNUT_DARK = (112, 66, 38), (66, 36, 20)
MAPLE, MAPLE_DARK = (222, 184, 132), (190, 142, 88)
IVORY, NAVY, CORAL, GOLD = (240, 229, 204), (26, 44, 88), (222, 84, 62), (214, 164, 62)
TEAL, TEAL_DARK, CREAM = (22, 134, 138), (10, 74, 92), (246, 234, 208)


def noise(points: Array, seed: int, octaves: int = 4) -> Array:
    """Value noise of several octaves at points (..., D) in lattice units: (...,) about 0.5, within [0, 1]."""
    total, weight = np.zeros(points.shape[:-1]), 0.0
    for octave in range(octaves):
        total += 0.5**octave * _value_noise(points * 2.0**octave, seed + octave)
        weight += 0.5**octave
    return total / weight


def _value_noise(points: Array, seed: int) -> Array:
    """One octave: random numbers on the integer lattice, joined by smoothstep."""
    dimensions = points.shape[-1]
    table = np.random.default_rng(seed).random(4096)
    cell = np.floor(points).astype(np.int64)
    fraction = points - cell
    fraction = fraction * fraction * (3.0 - 2.0 * fraction)
    primes = np.array([1, 2654435761, 805459861], dtype=np.int64)[:dimensions]
    total = np.zeros(points.shape[:-1])
    for corner in range(2**dimensions):
        bits = np.array([(corner >> d) & 1 for d in range(dimensions)])
        hashed = np.bitwise_xor.reduce((cell + bits) * primes, axis=-1)
        value = table[(hashed ^ (hashed >> 15)) % len(table)]
        total += value * np.prod(np.where(bits, fraction, 1.0 - fraction), axis=-1)
    return total


def mix(first: Colour | Array, second: Colour | Array, share: Array) -> Array:
    """Colours (..., 3) between two, share (...,) of the second."""
    weight: Array = np.clip(share, 0.0, 1.0)[..., None]
    start, stop = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return start + (stop - start) * weight


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Texture coordinates u, v (height, width) of the texel centres."""
    u = (np.arange(width) + 0.5) / width
    v = 1.0 - (np.arange(height) + 0.5) / height
    return np.broadcast_to(u, (height, width)), np.broadcast_to(v[:, None], (height, width))


def _finish(colours: Array, shrink: int = 1) -> Bitmap:
    """Average shrink x shrink texels (edges get smooth) and round."""
    height, width = colours.shape[:2]
    averaged = colours.reshape(height // shrink, shrink, width // shrink, shrink, 3).mean((1, 3))
    return np.clip(np.rint(averaged), 0, 255).astype(np.uint8)


def _grain(x: Array, y: Array, seed: int) -> Array:
    """Wood grain in [0, 1]: year rings of a trunk lying along x, bent by noise, with fine fibres."""
    bend = noise(np.stack([x * 1.5, y * 3.0], -1), seed, 3)
    rings = 0.5 + 0.5 * np.sin(2.0 * np.pi * (y * 5.0 + 3.0 * bend))
    fibres = noise(np.stack([x * 8.0, y * 160.0], -1), seed + 50, 2)
    return 0.65 * rings**2 + 0.35 * fibres


def wood(dark: Colour, light: Colour, seed: int, height: int = 256, width: int = 512) -> Bitmap:
    """Plank with the grain along u. The picture is mirrored at its middle, so that u = 0 and u = 1 meet."""
    u, v = _grid(height, width)
    return _finish(mix(light, dark, _grain(1.0 - np.abs(2.0 * u - 1.0), v, seed)))


def _segment(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Distance from points to a line segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


_STROKES = {"I": ([((0.0, 0.0), (0.0, 1.0))], 0.34), "V": ([((-0.3, 1.0), (0.0, 0.0)), ((0.0, 0.0), (0.3, 1.0))], 0.8)}
_STROKES["X"] = ([((-0.3, 0.0), (0.3, 1.0)), ((-0.3, 1.0), (0.3, 0.0))], 0.8)
_NUMERALS = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


def _numerals(x: Array, y: Array, radius: float, size: float) -> Array:
    """Mask of twelve Roman numerals on a circle, feet towards the middle, XII at +y, clockwise."""
    inked = np.zeros(x.shape, dtype=bool)
    for hour, text in enumerate(_NUMERALS):
        angle = -hour * np.pi / 6.0
        along = (np.cos(angle) * x + np.sin(angle) * y) / size
        upward = (-np.sin(angle) * x + np.cos(angle) * y - radius) / size + 0.5
        near = (np.abs(along) < 2.0) & (np.abs(upward - 0.5) < 0.8)
        pen = -sum(_STROKES[letter][1] for letter in text) / 2
        for letter in text:
            strokes, advance = _STROKES[letter]
            pen += advance / 2
            for start, end in strokes:
                inked[near] |= _segment(along[near] - pen, upward[near], start, end) < 0.085
            pen += advance / 2
    return inked


def compass_table(size: int = 640, shrink: int = 2) -> Bitmap:
    """Round inlay, radius 1 at the picture's edge: chequered ring, dial with numerals, lozenge field, compass star."""
    u, v = _grid(size * shrink, size * shrink)
    x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    coarse_x, coarse_y = x[::shrink, ::shrink], y[::shrink, ::shrink]

    def refined(values: Array) -> Array:
        return values.repeat(shrink, 0).repeat(shrink, 1)

    picture = mix(WALNUT, WALNUT_DARK, refined(_grain(coarse_x, coarse_y, 3)))
    maple = mix(MAPLE, MAPLE_DARK, refined(_grain(coarse_y + 5.0, coarse_x, 7)))
    mottle = refined(noise(np.stack([coarse_x, coarse_y], -1) * 6.0, 11))

    def lay(mask: NDArray[Any], colours: Array | Colour) -> None:
        picture[mask] = np.broadcast_to(np.asarray(colours, dtype=np.float64), picture.shape)[mask]

    turn = angle / (2.0 * np.pi)
    chequer = (np.floor(turn * 60) + (r > 0.865)) % 2
    lay((r > 0.80) & (r < 0.93), np.where((chequer == 0)[..., None], maple, WALNUT_DARK))
    lay(r < 0.80, mix(CREAM, MAPLE, 0.5 * mottle))
    lay(_numerals(x, y, 0.69, 0.13), NAVY)
    # the field: squares that keep their shape as they shrink towards the middle
    wind = 4.0 * np.log(np.maximum(r, 1e-3))
    spiral = (np.floor(turn * 32 + wind) + np.floor(turn * 32 - wind)) % 2
    lay(r < 0.58, np.where((spiral == 0)[..., None], maple, mix(TEAL_DARK, NAVY, r)))
    lay(r < 0.40, mix(CREAM, MAPLE, 0.3 * mottle))
    for points, reach, waist, left, right in ((8, 0.34, 0.10, GOLD, WALNUT), (4, 0.39, 0.09, CORAL, NAVY)):
        folded = (turn * points + 0.5) % 1.0 - 0.5
        corner = np.abs(folded) * 2.0 * np.pi / points
        # edge of the ray: the straight line from its tip (reach, 0) to its waist, in polar form
        half = np.pi / points
        edge = reach * waist * np.sin(half) / (reach * np.sin(corner) + waist * np.sin(half - corner))
        lay(r < edge, np.where((folded > 0)[..., None], np.asarray(left, float), np.asarray(right, float)))
    for ring in (0.40, 0.58, 0.80, 0.93):
        lay(np.abs(r - ring) < 0.008, GOLD)
    return _finish(picture, shrink)


def globe(height: int = 256) -> Bitmap:
    """Antique globe, longitude along u: seas, noisy continents, gilt graticule every 30 degrees."""
    u, v = _grid(2 * height, 4 * height)
    longitude, latitude = 2.0 * np.pi * u, np.pi * (v - 0.5)
    cos = np.cos(latitude)
    point = np.stack([cos * np.cos(longitude), cos * np.sin(longitude), np.sin(latitude)], -1)
    land = noise(point * 1.7 + 9.3, 20, 5) - 0.5
    picture = mix(TEAL_DARK, TEAL, 0.9 + 5.0 * land)
    height_share = (land - 0.015) / 0.16
    picture = np.where((land > 0.015)[..., None], mix((214, 178, 110), (150, 112, 60), height_share), picture)
    picture[np.abs(land - 0.015) < 0.006] = (96, 62, 30)
    across = np.abs((longitude / (np.pi / 6.0) + 0.5) % 1.0 - 0.5) * (np.pi / 6.0) * cos
    along = np.abs((latitude / (np.pi / 6.0) + 0.5) % 1.0 - 0.5) * (np.pi / 6.0)
    picture[(np.minimum(across, along) < 0.013) & (cos > 0.05)] = GOLD
    return _finish(picture, 2)


def zodiac_band(height: int = 96, width: int = 1536) -> Bitmap:
    """Band of twelve fields, navy and ivory in turn, each with a star; a scale of ticks along both edges."""
    u, v = _grid(2 * height, 2 * width)
    field, x, y = np.floor(u * 12), (u * 12) % 1.0 - 0.5, v - 0.5
    dark = (field % 2 == 0)[..., None]
    picture = np.where(dark, np.asarray(NAVY, float), np.asarray(IVORY, float))
    x_units = x * 4.0  # the band is drawn about four times longer than high per field
    r, angle = np.hypot(x_units, y), np.arctan2(y, x_units)
    rays = 5 + field % 3
    star = r < 0.13 + 0.13 * np.cos(angle * rays / 2.0) ** 8
    star |= (np.abs(np.abs(x_units) - 0.9) < 0.07) & (np.abs(y) < 0.07)
    picture = np.where(star[..., None], np.where(dark, np.asarray(GOLD, float), np.asarray(CORAL, float)), picture)
    edge = np.abs(y) > 0.36
    ticks = edge & ((u * 120) % 1.0 < 0.4)
    picture[edge] = GOLD
    picture[ticks] = WALNUT_DARK
    return _finish(picture, 2)


def degree_scale(height: int = 48, width: int = 2304) -> Bitmap:
    """Ivory scale for a horizon ring: a tick every 5 degrees, longer every 30, a coloured field every other 30."""
    u, v = _grid(2 * height, 2 * width)
    picture = mix(IVORY, CREAM, v)
    picture[(v < 0.34) & ((u * 12) % 2.0 < 1.0)] = CORAL
    picture[(v < 0.34) & ((u * 12) % 2.0 >= 1.0)] = TEAL_DARK
    picture[(np.abs((u * 72 + 0.5) % 1.0 - 0.5) < 0.14) & (v > 0.6)] = NAVY
    picture[(np.abs((u * 12 + 0.5) % 1.0 - 0.5) < 0.045) & (v > 0.34)] = NAVY
    return _finish(picture, 2)


def spiral_stripes(first: Colour, second: Colour, turns: int, height: int = 128, width: int = 1024) -> Bitmap:
    """Stripes that wind around a tube: they run along u, sheared by one period over v; repeats in both directions."""
    u, v = _grid(height, width)
    phase = (u * turns + v) % 1.0
    soft = np.clip((0.25 - np.abs(phase - 0.5)) * 24.0 + 0.5, 0.0, 1.0)
    return _finish(mix(first, second, soft))


def checker(first: Colour, second: Colour, columns: int, rows: int, height: int = 256, width: int = 512) -> Bitmap:
    """Chequer of columns x rows fields."""
    u, v = _grid(height, width)
    return _finish(mix(first, second, (np.floor(u * columns) + np.floor(v * rows)) % 2))


def porcelain(height: int = 512, width: int = 1024) -> Bitmap:
    """White glaze with cobalt ornament, v from foot to lip: bands, a lozenge frieze, waves."""
    u, v = _grid(height, width)
    cobalt, white = (28, 62, 150), (244, 244, 240)
    ink = np.zeros(u.shape, dtype=bool)
    for centre, half in ((0.08, 0.02), (0.36, 0.008), (0.66, 0.008), (0.80, 0.012), (0.93, 0.02)):
        ink |= np.abs(v - centre) < half
    x, y = np.abs((u * 10) % 1.0 - 0.5) * 2.0, np.abs(v - 0.51) / 0.13
    lozenge = x + y
    ink |= (lozenge < 0.38) | ((lozenge > 0.62) & (lozenge < 0.86))
    ink |= np.abs(v - 0.22 - 0.05 * np.sin(2.0 * np.pi * 14 * u)) < 0.014
    ink |= (np.abs(v - 0.73) < 0.03) & ((u * 40) % 1.0 < 0.4)
    return _finish(mix(white, cobalt, ink.astype(np.float64)))


def die(size: int = 192) -> Bitmap:
    """Six sides in a row for ``shapes.box``: pips on ivory, opposite sides add up to seven."""
    spots = {1: [(0, 0)], 2: [(-1, -1), (1, 1)], 3: [(-1, -1), (0, 0), (1, 1)]}
    spots[4] = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    spots[5] = [*spots[4], (0, 0)]
    spots[6] = [*spots[4], (-1, 0), (1, 0)]
    sides = []
    for number in (2, 5, 3, 4, 1, 6):
        u, v = _grid(2 * size, 2 * size)
        x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
        picture = np.broadcast_to(np.asarray(IVORY, float), (*x.shape, 3)).copy()
        frame = np.maximum(np.abs(x), np.abs(y))
        picture[(frame > 0.84) & (frame < 0.90)] = GOLD
        for column, row in spots[number]:
            picture[np.hypot(x - 0.5 * column, y - 0.5 * row) < 0.19] = CORAL if number in (1, 6) else NAVY
        sides.append(picture)
    return _finish(np.concatenate(sides, axis=1), 2)


def leaf_blade(height: int = 128, width: int = 256) -> Bitmap:
    """Leaf, u from stalk to tip, v across: two greens, paler veins."""
    u, v = _grid(height, width)
    across = np.abs(v - 0.5)
    vein = (across < 0.035) | (np.abs((u * 7 - across * 5) % 1.0 - 0.5) < 0.07)
    return _finish(mix(mix((46, 112, 40), (92, 158, 54), u), (170, 204, 104), 0.7 * vein))
