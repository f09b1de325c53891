"""The optimiser step of every kernel set against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState, Kernels
from ngp_method.kernels.adam import ADAM_MAX_STEPS
from support import tolerances as tol
from support.kernel_cases import (
    SETS,
    array,
    assert_near,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
    two_thread_results,
)

pytestmark = [pytest.mark.usefixtures("nan_memory"), pytest.mark.parametrize("kernel_set", SETS)]

REFERENCE = kernels_of("reference")
SIZES = (0, 16, 1008, 40_000)
"""Parameter vectors come in multiples of 16 (see the layouts)."""


def _state(n: int, dtype: torch.dtype, steps: int = 0) -> AdamState:
    return AdamState(torch.zeros(n, dtype=dtype), torch.zeros(n, dtype=dtype), torch.full((n,), steps, dtype=torch.int16))


def _gradients(n: int, count: int, share: float) -> list[Tensor]:
    """Sparse gradients: whole runs of zeros, and zeros between others; minus zero among them."""
    found = []
    for seed in range(count):
        rng = generator(seed, n)
        gradient = torch.randn(n, generator=rng) * (torch.rand(n, generator=rng) < share)
        gradient[n // 4 : n // 2] = 0.0
        gradient[:1] = -0.0
        found.append(gradient)
    return found


def _train(
    kernels: Kernels, start: Tensor, gradients: list[Tensor], settings: AdamSettings, steps: int = 0
) -> dict[str, Tensor]:
    param, state = start.clone(), _state(start.shape[0], start.dtype, steps)
    for gradient in gradients:
        given = gradient.to(start.dtype, copy=True)
        kernels.adam_step(param, given, state, settings)
        assert not given.any(), "the gradient is cleared"
    return {"values": param, "first moments": state.exp_avg, "second moments": state.exp_avg_sq, "steps": state.steps}


@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("share", [0.05, 1.0])
@pytest.mark.parametrize("n", SIZES)
def test_adam(kernel_set: str, n: int, share: float, l2: float) -> None:
    start, gradients = torch.randn(n, generator=generator(n)), _gradients(n, 10, share)
    settings = AdamSettings(learning_rate=1e-2, l2_reg=l2)
    got = _train(kernels_of(kernel_set), start, gradients, settings)
    truth = _train(REFERENCE, start.double(), gradients, settings)
    assert torch.equal(got.pop("steps"), truth.pop("steps"))
    for what, exact in truth.items():
        assert_near(got[what], exact, tol.ADAM_32 * float(exact.abs().max() if n else 0.0), what)


def test_parameters_without_gradient_are_left_alone(kernel_set: str) -> None:
    n = 1008
    start, gradients = torch.randn(n, generator=generator(1)), _gradients(n, 6, 0.3)
    got = _train(kernels_of(kernel_set), start, gradients, AdamSettings(0.1, l2_reg=0.5))
    touched = torch.stack([g != 0 for g in gradients])
    assert torch.equal(got["steps"].long(), touched.sum(0))
    never = ~touched.any(0)
    assert never.sum() > 200
    assert torch.equal(got["values"][never], start[never])
    assert not got["first moments"][never].any()
    assert (got["values"][~never] != start[~never]).all()


def test_step_counts_saturate(kernel_set: str) -> None:
    start, gradients = torch.randn(64, generator=generator(1)), _gradients(64, 4, 1.0)
    for steps in (ADAM_MAX_STEPS - 2, ADAM_MAX_STEPS):
        got = _train(kernels_of(kernel_set), start, gradients, AdamSettings(1e-2), steps)
        truth = _train(REFERENCE, start.double(), gradients, AdamSettings(1e-2), steps)
        assert got["steps"].max() == ADAM_MAX_STEPS
        assert torch.equal(got["steps"], truth["steps"])
        assert_near(got["values"], truth["values"], tol.ADAM_32 * float(start.abs().max()), "values")


def test_other_settings(kernel_set: str) -> None:
    settings = AdamSettings(3e-3, beta1=0.5, beta2=0.999, epsilon=1e-8, l2_reg=1e-3)
    start, gradients = torch.randn(160, generator=generator(4)), _gradients(160, 5, 0.5)
    got = _train(kernels_of(kernel_set), start, gradients, settings)
    truth = _train(REFERENCE, start.double(), gradients, settings)
    # One minus beta2 is off by 3e-8 / 1e-3 in float32: ten times what it is with 0.99.
    for what in ("values", "first moments", "second moments"):
        assert_near(got[what], truth[what], 10 * tol.ADAM_32 * float(truth[what].abs().max()), what)


def test_a_first_step_moves_by_the_learning_rate(kernel_set: str) -> None:
    """Whatever the gradient's size, from 1e-10 to 1e10: Adam's bias correction makes the first step the learning
    rate."""
    size = torch.logspace(-10, 10, 64)
    got = _train(kernels_of(kernel_set), torch.zeros(64), [-size], AdamSettings(1e-2))
    assert_near(got["values"], torch.full((64,), 1e-2), 1e-2 * tol.FIRST_STEP, "steps")


def test_refused_lengths_change_nothing(kernel_set: str) -> None:
    """A vector whose length is no multiple of 16 is refused before anything is changed."""
    param, gradient, state = torch.ones(40), torch.ones(40), _state(40, torch.float32)
    with pytest.raises(ValueError, match="multiple of 16, not 40"):
        kernels_of(kernel_set).adam_step(param, gradient, state, AdamSettings(1e-2))
    assert (param == 1).all()
    assert (gradient == 1).all()
    assert not state.steps.any()


@pytest.mark.sets("cpu")
def test_one_and_two_threads_agree_to_the_last_bit(kernel_set: str) -> None:
    n = 200_000
    start, gradients = torch.randn(n, generator=generator(n)), _gradients(n, 2, 0.3)

    def results(kernels: Kernels) -> Iterator[Tensor]:
        yield from _train(kernels, start, gradients, AdamSettings(1e-2)).values()

    two_thread_results(kernel_set, results)


@pytest.mark.parametrize("n", [*SIZES, 200_000])
@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_average(kernel_set: str, n: int, weight: float) -> None:
    before, value = (torch.randn(n, generator=generator(n, seed)) for seed in (1, 2))
    average = before.clone()
    kernels_of(kernel_set).average(average, value.clone().requires_grad_(), weight)
    truth = before.double() + weight * (value.double() - before.double())
    assert_near(average, truth, 4 * tol.ROUNDOFF32 * (array(before.abs()) + array(value.abs())), "average")


@pytest.mark.parametrize("share", [0.05, 1.0])
@pytest.mark.parametrize("n", SIZES)
def test_a_step_with_its_running_average(kernel_set: str, n: int, share: float) -> None:
    """The parameters are those of a step without; the average of all entries, touched or not, takes in the new ones."""
    settings, weights = AdamSettings(learning_rate=1e-2, l2_reg=1e-2), (1.0, 0.5, 0.05)
    start, gradients = torch.randn(n, generator=generator(n)), _gradients(n, len(weights), share)
    alone = _train(kernels_of(kernel_set), start, gradients, settings)["values"]
    param, average, state = start.clone(), torch.randn(n, generator=generator(n, 1)), _state(n, torch.float32)
    truth = average.double()
    for gradient, weight in zip(gradients, weights):
        kernels_of(kernel_set).adam_step(param, gradient.clone(), state, settings, average, weight)
        truth += weight * (param.double() - truth)
    assert torch.equal(param, alone)
    largest = float(param.abs().max()) if n else 0.0
    assert_near(average, truth, 4 * len(weights) * tol.ROUNDOFF32 * 4 * largest, "average")


def test_torch_sees_that_the_average_changed(kernel_set: str) -> None:
    """Its count of changes tells copies in another precision that they are old."""
    param, average = torch.ones(32), torch.zeros(32)
    before = average._version
    kernels_of(kernel_set).adam_step(param, torch.ones(32), _state(32, torch.float32), AdamSettings(1e-2), average, 0.5)
    assert average._version > before
    assert (average != 0).all()


def test_it_learns(kernel_set: str) -> None:
    """Twelve hundred steps down a quadratic bowl end at its bottom."""
    target = torch.randn(64, generator=generator(8))
    param, state = torch.zeros(64), _state(64, torch.float32)
    for step in range(1200):
        kernels_of(kernel_set).adam_step(param, param - target, state, AdamSettings(0.05 * 0.995**step))
    assert float((param - target).abs().max()) < 2e-3
    assert array(state.steps).max() <= 1200
