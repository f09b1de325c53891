"""Multi-scale Blender scenes: ``metadata.json``, as mip-NeRF's converter writes it (``scripts/multiscale_blender.py`` here)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ngp_method.data.capture import Capture
from ngp_method.data.transforms import Json, read_json, read_views
from ngp_method.data.views import View
from ngp_method.errors import UserError, fail

FILE = "metadata.json"
COLUMNS = ("file_path", "cam2world", "width", "height", "focal")
"""What each split must have, a list with an entry for each image; ``label`` and ``lossmult`` are for scales."""


def has_scales(meta: Json) -> bool:
    """Whether the content of a metadata.json is of this kind: other programs write files of that name too."""
    train = meta.get("train")
    return isinstance(train, dict) and all(isinstance(train.get(name), list) for name in COLUMNS)


def find_multiscale(folder: Path) -> Path | None:
    """The folder's metadata.json, where it is of this kind."""
    file = folder / FILE
    try:
        return file if file.is_file() and has_scales(read_json(file)) else None
    except UserError:  # not JSON: another program's
        return None


def read_multiscale(file: Path) -> Capture:
    """All splits in one capture; each view with its scale and weight.

    Raises:
        UserError: lists of different lengths, or what :func:`read_views` finds.
    """
    meta = read_json(file)
    capture = Capture("blender", file, [])
    splits: dict[str, Sequence[int]] = {}
    for split in ("train", "val", "test"):
        columns = meta.get(split)
        if not isinstance(columns, dict) or not columns.get("file_path"):
            continue
        views = _views(file, split, columns)
        splits[split] = range(len(capture.views), len(capture.views) + len(views))
        capture.views.extend(views)
    capture.splits = splits
    return capture


def _views(file: Path, split: str, columns: Json) -> list[View]:
    count = len(columns["file_path"])
    scales = {"label": columns.get("label", [0] * count), "lossmult": columns.get("lossmult", [1.0] * count)}
    for name, values in {**{name: columns.get(name) for name in COLUMNS}, **scales}.items():
        if not isinstance(values, list) or len(values) != count:
            fail(f"{file}: '{name}' of '{split}' has no entry for each of the {count} images; make the file anew.")
    frames = [
        {
            "file_path": columns["file_path"][i],
            "transform_matrix": columns["cam2world"][i],
            "fl_x": columns["focal"][i],
            "fl_y": columns["focal"][i],
            "cx": 0.5 * columns["width"][i],
            "cy": 0.5 * columns["height"][i],
            "w": columns["width"][i],
            "h": columns["height"][i],
        }
        for i in range(count)
    ]
    found = {str(columns["file_path"][i]): (scales["label"][i], scales["lossmult"][i]) for i in range(count)}
    views = read_views(file, {"frames": frames}, "training on" if split == "train" else "evaluating on")
    scaled = []
    for view in views:
        label, weight = found[view.listed]
        scaled.append(dataclasses.replace(view, scale=_scale(file, label), weight=_weight(file, weight)))
    return scaled


def _scale(file: Path, label: Any) -> int:
    if not isinstance(label, int) or not 0 <= label < 16:
        fail(f"{file}: a label is {label!r}; each is how often its image was halved, a whole number from 0.")
    return 1 << label


def _weight(file: Path, weight: Any) -> float:
    if not isinstance(weight, (int, float)) or not (np.isfinite(weight) and weight > 0):
        fail(f"{file}: a lossmult is {weight!r}; each is what a pixel weighs, a number above 0.")
    return float(weight)


SCALES, WEIGHTS = "image_scales", "pixel_weights"
"""Names in a parser's metadata, a number for each image."""


def scales_of(views: Sequence[View]) -> dict[str, Any]:
    """What a parser's metadata says of the scales of its views and of what their pixels weigh; empty where all are alike."""
    found: dict[str, Any] = {}
    if any(view.scale != 1 for view in views):
        found[SCALES] = [view.scale for view in views]
    if len({view.weight for view in views}) > 1:
        found[WEIGHTS] = [view.weight for view in views]
    return found
