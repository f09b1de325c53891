"""The operations that make a batch, one launch each; as plain torch they are some fifty on a few thousand numbers each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import batch
from ..batch import PixelTable, RayTable, WorldRays
from . import packing_kernels
from .aot import Variant
from .packing_kernels import PLAIN, variant

TINY: tl.constexpr = tl.constexpr(batch.TINY)
ROW: tl.constexpr = tl.constexpr(batch.ROW_FLOATS)


@triton.jit(do_not_specialize=PLAIN)
def pick(  # type: ignore[no-untyped-def]
    chosen, views, pixels, starts, widths, colors, indices, n, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):
    """Colours [n, CHANNELS] in [0, 1], and image, row, column [n, 3]."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = i < n
    number, view = tl.load(chosen + i, mask=real, other=0), tl.load(views + i, mask=real, other=0)
    within, width = number - tl.load(starts + view), tl.load(widths + view)
    row = within // width
    tl.store(indices + 3 * i, view, mask=real)
    tl.store(indices + 3 * i + 1, row, mask=real)
    tl.store(indices + 3 * i + 2, within - row * width, mask=real)
    for channel in tl.static_range(CHANNELS):
        value = tl.load(pixels + CHANNELS * number + channel, mask=real, other=0).to(tl.float32)
        tl.store(colors + CHANNELS * i + channel, value * (1.0 / 255.0), mask=real)


