"""How the perceptron kernels are launched: which shapes they take, block sizes, constants, and the launches of one gradient.

Block sizes, from what compiles to (registers a thread, bytes spilled; Triton 3.9, sm_80 and sm_90, bfloat16, num_stages 1):

* Forward, up to 64 neurons: 128 samples, 4 warps (103 to 146 registers, none spilled). A warp
  has 32 samples and so reads each matrix from shared memory half as often as with 16.
* Backward, up to 64: 64 samples, 4 warps (125 to 255 registers, 36 bytes spilled at most). With 128 samples, 72 to 240 bytes
  are spilled; with 8 warps, half of them multiply what the other half does (64 rows are 4 warps' work).
* 128 neurons: 8 warps; forward 128 samples (122 to 150 registers). Backward 64, of more than one hidden layer 32, and gradients
  of the matrices between hidden layers in launches of their own: with one launch 300 bytes are spilled, and shared memory is
  160 KB where 99 are to be had (sm_86, 89, 120).
* float32: forward 64 samples, backward 32, 8 warps. Its products are not for matrix units; it is there for proofs, not for
  speed.

num_stages is 1: loads under way while the tile before is computed cost 8 to 38 registers (or, on AMD, twice the code and, on
gfx1100, 300 spilled registers), and 2 to 4 programs on a processor hide one another's waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..layout import PADDING, MLPLayout
from .aot import FUSED
from .device import interpreted
from .mlp_kernels import backward_kernel, forward_kernel
from .runs import empty_runs, in_runs

TRITON_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
MOST_PARTS = 3
WIDEST = 128
WIDEST_FLOAT32 = 64
"""Neurons, inputs and outputs that the kernels take; in float32 a matrix of 128 x 128 fills all shared memory."""

PROGRAMS = 3
"""Programs for each processor of the device: as many as fit there at a time (of 168 registers and 4 warps). Were there
more, the last ones would start when the first are through, and run alone."""

DEEP_BACKWARD_PROGRAMS = 2
"""The same of the backward kernel with more than one hidden layer (up to 255 registers)."""


@dataclass(frozen=True)
class Blocks:
    """Samples of a tile and warps of a program."""

    samples: int
    warps: int

    def options(self) -> dict[str, Any]:
        """Launch options."""
        return {"num_warps": self.warps, "num_stages": 1, **FUSED}


def power_of_two(value: int) -> int:
    """The least power of two that holds ``value``, at least 16: what a tile's side may be."""
    return max(16, triton.next_power_of_2(value))


def blocks_of(layout: MLPLayout, dtype: torch.dtype, backward: bool) -> Blocks:
    """Block sizes (see the head of this file)."""
    if interpreted():  # where it is the number of operations that takes time
        return Blocks(1024, 4)
    if dtype == torch.float32:
        return Blocks(32 if backward else 64, 8)
    wide = max(layout.n_neurons, layout.padded_input) > 64
    if not backward:
        return Blocks(128, 8 if wide else 4)
    if not wide:
        return Blocks(64, 4)
    return Blocks(64 if layout.n_hidden_layers == 1 else 32, 8)


def takes(layout: MLPLayout, dtype: torch.dtype, counts: Sequence[int], rows: int) -> bool:
    """Whether the kernels can compute this perceptron of parts with ``counts`` features."""
    widest = WIDEST_FLOAT32 if dtype == torch.float32 else WIDEST
    return len(counts) <= MOST_PARTS and max(layout.n_neurons, layout.padded_input, rows) <= widest


@lru_cache(maxsize=256)
def constants(layout: MLPLayout, dtype: torch.dtype, counts: tuple[int, ...], rows: int) -> dict[str, Any]:
    """Constants that both kernels have."""
    found: dict[str, Any] = {}
    for index in range(MOST_PARTS):
        count = counts[index] if index < len(counts) else 0
        found[f"C{index}"] = count
        found[f"P{index}"] = power_of_two(count)
    found.update(INPUTS=layout.padded_input, WIDTH=layout.n_neurons, W=power_of_two(layout.n_neurons), ROWS=rows)
    found.update(HIDDEN=layout.n_hidden_layers, OUT=power_of_two(rows), DTYPE=TRITON_TYPES[dtype])
    return found


