"""The packed layout."""

from __future__ import annotations

import torch

from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts

COUNTS = torch.tensor([2, 0, 3, 1, 0])


def _samples() -> PackedSamples:
    starts = torch.arange(6, dtype=torch.float32)
    return PackedSamples(starts, starts + 0.5, ray_indices_from_counts(COUNTS), packed_info_from_counts(COUNTS))


def test_counts_to_packed_info() -> None:
    info = packed_info_from_counts(COUNTS)
    assert info.dtype == torch.int32
    assert info.tolist() == [[0, 2], [2, 0], [2, 3], [5, 1], [6, 0]]


def test_counts_to_ray_indices() -> None:
    rays = ray_indices_from_counts(COUNTS)
    assert rays.dtype == torch.int32
    assert rays.tolist() == [0, 0, 2, 2, 2, 3]


def test_sizes() -> None:
    samples = _samples()
    assert (samples.n_samples, samples.n_rays) == (6, 5)


def test_no_rays_and_no_samples_are_legal() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert packed_info_from_counts(none).shape == (0, 2)
    assert ray_indices_from_counts(none).shape == (0,)
    empty = PackedSamples(torch.zeros(0), torch.zeros(0), none.int(), packed_info_from_counts(torch.zeros(3)))
    assert (empty.n_samples, empty.n_rays) == (0, 3)
    assert empty.packed_info.tolist() == [[0, 0]] * 3


def test_take_keeps_the_layout() -> None:
    kept = _samples().take(torch.tensor([1, 2, 4]), torch.tensor([1, 0, 2, 0, 0]))
    assert kept.t_starts.tolist() == [1.0, 2.0, 4.0]
    assert kept.t_ends.tolist() == [1.5, 2.5, 4.5]
    assert kept.ray_indices.tolist() == [0, 2, 2]
    assert kept.packed_info.tolist() == [[0, 1], [1, 0], [1, 2], [3, 0], [3, 0]]
    for ray, (first, count) in enumerate(kept.packed_info.tolist()):
        assert (kept.ray_indices[first : first + count] == ray).all()


def test_take_nothing() -> None:
    kept = _samples().take(torch.zeros(0, dtype=torch.int64), torch.zeros(5, dtype=torch.int32))
    assert kept.n_samples == 0
    assert kept.packed_info.tolist() == [[0, 0]] * 5