@triton.jit(do_not_specialize=PLAIN)
def look_up(  # type: ignore[no-untyped-def]
    indices, rows, starts, widths, rotations, origins, o, d, areas, norms, n, BLOCK: tl.constexpr
):
    """Rays of pixels in the world; ``indices`` is int64 [n, 3]."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = i < n
    camera = tl.load(indices + 3 * i, mask=real, other=0)
    at = tl.load(starts + camera) + tl.load(indices + 3 * i + 1, mask=real, other=0) * tl.load(widths + camera)
    at = ROW * (at + tl.load(indices + 3 * i + 2, mask=real, other=0))
    x, y, z = tl.load(rows + at), tl.load(rows + at + 1), tl.load(rows + at + 2)
    turn = rotations + 9 * camera
    dx = tl.load(turn) * x + tl.load(turn + 1) * y + tl.load(turn + 2) * z
    dy = tl.load(turn + 3) * x + tl.load(turn + 4) * y + tl.load(turn + 5) * z
    dz = tl.load(turn + 6) * x + tl.load(turn + 7) * y + tl.load(turn + 8) * z
    length = tl.sqrt(dx * dx + dy * dy + dz * dz)
    tl.store(d + 3 * i, dx / length, mask=real)
    tl.store(d + 3 * i + 1, dy / length, mask=real)
    tl.store(d + 3 * i + 2, dz / length, mask=real)
    for axis in tl.static_range(3):
        tl.store(o + 3 * i + axis, tl.load(origins + 3 * camera + axis), mask=real)
    tl.store(areas + i, tl.load(rows + at + 3), mask=real)
    tl.store(norms + i, tl.load(rows + at + 4) * length, mask=real)


@triton.jit
def slab(begin, end, o, d, low, high):  # type: ignore[no-untyped-def]
    """An interval cut to what lies between two planes across one axis."""
    safe = tl.where(tl.abs(d) < TINY, TINY, d)
    one, other = (low - o) / safe, (high - o) / safe
    return tl.maximum(begin, tl.minimum(one, other)), tl.minimum(end, tl.maximum(one, other))


@triton.jit(do_not_specialize=[*PLAIN, "near", "far"])
def enter(  # type: ignore[no-untyped-def]
    rays_o, directions, aabb, nears, fars, near, far, d, t_min, t_max, n, per_ray, per_axis,
    NEARS: tl.constexpr, FARS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Unit directions [n, 3], begin and end [n]. Only where NEARS or FARS is ``nears`` or ``fars`` read, else a number."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = i < n
    at = directions + i * per_ray
    x, y = tl.load(at, mask=real, other=0.0), tl.load(at + per_axis, mask=real, other=0.0)
    z = tl.load(at + 2 * per_axis, mask=real, other=0.0)
    scale = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)  # as torch's normalize: zeros stay zeros
    x, y, z = x * scale, y * scale, z * scale
    begin = tl.load(nears + i, mask=real, other=0.0) if NEARS else tl.zeros_like(x) + near
    end = tl.load(fars + i, mask=real, other=0.0) if FARS else tl.zeros_like(x) + far
    o = rays_o + 3 * i
    begin, end = slab(begin, end, tl.load(o, mask=real, other=0.0), x, tl.load(aabb), tl.load(aabb + 3))
    begin, end = slab(begin, end, tl.load(o + 1, mask=real, other=0.0), y, tl.load(aabb + 1), tl.load(aabb + 4))
    begin, end = slab(begin, end, tl.load(o + 2, mask=real, other=0.0), z, tl.load(aabb + 2), tl.load(aabb + 5))
    tl.store(d + 3 * i, x, mask=real)
    tl.store(d + 3 * i + 1, y, mask=real)
    tl.store(d + 3 * i + 2, z, mask=real)
    tl.store(t_min + i, begin, mask=real)
    tl.store(t_max + i, end, mask=real)


def pick_pixels(chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
    """The operation ``pick_pixels``."""
    n, channels = len(chosen), table.pixels.shape[1]
    colors, indices = table.pixels.new_empty((n, channels), dtype=torch.float32), chosen.new_empty((n, 3))
    if n:
        grid, sizes = packing_kernels.launch(n)
        pick[grid](chosen, views, *table, colors, indices, n, CHANNELS=channels, **sizes)
    return colors, indices


def table_rays(indices: Tensor, table: RayTable) -> WorldRays:
    """The operation ``table_rays``."""
    n = len(indices)
    found = WorldRays(*(table.rows.new_empty((n, width)) for width in (3, 3, 1, 1)))
    if n:
        grid, sizes = packing_kernels.launch(n)
        look_up[grid](indices.contiguous(), *[part.contiguous() for part in table], *found, n, **sizes)
    return found


def enter_box(
    rays_o: Tensor, directions: Tensor, aabb: Tensor, near: Tensor | float, far: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """The operation ``enter_box``; in plain torch where the rays are trained."""
    if torch.is_grad_enabled() and (rays_o.requires_grad or directions.requires_grad):
        return batch.enter_box(rays_o, directions, aabb, near, far)
    n = len(rays_o)
    d, t_min, t_max = rays_o.new_empty((n, 3)), rays_o.new_empty(n), rays_o.new_empty(n)
    nears, fars = isinstance(near, Tensor), isinstance(far, Tensor)
    given = (near.contiguous() if nears else aabb, far.contiguous() if fars else aabb)  # type: ignore[union-attr]
    numbers = (0.0 if nears else near, 0.0 if fars else far)
    if n:
        grid, sizes = packing_kernels.launch(n)
        enter[grid](
            rays_o.contiguous(), directions, aabb, *given, *numbers, d, t_min, t_max, n, *directions.stride(),
            NEARS=nears, FARS=fars, **sizes,
        )  # fmt: skip
    return d, t_min, t_max


def variants() -> list[Variant]:
    """For three and four channels, and for intervals that are numbers, ends of each ray's own, or both."""
    types = {"*i64": "chosen views starts widths indices", "*u8": "pixels", "*fp32": "colors", "i32": "n"}
    found = [
        variant(f"pick_pixels/{channels}", pick, types, {"CHANNELS": channels, **packing_kernels.SIZES}) for channels in (3, 4)
    ]
    types = {"*i64": "indices starts widths", "*fp32": "rows rotations origins o d areas norms", "i32": "n"}
    found.append(variant("table_rays", look_up, types, packing_kernels.SIZES))
    types = {"*fp32": "rays_o directions aabb nears fars d t_min t_max", "fp32": "near far", "i32": "n"}
    for nears in (False, True):
        for fars in (False, True):
            name = f"enter_box/{'nears' if nears else 'near'}/{'fars' if fars else 'far'}"
            given = {"per_ray": 3, "per_axis": 1, "NEARS": nears, "FARS": fars, **packing_kernels.SIZES}
            found.append(variant(name, enter, types, given))
    return found
