"""Adam as tiny-cuda-nn has it, in one pass: gradient, moments, parameter, its float16 copy, its running average; then the
gradient cleared.

Bound by memory. The unit is four neighbouring parameters, a vector of 16 bytes: where none of the four has a gradient, their
4 * 4 bytes of gradients are all that is read and nothing is written (2 * 16 and 16 bytes more for the average, if one is kept).
Where one has, 18 bytes a parameter are read and 20 written.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..adam import ADAM_MAX_STEPS, AdamSettings, AdamState, bias_corrections, whole_vectors
from . import aot
from .hash_cells import block_of

BLOCK = block_of(1024)
"""Parameters of a program: a vector to a thread."""

OPTIONS = {"num_warps": 8, "num_stages": 1, **aot.FUSED}

MOST: tl.constexpr = tl.constexpr(ADAM_MAX_STEPS)


@triton.jit(do_not_specialize=["n"])
def adam_kernel(  # type: ignore[no-untyped-def]
    param, grad, exp_avg, exp_avg_sq, steps, half, average, corrections, n,
    rate, beta1, rest1, beta2, rest2, epsilon, l2, weight,
    HALF: tl.constexpr, AVERAGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step on BLOCK of n parameters (a multiple of 16); ``half`` and ``average`` are used if HALF and AVERAGE say so.

    Args:
        corrections: float32 [ADAM_MAX_STEPS + 1], bias correction by step count.
        rate: learning rate.
        rest1, rest2: 1 - beta1, 1 - beta2.
        The rest: see :func:`step`.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    row = tl.arange(0, BLOCK // 4)[:, None] * 4
    i = row + tl.arange(0, 4)[None, :]
    inside = start + row < n
    g = tl.load(grad + start + i, mask=inside, other=0.0)
    touched = g != 0.0
    # One mask for the four: a mask for each would break up the vectors. All bits but the sign, so that not-a-number counts.
    some = tl.max(g.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1)[:, None] > 0
    if AVERAGE:
        p = tl.load(param + start + i, mask=inside, other=0.0)
    else:
        p = tl.load(param + start + i, mask=some, other=0.0)
    m = tl.load(exp_avg + start + i, mask=some, other=0.0)
    v = tl.load(exp_avg_sq + start + i, mask=some, other=0.0)
    count = tl.load(steps + start + i, mask=some, other=0).to(tl.int32)
    taken = tl.minimum(count + 1, MOST)
    full = g + l2 * p
    first = beta1 * m + rest1 * full
    second = beta2 * v + rest2 * full * full
    correction = tl.load(corrections + taken, mask=touched, other=0.0)
    moved = p - rate * correction * first / (tl.sqrt(second) + epsilon)
    p = tl.where(touched, moved, p)
    tl.store(param + start + i, p, mask=some)
    tl.store(exp_avg + start + i, tl.where(touched, first, m), mask=some)
    tl.store(exp_avg_sq + start + i, tl.where(touched, second, v), mask=some)
    tl.store(steps + start + i, tl.where(touched, taken, count).to(tl.int16), mask=some)
    tl.store(grad + start + i, tl.zeros_like(g), mask=some)
    if HALF:
        tl.store(half + start + i, p.to(tl.float16), mask=some)
    if AVERAGE:
        a = tl.load(average + start + i, mask=inside, other=0.0)
        tl.store(average + start + i, a + weight * (p - a), mask=inside)


@lru_cache(maxsize=8)
def _corrections(beta1: float, beta2: float, device: torch.device) -> Tensor:
    """Bias corrections, float32 on a device."""
    return torch.from_numpy(bias_corrections(beta1, beta2).astype(np.float32)).to(device)


def step(
    param: Tensor,
    grad: Tensor,
    state: AdamState,
    settings: AdamSettings,
    half: Tensor | None,
    average: Tensor | None = None,
    weight: float = 0.0,
) -> None:
    """One step on a whole vector, in place.

    Args:
        param: [P] float32; grad: [P] float32, cleared.
        state: moments and step counts [P].
        settings: hyper-parameters.
        half: float16 copy of the parameters to keep in step, or None.
        average: [P] float32 running average to take a step of, or None; weight: of the new parameters in it.
    """
    size = param.shape[0]
    whole_vectors(size)
    if not size:
        return
    p, beta1, beta2 = param.detach(), settings.beta1, settings.beta2
    adam_kernel[(triton.cdiv(size, BLOCK),)](
        p, grad, state.exp_avg, state.exp_avg_sq, state.steps, p if half is None else half, p if average is None else average,
        _corrections(beta1, beta2, p.device), size,
        float(settings.learning_rate), beta1, 1.0 - beta1, beta2, 1.0 - beta2, settings.epsilon, settings.l2_reg, float(weight),
        HALF=half is not None, AVERAGE=average is not None, BLOCK=BLOCK, **OPTIONS,
    )  # fmt: skip
    if average is not None:
        # Copies of the average in another precision are told by torch's count of changes, and torch saw none.
        torch.autograd.graph.increment_version(average)


def variants() -> list[aot.Variant]:
    """With and without a float16 copy and a running average."""
    vectors = dict.fromkeys(("param", "grad", "exp_avg", "exp_avg_sq", "average", "corrections"), "*fp32")
    numbers = dict.fromkeys(("rate", "beta1", "rest1", "beta2", "rest2", "epsilon", "l2", "weight"), "fp32")
    signature = {**vectors, "steps": "*i16", "half": "*fp16", "n": "i32", **numbers}
    found = []
    for copy in (False, True):
        for average in (False, True):
            what = f"{'float16 copy' if copy else 'alone'}{', average' if average else ''}"
            given = {"HALF": copy, "AVERAGE": average, "BLOCK": BLOCK, **OPTIONS}
            found.append(aot.variant(f"adam/{what}/float32", adam_kernel, signature, given))
    return found
