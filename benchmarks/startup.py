"""What a training start costs before its first step, beside decoding pictures: marking the cells that no camera sees.

    python benchmarks/startup.py                     # 300 cameras on a ring, five cascades of 128^3
    python benchmarks/startup.py --cameras 50 --aabb-scale 4

Prints one JSON line last, and writes it to benchmarks/results/runs/ with machine, date and command.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import torch
from nerfstudio.cameras.cameras import Cameras

from measure import records
from ngp_method.kernels import choose_kernels
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.visibility import seen_cells

LENSES = {"pinhole": None, "distorted": [-0.2, 0.05, 0.0, 0.0, 0.001, -0.002]}


def ring(count: int, distortion: list[float] | None) -> Cameras:
    """Cameras of 640x480 on a ring around the unit cube, looking inwards."""
    angle = torch.arange(count) / count * 2 * math.pi
    back = torch.stack([torch.cos(angle), torch.sin(angle), torch.full_like(angle, 0.3)], -1)
    right = torch.stack([-torch.sin(angle), torch.cos(angle), torch.zeros_like(angle)], -1)
    axes = torch.nn.functional.normalize(back, dim=-1)
    pose = torch.stack([right, torch.linalg.cross(axes, right), axes, 1.2 * back], -1)
    lens = None if distortion is None else torch.tensor(distortion).expand(count, 6)
    return Cameras(pose, 400.0, 400.0, 320.0, 240.0, 640, 480, lens)


def main() -> None:
    """See the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=300, help="how many")
    parser.add_argument("--aabb-scale", type=int, default=16, help="edge of the scene in unit cubes; log2 of it + 1 cascades")
    args = parser.parse_args()
    _, kernels = choose_kernels("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    geometry = SceneGeometry(aabb_scale=args.aabb_scale, near=0.05)
    record = {
        **records.about("startup"),
        "kernels": kernels,
        "cameras": args.cameras,
        "cascades": geometry.cascades,
    }
    for name, distortion in LENSES.items():
        cameras, began, work = ring(args.cameras, distortion), time.monotonic(), time.process_time()
        seen = seen_cells(cameras, geometry)
        record[f"{name}_s"] = round(time.monotonic() - began, 2)
        record[f"{name}_cpu_s"] = round(time.process_time() - work, 2)
        record[f"{name}_unseen"] = round(1.0 - float(seen.float().mean()), 3)
    records.keep(record, f"startup-{args.cameras}")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
