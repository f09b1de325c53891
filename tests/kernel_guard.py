"""A test run in which a kernel set went unproven is red.

Each kernel test names the set it tests by its parameter ``kernel_set``. Unless the run was narrowed by hand (files or
tests named on the command line, ``-k``, ``--collect-only``, ``--last-failed``), every set of ``KERNEL_SETS`` must
have passed at least one test in each kernel test file; otherwise the exit status is 1 and the last lines say what is
missing.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

KERNEL_FILES = (
    "test_kernels_encode",
    "test_kernels_mlp",
    "test_kernels_march",
    "test_kernels_volume",
    "test_kernels_compaction",
    "test_kernels_adam",
)
REFERENCE_FILE = "test_reference"

_passed: Counter[tuple[str, str]] = Counter()


def missing(passed: Counter[tuple[str, str]], sets: list[str]) -> list[str]:
    """One sentence for each kernel set and file without a passed test."""
    wanted = [(file, name) for name in sets for file in KERNEL_FILES if name != "reference"]
    wanted.append((REFERENCE_FILE, "reference"))
    return [f"kernel set '{name}': no test passed in {file}.py" for file, name in wanted if not passed[file, name]]


def narrowed(config: pytest.Config) -> bool:
    """Whether the person asked for a part of the tests only."""
    option = config.option
    files = any(not Path(argument).is_dir() for argument in config.args)
    return bool(files or option.keyword or option.collectonly or getattr(option, "lf", False))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notes the kernel set a test is about, where the report carries it along (also between xdist's processes)."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "kernel_set" in parameters:
        item.user_properties.append(("kernel_set", parameters["kernel_set"]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts the passed tests."""
    if report.when == "call" and report.passed:
        for key, value in report.user_properties:
            if key == "kernel_set":
                _passed[Path(report.nodeid.split("::")[0]).stem, str(value)] += 1


def _complaints(config: pytest.Config) -> list[str]:
    if narrowed(config) or hasattr(config, "workerinput"):
        return []
    from ngp_method.kernels import KERNEL_SETS

    return missing(_passed, list(KERNEL_SETS))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turns a green run red if kernels went untested."""
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and _complaints(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests proved each set, and what is missing."""
    totals: Counter[str] = Counter()
    for (_, name), count in _passed.items():
        totals[name] += count
    if totals:
        terminalreporter.write_line("kernel tests passed: " + ", ".join(f"{n} {c}" for n, c in sorted(totals.items())))
    for line in _complaints(terminalreporter.config):
        terminalreporter.write_line(line, red=True)
