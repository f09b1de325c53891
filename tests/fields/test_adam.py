"""The optimiser behind torch's interface: what becomes of gradients that no step has used."""

from __future__ import annotations

import pytest
import torch

from ngp_method.fields.adam import NgpAdam
from ngp_method.fields.trained import TrainedVector
from support.kernel_cases import kernels_of


def _trained(kind: str) -> torch.nn.Parameter:
    if kind == "plain":
        return torch.nn.Parameter(torch.ones(16))
    vector = TrainedVector(torch.ones(16))
    vector.kernels = kernels_of(kind)
    return vector


@pytest.mark.parametrize("kind", ["plain", "reference", "cpu", "triton"])
def test_a_gradient_scaler_that_skips_a_step_does_not_end_training(kind: str) -> None:
    """Infinity in one batch: the step is skipped, the next ones are as if it had never been."""
    param = _trained(kind)
    optimizer, scaler = NgpAdam([param], lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=100)
    values = []
    for number in range(4):
        optimizer.zero_grad()
        factor = float("inf") if number == 1 else 1.0
        scaler.scale((param * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        values.append(float(param[0].detach()))
    assert values[1] == values[0], "the step was skipped"
    assert values[3] < values[2] < values[1] < 1.0
    assert torch.isfinite(param).all()
    assert scaler.get_scale() == 2.0, "halved once"


@pytest.mark.parametrize("kind", ["plain", "cpu"])
def test_gradients_add_up_between_two_steps(kind: str) -> None:
    """nerfstudio clears once and goes backward several times where it accumulates."""
    apart, whole = _trained(kind), _trained(kind)
    for param, times in ((apart, 3), (whole, 1)):
        optimizer = NgpAdam([param], lr=0.1)
        for step in range(2):
            optimizer.zero_grad()
            for _ in range(times):
                ((step + 1) * param.sum() * 3 / times).backward()
            optimizer.step()
    assert torch.allclose(apart, whole)
    assert not torch.equal(whole, torch.ones(16))


def test_what_was_there_before_the_optimiser_is_cleared() -> None:
    param = _trained("plain")
    param.sum().backward()
    optimizer = NgpAdam([param], lr=0.1)
    optimizer.zero_grad()
    assert param.grad is not None
    assert not param.grad.any()
