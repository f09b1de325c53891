"""Where the scenes lie and at which size they are used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCALES = {"lego": 0.5, "fox": 0.25}
"""lego as it lies there is 400x400, the fox 1080x1920: 200x200 and 270x480 are what a processor can bear."""


def root() -> Path:
    """The folder of the data: $NGP_DATA, or shared/data beside the checkout."""
    return Path(os.environ.get("NGP_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def find(scene: str, scale: float | None) -> tuple[Path, float]:
    """Folder and image scale of a scene's name or folder."""
    if scene == "demo":
        from ngp_method.demo import demo_scene_path

        return demo_scene_path(), scale or 1.0
    if scene in SCALES:
        folder, scale = root() / scene, scale or SCALES[scene]
    else:
        folder, scale = Path(scene), scale or 1.0
    if not folder.is_dir():
        sys.exit(f"{folder}: no such folder; set NGP_DATA to the folder that holds {scene}, or give a scene's own folder.")
    return folder, scale
