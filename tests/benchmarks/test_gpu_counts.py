"""What is counted as a launch and as a wait, and how many of each a training step has."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch

from measure import gpu_counts, gpu_scene, gpu_training
from measure.gpu_steps import LONG
from support.kernel_cases import kernels_of

MOST = 46
"""Launches of forward, backward and optimisers."""


def test_what_counts() -> None:
    a = torch.rand(8, 3)
    with gpu_counts.counting() as counts:
        b = a.t()[:2].detach().view_as(a.t()[:2])  # views
        torch.empty(5)
        assert (counts.launches, counts.waits.total()) == (0, 0)
        b = b * 2.0 + 1.0
        assert counts.torch == {"mul": 1, "add": 1}
        float(b.sum().detach())
        torch.nonzero(b > 0)
    assert counts.waits == {"_local_scalar_dense": 1, "nonzero": 1}
    assert counts.triton == {}
    with gpu_counts.counting() as counts:
        kernels_of("triton").sh_encode(torch.nn.functional.normalize(a, dim=-1))
    assert counts.triton == {"spherical_kernel": 1}
    assert gpu_counts.synchronisations(lambda: None) in (None, 0)


def test_a_training_step_launches_few_kernels_and_waits_once() -> None:
    views = gpu_scene.shrink(gpu_scene.load(gpu_scene.find("demo", None), "train", torch.device("cpu"), 4), 24)
    small = gpu_training.settings(9, n_levels=2, finest_resolution=64)
    training = gpu_training.Training(kernels_of("triton"), views, 1 << 9, small, resolution=16, step_scale=24.0)
    training.step.settings = replace(training.step.settings, average_interval=1)
    for _ in range(4):
        training.train_step()
    training.grid.update_interval = LONG
    batch = training.batch()
    with gpu_counts.counting() as counts:
        training.step.before(100)
        reduce(torch.add, training.step(*batch).values()).backward()
        for optimizer in training.optimizers:
            optimizer.step()
        training.step.after(100)
    assert counts.launches <= MOST, counts.record()
    assert counts.waits == {"_local_scalar_dense": 1}
