"""Forward and backward pass of a training step as one CUDA graph: launched as a whole instead of kernel by kernel.

On an H100 the kernels of a step take 1.3 ms, and the host 7 ms to launch them one after the other (benchmarks/gpu.py, part c).
A graph has fixed sizes. So the number of rays is held for as long as it nearly fills the budget of samples, and slots are set
aside for a few in a hundred more samples than the last steps had; rays that there is no room for are left out of the loss. A
graph is captured once the number of rays has stood still, and anew when the sizes do not fit any more; until then, and in
between, a step is done the usual way. The host reads how many samples a step had when it launches the one after the next: it
never waits for a step that has just been launched, and the device never for the host.

Not in the graph: the batch, whose pixels the data manager draws, the optimisers, and the upkeep of the occupancy grid. They
work on the same memory all the while; where something lies elsewhere than before, the step is captured anew.

All forward and backward passes run on one stream, the one that is captured: autograd goes on where a parameter was first used
for as long as anything of that use is alive, and a capture that meets another stream fails (PyTorch #189977). A graph is
forgotten only when its last replay is over (PyTorch #176753: the state of its random numbers is freed with it).
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from ..kernels.scene import MAX_STEPS
from .ray_budget import most_marched
from .rays import Rays
from .step import Compared, Fixed, Step
from .tracing import Slots

HOLD = 0.08
"""By what share the number of rays may be off before it changes (:attr:`~.ray_budget.RayBudget.hold`)."""

MARGIN, LEAST_MARGIN, MOST_MARGIN = 1.08, 1.02, 1.4
"""Slots for an expected sample: when a step is captured, and between which bounds a captured one is still used."""

SPARE = 2 * MAX_STEPS
"""Slots on top, for batches of few rays."""

REMEMBERED = 4
"""Steps whose samples a ray are remembered: slots are set aside for the most of them."""

STEADY = 2
"""Steps with the same number of rays after which one is captured."""

LAG = 2
"""Steps under way when their numbers are read."""

Batch = tuple[Rays, Tensor]
Replay = Callable[[], None]


class Record(Protocol):
    """Makes replays."""

    def stream(self) -> AbstractContextManager[None]:
        """Within it, what is done is done where replays are recorded, after all that came before and before all behind."""
        ...

    def __call__(self, run: Callable[[], Fixed]) -> tuple[Replay, Fixed]:
        """Something to be done -> what does it once more, and what that writes to."""
        ...


@dataclass
class Captured:
    """A captured step.

    Attributes:
        batch: rays and pixels that it reads.
        slots: its sizes.
        addresses: of what else it reads and writes.
        replay: does it once more.
        result: where it writes.
    """

    batch: Batch
    slots: Slots
    addresses: tuple[int, ...]
    replay: Replay
    result: Fixed


class CapturedStep:
    """Forward and backward pass of a step, as a CUDA graph once its sizes have settled.

    Args:
        step: what is done.
        record: makes a replay of something to be done; default: a CUDA graph. (Tests on a processor do it again instead.)

    Attributes:
        captures: how often the step has been captured.
    """

    def __init__(self, step: Step, record: Record | None = None) -> None:
        self.step, self.captures = step, 0
        self._record = record or Graphs()
        self._captured: Captured | None = None
        self._notes = Notes()
        self._recent: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._usual, self._rays, self._steady, self._warm = False, 0, 0, False
        step.budget.hold = HOLD

    def __call__(self, rays: Rays, pixels: Tensor) -> Compared:
        """Losses of a batch, whose gradients have been added to those of the parameters.

        What is returned lies in memory that the next call overwrites.
        """
        with self._record.stream():
            return self._train(rays, pixels)

    def _train(self, rays: Rays, pixels: Tensor) -> Compared:
        self._learn(LAG - 1)
        slots = self._wanted(rays.n_rays, MARGIN)
        if not self._fits(rays, pixels):
            self._steady = self._steady + 1 if rays.n_rays == self._rays else 1
            self._rays = rays.n_rays
            if slots is None or self._steady < STEADY:
                self._learn(0)
                self._usual = True
                found = self.step.compared(rays, pixels)
                found.backward()
                return found
            if not self._warm:  # compiles, and loads, what differs from the usual way; that cannot be captured
                self._warm = True
                return self._noted(self._run(rays, pixels, slots), rays.n_rays)
            self._capture(rays, pixels, slots)
        captured = self._captured
        assert captured is not None
        self._prepare()
        for target, source in zip(_tensors(captured.batch), _tensors((rays, pixels))):
            target.copy_(source)
        captured.replay()
        return self._noted(captured.result, rays.n_rays)

    def _run(self, rays: Rays, pixels: Tensor, slots: Slots) -> Fixed:
        found = self.step.fixed(rays, pixels, slots)
        found.backward()
        return found

    def _capture(self, rays: Rays, pixels: Tensor, slots: Slots) -> None:
        self._learn(0)  # waits for the last replay
        self._captured = None  # its memory is free for the next one
        held = (_copy(rays), pixels.detach().clone())
        self._prepare()
        replay, result = self._record(lambda: self._run(*held, slots))
        self._captured = Captured(held, slots, self._addresses(), replay, result)
        self.captures += 1

    def _prepare(self) -> None:
        network = self.step.field.network
        network.kernels.prepare(network.encoding.table(), self.step.grid.binaries)

    # -- sizes

    def _wanted(self, n_rays: int, margin: float) -> Slots | None:
        """Slots for so many rays, from what the last steps had; None where nothing is known."""
        if not self._recent:
            return None
        marched, kept = (int(margin * max(numbers) * n_rays) + SPARE for numbers in zip(*self._recent))
        return Slots(min(marched, most_marched(self.step.settings.sample_budget)), kept)

    def _fits(self, rays: Rays, pixels: Tensor) -> bool:
        """Whether what is captured can be replayed for this batch."""
        captured, n = self._captured, rays.n_rays
        least, most = self._wanted(n, LEAST_MARGIN), self._wanted(n, MOST_MARGIN)
        if captured is None or least is None or most is None:
            return False
        own, sizes = _tensors(captured.batch), [tensor.shape for tensor in _tensors((rays, pixels))]
        return (
            [tensor.shape for tensor in own] == sizes
            and least.marched <= captured.slots.marched <= most.marched
            and least.kept <= captured.slots.kept <= most.kept
            and captured.addresses == self._addresses()
        )

    def _addresses(self) -> tuple[int, ...]:
        """Of all that lies outside of the graph: parameters, their gradients, the grid."""
        found = [self.step.grid.binaries]
        for module in (self.step.field.network, self.step.parts):
            for param in module.parameters():
                found += [param, param if param.grad is None else param.grad]
        return tuple(tensor.data_ptr() for tensor in found)

    # -- numbers

    def _noted(self, result: Fixed, n_rays: int) -> Fixed:
        self._notes.put(result.numbers, n_rays)
        return result

    def _learn(self, under_way: int) -> None:
        """Takes in what steps have had, all but so many of the last ones that were launched."""
        if self._usual:
            self._usual, counts = False, self.step.counts
            self._remember(counts["marched"] / max(1, counts["rays"]), counts["kept"] / max(1, counts["rays"]))
        for n_rays, (marched, marched_rays, kept, kept_rays) in self._notes.take(under_way):
            self.step.counts = {"rays": n_rays, "marched": marched, "kept": kept}
            each = (marched / max(1, marched_rays), kept / max(1, kept_rays))
            self._remember(*each)
            self.step.budget.adapt(1, *each)

    def _remember(self, marched: float, kept: float) -> None:
        self._recent.append((marched, kept))


class Notes:
    """Numbers of steps on their way from the device to the host."""

    def __init__(self) -> None:
        self._under_way: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        self._free: list[tuple[Tensor, torch.cuda.Event]] = []

    def put(self, numbers: Tensor, n_rays: int) -> None:
        """Have a copy made when the device gets there."""
        if not numbers.is_cuda:
            self._under_way.append((n_rays, numbers.clone(), None))
            return
        if not self._free:
            self._free.append((torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True), torch.cuda.Event()))
        note, event = self._free.pop()
        note.copy_(numbers, non_blocking=True)
        event.record()
        self._under_way.append((n_rays, note, event))

    def take(self, under_way: int) -> list[tuple[int, list[int]]]:
        """(Rays, numbers) of all steps but so many of the last, the oldest first; waits for them."""
        found = []
        while len(self._under_way) > under_way:
            n_rays, note, event = self._under_way.popleft()
            if event is not None:
                event.synchronize()
                self._free.append((note, event))
            found.append((n_rays, note.tolist()))
        return found


class Graphs:
    """Makes CUDA graphs, each with memory of its own: that of one that is gone is given back before the next is made."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """See :class:`Record`."""
        own, other = self._stream, torch.cuda.current_stream()
        own.wait_stream(other)
        with torch.cuda.stream(own):
            yield
        other.wait_stream(own)

    def __call__(self, run: Callable[[], Fixed]) -> tuple[Replay, Fixed]:
        """Captures ``run``, which is not done by that, and returns what does it, and what that writes to; within ``stream``.

        Not by way of ``torch.cuda.graph``, which collects garbage first: that takes as long as a hundred steps.

        Raises:
            RuntimeError: something in it cannot be captured.
        """
        graph, collecting = torch.cuda.CUDAGraph(), gc.isenabled()
        torch.cuda.empty_cache()  # captures of ever larger steps would add up otherwise
        gc.disable()  # what is collected may free memory of the device, which a capture does not bear
        try:
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = run()
            finally:
                graph.capture_end()
        except RuntimeError as error:
            raise RuntimeError(
                f"A training step could not be captured as a CUDA graph ({error}); --pipeline.model.cuda-graph False trains "
                "without one."
            ) from error
        finally:
            if collecting:
                gc.enable()
        return graph.replay, result


def _tensors(batch: Batch) -> list[Tensor]:
    """All tensors of a batch, in one order."""
    rays, pixels = batch
    parts = [getattr(rays, field.name) for field in fields(rays)]
    return [part for part in parts if part is not None] + [pixels]


def _copy(rays: Rays) -> Rays:
    """The same in memory of its own."""
    parts = {field.name: getattr(rays, field.name) for field in fields(rays)}
    return replace(rays, **{name: part.detach().clone() for name, part in parts.items() if part is not None})
