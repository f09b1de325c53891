"""Every Triton kernel compiled for every chip without a device: none fails, none spills that did not, the table is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from measure import gpu_aot
from ngp_method.kernels.triton import aot

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


CHIPS = ("sm_90", "gfx942")
"""Compiled here in every run: one NVIDIA and one AMD chip, as all ten take ten minutes of two cores. The command compiles for
all, and the table records of which sources: a table that is not of the present kernels is an error."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes in a process in which Triton compiles."""
    folder = tmp_path_factory.mktemp("aot")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "benchmarks/gpu.py", "--compile-only", "--chips", *CHIPS, "--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return gpu_aot.read(folder)


def test_all_kernels_compile(compiled: dict[str, Any]) -> None:
    table, names = compiled["kernels"], {v.name: v for v in aot.all_variants()}
    assert set(table) == set(names)
    for name, row in table.items():
        assert set(row) == {chip for chip in CHIPS if aot.runs_on(names[name], chip)}, name
        for registers, shared, spills in row.values():
            assert 0 < registers <= 512
            assert shared >= 0
            assert spills >= 0


def test_nothing_spills_that_did_not(compiled: dict[str, Any]) -> None:
    recorded = gpu_aot.read(RESULTS)
    new = gpu_aot.new_spills(recorded["kernels"], compiled["kernels"])
    assert not new, (
        "\n".join(new)
        + f"\n(recorded with Triton {recorded['triton']}, compiled with {compiled['triton']}; if it has to be, accept it with "
        "`python benchmarks/gpu.py --compile-only`)"
    )


def test_the_recorded_table_is_of_these_kernels_and_all_chips(compiled: dict[str, Any]) -> None:
    recorded, names = gpu_aot.read(RESULTS), {v.name: v for v in aot.all_variants()}
    stale = sorted(n for n in compiled["sources"] if recorded["sources"].get(n) != compiled["sources"][n])
    gone = sorted(set(recorded["sources"]) - set(compiled["sources"]))
    assert not stale + gone, f"run `python benchmarks/gpu.py --compile-only`: changed {stale}, gone {gone}"
    for name, row in recorded["kernels"].items():
        assert set(row) == {chip for chip in aot.CHIPS if aot.runs_on(names[name], chip)}, name
    text = (RESULTS / "aot.md").read_text()
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
