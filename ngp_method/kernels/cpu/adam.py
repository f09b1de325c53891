"""Adam as tiny-cuda-nn has it, in one pass: gradient, moments, parameter and its float16 copy, then the gradient cleared.

Bound by memory: 20 bytes read and 22 written a parameter. Sixteen parameters whose gradients are all zero cost the reading
of those gradients alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..adam import ADAM_MAX_STEPS, AdamSettings, AdamState, bias_corrections, whole_vectors
from . import pool
from .simd import any_nonzero, as_float, minimum_u, spread_f, spread_u, sqrt, where_nonzero
from .simd_memory import gather, load, load_u16, store, store_half, store_u16


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_step(param, grad, first, second, steps, half, rates, beta1, beta2, epsilon, l2, begin, end):  # type: ignore[no-untyped-def]
    """One step on parameters begin .. end - 1 (multiples of 16); those with a zero gradient are left alone.

    Args:
        param, grad, first, second: float32 [P].
        steps: uint16 [P].
        half: uint16 [P] float16 copy, or [0].
        rates: uint32 view of float32 [ADAM_MAX_STEPS + 1], learning rate times bias correction by step count.
    """
    b1, b2, eps, decay = spread_f(beta1), spread_f(beta2), spread_f(epsilon), spread_f(l2)
    one, zero = spread_f(np.float32(1.0)), spread_f(np.float32(0.0))
    c1, c2 = one - b1, one - b2
    u1, most = spread_u(np.uint32(1)), spread_u(np.uint32(ADAM_MAX_STEPS))
    copy = half.shape[0] > 0
    for i in range(begin, end, 16):
        g = load(grad, i)
        if any_nonzero(g):
            p, m0, v0, n0 = load(param, i), load(first, i), load(second, i), load_u16(steps, i)
            n = minimum_u(n0 + u1, most)
            full = g + decay * p
            m, v = b1 * m0 + c1 * full, b2 * v0 + c2 * full * full
            moved = p - as_float(gather(rates, n)) * m / (sqrt(v) + eps)
            p = where_nonzero(g, moved, p)
            store(param, i, p)
            store(first, i, where_nonzero(g, m, m0))
            store(second, i, where_nonzero(g, v, v0))
            store_u16(steps, i, where_nonzero(g, n, n0))
            store(grad, i, zero)
            if copy:
                store_half(half, i, p)


def step(param: Tensor, grad: Tensor, state: AdamState, settings: AdamSettings, half: Tensor | None) -> None:
    """One step on a whole vector, in place.

    Args:
        param: [P] float32; grad: [P] float32, cleared.
        state: moments; ``steps`` uint16-sized [P] int16 (always per parameter here).
        settings: hyper-parameters.
        half: float16 copy of the parameters to keep in step, or None.
    """
    whole_vectors(param.shape[0])
    rates = (settings.learning_rate * bias_corrections(settings.beta1, settings.beta2)).astype(np.float32).view(np.uint32)
    arrays = [t.detach().numpy() for t in (param, grad, state.exp_avg, state.exp_avg_sq)]
    counts = state.steps.numpy().view(np.uint16)
    copy = np.empty(0, np.uint16) if half is None else half.view(torch.int16).numpy().view(np.uint16)
    numbers = [np.float32(v) for v in (settings.beta1, settings.beta2, settings.epsilon, settings.l2_reg)]
    ranges = pool.chunks(param.shape[0], 16, at_least=1 << 14, per_thread=4)
    pool.run(lambda c: sparse_step(*arrays, counts, copy, rates, *numbers, *ranges[c]), len(ranges))
