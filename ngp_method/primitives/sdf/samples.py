"""Samples that a signed distance function is trained on: a pool of them, renewed part by part beside training.

A sample costs two or three microseconds and training on it less than one, so that each is used some times before another takes
its place. Which samples a batch gets follows from the seed and from how many were drawn before, not from how fast a thread was.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...kernels.cpu import pool
from . import sample_kernels as kernels
from .signed import SignedDistance

Rows = npt.NDArray[np.float32]

BOUNDING_RADIUS = 0.5 * math.sqrt(3.0)
"""Of the unit cube; the noise is measured by it, as instant-ngp does (testbed_sdf.cu, generate_training_samples_sdf)."""


@dataclass(frozen=True)
class SampleMix:
    """How many of eight samples are of which kind.

    On two cores the default reached an IoU of 0.990 in ten seconds, where instant-ngp's own mix (4, 3, 0, 1) reached 0.869.

    Attributes:
        surface: on the surface, uniform by area, at distance 0.
        near: surface points with logistic noise of standard deviation r / 1024 along each axis, r the cube's bounding radius.
        wide: the same with r / 32.
        uniform: anywhere in the unit cube.

    Raises:
        ValueError: a number below 0, or the sum is not 8.
    """

    surface: int = 2
    near: int = 2
    wide: int = 3
    uniform: int = 1

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or sum(self.shares) != kernels.GROUP:
            raise ValueError(f"A mix is four numbers of eighths, 0 or more and together 8, not {self.shares}.")

    @property
    def shares(self) -> tuple[int, int, int, int]:
        """In the order of the kinds."""
        return self.surface, self.near, self.wide, self.uniform


SIGMAS = (0.0, BOUNDING_RADIUS / 1024.0, BOUNDING_RADIUS / 32.0, 0.0)
"""Standard deviation of the noise of each kind."""


class SampleSource:
    """Makes parts of the pool; every part is a function of seed and number.

    Noise that would leave the unit cube is drawn again, after sixteen times the coordinate is held to the cube's border; the
    distance is that of the point as it is then.

    Args:
        shape: what the samples are of.
        mix: how many of each kind.
        seed: 0 or more.
    """

    def __init__(self, shape: SignedDistance, mix: SampleMix | None = None, seed: int = 0) -> None:
        self.shape, self.mix, self.seed = shape, mix or SampleMix(), seed
        t = shape.tree.triangles
        areas = np.linalg.norm(np.cross(t[:, 3:6] - t[:, :3], t[:, 6:] - t[:, :3]), axis=1).cumsum()
        self._areas = areas / areas[-1]

    def part(self, number: int, size: int) -> Rows:
        """Part ``number`` with ``size`` samples (a multiple of 8): float32 [size, 4], point in [0, 1]^3 and signed distance.

        Runs on the calling thread alone, without the interpreter's lock.
        """
        points, distances = np.empty((size, 3)), np.empty(size)
        guesses, targets = np.empty(size, np.int32), np.empty(size, np.int32)
        shares, sigmas = np.asarray(self.mix.shares, np.int64), np.asarray(SIGMAS)
        triangles = self.shape.tree.triangles
        seed, which = np.uint64(self.seed), np.uint64(number)
        kernels.draw(triangles, self._areas, shares, sigmas, seed, which, points, guesses, targets)
        measured = size // kernels.GROUP * self.mix.surface
        self.shape.measure_range(points, guesses, distances, measured, size)
        rows = np.empty((size, 4), np.float32)
        kernels.place(points, distances, targets, measured, rows)
        return rows


FIRST, PART = 1 << 18, 1 << 15
"""Samples that a pool begins with, so that training begins soon, and of each part of it."""


class SamplePool:
    """A pool of samples to draw batches from.

    It begins with ``first`` samples, so that training begins soon, and takes in a new part each time that ``uses`` times as
    many samples were drawn: parts are added until it is full, then the oldest goes. If a part is not ready by then, drawing
    waits for it.

    Args:
        source: makes the parts.
        size: most samples.
        first: samples at the start.
        part: samples of a part; a multiple of 8 that divides the other two.
        uses: samples drawn for each that is made, in the long run; infinite: the pool stays as it is at the start.
        workers: threads that make parts beside training.
        progress: called with the share of the first samples that are made, up to 1, from one thread at a time.
        device: where the samples lie and batches are drawn.

    Raises:
        ValueError: numbers that do not fit together.
    """

    def __init__(
        self,
        source: SampleSource,
        size: int = 1 << 21,
        first: int = FIRST,
        part: int = PART,
        uses: float = 8.0,
        workers: int = 1,
        progress: Callable[[float], None] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if part <= 0 or part % kernels.GROUP or size % part or first % part or not 0 < first <= size or uses <= 0:
            raise ValueError(f"A pool of {size} samples that begins with {first} in parts of {part}, each used {uses} times.")
        self.source, self.size, self.part, self.uses = source, size, part, uses
        self._parts, self._first = size // part, first // part
        self._rows = torch.empty((size // kernels.GROUP, 4 * kernels.GROUP), device=device)
        self._batches = self._drawn = self._renewals = 0
        self._workers = ThreadPoolExecutor(workers, "sdf-samples")
        self._ahead: deque[Future[Rows]] = deque()
        self._wanted_ahead = workers + 1
        self._fill(progress)

    @property
    def live(self) -> int:
        """Samples that batches are drawn from now."""
        return min(self._parts, self._first + self._renewals) * self.part

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """The next n samples: points float32 [n, 3] in [0, 1]^3, signed distances float32 [n], both on the pool's device.

        Each group of eight has the mix exactly; no sample is there twice as long as n is not more than ``live``.
        """
        due = int(self._drawn // (self.uses * self.part))
        while self._renewals < due:
            self._renew()
        all_groups, wanted = self.live // kernels.GROUP, -(-n // kernels.GROUP)
        rng = np.random.default_rng((self.source.seed, self._batches))
        start, stride = int(rng.integers(all_groups)), int(rng.integers(all_groups)) + 1
        while math.gcd(stride, all_groups) != 1:
            stride += 1
        groups = (torch.arange(wanted, device=self._rows.device) * stride + start) % all_groups
        rows = self._rows[groups].view(-1, 4)[:n]
        self._batches += 1
        self._drawn += n
        return rows[:, :3].contiguous(), rows[:, 3].contiguous()

    def run_state(self) -> dict[str, Any]:
        """What the next batches depend on, for a checkpoint: plain numbers, not the samples."""
        return {**self._layout(), "batches": self._batches, "drawn": self._drawn, "renewals": self._renewals}

    def load_run_state(self, state: dict[str, Any], progress: Callable[[float], None] | None = None) -> None:
        """Goes on from what :meth:`run_state` gave; the samples are made again, the same to the last bit.

        Raises:
            ValueError: the pool has another seed, size or mix than the one that is gone on from.
        """
        own, other = self._layout(), {name: state.get(name) for name in self._layout()}
        if own != other:
            raise ValueError(f"The samples of this run were drawn with {other}, not {own}.")
        self._forget()
        self._batches, self._drawn, self._renewals = (int(state[name]) for name in ("batches", "drawn", "renewals"))
        self._fill(progress)

    def close(self) -> None:
        """Ends the threads; waits for the part that is being made."""
        self._forget()
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _layout(self) -> dict[str, Any]:
        numbers = {"seed": self.source.seed, "size": self.size, "first": self._first * self.part, "part": self.part}
        return {**numbers, "uses": self.uses, "mix": asdict(self.source.mix)}

    def _forget(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def _fill(self, progress: Callable[[float], None] | None) -> None:
        """Makes the parts that the pool holds now, on all threads."""
        made = self._first + self._renewals
        numbers = range(max(0, made - self._parts), made)
        lock, done = threading.Lock(), 0

        def task(index: int) -> None:
            nonlocal done
            number = numbers[index]
            self._put(number, self.source.part(number, self.part))
            with lock:
                done += 1
                if progress is not None:
                    progress(done / len(numbers))

        pool.run(task, len(numbers))
        self._look_ahead()

    def _renew(self) -> None:
        """Takes in the next part."""
        self._put(self._first + self._renewals, self._ahead.popleft().result())
        self._renewals += 1
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Has the next parts made, if there will be any."""
        while len(self._ahead) < self._wanted_ahead and self.uses < math.inf:
            number = self._first + self._renewals + len(self._ahead)
            self._ahead.append(self._workers.submit(self.source.part, number, self.part))

    def _put(self, number: int, rows: Rows) -> None:
        begin = number % self._parts * self.part // kernels.GROUP
        groups = torch.from_numpy(rows.reshape(-1, 4 * kernels.GROUP))
        self._rows[begin : begin + len(groups)].copy_(groups)
