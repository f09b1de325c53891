"""Perceptron kernels: all layers of a tile of samples in one program, forward and backward.

Programs are persistent: a grid about as large as the device, each program taking every so many-th tile, so that the matrices
are read and rounded once a program (28 KB in float32 for the colour network; a tile's inputs and outputs are 14 KB).

Backward, hidden activations are computed again: 4,096 to 8,192 operations a sample and layer of 64, 0.01 to 0.02 ns on an H100
at half its peak, where writing and reading 256 bytes takes 0.09 ns (and until then, 128 bytes of memory a sample and layer).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .mlp_tiles import (
    add_matrix,
    add_product,
    before,
    cast,
    first_layer,
    first_matrix,
    hidden,
    inner_matrix,
    later_matrices,
    part,
    positive,
    power_of_two,
    product,
    put_runs,
)

PLAIN = ["n", "x0_n", "x0_c", "x1_n", "x1_c", "x2_n", "x2_c", "up_n", "up_c"]
"""Integers that Triton shall not specialise on: they change from step to step, and each kind would be compiled anew. What
matters of them, RUNS says."""


@triton.jit(do_not_specialize=PLAIN)
def forward_kernel(  # type: ignore[no-untyped-def]
    x0, x1, x2, x0_n, x0_c, x1_n, x1_c, x2_n, x2_c, weights, out, n,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr,
    RUNS0: tl.constexpr, RUNS1: tl.constexpr, RUNS2: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Outputs of a perceptron.

    Args:
        x0, x1, x2: parts [n, C0], [n, C1], [n, C2] (zero features: no such part), strides (x0_n, x0_c) and so on.
        weights: float32, matrices [out, in] one after the other (layout.py).
        out: float32 [ROWS, n rounded up to 16].
        C0, ...: features. P0, ...: powers of two that hold them. RUNS0, ...: see :func:`~.mlp_tiles.part`.
        INPUTS: columns of the first matrix. WIDTH, W: neurons, and a power of two that holds them. HIDDEN: hidden layers.
        ROWS, OUT: outputs wanted, and a power of two that holds them.
    """
    inner = weights + WIDTH * INPUTS
    w0, w1, w2 = first_matrix(weights, C0, C1, C2, P0, P1, P2, INPUTS, WIDTH, W, DTYPE)
    m1, m2, w_out = later_matrices(inner, WIDTH, W, HIDDEN, ROWS, OUT, DTYPE)
    for first in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        a0 = cast(part(x0, x0_n, x0_c, first, n, C0, P0, BLOCK, RUNS0), DTYPE)
        a1 = a0
        a2 = a0
        if C1 > 0:
            a1 = cast(part(x1, x1_n, x1_c, first, n, C1, P1, BLOCK, RUNS1), DTYPE)
        if C2 > 0:
            a2 = cast(part(x2, x2_n, x2_c, first, n, C2, P2, BLOCK, RUNS2), DTYPE)
        sums = first_layer(a0, a1, a2, w0, w1, w2, C1, C2, BLOCK, W)
        h = hidden(sums, inner, m1, m2, HIDDEN, WIDTH, BLOCK, W, DTYPE)
        put_runs(out, product(h, tl.trans(w_out), tl.zeros([BLOCK, OUT], tl.float32)), first, n, ROWS, OUT, BLOCK)


