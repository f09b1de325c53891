"""Every Triton kernel compiled ahead of time for every chip: the table of registers, shared memory and spills."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from . import gpu_machine, gpu_sources

Table = dict[str, dict[str, list[int]]]
"""Kernel -> chip -> [registers, bytes of shared memory, spills]."""

Job = tuple[str, str]
"""(kernel, chip)."""


@cache
def _variants() -> dict[str, Any]:
    from ngp_method.kernels.triton import aot

    return {variant.name: variant for variant in aot.all_variants()}


def _compile(job: Job) -> tuple[Job, list[int] | str]:
    """In a worker: resources, or what went wrong."""
    from ngp_method.kernels.triton import aot

    try:
        found = aot.compile_variant(_variants()[job[0]], job[1])
    except Exception as error:  # whatever Triton, ptxas or LLVM raise is this kernel's line in the report
        return job, f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
    return job, [found.registers, found.shared, found.spills]


def compile_all(jobs: Sequence[Job], processes: int) -> tuple[Table, list[str]]:
    """Compile; returns the table and one line for each failure."""
    table: Table = {}
    failures, began, done = [], time.monotonic(), 0
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for (name, chip), found in pool.map(_compile, jobs, chunksize=4):
            done += 1
            if isinstance(found, str):
                failures.append(f"{name} for {chip}: {found}")
                print(f"FAILED {failures[-1]}", flush=True)
            else:
                table.setdefault(name, {})[chip] = found
            if done % 50 == 0 or done == len(jobs):
                print(f"{done} of {len(jobs)} compiled, {time.monotonic() - began:.0f} s", flush=True)
    return table, failures


def new_spills(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each kernel and chip that spills more than it did (a kernel not recorded before: more than nothing)."""
    found = []
    for name, row in after.items():
        for chip, (_, _, spills) in row.items():
            known = before.get(name, {}).get(chip, [0, 0, 0])[2]
            if spills > known:
                found.append(f"{name} for {chip}: spills {spills}, recorded {known}")
    return found


def read(folder: Path) -> dict[str, Any]:
    """The recorded table with what made it; no kernels where none is recorded."""
    path = folder / "aot.json"
    return json.loads(path.read_text()) if path.exists() else {"triton": None, "kernels": {}, "sources": {}}


def write(folder: Path, table: Table, sources: Mapping[str, str], chips: Sequence[str], command: str) -> None:
    """aot.json, and aot.md for people."""
    import triton

    made = {"triton": triton.__version__, "date": gpu_machine.now(), "command": command}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in made.items())
    digits = ",\n".join(f"  {json.dumps(name)}: {json.dumps(sources[name])}" for name in sorted(sources))
    folder.mkdir(parents=True, exist_ok=True)
    text = f'{{\n{head},\n "kernels": {{\n{rows}\n }},\n "sources": {{\n{digits}\n }}\n}}\n'
    (folder / "aot.json").write_text(text)
    (folder / "aot.md").write_text("\n".join(_lines(table, chips, made)) + "\n")


def _cell(found: list[int] | None) -> str:
    if found is None:
        return "–"
    registers, shared, spills = found
    size = f"{shared / 1024:.3g}K" if shared else "0"
    return f"{registers}/{size}" + (f"/**{spills}**" if spills else "")


def _lines(table: Table, chips: Sequence[str], made: Mapping[str, str]) -> list[str]:
    spilling = sum(row[chip][2] > 0 for row in table.values() for chip in row)
    total = sum(len(row) for row in table.values())
    return [
        "# Triton kernels, compiled ahead of time",
        "",
        f"`{made['command']}` with Triton {made['triton']}, {made['date']}; no device is needed. {len(table)} kernels, "
        f"{total} with all chips, {spilling} of them spill.",
        "",
        "Each cell: registers of a thread / shared memory of a block in bytes / spills where there are any (NVIDIA: bytes "
        "of a thread, AMD: vector registers). –: not launched on that chip; sm_75 has no bfloat16 and computes in "
        "float16, and some work is left to cuBLAS or hipBLAS where Triton does not serve.",
        "",
        "| kernel | " + " | ".join(chips) + " |",
        "|---" * (len(chips) + 1) + "|",
        *(f"| {name} | " + " | ".join(_cell(table[name].get(c)) for c in chips) + " |" for name in sorted(table)),
    ]


def _chips(asked: Sequence[str] | None) -> list[str]:
    """What is compiled for: what was asked for, or all that this Triton knows."""
    from ngp_method.kernels.triton import aot

    known = aot.known_chips()
    for chip in set(asked or []) - set(known):
        sys.exit(f"--chips {chip}: this Triton knows {', '.join(known)}.")
    for chip in set(aot.CHIPS) - set(known):
        print(f"{chip}: this Triton does not know it, left out", flush=True)
    return list(asked or known)


def run(args: Any, results: Path) -> int:
    """The command ``gpu.py --compile-only``: exit status 1 when a kernel fails to compile.

    What is recorded with this Triton for a kernel as it is now is taken over, unless --output or --fresh says otherwise.
    """
    import triton

    from ngp_method.kernels.triton import aot

    began, chips, recorded = time.monotonic(), _chips(args.chips), read(results)
    variants = {name: variant for name, variant in _variants().items() if args.pattern in name}
    sources = {name: gpu_sources.fingerprint(variant) for name, variant in variants.items()}
    table: Table = {name: {} for name in variants}
    if not args.output and not args.fresh and recorded["triton"] == triton.__version__:
        for name in variants:
            if recorded["sources"].get(name) == sources[name]:
                table[name] = recorded["kernels"][name]
    wanted = [(n, chip) for chip in chips for n, v in variants.items() if aot.runs_on(v, chip) and chip not in table[n]]
    print(f"{len(variants)} kernels; {len(wanted)} to compile for {', '.join(chips)}", flush=True)
    found, failures = compile_all(wanted, min(2, len(os.sched_getaffinity(0))))
    for name, row in found.items():
        table[name] = {**table[name], **row}
    spills = new_spills(recorded["kernels"], table)
    for line in spills:
        print(f"NEW SPILL {line}")
    folder = Path(args.output) if args.output else results
    changed = bool(wanted) or set(table) != set(recorded["kernels"])
    written = bool(args.output) or (changed and not args.pattern and not args.chips)
    if written:
        write(folder, table, sources, chips, args.command)
    where = f"table: {folder / 'aot.md'}" if written else "no table written: " + ("a part" if changed else "nothing new")
    took = time.monotonic() - began
    print(f"{len(wanted)} compiled, {len(failures)} failed, {len(spills)} spill more than recorded, {took:.0f} s; {where}")
    return 1 if failures else 0
