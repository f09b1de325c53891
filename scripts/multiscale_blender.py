"""A Blender scene at several scales, in the files that mip-NeRF's own converter writes.

    python scripts/multiscale_blender.py SCENE OUT [--scales 4]

Every image is written at full, half, quarter and eighth size into OUT/images_SPLIT/III_dJ.png, with all cameras in
OUT/metadata.json; ``ns-train instant-hash --data OUT`` reads that, and so does whatever reads the data of the paper.

As in mip-NeRF (scripts/convert_blender_data.py): a smaller image is the mean of 2x2 pixels of the one before, in float32, of
colours that are not multiplied by alpha (dark fringes come of it, and belong to the data set); samples are cut off to bytes,
not rounded; a pixel weighs four times as much at each further scale (lossmult), so that all scales weigh alike.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
SPLITS = ("train", "val", "test")
NEAR, FAR = 2.0, 6.0
"""What the converter writes for each camera of NeRF's synthetic scenes."""


def halved(image: Floats) -> Floats:
    """[H, W, C] -> [H / 2, W / 2, C], the mean of 2x2 pixels."""
    height, width, channels = image.shape
    mean: Floats = image.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))
    return mean


def as_bytes(image: Floats) -> npt.NDArray[np.uint8]:
    """In [0, 1] -> bytes, cut off."""
    return (image * 255).astype(np.uint8)


def pixel_to_camera(width: int, height: int, focal: float) -> list[list[float]]:
    """[3, 3] from pixels to directions in the camera's axes, which looks along -z."""
    return [[1 / focal, 0.0, -0.5 * width / focal], [0.0, -1 / focal, 0.5 * height / focal], [0.0, 0.0, -1.0]]


def convert_split(scene: Path, out: Path, split: str, scales: int) -> dict[str, list[Any]] | None:
    """Writes the images of a split; its part of the metadata, None where the scene has no such split."""
    file = scene / f"transforms_{split}.json"
    if not file.is_file():
        return None
    meta = json.loads(file.read_text())
    names = ("file_path", "cam2world", "width", "height", "focal", "label", "near", "far", "lossmult", "pix2cam")
    found: dict[str, list[Any]] = {name: [] for name in names}
    (out / f"images_{split}").mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(meta["frames"]):
        path = scene / f"{frame['file_path']}.png"
        image = np.asarray(Image.open(path), np.float32) / np.float32(255)
        if image.ndim != 3 or image.shape[0] % 2 ** (scales - 1) or image.shape[1] % 2 ** (scales - 1):
            sys.exit(f"{path} is no colour picture whose sides {2 ** (scales - 1)} divides; give fewer --scales.")
        focal = 0.5 * image.shape[1] / math.tan(0.5 * float(meta["camera_angle_x"]))
        for scale in range(scales):
            height, width = image.shape[:2]
            name = f"images_{split}/{index:03d}_d{scale}.png"
            Image.fromarray(as_bytes(image)).save(out / name)
            row = (name, frame["transform_matrix"], width, height, focal / 2**scale, scale, NEAR, FAR, 4.0**scale)
            for key, value in zip(names, (*row, pixel_to_camera(width, height, focal / 2**scale)), strict=True):
                found[key].append(value)
            if scale < scales - 1:
                image = halved(image)
    return found


def convert(scene: Path, out: Path, scales: int = 4) -> None:
    """All splits that the scene has."""
    if not (scene / "transforms_train.json").is_file():
        sys.exit(f"{scene} holds no transforms_train.json; give the folder of a scene in Blender's layout.")
    whole = {split: convert_split(scene, out, split, scales) for split in SPLITS}
    there = {split: meta for split, meta in whole.items() if meta is not None}
    (out / "metadata.json").write_text(json.dumps(there, indent=4, ensure_ascii=False))
    counts = ", ".join(f"{len(meta['file_path'])} of {split}" for split, meta in there.items())
    print(f"{out}: images {counts}, at {scales} scales")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="folder with transforms_train.json")
    parser.add_argument("out", type=Path, help="folder to be made")
    parser.add_argument("--scales", type=int, default=4, help="how many, each half of the one before")
    args = parser.parse_args()
    if args.scales < 1:
        sys.exit(f"--scales {args.scales}: give at least 1.")
    convert(args.scene, args.out, args.scales)


if __name__ == "__main__":
    main()
