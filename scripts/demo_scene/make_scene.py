"""Make the demo scene: ``python scripts/demo_scene/make_scene.py --out DIR``, from a checkout.

Path-traces the still life and writes it in Blender layout, with the depth of the test views and the surface it was made
from. The shipped folder was made with the defaults and ``--variant llvm_ad_rgb`` on LLVM 19, which differs from
``scalar_rgb`` in its noise alone and took 2.5 times less processor time. Needs Mitsuba (extra ``dev``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_scene.cameras import CAMERA_ANGLE_X, orbit_poses, spread_poses
from demo_scene.render import build_scene, load_mitsuba, render_view, trace_depth
from demo_scene.still_life import still_life, surface

DEPTH_UNIT = 1e-4
"""Scene units per step of the depth pictures."""
SPLITS = ("train", "val", "test")
FIRST_VALIDATION = 1000
"""Where the validation views start in the sequence that the training views begin."""

README = """# Demo scene

An armillary sphere on an inlaid table, path-traced by `python scripts/demo_scene/make_scene.py` with {samples}
samples a pixel (Mitsuba {version}, {variant}). Licence: the project's own.

- `transforms_{{train,val,test}}.json`, pictures {size}x{size}: Blender layout. RGBA, sRGB, alpha = coverage, straight
  (not premultiplied). `transform_matrix` is camera-to-world, OpenGL axes (right, up, backwards), z up, scene units;
  `camera_angle_x` in radians.
- `test_depth/`: one 16-bit PNG for each test view. Value x {unit} = distance in scene units from the camera along the
  unit ray through the pixel's centre (not the z coordinate); 0 = nothing hit.
- `surface.ply`: the triangles that were rendered, in world coordinates. Parts run into one another where they touch.

Everything lies within +-1.2 of the origin.
"""


@dataclass(frozen=True)
class Settings:
    """What to make: size in pixels, spp samples a pixel (a square number suits the sampler), views of each split."""

    size: int = 200
    spp: int = 400
    views: int = 100
    val_views: int = 5
    test_views: int = 25
    variant: str = "scalar_rgb"


def poses_of(split: str, settings: Settings) -> list[NDArray[np.float64]]:
    """Camera-to-world poses (4, 4) of a split."""
    if split == "train":
        return spread_poses(settings.views)
    if split == "val":
        return spread_poses(settings.val_views, first=FIRST_VALIDATION)
    return orbit_poses(settings.test_views)


def write_ply(path: Path, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    """Binary little-endian PLY of triangles: vertices (V, 3), faces (F, 3)."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    records = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    records["count"], records["corners"] = 3, faces
    path.write_bytes(header.encode("ascii") + vertices.astype("<f4").tobytes() + records.tobytes())


def _write_depth(path: Path, depth: NDArray[np.float64]) -> None:
    steps = np.rint(depth / DEPTH_UNIT)
    if steps.max() > 65535:
        raise ValueError(f"Depth {depth.max():.3f} does not fit in 16 bits of {DEPTH_UNIT} units.")
    Image.fromarray(steps.astype(np.uint16)).save(path, optimize=True)


def _write_split(mi: Any, scene: Any, out: Path, split: str, settings: Settings, start: float) -> None:
    """Pictures, depth and transforms of one split."""
    (out / split).mkdir(parents=True, exist_ok=True)
    frames: list[dict[str, Any]] = []
    poses = poses_of(split, settings)
    for index, pose in enumerate(poses):
        seed = 10_000 * SPLITS.index(split) + index
        picture = render_view(mi, scene, pose, settings.size, settings.spp, seed)
        Image.fromarray(picture).save(out / split / f"r_{index}.png", optimize=True)
        frame: dict[str, Any] = {"file_path": f"./{split}/r_{index}"}
        if split == "test":
            (out / "test_depth").mkdir(exist_ok=True)
            frame["depth_file_path"] = f"./test_depth/r_{index}.png"
            _write_depth(out / "test_depth" / f"r_{index}.png", trace_depth(mi, scene, pose, settings.size))
        frame["transform_matrix"] = pose.round(12).tolist()
        frames.append(frame)
        print(f"{split} {index + 1}/{len(poses)}  {time.monotonic() - start:.0f} s", flush=True)
    transforms: dict[str, Any] = {"camera_angle_x": CAMERA_ANGLE_X}
    if split == "test":
        transforms["depth_unit_scale_factor"] = DEPTH_UNIT
        transforms["depth_kind"] = "distance along the unit ray through the pixel centre, scene units; 0 = nothing hit"
    transforms["frames"] = frames
    (out / f"transforms_{split}.json").write_text(json.dumps(transforms, indent=1) + "\n", encoding="utf-8")


def make_scene(out: Path, settings: Settings) -> None:
    """Render everything into ``out``.

    Raises:
        RuntimeError: Mitsuba is missing.
    """
    start = time.monotonic()
    mi = load_mitsuba(settings.variant)
    parts = still_life()
    out.mkdir(parents=True, exist_ok=True)
    write_ply(out / "surface.ply", *surface(parts))
    scene = build_scene(mi, parts)
    print(f"scene built  {time.monotonic() - start:.0f} s", flush=True)
    for split in SPLITS:
        _write_split(mi, scene, out, split, settings, start)
    text = README.format(
        samples=settings.spp, version=mi.__version__, variant=settings.variant, size=settings.size, unit=DEPTH_UNIT
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    defaults = Settings()
    parser = argparse.ArgumentParser("python scripts/demo_scene/make_scene.py", description="Path-trace the demo scene.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--size", type=_positive, default=defaults.size, help="pixels a side (%(default)s)")
    parser.add_argument("--spp", type=_positive, default=defaults.spp, help="samples a pixel (%(default)s)")
    parser.add_argument("--views", type=_positive, default=defaults.views, help="training views (%(default)s)")
    parser.add_argument("--val-views", type=_positive, default=defaults.val_views, help="their number (%(default)s)")
    parser.add_argument("--test-views", type=_positive, default=defaults.test_views, help="their number (%(default)s)")
    parser.add_argument("--variant", default=defaults.variant, help="Mitsuba variant (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    given = parser.parse_args(arguments)
    if given.out.exists() and not given.overwrite and (not given.out.is_dir() or any(given.out.iterdir())):
        print(f"{given.out} is not an empty folder: choose another --out, or add --overwrite.", file=sys.stderr)
        return 2
    settings = Settings(given.size, given.spp, given.views, given.val_views, given.test_views, given.variant)
    try:
        make_scene(given.out, settings)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{given.out} cannot be written ({error}): choose another --out.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
