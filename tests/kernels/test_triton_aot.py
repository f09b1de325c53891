"""Every Triton kernel compiled without a device: none fails, none spills that did not before, the table is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from measure import gpu_aot
from ngp_method.kernels.triton import aot

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


WANTED = ("sm_90", "gfx942")
"""Compiled here in every run: one NVIDIA and one AMD chip, as all ten take ten minutes of two cores. The command compiles for
all, and the table records of which sources: a table that is not of the present kernels is an error."""

CHIPS = [chip for chip in WANTED if aot.unknown_because(chip) is None]
"""Those that the installed Triton compiles for: 3.2 wants ROCm's own linker for AMD's."""

REGISTERS = {"sm_90": 255, "gfx942": 512}
"""Most registers of a thread (CUDA C++ guide, table of compute capabilities; CDNA 3 ISA, vector and accumulation registers)."""

REGISTER_FILE = {"sm_90": 65536, "gfx942": 4 * 512 * 64}
"""Registers of one multiprocessor or compute unit: the same sources. A block that needs more is never launched."""

MOST_SPILLED = 256
"""Registers that a thread may spill, whatever compiles: as many as it can hold. With more, most of what a kernel works on lies
in memory, and it is not the kernel that was written. (Seen with Triton 3.2, 3.8 and 3.9 on these chips: up to 143.)"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes in a process in which Triton compiles."""
    folder = tmp_path_factory.mktemp("aot")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "benchmarks/gpu.py", "--compile-only", "--chips", *CHIPS, "--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return gpu_aot.read(folder, gpu_aot.compiler())


def test_all_kernels_compile(compiled: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    table, names = compiled["kernels"], {v.name: v for v in aot.all_variants()}
    assert CHIPS, "sm_90 is known to all"
    assert set(table) == set(names)
    for name, row in table.items():
        assert set(row) == {chip for chip in CHIPS if aot.runs_on(names[name], chip)}, name
        for registers, shared, spills in row.values():
            assert registers > 0
            assert shared >= 0
            assert spills >= 0
    count = sum(len(row) for row in table.values())
    record_property("proven", f"Triton {compiled['triton']} compiled {count} kernels for {' and '.join(CHIPS)}")
    for chip in set(WANTED) - set(CHIPS):
        record_property("proven", f"NOT compiled for {chip}: {aot.unknown_because(chip)}")


def test_every_block_can_be_launched(compiled: dict[str, Any]) -> None:
    """Registers and spills against what the chips have: holds for any compiler. (Shared memory: ``compile_variant``.)"""
    names = {v.name: v for v in aot.all_variants()}
    for name, row in compiled["kernels"].items():
        for chip, (registers, _, spills) in row.items():
            threads = names[name].num_warps * aot.CHIPS[chip].warp_size
            assert registers <= REGISTERS[chip], (name, chip, registers)
            assert registers * threads <= REGISTER_FILE[chip], (name, chip, registers, threads)
            assert gpu_aot.spilled_registers(chip, spills) <= MOST_SPILLED, (name, chip, spills)


def test_nothing_spills_that_did_not(compiled: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    """Against the table of the compiler that is installed; where it has none, the run's last lines say so."""
    recorded = gpu_aot.read(RESULTS, compiled["triton"])
    if not recorded["kernels"]:
        others = ", ".join(gpu_aot.recorded_compilers(RESULTS))
        record_property("proven", f"spills: held to the chips' limits alone (recorded for Triton {others}, this is another)")
        return
    new = gpu_aot.new_spills(recorded["kernels"], compiled["kernels"])
    assert not new, "\n".join(new) + (
        f"\n(Triton {compiled['triton']}; if it has to be, accept it with `python benchmarks/gpu.py --compile-only`, for CI's "
        f"chips alone with `--chips {' '.join(CHIPS)}`)"
    )
    record_property("proven", f"spills: none that is not recorded for Triton {compiled['triton']}")


def test_the_recorded_table_is_of_these_kernels_and_all_chips(compiled: dict[str, Any]) -> None:
    """Of whichever compiler the page for people was made with."""
    text, names = (RESULTS / "aot.md").read_text(), {v.name: v for v in aot.all_variants()}
    made_with = re.findall(r"with Triton (\S+),", text)
    recorded = gpu_aot.read(RESULTS, made_with[0])
    stale = sorted(n for n in compiled["sources"] if recorded["sources"].get(n) != compiled["sources"][n])
    gone = sorted(set(recorded["sources"]) - set(compiled["sources"]))
    assert not stale + gone, f"run `python benchmarks/gpu.py --compile-only`: changed {stale}, gone {gone}"
    for name, row in recorded["kernels"].items():
        assert set(row) == {chip for chip in aot.CHIPS if aot.runs_on(names[name], chip)}, name
    assert re.findall(r"^\| (\S.*?) \| ", text, re.MULTILINE)[1:] == sorted(names)


def test_every_kernel_of_the_package_has_a_variant() -> None:
    """A kernel that is launched and not listed would be compiled for the first time at a user's."""
    launched: set[str] = set()
    for path in sorted((ROOT / "ngp_method" / "kernels" / "triton").glob("*.py")):
        if path.name != "aot.py":
            launched |= set(re.findall(r"\b(\w+)\[(?:grid|\()", path.read_text()))
    assert len(launched) > 10
    listed = {variant.function.__name__ for variant in aot.all_variants()}
    assert launched <= listed, f"no variant of {sorted(launched - listed)}"


def test_fusing_products_and_sums_is_said_of_every_kernel() -> None:
    """Triton's default differs between versions; the bits of a ray's steps must not."""
    said = {variant.name: variant.options.get("enable_fp_fusion") for variant in aot.all_variants()}
    assert not [name for name, fused in said.items() if fused is None]
    exact = {name for name, fused in said.items() if not fused}
    assert exact == {name for name in said if name.startswith(("marching_walk/", "marching_fill/"))}


def test_bfloat16_is_left_out_where_the_chip_lacks_it() -> None:
    half = aot.Variant("a/float16", None, {"x": "*fp16"}, {})
    assert aot.runs_on(half, "sm_75")
    for other in (
        aot.Variant("a", None, {"x": "*bf16"}, {}),
        aot.Variant("a/bfloat16", None, {"x": "*fp32"}, {}),
        aot.Variant("a/float16", None, {"x": "*fp16"}, {}, not_on=("sm_7", "gfx11")),
    ):
        assert not aot.runs_on(other, "sm_75")
        assert aot.runs_on(other, "sm_80")


def test_in_the_interpreter_there_is_nothing_to_compile() -> None:
    with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
        aot.compile_variant(aot.all_variants()[0], "sm_80")
