"""What is made on the processor is moved to where the field lies; torch's fake tensors have a GPU where there is none."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ngp_method.kernels.scene import SceneGeometry
from ngp_method.volume.occupancy import OccupancyGrid
from support.kernel_cases import kernels_of


def test_cells_that_cameras_see_may_lie_elsewhere() -> None:
    """They are found on the processor (:mod:`ngp_method.volume.visibility`) whatever trains."""
    grid = OccupancyGrid(SceneGeometry(), kernels_of("reference"), 16)
    with FakeTensorMode():
        for name in ("occs", "binaries"):
            grid.register_buffer(name, torch.zeros(getattr(grid, name).shape, dtype=getattr(grid, name).dtype, device="cuda"))
        grid.mark_unseen(torch.ones(1, 16, 16, 16, dtype=torch.bool))
        assert grid.occs.device.type == grid.binaries.device.type == "cuda"
