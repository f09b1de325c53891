"""Path tracing of the demo scene with Mitsuba 3 (extra ``dev``; not needed to use the shipped pictures)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_scene.cameras import CAMERA_ANGLE_X, pixel_directions
from demo_scene.shapes import Mesh
from demo_scene.still_life import Material, Part

Array = NDArray[np.float64]
Image = NDArray[np.float32]

MAX_DEPTH = 6
"""Bounces of a light path, the camera's own segment included."""


def load_mitsuba(variant: str = "scalar_rgb") -> Any:
    """Import Mitsuba and set its variant.

    ``scalar_rgb`` needs nothing but the package, uses all cores, and gives the same picture for the same seed. The
    ``llvm_*`` variants depend on the libLLVM found (19 is good, 15 aborts the process): never chosen unasked.

    Raises:
        RuntimeError: Mitsuba is not installed, or lacks the variant; the sentence says what to do.
    """
    try:
        mi = importlib.import_module("mitsuba")
    except ImportError as error:
        raise RuntimeError(f"Mitsuba cannot be imported ({error}): install it with 'pip install mitsuba'.") from error
    if variant not in mi.variants():
        raise RuntimeError(f"Mitsuba has no variant {variant!r}: choose one of {', '.join(mi.variants())}.")
    mi.set_variant(variant)
    return mi


def light_map(height: int = 128) -> Image:
    """Surroundings (height, 2 height, 3), linear RGB: pale sky, darker ground, three soft boxes.

    Mitsuba's latitude-longitude layout, turned z-up by ``build_scene``; it lights the scene but is not seen directly.
    """
    theta = (np.arange(height) + 0.5)[:, None] / height * np.pi
    phi = (np.arange(2 * height) + 0.5)[None] / height * np.pi
    x, y, z = np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi), np.cos(theta)
    direction = np.stack(np.broadcast_arrays(x, y, z), -1)
    rise = 0.5 + 0.5 * direction[..., 2:]
    light = 0.18 * (1 - rise) * np.array([1.0, 0.93, 0.85]) + 0.55 * rise * np.array([0.94, 0.97, 1.0])
    boxes = (
        ((0.55, -0.55, 0.75), 10.0, (40.0, 36.5, 31.0)),
        ((-0.85, -0.25, 0.50), 9.0, (10.0, 12.0, 14.5)),
        ((0.05, 0.95, 0.50), 9.0, (15.0, 14.5, 13.5)),
    )
    for towards, width, colour in boxes:
        axis = np.asarray(towards) / np.linalg.norm(towards)
        angle = np.rad2deg(np.arccos(np.clip(direction @ axis, -1.0, 1.0)))
        light = light + np.exp(-((angle / width) ** 4))[..., None] * np.asarray(colour)
    return light.astype(np.float32)


def _bsdf(mi: Any, material: Material) -> dict[str, Any]:
    """Mitsuba's description of a material."""
    colour = material.colour
    if isinstance(colour, np.ndarray):
        upward = np.ascontiguousarray(colour[::-1])  # Mitsuba's row 0 is v = 0
        texture: dict[str, Any] = {"type": "bitmap", "bitmap": mi.Bitmap(upward)}
    else:
        linear = srgb_to_linear(np.asarray(colour) / 255.0)
        texture = {"type": "rgb", "value": [float(value) for value in linear]}
    if material.finish == "metal":
        return {
            "type": "roughconductor",
            "material": "none",  # a perfect mirror, tinted by the colour
            "specular_reflectance": texture,
            "distribution": "ggx",
            "alpha": material.roughness,
        }
    return {"type": "roughplastic", "distribution": "ggx", "alpha": material.roughness, "diffuse_reflectance": texture}