@lru_cache(maxsize=64)
def rounds(layout: MLPLayout) -> tuple[tuple[bool, int, int], ...]:
    """(ENDS, KA, KB) of each launch of the backward kernel; only the first writes the parts' gradients."""
    inner = list(range(1, layout.n_hidden_layers))
    if layout.n_neurons > 64:
        return ((True, 0, 0), *((False, k, 0) for k in inner))
    first, rest = inner[:1], inner[1:]
    pairs = [(*rest[i : i + 2], 0)[:2] for i in range(0, len(rest), 2)]
    return ((True, first[0] if first else 0, 0), *((False, a, b) for a, b in pairs))


@lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """Multiprocessors (compute units) of a device; few in the interpreter, where programs run one after the other."""
    return 2 if interpreted() else int(torch.cuda.get_device_properties(device).multi_processor_count)


def _parts(parts: Sequence[Tensor]) -> tuple[list[Tensor], list[int], dict[str, bool]]:
    """(Pointers, strides, RUNS) of the parts, the first in place of those that there are not."""
    filled = [*parts, *[parts[0]] * (MOST_PARTS - len(parts))]
    runs = [in_runs(part) for part in parts] + [False] * (MOST_PARTS - len(parts))
    strides = [stride for part in filled for stride in part.stride()]
    return filled, strides, {f"RUNS{i}": run for i, run in enumerate(runs)}


def forward(parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, dtype: torch.dtype, rows: int) -> Tensor:
    """Outputs [N, rows] float32."""
    n, device = parts[0].shape[0], parts[0].device
    out = empty_runs(n, rows, torch.float32, device)
    if n:
        blocks = blocks_of(layout, dtype, backward=False)
        pointers, strides, runs = _parts(parts)
        grid = (min(triton.cdiv(n, blocks.samples), PROGRAMS * processors(device)),)
        forward_kernel[grid](
            *pointers, *strides, weights, out, n, **constants(layout, dtype, tuple(p.shape[1] for p in parts), rows), **runs,
            BLOCK=blocks.samples, **blocks.options(),
        )  # fmt: skip
    return out


def backward(
    up: Tensor, parts: Sequence[Tensor], weights: Tensor, layout: MLPLayout, dtype: torch.dtype,
    wanted: Sequence[bool], d_weights: Tensor | None,
) -> list[Tensor | None]:  # fmt: skip
    """Gradients of the parts that are ``wanted``; adds that of the weights to ``d_weights`` if there is one.

    Args:
        up: gradient of the outputs [N, rows], any strides.
    """
    n, device = up.shape[0], up.device
    found = [empty_runs(n, p.shape[1], p.dtype, device) if need else None for p, need in zip(parts, wanted)]
    if not n or (d_weights is None and not any(wanted)):
        return found
    blocks = blocks_of(layout, dtype, backward=True)
    pointers, strides, runs = _parts(parts)
    targets = [up if one is None else one for one in [*found, *[None] * (MOST_PARTS - len(parts))]]
    shared = constants(layout, dtype, tuple(p.shape[1] for p in parts), up.shape[1])
    # Few rows are a small part of what is read, and go by their strides: colours come from torch, in runs for one number of
    # samples in sixteen only, and the kernel would be compiled twice.
    runs_up = up.shape[1] >= PADDING and in_runs(up)
    programs = PROGRAMS if layout.n_hidden_layers == 1 else DEEP_BACKWARD_PROGRAMS
    grid = (min(triton.cdiv(n, blocks.samples), programs * processors(device)),)
    for number, (ends, ka, kb) in enumerate(rounds(layout) if d_weights is not None else ((False, 0, 0),)):
        writes = {f"D{i}": not number and i < len(found) and found[i] is not None for i in range(MOST_PARTS)}
        backward_kernel[grid](
            *pointers, *strides, weights, up, *up.stride(), *targets, weights if d_weights is None else d_weights, n,
            **shared, **runs, RUNS_UP=runs_up, **writes, ENDS=ends, KA=ka, KB=kb, BLOCK=blocks.samples, **blocks.options(),
        )  # fmt: skip
    return found
