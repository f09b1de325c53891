"""What a run has proven, in its last lines: with which compilers, on which processor, and what by an emulation alone."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

FEATURES = {
    "AVX2": ("avx2",), "FMA": ("fma",), "F16C": ("f16c",), "AVX-512": ("avx512f", "avx512bw", "avx512vl"),
    "AVX512-BF16": ("avx512bf16",), "AMX": ("amx-tile", "amx-bf16"),
}  # fmt: skip
"""What kernels are written for, and LLVM's names of it."""

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
    from ngp_method.kernels.cpu.processor import has

    there = {name: has(*words) for name, words in FEATURES.items()}
    yes, no = ([name for name in FEATURES if there[name] == wanted] for wanted in (True, False))
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