def _mesh(mi: Any, name: str, mesh: Mesh, bsdf: dict[str, Any]) -> Any:
    """Mitsuba's mesh object."""
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(bsdf)
    shape = mi.Mesh(name, len(mesh.vertices), len(mesh.faces), properties, True, True)  # with normals and uvs
    values = mi.traverse(shape)
    values["vertex_positions"] = mesh.vertices.astype(np.float32).ravel()
    values["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
    values["vertex_texcoords"] = mesh.uvs.astype(np.float32).ravel()
    values["faces"] = mesh.faces.astype(np.uint32).ravel()
    values.update()
    return shape


def build_scene(mi: Any, parts: list[Part]) -> Any:
    """Mitsuba's scene of the parts and the surroundings."""
    turn = mi.ScalarTransform4f().rotate([1, 0, 0], 90.0)
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_DEPTH, "hide_emitters": True},
        "surroundings": {"type": "envmap", "bitmap": mi.Bitmap(light_map()), "to_world": turn},
    }
    for part in parts:
        scene[part.name] = _mesh(mi, part.name, part.mesh, _bsdf(mi, part.material))
    return mi.load_dict(scene)


def build_sensor(mi: Any, pose: Array, size: int, spp: int) -> Any:
    """Mitsuba's camera for an OpenGL camera-to-world pose (4, 4); box filter: a pixel is the mean over its square."""
    # Mitsuba's camera looks along +z with +x to the left: turn half round about y
    to_world = pose @ np.diag([-1.0, 1.0, -1.0, 1.0])
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.rad2deg(CAMERA_ANGLE_X)),
            "fov_axis": "x",
            "near_clip": 0.01,
            "far_clip": 100.0,
            "to_world": mi.ScalarTransform4f(to_world),
            "film": {
                "type": "hdrfilm",
                "width": size,
                "height": size,
                "pixel_format": "rgba",
                "component_format": "float32",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "multijitter", "sample_count": spp},
        }
    )


def render_view(mi: Any, scene: Any, pose: Array, size: int, spp: int, seed: int) -> NDArray[np.uint8]:
    """One picture: RGBA (size, size, 4) uint8, sRGB, straight alpha = coverage, black where nothing is seen."""
    sensor = build_sensor(mi, pose, size, spp)
    linear = np.array(mi.render(scene, sensor=sensor, spp=spp, seed=seed), dtype=np.float64)
    alpha = np.clip(linear[..., 3:], 0.0, 1.0)
    colour = linear[..., :3] / np.maximum(alpha, 1e-6)
    straight = np.concatenate([linear_to_srgb(shoulder(colour)), alpha], axis=-1)
    encoded = np.rint(255.0 * straight).astype(np.uint8)
    encoded[encoded[..., 3] == 0] = 0
    return encoded


def trace_depth(mi: Any, scene: Any, pose: Array, size: int) -> Array:
    """Distance (size, size) along the unit ray through each pixel's centre to the first surface; 0 = nothing hit.

    The rays are made from the pose and the focal length as a reader of the data makes them, not from Mitsuba's camera.
    """
    origin = mi.Point3f([float(value) for value in pose[:3, 3]])
    directions = pixel_directions(pose, size).reshape(-1, 3)
    if mi.variant().startswith("scalar"):
        depth = np.zeros(len(directions))
        for index, direction in enumerate(directions.tolist()):
            hit = scene.ray_intersect_preliminary(mi.Ray3f(origin, mi.Vector3f(direction)))
            if hit.is_valid():
                depth[index] = hit.t
    else:
        hit = scene.ray_intersect_preliminary(mi.Ray3f(origin, mi.Vector3f(*directions.T.astype(np.float32))))
        depth = np.where(np.array(hit.is_valid()), np.array(hit.t, dtype=np.float64), 0.0)
    return depth.reshape(size, size)


def shoulder(linear: Array, start: float = 0.6) -> Array:
    """Film-like shoulder: values up to ``start`` stay, brighter ones approach 1: highlights keep their shape."""
    over = np.maximum(linear - start, 0.0) / (1.0 - start)
    return np.where(linear > start, start + (1.0 - start) * over / (1.0 + over), np.maximum(linear, 0.0))


def linear_to_srgb(linear: Array) -> Array:
    """IEC 61966-2-1 transfer curve on [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def srgb_to_linear(encoded: Array) -> Array:
    """Inverse of ``linear_to_srgb``."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
