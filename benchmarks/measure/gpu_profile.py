"""Where the time of a training step goes on the device: its kernels by name, and how long the device waits between them."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from .gpu_training import Training

STEPS, SHOWN, LONGEST_NAME = 16, 24, 72
"""A whole interval between two updates of the occupancy grid; lines printed; letters of a name printed."""


def measure(training: Training) -> dict[str, Any]:
    """Microseconds a step of each kernel over :data:`STEPS` steps, and the share of the time in which none ran.

    Copies and fills of the driver count as kernels. The profiler slows the host down, so the share is taken from the time of
    as many steps without it.
    """
    for _ in range(STEPS):
        training.train_step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        training.train_step()
    torch.cuda.synchronize()
    wall_us = 1e6 * (time.perf_counter() - began) / STEPS
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            training.train_step()
        torch.cuda.synchronize()
    spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and "#" not in event.name:  # "Optimizer.step#..." is none
            spent[event.name][0] += event.device_time_total
            spent[event.name][1] += 1
    rows = [
        {"kernel": name, "us": round(us / STEPS, 2), "launches": round(count / STEPS, 2)}
        for name, (us, count) in sorted(spent.items(), key=lambda item: -item[1][0])
    ]
    busy = sum(row["us"] for row in rows)  # type: ignore[misc]
    print(f"  a step takes {wall_us:.0f} us; its kernels {busy:.0f} us\n\n| kernel | us a step | launches |\n|---|---|---|")
    for row in rows[:SHOWN]:
        name = re.sub(r"void |at::native::|\(anonymous namespace\)::", "", str(row["kernel"]))
        print(f"| {name[:LONGEST_NAME]} | {row['us']:.1f} | {row['launches']:.2f} |")
    return {"wall_us": round(wall_us, 1), "kernels_us": round(float(busy), 1), "rows": rows}
