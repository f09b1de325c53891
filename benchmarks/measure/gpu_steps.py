"""One training step in several forms: how often the host waits for the device in it, and as a CUDA graph.

Forward, loss, backward and optimiser (in the last form the graph ends before the optimiser, as in the product), on batches of
rays that lie on the device; what is not in it (drawing rays, the occupancy grid) is the same in every form. Each form is run a
few dozen times in a row and waited for at the end, the forms in turn, so that what the host needs shows exactly where the
device has to wait for it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ngp_method.volume.captured import Graphs
from ngp_method.volume.rays import Rays
from ngp_method.volume.step import Fixed
from ngp_method.volume.tracing import Slots, Tracer

from . import gpu_counts, gpu_training
from .gpu_training import Training

BATCHES, ROUNDS, RUNS, WARM_UP = 4, 5, 30, 3
ROOM = 1.06
"""Slots for a sample: no ray of the batches is left out, or forms would not do the same."""

SETTLING = 6
"""Steps before one is counted where they are captured: what was measured has changed the number of rays. Where they are not,
one: the step after a change of the grid waits once more."""

LONG = 1 << 30
"""Steps between two updates of the grid: none."""

Batch = tuple[Rays, Tensor]
"""Rays, and their pixels."""


def _step(training: Training, tracer: Tracer, batch: Batch) -> tuple[int, int]:
    """One step; samples marched and kept."""
    training.step.tracer = tracer
    training.step.compared(*batch).backward()
    _optimise(training)
    return training.step.counts["marched"], training.step.counts["kept"]


def _optimise(training: Training) -> None:
    for optimizer in training.optimizers:
        optimizer.step()


def _batches(training: Training) -> list[Batch]:
    return [training.batch() for _ in range(BATCHES)]


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    rays, pixels = batch
    return rays.o, rays.d, rays.t_min, rays.t_max, pixels


def _captured(training: Training, batch: Batch, slots: Slots) -> Callable[[Batch], object]:
    """The step with forward and backward pass as a CUDA graph, on batches that are copied to where the first one lay."""
    *parts, pixels = (part.clone() for part in _tensors(batch))
    held = (Rays(*parts), pixels)
    graphs = Graphs()
    with graphs.stream():
        _fixed(training, held, slots)
        replay, _ = graphs(lambda: _fixed(training, held, slots))

    def step(given: Batch) -> None:
        for target, source in zip(_tensors(held), _tensors(given)):
            target.copy_(source)
        replay()
        _optimise(training)

    return step


def _fixed(training: Training, batch: Batch, slots: Slots) -> Fixed:
    found = training.step.fixed(*batch, slots)
    found.backward()
    return found


def _forms(training: Training, batches: list[Batch]) -> tuple[dict[str, Callable[[Batch], object]], dict[str, int]]:
    """The step in each form that the kernel set and the device have, and the slots set aside."""
    network, kernels, n_rays = training.network, training.kernels, batches[0][0].n_rays
    exact = Tracer(network, training.grid, exact=True)
    counts = [_step(training, exact, batch) for batch in batches]
    slots = Slots(*(int(ROOM * max(numbers)) + 1 for numbers in zip(*counts)))
    forms: dict[str, Callable[[Batch], object]] = {"two waits": lambda batch: _step(training, exact, batch)}
    if kernels.asynchronous:
        guessed = Tracer(network, training.grid)
        guessed.capacity = lambda n_rays: slots.marched  # type: ignore[method-assign]

        def unwaited(batch: Batch) -> None:
            _fixed(training, batch, slots)
            _optimise(training)

        forms["one wait"] = lambda batch: _step(training, guessed, batch)
        forms["no wait"] = unwaited
        if training.device.type == "cuda" and kernels.capturable:
            for batch in batches[:WARM_UP]:
                unwaited(batch)
            forms["CUDA graph"] = _captured(training, batches[0], slots)
    return forms, {"rays": n_rays, "marched_slots": slots.marched, "kept_slots": slots.kept}


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
    for _ in range(SETTLING if training.captured else 1):
        training.train_step()
    with gpu_counts.counting() as counts:
        training.train_step()
    synchronised = gpu_counts.synchronisations(training.train_step)
    said = "" if synchronised is None else f"; CUDA says {synchronised}"
    print(f"  a step launches {counts.launches} kernels and waits {counts.waits.total()} times{said}", flush=True)
    return {"counts": counts.record(), "synchronisations": synchronised}
