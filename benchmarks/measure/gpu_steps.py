"""One training step in several forms: how often the host waits for the device in it, and as a CUDA graph.

Forward, loss, backward and optimiser, on batches of rays that lie on the device; what is not in it (drawing rays, the
occupancy grid) is the same in every form. Each form is run a few dozen times in a row and waited for at the end, the forms in
turn, so that what the host needs shows exactly where the device has to wait for it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ngp_method.kernels import Kernels
from ngp_method.kernels.samples import PackedSamples
from ngp_method.volume.rays import Rays
from ngp_method.volume.tracing import Tracer

from . import gpu_counts, gpu_training
from .gpu_training import Training

BATCHES, ROUNDS, RUNS, WARM_UP = 4, 5, 30, 3
ROOM = 1.06
"""Slots for a sample: no ray of the batches is left out, or forms would not do the same."""

LONG = 1 << 30
"""Steps between two updates of the grid: none."""

Batch = tuple[Rays, Tensor]
"""Rays, and their pixels."""


class FixedSlots:
    """A kernel set whose ``keep_first`` returns so many slots without asking the host."""

    def __init__(self, kernels: Kernels, slots: int) -> None:
        self._kernels, self._slots = kernels, slots

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def keep_first(
        self, samples: PackedSamples, counts: Tensor, features: Sequence[Tensor]
    ) -> tuple[PackedSamples, list[Tensor]]:
        """The operation."""
        kept: tuple[PackedSamples, list[Tensor]] = self._kernels.keep_first(  # type: ignore[call-arg]
            samples, counts, features, capacity=self._slots
        )
        return kept


def _step(training: Training, tracer: Tracer, batch: Batch) -> tuple[int, int]:
    """One step; samples marched and kept."""
    training.step.tracer = tracer
    reduce(torch.add, training.step(*batch).values()).backward()
    for optimizer in training.optimizers:
        optimizer.step()
    return training.step.counts["marched"], training.step.counts["kept"]


def _batches(training: Training) -> list[Batch]:
    return [training.batch() for _ in range(BATCHES)]


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    rays, pixels = batch
    return rays.o, rays.d, rays.t_min, rays.t_max, pixels


def _captured(step: Callable[[Batch], object], batch: Batch) -> Callable[[Batch], object]:
    """The step as a CUDA graph, on batches that are copied to where the first one lay."""
    *parts, pixels = (part.clone() for part in _tensors(batch))
    held = (Rays(*parts), pixels)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(held)

    def replay(given: Batch) -> None:
        for target, source in zip(_tensors(held), _tensors(given)):
            target.copy_(source)
        graph.replay()

    return replay


def _forms(training: Training, batches: list[Batch]) -> tuple[dict[str, Callable[[Batch], object]], dict[str, int]]:
    """The step in each form that the kernel set and the device have, and the slots set aside."""
    network, kernels, n_rays = training.network, training.kernels, batches[0][0].n_rays
    exact = Tracer(network, training.grid, exact=True)
    counts = [_step(training, exact, batch) for batch in batches]
    marched, kept = (int(ROOM * max(numbers)) + 1 for numbers in zip(*counts))
    forms: dict[str, Callable[[Batch], object]] = {"two waits": lambda batch: _step(training, exact, batch)}
    if kernels.asynchronous:
        slots = Tracer(network, training.grid)
        slots.capacity = lambda n_rays: marched  # type: ignore[method-assign]
        fixed = FixedSlots(kernels, kept)

        def unwaited(batch: Batch) -> None:
            network.kernels = fixed  # type: ignore[assignment]
            try:
                _step(training, slots, batch)
            finally:
                network.kernels = kernels

        forms["one wait"] = lambda batch: _step(training, slots, batch)
        forms["no wait"] = unwaited
        if training.device.type == "cuda":
            forms["CUDA graph"] = _captured(unwaited, batches[0])
    return forms, {"rays": n_rays, "marched_slots": marched, "kept_slots": kept}


def measure(training: Training, quick: bool) -> dict[str, Any]:
    """Milliseconds of a step in each form."""
    cuda, own = training.device.type == "cuda", training.step.tracer
    batches = _batches(training)
    forms, sizes = _forms(training, batches)
    rounds, runs = (3 if quick else ROUNDS, RUNS) if cuda else (1, 1)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            if cuda:
                run(batches[0])
            gpu_training.wait(training.device)
            began = time.perf_counter()
            for number in range(runs):
                run(batches[number % BATCHES])
            gpu_training.wait(training.device)
            times[name].append(1e3 * (time.perf_counter() - began) / runs)
    found = {name: round(statistics.median(values), 4) for name, values in times.items()}
    print("  a step: " + ", ".join(f"{name} {ms:.3f} ms" for name, ms in found.items()), flush=True)
    training.step.tracer = own  # the forms have put others in its place
    return {**sizes, "ms": found, **count(training)}


def count(training: Training) -> dict[str, Any]:
    """Launches and waits of a whole step as it is trained, its batch included; not one that updates the occupancy grid."""
    training.step.grid.update_interval = LONG
    training.train_step()  # the step after a change of the grid waits once more
    with gpu_counts.counting() as counts:
        training.train_step()
    synchronised = gpu_counts.synchronisations(training.train_step)
    said = "" if synchronised is None else f"; CUDA says {synchronised}"
    print(f"  a step launches {counts.launches} kernels and waits {counts.waits.total()} times{said}", flush=True)
    return {"counts": counts.record(), "synchronisations": synchronised}
