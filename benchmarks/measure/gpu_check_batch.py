"""What a batch is made of, against the reference, on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ngp_method.kernels.batch import ROW_FLOATS, PixelTable, RayTable

from .gpu_check import REFERENCE, Cases
from .gpu_compare import Row, equal, near, tol

VIEWS, WIDTH, HEIGHT = 3, 37, 23


def pick_pixels(cases: Cases) -> Iterator[Row]:
    """Bytes and places: exact."""
    views = torch.arange(VIEWS, device=cases.device)
    widths = torch.full_like(views, WIDTH)
    for n in (*cases.sizes, cases.large):
        for channels in (3, 4):
            bytes_ = (256 * cases.uniform(VIEWS * WIDTH * HEIGHT, channels)).to(torch.uint8)
            table = PixelTable(bytes_, views * WIDTH * HEIGHT, widths)
            chosen = (len(bytes_) * cases.uniform(n)).long().clamp(max=len(bytes_) - 1)
            view = torch.div(chosen, WIDTH * HEIGHT, rounding_mode="floor")
            for name, got, truth in zip(
                ("colours", "places"),
                cases.kernels.pick_pixels(chosen, view, table),
                REFERENCE.pick_pixels(chosen, view, table),
            ):
                yield equal("pick_pixels", name, got, truth)


def table_rays(cases: Cases) -> Iterator[Row]:
    """Origins are copied; directions are turned."""
    views = torch.arange(VIEWS, device=cases.device)
    rows = torch.cat([cases.directions(WIDTH * HEIGHT), 0.5 + cases.uniform(WIDTH * HEIGHT, ROW_FLOATS - 3)], 1)
    rotations = torch.linalg.qr(cases.normal(VIEWS, 3, 3)).Q.contiguous()
    table = RayTable(rows, torch.zeros_like(views), torch.full_like(views, WIDTH), rotations, cases.normal(VIEWS, 3))
    exact = table._replace(rows=rows.double(), rotations=rotations.double(), origins=table.origins.double())
    for n in (*cases.sizes, cases.large):
        parts = [(edge * cases.uniform(n)).long().clamp(max=edge - 1) for edge in (VIEWS, HEIGHT, WIDTH)]
        indices = torch.stack(parts, -1)
        got, truth = cases.kernels.table_rays(indices, table), REFERENCE.table_rays(indices, exact)
        for name in ("o", "d", "area", "norm"):
            yield near("table_rays", name, getattr(got, name), getattr(truth, name), 2 * tol.RAYS_32)


def enter_box(cases: Cases) -> Iterator[Row]:
    """Numbers, and ends of each ray's own; distances beyond a thousand are of directions along an axis."""
    box = torch.tensor([[-1.0, -2.0, 0.5], [1.5, 2.0, 3.0]], device=cases.device)
    for n in (*cases.sizes, cases.large):
        o, d = 4 * cases.normal(n, 3), 3 * cases.normal(n, 3)
        for ends in ((0.0, math.inf), (cases.uniform(n), 1 + 3 * cases.uniform(n))):
            exact = [end.double() if isinstance(end, torch.Tensor) else end for end in ends]
            got = cases.kernels.enter_box(o, d, box, *ends)
            truth = REFERENCE.enter_box(o.double(), d.double(), box.double(), *exact)
            yield near("enter_box", "directions", got[0], truth[0], tol.RAYS_32)
            for name, one, other in zip(("begin", "end"), got[1:], truth[1:]):
                yield near("enter_box", name, one / other.abs().clamp(min=1.0), other / other.abs().clamp(min=1.0), tol.RAYS_32)


CHECKS = {"pick_pixels": pick_pixels, "table_rays": table_rays, "enter_box": enter_box}
