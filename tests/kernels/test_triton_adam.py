"""What is special to the Triton optimiser step: copies kept in step, memory left untouched."""

from __future__ import annotations

import pytest
import torch

from ngp_method.kernels import AdamSettings, AdamState
from ngp_method.kernels.layout import HashGridLayout
from support.kernel_cases import generator, kernels_of

LAYOUT = HashGridLayout(n_levels=3, log2_hashmap_size=10, base_resolution=5, finest_resolution=20)


def _state(n: int) -> AdamState:
    return AdamState(torch.zeros(n), torch.zeros(n), torch.zeros(n, dtype=torch.int16))


def _sparse(n: int) -> torch.Tensor:
    """Gradients of a tenth of the parameters."""
    return torch.randn(n, generator=generator(n)) * (torch.rand(n, generator=generator(n, 1)) < 0.1)


@pytest.mark.parametrize("averaged", [False, True])
def test_the_float16_copy_is_kept_in_step(averaged: bool) -> None:
    """The copy the encoding reads is the rounded parameter after each step, without being made anew."""
    kernels, n = kernels_of("triton"), LAYOUT.n_params
    table, average, state = torch.randn(n, generator=generator(2)), torch.zeros(n), _state(n)
    half = kernels.half_tables.of(table)  # type: ignore[attr-defined]
    for _ in range(3):
        kernels.adam_step(table, _sparse(n), state, AdamSettings(0.1), average if averaged else None, 0.5)
        assert kernels.half_tables.current(table) is half  # type: ignore[attr-defined]
        assert torch.equal(half, table.half())


def test_the_copy_of_an_average_is_made_anew() -> None:
    """The step changes the average behind torch's back; what is rendered with it must not be the old one."""
    kernels, n, x = kernels_of("triton"), LAYOUT.n_params, torch.rand(30, 3, generator=generator(5))
    table, average = torch.randn(n, generator=generator(2)), torch.zeros(n)
    assert not kernels.hash_encode(x, average, LAYOUT).any()
    kernels.adam_step(table, _sparse(n), _state(n), AdamSettings(0.1), average, 0.5)
    assert torch.equal(kernels.hash_encode(x, average, LAYOUT), kernels.hash_encode(x, average.clone(), LAYOUT))
    assert kernels.hash_encode(x, average, LAYOUT).any()


@pytest.mark.parametrize("kernel_set", ["triton", "triton-float32"])
def test_entries_without_gradient_are_not_even_read(kernel_set: str) -> None:
    """Where none of four neighbours has a gradient nothing is read but the gradient, and nothing written."""
    n = 4096
    gradient = _sparse(n).view(-1, 4)
    gradient[n // 8 :] = 0.0
    idle = (gradient == 0).all(1)
    assert 0.5 < idle.float().mean() < 1
    table, state = torch.randn(n, generator=generator(2)), _state(n)
    for tensor in (table, state.exp_avg, state.exp_avg_sq):
        tensor.view(-1, 4)[idle] = float("nan")
    state.steps.view(-1, 4)[idle] = -7
    kernels_of(kernel_set).adam_step(table, gradient.view(-1), state, AdamSettings(0.1, l2_reg=1e-2))
    for tensor in (table, state.exp_avg, state.exp_avg_sq):
        assert torch.isnan(tensor.view(-1, 4)[idle]).all()
        assert torch.isfinite(tensor.view(-1, 4)[~idle]).all()
    assert (state.steps.view(-1, 4)[idle] == -7).all()
    assert not gradient.any()
