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


def compiler() -> str:
    """Version of the Triton that compiles here."""
    import triton

    return str(triton.__version__)


def spilled_registers(chip: str, spills: int) -> float:
    """Spills of a thread in 32-bit registers: NVIDIA's are recorded in bytes, AMD's in registers."""
    return spills / 4 if chip.startswith("sm_") else float(spills)


def new_spills(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each kernel and chip that spills more than it did (a kernel not recorded before: more than nothing)."""
    found = []
    for name, row in after.items():
        for chip, (_, _, spills) in row.items():
            known = before.get(name, {}).get(chip, [0, 0, 0])[2]
            if spills > known:
                found.append(f"{name} for {chip}: spills {spills}, recorded {known}")
    return found


def read(folder: Path, triton: str) -> dict[str, Any]:
    """What was recorded with that version of Triton, with what made it; no kernels where nothing was.

    How many registers a kernel takes is the compiler's doing: each has a table of its own, and none is held to another's.
    """
    path = folder / "aot" / f"{triton}.json"
    return json.loads(path.read_text()) if path.exists() else {"triton": triton, "kernels": {}, "sources": {}}


def recorded_compilers(folder: Path) -> list[str]:
    """Versions of Triton that have a table in the folder."""
    return sorted(path.stem for path in (folder / "aot").glob("*.json"))


def write(folder: Path, table: Table, sources: Mapping[str, str], chips: Sequence[str], command: str, page: bool) -> None:
    """aot/VERSION.json, and aot.md for people where ``page`` says so."""
    made = {"triton": compiler(), "date": gpu_machine.now(), "command": command}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in made.items())
    digits = ",\n".join(f"  {json.dumps(name)}: {json.dumps(sources[name])}" for name in sorted(sources))
    (folder / "aot").mkdir(parents=True, exist_ok=True)
    text = f'{{\n{head},\n "kernels": {{\n{rows}\n }},\n "sources": {{\n{digits}\n }}\n}}\n'
    (folder / "aot" / f"{made['triton']}.json").write_text(text)
    if page:
        (folder / "aot.md").write_text("\n".join(_lines(table, chips, made)) + "\n")


def _known_chips() -> list[str]:
    from ngp_method.kernels.triton import aot

    return aot.known_chips()


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

    known = _known_chips()
    for chip in set(asked or []) - set(known):
        why = f", as {aot.unknown_because(chip)}" if chip in aot.CHIPS else ""
        sys.exit(f"--chips {chip}: this Triton knows {', '.join(known)}{why}.")
    for chip in set(aot.CHIPS) - set(known):
        print(f"{chip}: left out, as {aot.unknown_because(chip)}", flush=True)
    return list(asked or known)


def run(args: Any, results: Path) -> int:
    """The command ``gpu.py --compile-only``: exit status 1 when a kernel fails to compile.

    What is recorded with this Triton for a kernel as it is now is taken over, unless --output or --fresh says otherwise.
    """
    from ngp_method.kernels.triton import aot

    began, chips, recorded = time.monotonic(), _chips(args.chips), read(results, compiler())
    variants = {name: variant for name, variant in _variants().items() if args.pattern in name}
    sources = {name: gpu_sources.fingerprint(variant) for name, variant in variants.items()}
    table: Table = {name: {} for name in variants}
    if not args.output and not args.fresh:
        for name in variants:
            if recorded["sources"].get(name) == sources[name]:
                table[name] = recorded["kernels"][name]
    wanted = [(n, chip) for chip in chips for n, v in variants.items() if aot.runs_on(v, chip) and chip not in table[n]]
    print(f"Triton {compiler()}: {len(variants)} kernels; {len(wanted)} to compile for {', '.join(chips)}", flush=True)
    found, failures = compile_all(wanted, min(2, len(os.sched_getaffinity(0))))
    for name, row in found.items():
        table[name] = {**table[name], **row}
    known = bool(recorded["kernels"])
    spills = new_spills(recorded["kernels"], table) if known else []
    for line in spills:
        print(f"NEW SPILL {line}")
    folder = Path(args.output) if args.output else results
    changed = bool(wanted) or set(table) != set(recorded["kernels"])
    written = bool(args.output) or (changed and not args.pattern)
    if written:
        # The page in results/ is of all chips; a folder that was asked for gets what was asked for.
        write(folder, table, sources, chips, args.command, page=bool(args.output) or chips == _known_chips())
    where = f"table: {folder / 'aot'}" if written else "no table written: " + ("a part" if changed else "nothing new")
    against = f"{len(spills)} spill more than recorded" if known else "nothing recorded with this Triton to compare with"
    took = time.monotonic() - began
    print(f"{len(wanted)} compiled, {len(failures)} failed, {against}, {took:.0f} s; {where}")
    return 1 if failures else 0
