"""A Blender scene as nerfbaselines reads a local one: sizes in its transforms, and a note that says what it is."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from PIL import Image

from ngp_method.data.capture import Capture
from ngp_method.data.decoding import decode
from ngp_method.data.detect import detect, read_capture

NOTE = "nb-info.json"
LOADER = "nerfbaselines.datasets.blender:load_blender_dataset"


def write(data: Path, scale: float, folder: Path, public: str | None = None) -> Path:
    """Writes training and held-out views of a scene for nerfbaselines' Blender loader.

    Args:
        data: a folder in Blender's layout.
        scale: of the pictures.
        folder: where to.
        public: the name of the scene, where it is one of nerfbaselines' own (they then are compared with what is published of
            them); else it is nobody's.

    Raises:
        SystemExit: the scene is of another layout.
    """
    source = detect(data)
    capture = read_capture(source)
    if source.kind != "blender":
        sys.exit(f"{data}: a scene in the layout of {source.kind}; this benchmark takes Blender's (transforms_train.json).")
    for split, others in (("train", ("train",)), ("test", ("test", "val"))):
        indices = next((capture.splits[name] for name in others if capture.splits.get(name)), None)
        if not indices:
            sys.exit(f"{data}: no view is there to {'train' if split == 'train' else 'test'} on.")
        _write_split(capture, list(indices), split, scale, folder)
    info = {"loader": LOADER, "id": "blender" if public else None, "scene": public, "evaluation_protocol": "nerf"}
    (folder / NOTE).write_text(json.dumps({**info, "type": "object-centric"}))
    return folder


def _write_split(capture: Capture, indices: list[int], split: str, scale: float, folder: Path) -> None:
    frames = []
    (folder / split).mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(indices):
        view = capture.views[index]
        size = int(view.lens.width * scale), int(view.lens.height * scale)
        Image.fromarray(decode(view.image, size)).save(folder / split / f"r_{number}.png", compress_level=1)
        pose = [*view.pose.tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"{split}/r_{number}", "transform_matrix": pose})
    angle = 2.0 * math.atan(0.5 * capture.views[indices[0]].lens.width / capture.views[indices[0]].lens.fx)
    transforms = {"camera_angle_x": angle, "w": size[0], "h": size[1], "frames": frames}
    (folder / f"transforms_{split}.json").write_text(json.dumps(transforms))
