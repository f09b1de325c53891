"""The base class that nerfacc lends the occupancy grid, where nerfacc is not installed: its buffers, none of its arithmetic."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class OccGridEstimator(nn.Module):
    """The buffers that :class:`ngp_method.volume.occupancy.OccupancyGrid` uses of nerfacc's class of this name."""

    def __init__(self, roi_aabb: Tensor, resolution: int = 128, levels: int = 1) -> None:
        super().__init__()
        self.levels, self.cells_per_lvl = levels, resolution**3
        self.register_buffer("resolution", torch.tensor([resolution] * 3, dtype=torch.int32))
        self.register_buffer("occs", torch.zeros(levels * self.cells_per_lvl))
        self.register_buffer("binaries", torch.zeros(levels, resolution, resolution, resolution, dtype=torch.bool))


def _put(name: str, **contents: Any) -> None:
    """A module of that name, and the packages above it, into ``sys.modules``."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        if sys.modules.get(path) is None:
            module = ModuleType(path)
            module.__spec__, module.__path__ = ModuleSpec(path, None, is_package=True), []  # type: ignore[attr-defined]
            sys.modules[path] = module
    vars(sys.modules[name]).update(contents)


def put() -> list[str]:
    """Put stand-ins for what is missing; returns the names of the packages."""
    if importlib.util.find_spec("nerfacc") is not None:
        return []
    _put("nerfacc.estimators.occ_grid", OccGridEstimator=OccGridEstimator)
    return ["nerfacc"]
