"""The parts of the GPU benchmark: errors, times, training, frames; each returns what goes into the results file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from ngp_method.kernels import Kernels

from . import (
    gpu_check,
    gpu_check_batch,
    gpu_check_footprints,
    gpu_check_functions,
    gpu_check_losses,
    gpu_check_volume,
    gpu_compare,
)
from .gpu_check import Cases
from .gpu_compare import Row, Table

SIZES = (0, 1, 31, 1000, 4099)
TINY_SIZES = (0, 33)
"""In the interpreter."""


CHECKS: dict[str, Callable[[Cases], Iterator[Row]]] = {
    **gpu_check.CHECKS, **gpu_check_volume.CHECKS, **gpu_check_losses.CHECKS, **gpu_check_batch.CHECKS,
    **gpu_check_functions.CHECKS, **gpu_check_footprints.CHECKS,
}  # fmt: skip


def examine(cases: Cases, names: Iterable[str] = tuple(CHECKS)) -> Table:
    """The operations of those names against the reference."""
    table, began = Table(), time.monotonic()
    for name in names:
        try:
            for row in CHECKS[name](cases):
                table.add(row)
        except Exception as error:  # a kernel that does not run is wrong; the others are still tried
            said = next(iter(str(error).splitlines()), "")[:200]
            table.add(Row(name, "runs", failure=f"{type(error).__name__}: {said}"))
        right = "ok" if table.passed(name) else "WRONG"
        print(f"  {name}: {right} ({time.monotonic() - began:.1f} s)", flush=True)
    return table


def errors(kernels: Kernels, args: argparse.Namespace, device: torch.device) -> tuple[Table, dict[str, Any]]:
    """Part a: every operation against the reference, values and gradients."""
    tiny, began = device.type == "cpu", time.monotonic()
    table = examine(Cases(kernels, device, TINY_SIZES if tiny else SIZES, 60 if tiny else 2**18 + 5))
    rows = list(table.rows.values())
    print("\n".join(["", *gpu_compare.lines(rows), ""]), flush=True)
    found = [{**vars(row), "ok": row.ok} for row in rows]
    return table, {"rows": found, "wrong": sum(not row.ok for row in rows), "seconds": round(time.monotonic() - began, 1)}


def times(kernels: Kernels, args: argparse.Namespace, device: torch.device, table: Table) -> dict[str, Any]:
    """Part b: time, rate and floor of each operation, and torch.compile of the reference beside it."""
    from . import gpu_baseline, gpu_ceilings, gpu_ops, gpu_time

    if device.type != "cuda":
        raise RuntimeError("times are taken on a GPU only")
    began = time.monotonic()
    low = kernels.dtype if getattr(kernels, "low_precision", False) else torch.float32  # type: ignore[attr-defined]
    ceilings = gpu_ceilings.measure(device, low)
    print(f"  ceilings: {ceilings.record()}", flush=True)
    inputs = gpu_ops.Inputs(kernels, device, 1 << 18)
    repeats, rows = (10 if args.quick else 30), []
    print(f"  {inputs.n} samples of {inputs.n_rays} rays\n\n| operation | ms | floor ms | of the floor | rate |")
    print("|---|---|---|---|---|")
    for operation in gpu_ops.operations(inputs):
        if not table.passed(operation.check):
            row: dict[str, Any] = {"operation": operation.name, "ms": None, "note": "wrong, so not timed"}
            print(f"| {operation.name} | wrong, so not timed | | | |", flush=True)
        else:
            if operation.waits:
                ms = gpu_time.wall_ms(operation.run, gpu_ops.SETS, repeats)
            else:
                ms = gpu_time.device_ms(operation.run, gpu_ops.SETS, repeats, operation.prepare)
            floor = operation.work.floor_ms(ceilings, str(low).removeprefix("torch."))
            rates = operation.work.rates(ms) + (", with the host" if operation.waits else "")
            row = {"operation": operation.name, "ms": ms, "floor_ms": floor, "of_floor": floor / ms, "rates": rates}
            print(f"| {operation.name} | {ms:.4f} | {floor:.4f} | {floor / ms:.0%} | {rates} |", flush=True)
        rows.append(row)
    found: dict[str, Any] = {"ceilings": ceilings.record(), "samples": inputs.n, "rays": inputs.n_rays, "rows": rows}
    if not args.quick:
        print("\n| torch.compile of the reference | ms | ours | times faster |\n|---|---|---|---|")
        found["compiled"] = []
        for name, value in gpu_baseline.measure(inputs, low, args.compile_seconds):
            ours = next((r["ms"] for r in rows if r["operation"].startswith(name) and r["ms"]), None)
            found["compiled"].append({"operation": name, "ms": value, "ours_ms": ours})
            if isinstance(value, float) and ours:
                print(f"| {name} | {value:.3f} | {ours:.3f} | {value / ours:.1f} |", flush=True)
            else:
                print(f"| {name} | {value} | | |", flush=True)
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def training(kernels: Kernels, args: argparse.Namespace, device: torch.device) -> tuple[Any, Any, dict[str, Any]]:
    """Part c: PSNR against seconds, samples a second."""
    from . import gpu_scene, gpu_training

    folder = gpu_scene.find(args.scene, args.data)
    tiny = device.type == "cpu"
    views = gpu_scene.load(folder, "train", device, 4 if tiny else None)
    test = gpu_scene.load(folder, "test", device, 1 if tiny else None)
    if tiny:  # a few steps in the interpreter, to see that they run
        views, test = (gpu_scene.shrink(v, max(1, v.size[1] // 6)) for v in (views, test))
        small = gpu_training.settings(9, n_levels=2, finest_resolution=64)
        run = gpu_training.Training(kernels, views, 1 << 9, small, resolution=16, step_scale=24.0)
    else:
        run = gpu_training.Training(kernels, views, args.samples, gpu_training.settings(), cuda_graph=args.cuda_graph)
    count, (height, width) = views.poses.shape[0], views.size
    print(f"  {folder}: {count} views of {width}x{height}, {test.poses.shape[0]} held out", flush=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    figures = gpu_training.train(run, test, args.seconds, args.curve, args.steps, 10)
    sizes = {"scene": args.scene, "views": count, "width": width, "height": height}
    return run, test, {**sizes, **figures, "finite": run.finite()}


def steps(run: Any, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Part c, the step alone: with two, one and no waits of the host for the device, and as a CUDA graph."""
    from . import gpu_steps

    return gpu_steps.measure(run, args.quick)


def profile(run: Any, args: argparse.Namespace, device: torch.device) -> dict[str, Any] | None:
    """Part c, the kernels of a step and their times; on a GPU only."""
    from . import gpu_profile

    return gpu_profile.measure(run) if device.type == "cuda" else None


def rendering(run: Any, test: Any, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Part d: frames a second at 800 x 800."""
    from . import gpu_training

    side = 8 if device.type == "cpu" else 800
    return gpu_training.frames(run, test, side, 1 if device.type == "cpu" else 5 if args.quick else 25)


def memory(device: torch.device) -> float | None:
    """Part e: most GiB allocated since the last reset."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None
