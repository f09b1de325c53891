"""Capture: everything a scene's files say, before it is placed in the world; and which views belong to which split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from nerfstudio.data.utils.dataparsers_utils import (
    get_train_eval_split_all,
    get_train_eval_split_filename,
    get_train_eval_split_fraction,
    get_train_eval_split_interval,
)
from numpy.typing import NDArray

from ngp_method.data.views import View
from ngp_method.errors import fail

Kind = Literal["instant-ngp", "blender", "multi-scale blender", "nerfstudio", "colmap", "llff"]
EvalMode = Literal["interval", "fraction", "filename", "all"]


@dataclass
class NgpFrame:
    """instant-ngp's map from a file's positions to its unit cube [0, 1]^3: p * scale + offset.

    Attributes:
        scale, offset: of the map.
        aabb_scale: edge of the whole scene in unit cubes.
        stated: the keys of these that the file has; the others are instant-ngp's defaults.
    """

    scale: float
    offset: tuple[float, float, float]
    aabb_scale: int
    stated: frozenset[str] = frozenset()

    @property
    def by_convention(self) -> bool:
        """Whether nothing in the file says where the unit cube lies."""
        return not self.stated & {"scale", "offset", "aabb"}


@dataclass
class Capture:
    """The views of a scene in the axes and the unit of its file.

    Attributes:
        kind: the format.
        file: what was read, for messages.
        views: every view whose image exists, all splits together, in the order splits are counted in.
        splits: names of the splits the files give, with the views of each; empty where they give none.
        ngp: instant-ngp's mapping, where the file has one.
        points: [M, 3] float64 sparse points in the file's frame, or None.
        applied_transform: [3, 4], from the data as first captured to the file's frame (nerfstudio), or None.
        applied_scale: the same for the scale.
        orientation: nerfstudio's ``orientation_override``, or None.
        fisheye_crop_radius: nerfstudio's key of that name, in pixels of the image, or None.
        transparent: whether its pictures are cut out, where that is known; None: the file of the first one tells.
    """

    kind: Kind
    file: Path
    views: list[View]
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ngp: NgpFrame | None = None
    points: NDArray[np.float64] | None = None
    applied_transform: NDArray[np.float64] | None = None
    applied_scale: float = 1.0
    orientation: str | None = None
    fisheye_crop_radius: float | None = None
    transparent: bool | None = None


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts ``r_2`` before ``r_10``, as instant-ngp does."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t.lower()) for t in re.split(r"(\d+)", text) if t]


def view_indices(capture: Capture, split: str, mode: EvalMode, interval: int, train_fraction: float) -> list[int]:
    """The views of one split.

    A split that the scene's own files name is taken as it stands, ``val`` and ``test`` standing in for each other;
    otherwise the views are divided by ``mode``.

    Args:
        capture: the scene.
        split: ``train``, ``val`` or ``test``.
        mode: ``interval`` holds out every interval-th view, ``fraction`` what is left of ``train_fraction``,
            ``filename`` goes by "train" and "eval" in the file names, ``all`` gives every view to every split.
        interval: see ``mode``.
        train_fraction: see ``mode``.

    Raises:
        UserError: fewer than two views, or fewer than two left to train on.
    """
    total = len(capture.views)
    if total < 2:
        fail(f"{capture.file} has one image only; a radiance field needs views from at least two places.")
    given = capture.splits
    if given and not given.get("train"):
        fail(f"{capture.file} names no image for training that is there; add images or mend its lists.")
    if given.get("val") or given.get("test"):
        order = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}[split]
        chosen = next(list(given[name]) for name in order if given.get(name))
        return _at_least_two(chosen, capture) if split == "train" else chosen
    # no split at all, or a training split alone: views are held out of it
    pool = list(given["train"] if given else range(total))
    train, held_out = _divide([capture.views[i].listed for i in pool], capture.file, mode, interval, train_fraction)
    if split == "train":
        return _at_least_two([pool[i] for i in train], capture)
    return [pool[i] for i in held_out]


def _divide(
    names: list[str], file: Path, mode: EvalMode, interval: int, train_fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if interval < 2:
        fail(f"--eval-interval {interval}: give 2 or more, or --eval-mode all to hold nothing out.")
    if not 0.0 < train_fraction < 1.0:
        fail(f"--train-split-fraction {train_fraction}: give a number between 0 and 1.")
    divide: Callable[[], tuple[NDArray[np.int64], NDArray[np.int64]]] = {
        "interval": lambda: get_train_eval_split_interval(names, interval),
        "fraction": lambda: get_train_eval_split_fraction(names, train_fraction),
        "filename": lambda: get_train_eval_split_filename(names),
        "all": lambda: get_train_eval_split_all(names),
    }[mode]
    try:
        train, held_out = divide()
    except ValueError:
        fail(f"--eval-mode filename: an image of {file} has neither train nor eval in its name; take interval.")
    if len(held_out) == 0:
        fail(f"--eval-mode {mode} holds no view of {file} out for evaluation; take --eval-mode interval or all.")
    return train, held_out


def _at_least_two(indices: list[int], capture: Capture) -> list[int]:
    if len(indices) < 2:
        fail(
            f"{capture.file} leaves {len(indices)} of its {len(capture.views)} images to train on; add images, or "
            "give auto-data --eval-mode all."
        )
    return indices
