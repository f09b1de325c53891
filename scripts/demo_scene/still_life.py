"""The demo scene: an armillary sphere on an inlaid round table, with small things around it.

It has what a radiance field is judged by: fine texture (inlay, globe, porcelain), gloss (lacquer, brass), parts about
one pixel thin (wires, axis, stalks, leaves) and a surface known exactly (``surface``). Everything lies within +-1.2 of
the origin, z up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from demo_scene import shapes, textures
from demo_scene.shapes import Mesh, rotation
from demo_scene.textures import Bitmap, Colour

TABLE = -0.66
"""Height of the table top, before the scene is raised by ``LIFT``."""
CENTRE = (0.0, 0.0, 0.25)
"""Middle of the armillary sphere."""
OBLIQUITY = 23.4
"""Tilt of the axis, degrees."""


@dataclass(frozen=True)
class Material:
    """Look of a part. ``colour`` is sRGB, a bitmap or one colour; ``roughness`` is the microfacet width (GGX alpha)."""

    colour: Bitmap | Colour
    finish: Literal["lacquer", "metal"] = "lacquer"
    roughness: float = 0.12


@dataclass(frozen=True)
class Part:
    """A named mesh in scene coordinates and its look."""

    name: str
    mesh: Mesh
    material: Material


BRASS = Material((224, 182, 106), "metal", 0.24)
LIFT = 0.12
"""How far the finished scene is raised, so that its picture sits in the middle of the frame."""


def _placed(mesh: Mesh, radius: float, degrees: float, turn: float = 0.0) -> Mesh:
    """The mesh put down on the table at polar coordinates, turned about its own vertical by ``turn`` degrees first."""
    angle = np.deg2rad(degrees)
    lowest = float(mesh.vertices[:, 2].min())
    offset = (radius * np.cos(angle), radius * np.sin(angle), TABLE - lowest - 0.001)
    return mesh.moved(rotation((0, 0, 1), turn), offset)


def _circle(radius: float, height: float = 0.0, points: int = 96) -> NDArray[np.float64]:
    angle = np.linspace(0.0, 2.0 * np.pi, points + 1)
    angle[-1] = 0.0
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(points + 1, height)], -1)


def _rod(start: tuple[float, float, float], end: tuple[float, float, float], radius: float, segments: int = 10) -> Mesh:
    return shapes.tube(np.array([start, end], dtype=np.float64), radius, segments)


def _arc(start: float, stop: float, radius: float, points: int) -> NDArray[np.float64]:
    """Quarter circles and the like as (points, 2), angles in degrees."""
    angle = np.deg2rad(np.linspace(start, stop, points))
    return radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def table() -> list[Part]:
    """Round base: moulded walnut edge, inlaid top, brass foot ring."""
    bead = np.array([0.985, -0.695]) + _arc(-90, 90, 0.035, 13)
    edge = shapes.joined(
        [
            shapes.turned([(0.0, -0.80), (0.985, -0.80), (0.985, -0.755), (0.955, -0.745)], 128, 4),
            shapes.turned([(0.955, -0.745), (0.955, -0.73), (0.985, -0.73)], 128, 4),
            shapes.lathe(bead, 128, 4),
        ]
    )
    top = shapes.turned([(0.985, TABLE), (0.0, TABLE)], 128).planar_uvs(0.985)
    plank = textures.wood(textures.WALNUT, textures.WALNUT_DARK, 5)
    return [
        Part("table_edge", edge, Material(plank, roughness=0.15)),
        Part("table_top", top, Material(textures.compass_table(), roughness=0.15)),
    ]


def stand() -> list[Part]:
    """Turned walnut foot, brass socket and four thin arms that carry the horizon ring."""
    t = np.linspace(0.0, 1.0, 33)
    swell = 0.035 + 0.135 * (1.0 - t) ** 4 + 0.035 * np.exp(-(((t - 0.62) / 0.10) ** 2))
    foot = shapes.lathe(np.stack([swell, TABLE - 0.001 + 0.25 * t], -1), 48, 2)
    bottom = shapes.turned([(0.0, TABLE - 0.001), (swell[0], TABLE - 0.001)], 48)
    cap = shapes.turned([(swell[-1], TABLE + 0.249), (0.0, TABLE + 0.249)], 48)
    socket = shapes.sphere(0.062, 40).moved(offset=(0.0, 0.0, -0.38))
    angle = np.deg2rad(np.linspace(0.0, 90.0, 25))
    curve = np.stack([0.645 * np.sin(angle), 0.0 * angle, CENTRE[2] - 0.015 - 0.615 * np.cos(angle)], -1)
    arms = [shapes.tube(curve, 0.015, 12).moved(rotation((0, 0, 1), 45.0 + 90.0 * i)) for i in range(4)]
    plank = textures.wood(textures.WALNUT, textures.WALNUT_DARK, 6)
    return [
        Part("foot", shapes.joined([bottom, foot, cap]), Material(plank, roughness=0.12)),
        Part("arms", shapes.joined([socket, *arms]), BRASS),
    ]


def armillary() -> list[Part]:
    """Horizon, meridian, and the tilted cage of circles about a globe, with sun and moon on wires."""
    upright = rotation((1, 0, 0), 90.0)
    tilt = rotation((0, 1, 0), OBLIQUITY)
    horizon = shapes.flat_ring(0.61, 0.70, 0.03, 128)
    meridian = shapes.flat_ring(0.545, 0.590, 0.035, 128).moved(upright)
    finial = shapes.sphere(0.036, 32).moved(offset=(0.0, 0.0, 0.62))
    r, wire = 0.50, 0.0115
    sin, cos = np.sin(np.deg2rad(OBLIQUITY)), np.cos(np.deg2rad(OBLIQUITY))
    heights = [(r * cos, r * sin), (r * cos, -r * sin), (r * sin, r * cos), (r * sin, -r * cos)]
    rings = [shapes.tube(_circle(radius, height), wire, 10, closed=True) for radius, height in heights]
    colure = shapes.tube(_circle(r), wire, 10, closed=True).moved(upright)
    rings += [colure, colure.moved(rotation((0, 0, 1), 90.0))]
    rings += [shapes.flat_ring(0.488, 0.512, 0.022), _rod((0, 0, -0.62), (0, 0, 0.62), 0.012)]
    rings += [shapes.sphere(0.026, 24).moved(offset=(0, 0, z)) for z in (-0.62, 0.62)]
    rings += [shapes.tube(_circle(0.33), 0.008, 8, closed=True).moved(rotation((1, 0, 0), 14.0))]
    cage = shapes.joined(rings).moved(tilt)
    band = shapes.flat_ring(0.517, 0.531, 0.12, 128).moved(tilt @ rotation((1, 0, 0), OBLIQUITY))
    orbit = tilt @ rotation((1, 0, 0), 14.0)
    sun = shapes.sphere(0.062, 40).moved(offset=orbit @ np.array([0.33 * np.cos(0.6), 0.33 * np.sin(0.6), 0.0]))
    moon = shapes.sphere(0.042, 32).moved(offset=orbit @ np.array([0.33 * np.cos(3.3), 0.33 * np.sin(3.3), 0.0]))
    parts = [
        Part("horizon", horizon, Material(textures.degree_scale(), roughness=0.15)),
        Part("meridian", shapes.joined([meridian, finial]), BRASS),
        Part("cage", cage, BRASS),
        Part("zodiac", band, Material(textures.zodiac_band(), roughness=0.15)),
        Part("globe", shapes.sphere(0.2, 72).moved(tilt), Material(textures.globe(), roughness=0.06)),
        Part("sun", sun, Material((236, 176, 48), "metal", 0.22)),
        Part("moon", moon, Material((222, 226, 232), roughness=0.06)),
    ]
    return [Part(part.name, part.mesh.moved(offset=CENTRE), part.material) for part in parts]


def knot() -> Part:
    """Trefoil torus knot standing on two of its lobes, striped."""
    t = np.linspace(0.0, 2.0 * np.pi, 161)
    radius = 0.155 + 0.062 * np.cos(3.0 * t)
    path = np.stack([radius * np.cos(2.0 * t), radius * np.sin(2.0 * t), 0.062 * np.sin(3.0 * t)], -1)
    path[-1] = path[0]
    mesh = shapes.tube(path, 0.042, 20, closed=True)
    standing = mesh.moved(rotation((0, 0, 1), 45.0) @ rotation((0, 1, 0), 90.0) @ rotation((0, 0, 1), 60.0))
    stripes = textures.spiral_stripes(textures.CORAL, textures.CREAM, 18)
    return Part("knot", _placed(standing, 0.76, 225.0), Material(stripes, roughness=0.06))


def lattice() -> list[Part]:
    """Icosahedron of brass wire lying on a face, a lacquered ball inside."""
    golden = (1.0 + np.sqrt(5.0)) / 2.0
    corners = [np.roll((0.0, a, b * golden), k) for k in range(3) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    points = 0.25 * np.array(corners) / np.hypot(1.0, golden)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    edge = gaps[gaps > 1e-9].min()
    # stand it on a face: the mean of three neighbours is turned to look down
    first = 0
    second = int(np.flatnonzero(np.isclose(gaps[first], edge))[0])
    third = int(np.flatnonzero(np.isclose(gaps[first], edge) & np.isclose(gaps[second], edge))[0])
    down = points[[first, second, third]].mean(0)
    down /= np.linalg.norm(down)
    axis = np.cross(down, (0.0, 0.0, -1.0))
    points = points @ rotation(tuple(axis), float(np.rad2deg(np.arccos(-down[2])))).T
    pairs = [(i, j) for i in range(12) for j in range(i) if np.isclose(gaps[i, j], edge)]
    wires = [_rod(tuple(points[i]), tuple(points[j]), 0.011, 8) for i, j in pairs]
    knobs = [shapes.sphere(0.022, 16).moved(offset=point) for point in points]
    ball = shapes.sphere(0.13, 56)
    return [
        Part("lattice", _placed(shapes.joined(wires + knobs), 0.70, 320.0, 10.0), BRASS),
        Part("lattice_ball", _placed(ball, 0.70, 320.0), Material((186, 34, 40), roughness=0.05)),
    ]


def vase() -> list[Part]:
    """Porcelain vase with three stalks, their leaves and berries."""
    t = np.linspace(0.0, 1.0, 41)
    belly = 0.085 * np.sin(np.pi * np.clip(t * 1.25, 0.0, 1.0)) ** 1.3
    radius = 0.055 + belly + 0.018 * np.clip((t - 0.8) / 0.2, 0.0, 1.0) ** 2
    outer = np.stack([radius, 0.34 * t], -1)
    inner = np.stack([radius[::-1] - 0.012, 0.34 * t[::-1]], -1)[:20]
    lip = np.stack([outer[-1], inner[0]])
    floor = np.array([inner[-1], [0.0, inner[-1, 1]]])
    glazed = shapes.lathe(outer, 64)
    plain = [shapes.lathe(lip, 64), shapes.lathe(inner, 64), shapes.lathe(floor, 64)]
    plain.append(shapes.lathe(np.array([[0.0, 0.0], outer[0]]), 64))
    body = _placed(shapes.joined([glazed, *(_uvs_at(mesh, 0.5, 0.99) for mesh in plain)]), 0.73, 80.0)
    stalks, leaves, berries = _sprig()
    foot = body.vertices.mean(0) * (1, 1, 0) + (0.0, 0.0, TABLE)
    turn = rotation((0, 0, 1), 80.0)
    return [
        Part("vase", body, Material(textures.porcelain(), roughness=0.05)),
        Part("stalks", stalks.moved(turn, foot), Material((74, 92, 40), roughness=0.3)),
        Part("leaves", leaves.moved(turn, foot), Material(textures.leaf_blade(), roughness=0.2)),
        Part("berries", berries.moved(turn, foot), Material((208, 44, 52), roughness=0.05)),
    ]


def _uvs_at(mesh: Mesh, u: float, v: float) -> Mesh:
    """The mesh with all its texture coordinates at one point: one plain colour of the bitmap."""
    return Mesh(mesh.vertices, mesh.normals, np.broadcast_to([u, v], mesh.uvs.shape), mesh.faces)


def _sprig() -> tuple[Mesh, Mesh, Mesh]:
    """Stalks, leaves and berries about a vertical through the vase's middle; +x points away from the table's middle."""
    stalks, leaves, berries = [], [], []
    t = np.linspace(0.0, 1.0, 25)[:, None]
    tips = ((0.27, -0.16, 0.93), (0.16, 0.05, 1.20), (0.22, 0.30, 0.86))
    for number, (tip, heading) in enumerate(zip(tips, (-30.0, 20.0, 60.0), strict=True)):
        base, middle = np.array([0.0, 0.0, 0.14]), np.array([0.02, 0.01 * number, 0.62])
        path = (1 - t) ** 2 * base + 2 * t * (1 - t) * middle + t**2 * np.asarray(tip)
        stalks.append(shapes.tube(path, np.linspace(0.0105, 0.0075, len(path)), 8))
        berries.append(shapes.sphere(0.026, 20).moved(offset=path[-1]))
        for order, place in enumerate((12, 15, 18, 21, 23)):
            direction = np.deg2rad(heading + 137.5 * order)
            # leaves near the armillary would grow into its rings: they keep to the outside half
            out = np.array([abs(np.cos(direction)) * 0.9 + 0.1, np.sin(direction), 0.0])
            out /= np.linalg.norm(out)
            length = 0.19 - 0.012 * order
            s = np.linspace(0.0, 1.0, 17)[:, None]
            blade = path[place] + length * (s * out + np.array([0.0, 0.0, 1.0]) * (0.55 * s - 0.45 * s**2))
            leaves.append(shapes.leaf(blade, 0.085, 0.012, np.array([0.0, 0.0, 1.0])))
    return shapes.joined(stalks), shapes.joined(leaves), shapes.joined(berries)


def trinkets() -> list[Part]:
    """Balls and a die."""
    chequer = textures.checker(textures.CREAM, textures.TEAL, 12, 6)
    die = _placed(shapes.box((0.2, 0.2, 0.2)), 0.70, 135.0, 20.0)
    top = _placed(shapes.sphere(0.075, 40), 0.70, 135.0).moved(offset=(0.0, 0.0, 0.199))
    tilted = shapes.sphere(0.15, 64).moved(rotation((1, 1, 0), 35.0))
    swirl = textures.spiral_stripes(textures.NAVY, (120, 170, 214), 6)
    return [
        Part("die", die, Material(textures.die(), roughness=0.12)),
        Part("die_ball", top, Material((236, 176, 48), roughness=0.05)),
        Part("chequer_ball", _placed(tilted, 0.74, 178.0), Material(chequer, roughness=0.05)),
        Part("green_ball", _placed(shapes.sphere(0.11, 52), 0.78, 272.0), Material((18, 108, 74), roughness=0.05)),
        Part("swirl_ball", _placed(shapes.sphere(0.145, 60), 0.74, 22.0, 40.0), Material(swirl, roughness=0.05)),
    ]


def still_life() -> list[Part]:
    """All parts of the scene, in a fixed order."""
    parts = [*table(), *stand(), *armillary(), knot(), *lattice(), *vase(), *trinkets()]
    return [Part(part.name, part.mesh.moved(offset=(0.0, 0.0, LIFT)), part.material) for part in parts]


def surface(parts: list[Part]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The known surface: vertices (V, 3) and faces (F, 3) of all parts, doubled vertices welded.

    Each part is closed; parts may run into one another where they touch.
    """
    whole = shapes.joined([part.mesh for part in parts])
    # rounded in float64: points meant to be equal differ by 1e-16, so the chance that rounding parts them is nil
    vertices, inverse = np.unique(whole.vertices.round(6) + 0.0, axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[whole.faces]
    return vertices.astype(np.float32), faces.astype(np.int32)
