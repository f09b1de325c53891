"""nerfacc's CUDA scans for sums along rays, where its extension is already built.

Its ``exclusive_sum`` over packed samples is the sum of optical thickness in front of each sample: the same numbers as ours, a
warp to a ray, float32. Its other parts are not used: ``traverse_grids`` does not take instant-ngp's steps (they are not
capped, the cascade follows from the position alone and not from the step, and behind an empty cell the steps are counted with
the length they had in front of it, so that they do not begin where ours begin), and ``render_weight_from_density`` has 1 -
exp(-x) where thin samples need expm1.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from .interface import Composited
from .samples import PackedSamples


def built() -> bool:
    """Whether nerfacc's extension can be loaded without compiling it: nerfacc compiles at first use where it finds nvcc."""
    if importlib.util.find_spec("nerfacc") is None:
        return False
    if importlib.util.find_spec("nerfacc.csrc") is None:
        from torch.utils.cpp_extension import _get_build_directory

        if not list(Path(_get_build_directory("nerfacc_cuda", verbose=False)).glob("nerfacc_cuda.*")):
            return False
    return importlib.import_module("nerfacc.cuda._backend")._C is not None


def _thickness_in_front(sigmas: Tensor, samples: PackedSamples) -> tuple[Tensor, Tensor]:
    """Optical thickness of each sample, and its sum over those in front of it on its ray, [N] each."""
    from nerfacc.scan import exclusive_sum

    thickness = sigmas * (samples.t_ends - samples.t_starts)
    in_front = exclusive_sum(thickness, samples.packed_info.long())
    # Of padding the sums say nothing.
    return thickness, torch.where(samples.real(), in_front, 0.0)


def visible_counts(sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
    """See the interface; at least one sample."""
    _, in_front = _thickness_in_front(sigmas.detach(), samples)
    visible = (samples.real() & (torch.exp(-in_front) >= threshold)).to(torch.int32)
    counts = torch.zeros(samples.n_rays, dtype=torch.int32, device=sigmas.device)
    return counts.index_add(0, samples.ray_indices.long(), visible)


def composite(sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
    """See the interface; at least one sample."""
    thickness, in_front = _thickness_in_front(sigmas, samples)
    weights = torch.exp(-in_front) * -torch.expm1(-thickness)
    rays = samples.ray_indices.long()
    zeros = weights.new_zeros(samples.n_rays)
    return Composited(
        rgbs=weights.new_zeros(samples.n_rays, 3).index_add(0, rays, weights[:, None] * rgbs),
        opacities=zeros.index_add(0, rays, weights),
        depths=zeros.index_add(0, rays, weights * 0.5 * (samples.t_starts + samples.t_ends)),
        weights=weights,
    )
