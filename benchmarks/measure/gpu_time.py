"""Times on a GPU: the median over several input sets, between events, with the launches already waiting in line."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

CYCLES_PER_MS = 2_000_000
"""Clock cycles of a millisecond, no fewer: how long the device is kept busy while launches are put in line."""

LONGEST_WAIT_MS = 200.0


def device_ms(run: Callable[[int], object], sets: int, repeats: int, prepare: Callable[[int], object] | None = None) -> float:
    """Median milliseconds that the device takes for ``run(i)``, without what the host needs to launch it.

    The device first sleeps as long as the host needs to put everything in line: what a graph replay would show, also for
    the backward of an operation.

    Args:
        run: called with the number of an input set.
        sets: input sets, taken in turn.
        repeats: calls measured.
        prepare: called before each run, not measured.
    """
    for i in range(max(2, sets)):
        if prepare:
            prepare(i % sets)
        run(i % sets)
    torch.cuda.synchronize()
    began = time.perf_counter()
    if prepare:
        prepare(0)
    run(0)
    host_ms = 1e3 * (time.perf_counter() - began)
    torch.cuda.synchronize()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    torch.cuda._sleep(int(CYCLES_PER_MS * min(1.5 * repeats * host_ms + 1.0, LONGEST_WAIT_MS)))
    for number, (first, last) in enumerate(pairs):
        if prepare:
            prepare(number % sets)
        first.record()
        run(number % sets)
        last.record()
    torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(last) for first, last in pairs)


def wall_ms(run: Callable[[int], object], sets: int, repeats: int) -> float:
    """Median milliseconds on the wall of an operation that waits for the device itself."""
    for i in range(max(2, sets)):
        run(i % sets)
    found = []
    for number in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(number % sets)
        torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - began))
    return statistics.median(found)
