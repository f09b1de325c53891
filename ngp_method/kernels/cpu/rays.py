"""What rays are turned into, with gradients to the rays where they are wanted: points along them, harmonics of directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gradients import first_order_only
from ..samples import PackedSamples
from ..scene import SceneGeometry
from ..spherical import direction_gradient, spherical_harmonics
from . import buffers, encode, marching, pool
from .volume import as_array


def _point_rows(rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
    """Points as rows [3, n_padded]."""
    n = samples.n_samples
    out = torch.empty(3, buffers.padded(n))
    out[:, n:] = 0
    low = np.asarray(geometry.center, np.float32) - np.float32(0.5 * geometry.box_size)
    args = (as_array(rays_o), as_array(rays_d), as_array(samples.t_starts), as_array(samples.t_ends))
    ranges = pool.chunks(n, buffers.BLOCK)
    pool.run(
        lambda c: marching.points(
            *args, samples.ray_indices.numpy(), low, np.float32(1.0 / geometry.box_size), out.numpy(), *ranges[c]
        ),
        len(ranges),
    )
    return out


class Points(torch.autograd.Function):
    """(rays_o, rays_d, samples, geometry) -> points [N, 3], in memory rows [3, n_padded]."""

    @staticmethod
    def forward(ctx: Any, rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
        """Keeps the points, which say what was clamped."""
        rows = _point_rows(rays_o, rays_d, samples, geometry)
        ctx.save_for_backward(rows)
        ctx.samples, ctx.scale = samples, 1.0 / geometry.box_size
        return buffers.rows_to_tensor(rows, samples.n_samples)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """See :func:`marching.point_gradients`."""
        (rows,) = ctx.saved_tensors
        samples: PackedSamples = ctx.samples
        upstream = buffers.tensor_to_rows(grad_outputs[0])
        d_o, d_d = torch.empty(samples.n_rays, 3), torch.empty(samples.n_rays, 3)
        arrays = (upstream.numpy(), rows.numpy(), as_array(samples.t_starts), as_array(samples.t_ends))
        rest = (samples.packed_info.numpy(), np.float32(ctx.scale), d_o.numpy(), d_d.numpy())
        ranges = pool.chunks(samples.n_rays, 1, at_least=256)
        pool.run(lambda c: marching.point_gradients(*arrays, *rest, *ranges[c]), len(ranges))
        return d_o, d_d, None, None


def points(rays_o: Tensor, rays_d: Tensor, samples: PackedSamples, geometry: SceneGeometry) -> Tensor:
    """The operation ``points``."""
    if torch.is_grad_enabled() and (rays_o.requires_grad or rays_d.requires_grad):
        found = Points.apply(rays_o, rays_d, samples, geometry)
        assert isinstance(found, Tensor)
        return found
    return buffers.rows_to_tensor(_point_rows(rays_o, rays_d, samples, geometry), samples.n_samples)


def _harmonics(directions: Tensor, low_precision: bool) -> Tensor:
    """[N, 16] float32, or pairs of bfloat16 [8, N, 2]."""
    values = spherical_harmonics(directions.detach())
    return buffers.pairs_to_tensor(buffers.tensor_to_pairs(values), values.shape[0]) if low_precision else values


class Harmonics(torch.autograd.Function):
    """(directions, whether in bfloat16) -> features."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, low_precision: bool) -> Tensor:
        ctx.save_for_backward(directions)
        return _harmonics(directions, low_precision)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (directions,) = ctx.saved_tensors
        return direction_gradient(directions, encode.dense(grad_outputs[0])), None


def harmonics(directions: Tensor, low_precision: bool) -> Tensor:
    """The operation ``sh_encode``."""
    if torch.is_grad_enabled() and directions.requires_grad:
        found = Harmonics.apply(directions, low_precision)
        assert isinstance(found, Tensor)
        return found
    return _harmonics(directions, low_precision)