@triton.jit(do_not_specialize=PLAIN)
def backward_kernel(  # type: ignore[no-untyped-def]
    x0, x1, x2, x0_n, x0_c, x1_n, x1_c, x2_n, x2_c, weights, up, up_n, up_c, d0, d1, d2, d_weights, n,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr,
    RUNS0: tl.constexpr, RUNS1: tl.constexpr, RUNS2: tl.constexpr, RUNS_UP: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, ENDS: tl.constexpr, KA: tl.constexpr, KB: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a perceptron's parts and weights, the latter added to what is there.

    Gradients of matrices are summed over a program's tiles in registers, and over programs at the end, by atomic additions.
    Registers hold two between hidden layers beside the first and the last: for deeper networks, the kernel is launched more
    than once.

    Args:
        up: gradient of the outputs [n, ROWS], strides (up_n, up_c).
        d0, d1, d2: gradients of the parts [C0, n rounded up to 16] and so on.
        d_weights: float32, as ``weights``.
        D0, D1, D2: which of the parts' gradients to write. ENDS: whether to add the gradients of the first and the last matrix.
        KA, KB: matrices between hidden layers (1: the first) whose gradients to add; 0 for none.
        The rest as in :func:`forward_kernel`.
    """
    inner = weights + WIDTH * INPUTS
    w0, w1, w2 = first_matrix(weights, C0, C1, C2, P0, P1, P2, INPUTS, WIDTH, W, DTYPE)
    m1, m2, w_out = later_matrices(inner, WIDTH, W, HIDDEN, ROWS, OUT, DTYPE)
    s0 = tl.zeros([W, P0], tl.float32)
    s1 = tl.zeros([W, P1], tl.float32)
    s2 = tl.zeros([W, P2], tl.float32)
    sa = tl.zeros([W, W], tl.float32)
    sb = tl.zeros([W, W], tl.float32)
    s_out = tl.zeros([W, OUT], tl.float32)
    for first in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        # What lies beyond the last sample has no gradient, and its features must not be not-a-number either: 0 * nan is nan.
        a0 = before(cast(part(x0, x0_n, x0_c, first, n, C0, P0, BLOCK, RUNS0), DTYPE), first, n, BLOCK)
        a1 = a0
        a2 = a0
        if C1 > 0:
            a1 = before(cast(part(x1, x1_n, x1_c, first, n, C1, P1, BLOCK, RUNS1), DTYPE), first, n, BLOCK)
        if C2 > 0:
            a2 = before(cast(part(x2, x2_n, x2_c, first, n, C2, P2, BLOCK, RUNS2), DTYPE), first, n, BLOCK)
        g = before(part(up, up_n, up_c, first, n, ROWS, OUT, BLOCK, RUNS_UP).to(tl.float32), first, n, BLOCK)
        inverse = 1.0
        if DTYPE == tl.float16:  # noqa: SIM300 - a constexpr compares from the left
            scale, inverse = power_of_two(tl.max(tl.max(tl.abs(g), 1), 0))
            g = g * scale
        g = cast(g, DTYPE)
        sums = first_layer(a0, a1, a2, w0, w1, w2, C1, C2, BLOCK, W)
        for step in tl.static_range(HIDDEN):
            # Layer by layer from the first each time: the compiler finds what it has already.
            h = hidden(sums, inner, m1, m2, HIDDEN - step, WIDTH, BLOCK, W, DTYPE)
            if step == 0:
                if ENDS:  # transposed, as 64 rows are the least that Hopper's wgmma takes
                    s_out = add_product(s_out, tl.trans(h), g, inverse, DTYPE)
                back = product(g, w_out, tl.zeros([BLOCK, W], tl.float32))
            else:
                if HIDDEN - step == KA:
                    sa = add_product(sa, tl.trans(g), h, inverse, DTYPE)
                if HIDDEN - step == KB:
                    sb = add_product(sb, tl.trans(g), h, inverse, DTYPE)
                w = inner_matrix(inner, m1, m2, HIDDEN - step, WIDTH, W, DTYPE)
                back = product(g, w, tl.zeros([BLOCK, W], tl.float32))
            g = cast(tl.where(positive(h), back, 0.0), DTYPE)
        if ENDS:
            s0 = add_product(s0, tl.trans(g), a0, inverse, DTYPE)
            if C1 > 0:
                s1 = add_product(s1, tl.trans(g), a1, inverse, DTYPE)
            if C2 > 0:
                s2 = add_product(s2, tl.trans(g), a2, inverse, DTYPE)
        if D0:
            put_runs(d0, product(g, w0, tl.zeros([BLOCK, P0], tl.float32)) * inverse, first, n, C0, P0, BLOCK)
        if D1:
            put_runs(d1, product(g, w1, tl.zeros([BLOCK, P1], tl.float32)) * inverse, first, n, C1, P1, BLOCK)
        if D2:
            put_runs(d2, product(g, w2, tl.zeros([BLOCK, P2], tl.float32)) * inverse, first, n, C2, P2, BLOCK)
    below = d_weights + WIDTH * INPUTS
    if ENDS:
        add_matrix(d_weights, s0, INPUTS, WIDTH, C0, W, P0)
        if C1 > 0:
            add_matrix(d_weights + C0, s1, INPUTS, WIDTH, C1, W, P1)
        if C2 > 0:
            add_matrix(d_weights + C0 + C1, s2, INPUTS, WIDTH, C2, W, P2)
        add_matrix(below + (HIDDEN - 1) * WIDTH * WIDTH, tl.trans(s_out), WIDTH, ROWS, WIDTH, OUT, W)
    if KA > 0:
        add_matrix(below + (KA - 1) * WIDTH * WIDTH, sa, WIDTH, WIDTH, WIDTH, W, W)
    if KB > 0:
        add_matrix(below + (KB - 1) * WIDTH * WIDTH, sb, WIDTH, WIDTH, WIDTH, W, W)
