"""What a run has proven, in its last lines: with which compilers, on which processor, and what by an emulation alone."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

FEATURES = {
    "AVX2 with FMA": (("avx2", "fma"), "<8 x i32>", "add <8 x i32> %x, %x", "vpaddd\t%ymm"),
    "F16C": (("f16c",), "<8 x half>", "fadd <8 x half> %x, %x", "vcvtph2ps"),
    "AVX-512": (("avx512f", "avx512bw", "avx512vl"), "<16 x float>", "fadd <16 x float> %x, %x", "%zmm"),
}
"""What kernels are written for: LLVM's names of it; a type, a line, and what stands in its assembly where numba uses it."""

NAMED = {"AVX512-BF16": ("avx512bf16",), "AMX": ("amx-tile", "amx-bf16")}
"""The same, where LLVM's names are all that is asked."""

_said: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects what tests say they have proven: ``record_property("proven", line)``."""
    if report.when == "call" and report.passed:
        _said.extend(str(value) for key, value in report.user_properties if key == "proven" and str(value) not in _said)


def versions() -> str:
    """Interpreter and compilers."""
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "triton", "numba", "llvmlite", "nerfstudio"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def processor() -> list[str]:
    """Two lines: what processor and numba's target have of what kernels are written for; what multiplies in bfloat16."""
    import llvmlite.binding

    from ngp_method.kernels.cpu import bfloat16
    from ngp_method.kernels.cpu.processor import has, line_becomes

    host = llvmlite.binding.get_host_cpu_features()
    there = {
        name: all(host.get(word, False) for word in words) and wanted in line_becomes(kind, f"{kind} %x", line)
        for name, (words, kind, line, wanted) in FEATURES.items()
    }
    there |= {name: has(*words) for name, words in NAMED.items()}
    yes, no = ([name for name in there if there[name] == wanted] for wanted in (True, False))
    return [
        f"processor: {llvmlite.binding.get_host_cpu_name()} ({platform.machine()}) with {', '.join(yes) or 'none of these'}"
        + (f"; without {', '.join(no)}" if no else ""),
        f"bfloat16 on the processor: {' and '.join(map(bfloat16.describe, bfloat16.engines())) or bfloat16.why_not()}",
    ]


def lines() -> list[str]:
    """The report."""
    from ngp_method.kernels.triton.device import interpreted

    device = "in its interpreter" if interpreted() else "compiled, on a device"
    return [f"proven with {versions()}", *processor(), f"Triton's kernels ran {device}", *_said]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The report, in a run in which kernels were tested."""
    if hasattr(terminalreporter.config, "workerinput") or "ngp_method.kernels" not in sys.modules:
        return
    for line in lines():
        terminalreporter.write_line(line)
