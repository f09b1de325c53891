"""torch.compile of the reference beside the kernels: what one gets without writing any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState
from ngp_method.kernels.layout import MLPLayout

from .gpu_check import COLOUR, DENSITY, LAYOUTS, REFERENCE
from .gpu_ops import Inputs
from .gpu_time import device_ms

REPEATS = 10


def _pair(compute: Callable[..., Tensor], leaves: list[Tensor]) -> tuple[float, float]:
    """Milliseconds of the compiled forward, and of its backward."""
    compiled = torch.compile(compute, dynamic=False)
    given = [v.detach().clone().requires_grad_() for v in leaves]

    def without_gradient(i: int) -> Tensor:
        with torch.no_grad():
            return compiled(*given)  # type: ignore[no-any-return]

    forward = device_ms(without_gradient, 1, REPEATS)
    out = compiled(*given)
    c = torch.randn_like(out)

    def clear(i: int) -> None:
        for leaf in given:
            leaf.grad = None

    return forward, device_ms(lambda i: out.backward(c, retain_graph=True), 1, REPEATS, clear)


def _mlp(inputs: Inputs, layout: MLPLayout, dtype: torch.dtype) -> tuple[float, float]:
    x = inputs.normal(inputs.n, layout.n_input_dims).to(dtype)
    weights = 0.2 * inputs.normal(layout.n_params)
    return _pair(lambda x, weights: REFERENCE.mlp([x], weights, layout), [x, weights])


def _composite(inputs: Inputs) -> tuple[float, float]:
    samples = inputs.samples[0]

    def compute(sigmas: Tensor, rgbs: Tensor) -> Tensor:
        out = REFERENCE.composite(sigmas, rgbs, samples)
        return torch.cat([out.rgbs, out.opacities[:, None], out.depths[:, None]], -1)

    return _pair(compute, [60.0 * inputs.uniform(samples.n_samples), inputs.uniform(samples.n_samples, 3)])


def _adam(inputs: Inputs) -> tuple[float, None]:
    n = LAYOUTS["16x2"].n_params
    param, gradient = inputs.uniform(n), inputs.normal(n) * (inputs.uniform(n) < 0.3)
    state = AdamState(torch.zeros(n, device=inputs.device), torch.zeros(n, device=inputs.device),
                      torch.zeros(n, dtype=torch.int16, device=inputs.device))  # fmt: skip
    target = torch.empty_like(gradient)
    step = torch.compile(REFERENCE.adam_step, dynamic=False)
    run = lambda i: step(param, target, state, AdamSettings(1e-2))  # noqa: E731
    return device_ms(run, 1, REPEATS, lambda i: target.copy_(gradient)), None


def _hash(inputs: Inputs) -> tuple[float, float]:
    layout = LAYOUTS["16x2"]
    x = inputs.positions[0].detach().contiguous()
    return _pair(lambda table: REFERENCE.hash_encode(x, table, layout), [inputs.uniform(layout.n_params)])


def measure(inputs: Inputs, low: torch.dtype, seconds: float) -> Iterator[tuple[str, float | str]]:
    """(name of the operation, milliseconds or why there is none), cheap ones first; none is begun after ``seconds``."""
    functorch: Any = __import__("torch._functorch.config", fromlist=["config"])
    if hasattr(functorch, "donated_buffer"):
        functorch.donated_buffer = False  # the backward is run more than once
    wanted: list[tuple[list[str], Callable[[], tuple[float, float | None]]]] = [
        (["mlp density forward", "mlp density backward"], lambda: _mlp(inputs, DENSITY, low)),
        (["mlp colour forward", "mlp colour backward"], lambda: _mlp(inputs, COLOUR, low)),
        (["composite forward", "composite backward"], lambda: _composite(inputs)),
        (["adam_step table"], lambda: _adam(inputs)),
        (
            ["hash_encode 16x2 forward, samples of rays", "hash_encode 16x2 table gradient, samples of rays"],
            lambda: _hash(inputs),
        ),
    ]
    began = time.monotonic()
    for names, run in wanted:
        if time.monotonic() - began > seconds:
            yield from ((name, "no time left") for name in names)
            continue
        try:
            found = run()
        except Exception as error:  # inductor may fail in any way; the kernels' own times stand
            yield from ((name, f"{type(error).__name__}") for name in names)
            continue
        yield from ((name, ms) for name, ms in zip(names, found) if ms is not None)
