"""Threads for the numba kernels.

Every kernel here is serial, releases the interpreter lock and works on a range; this pool runs ranges side by side. One
pool of plain threads, instead of numba's and torch's OpenMP pools, because two such pools spin against each other: a
torch call leaves its workers spinning for milliseconds on the cores that the next kernel needs. ``use_threads`` therefore
also keeps torch's own operations on the calling thread. Sums are made per chunk and added in order, so that results do not
depend on timing.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch

_pool: ThreadPoolExecutor | None = None
_threads = 1


def _processors() -> int:
    """Processors this process may use; not every system can tell them from those there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int | None = None) -> int:
    """Start the pool (once) and return the number of threads, the caller's included.

    Args:
        count: threads; default: torch's setting before the first call (so OMP_NUM_THREADS counts).
    """
    global _pool, _threads
    if _pool is None or (count is not None and count != _threads):
        _threads = max(1, count or min(torch.get_num_threads(), _processors()))
        torch.set_num_threads(1)
        if _pool is not None:
            _pool.shutdown()
        _pool = ThreadPoolExecutor(max(1, _threads - 1), "ngp", initializer=torch.set_num_threads, initargs=(1,))
    return _threads


def run(task: Callable[[int], object], count: int) -> None:
    """task(0) ... task(count - 1), in any order, side by side; returns when all are done."""
    threads = min(use_threads(), count)
    if threads <= 1:
        for index in range(count):
            task(index)
        return
    assert _pool is not None
    numbers = itertools.count()

    def work() -> None:
        for index in numbers:
            if index >= count:
                return
            task(index)

    futures = [_pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        wait(futures)  # on an exception too: none may go on writing to memory that the caller gives up
    for future in futures:
        future.result()


def chunks(n: int, multiple: int, at_least: int = 1024, per_thread: int = 1) -> list[tuple[int, int]]:
    """Split range(n) into about per_thread * threads ranges that begin at multiples of ``multiple``."""
    if n <= 0:
        return []
    wanted = max(1, min(per_thread * use_threads(), n // at_least))
    size = -(-n // wanted)
    size = -(-size // multiple) * multiple
    return [(begin, min(begin + size, n)) for begin in range(0, n, size)]


CACHE_LINE = 64
"""Bytes; also the largest vector register."""

_local = threading.local()


def aligned(n_bytes: int) -> np.ndarray:
    """uint32 [n_bytes / 4] on a cache line, contents undefined."""
    raw = np.empty((n_bytes + CACHE_LINE) // 4, np.uint32)
    start = (-raw.ctypes.data % CACHE_LINE) // 4
    return raw[start : start + n_bytes // 4]


def scratch(n_bytes: int) -> np.ndarray:
    """This thread's working memory, uint32 [n_bytes / 4 or more] from a cache line on, until it is asked for again.

    Fresh memory each call would cost a page fault for every 4 KiB: more than most kernels take for as much.
    """
    found: np.ndarray | None = getattr(_local, "words", None)
    if found is None or 4 * found.size < n_bytes:
        found = _local.words = aligned(n_bytes)
    return found
