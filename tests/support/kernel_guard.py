"""A test run in which a kernel set went unproven is red.

Each kernel test names the set it tests by its parameter ``kernel_set``. Unless the run was narrowed by hand (files, tests
or rooms named on the command line, ``-k``, ``--collect-only``, ``--last-failed``), every set of ``KERNEL_SETS`` must
have passed at least one test in each kernel test file; otherwise the exit status is 1 and the last lines say what is
missing. Sets made of what no test machine has (``ELSEWHERE``) are tested with a stand-in, in a file of their own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

KERNEL_FILES = (
    "test_kernels_encode",
    "test_kernels_mlp",
    "test_kernels_march",
    "test_kernels_volume",
    "test_kernels_compaction",
    "test_kernels_adam",
    "test_kernels_cells",
    "test_kernels_composed",
)
REFERENCE_FILE = "test_reference"
ELSEWHERE = {"tcnn": "test_tcnn"}
"""Sets that need another vendor's package, and the file that tests them with a stand-in for it."""

PROVEN_BY = {("test_kernels_march", "triton-float32"): "triton"}
"""Files in which a set is proven by another that runs the very same kernels: marching knows one precision, and Triton's
interpreter walks for minutes."""

_passed: Counter[tuple[str, str]] = Counter()


def missing(passed: Counter[tuple[str, str]], sets: list[str]) -> list[str]:
    """One sentence for each kernel set and file without a passed test."""
    own = {"reference": REFERENCE_FILE, **ELSEWHERE}
    wanted = [(file, name) for name in sets for file in ([own[name]] if name in own else KERNEL_FILES)]
    wanted = [pair for pair in wanted if pair not in PROVEN_BY]
    return [f"kernel set '{name}': no test passed in {file}.py" for file, name in wanted if not passed[file, name]]


def narrowed(config: pytest.Config) -> bool:
    """Whether the person asked for a part of the tests only."""
    option = config.option
    part = any(not Path(argument).is_dir() or TESTS in Path(argument).resolve().parents for argument in config.args)
    return bool(part or option.keyword or option.collectonly or getattr(option, "lf", False))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is asked of some kernel sets only (``@pytest.mark.sets("cpu")``) for the others."""
    out = []
    for item in items:
        mark, parameters = item.get_closest_marker("sets"), getattr(getattr(item, "callspec", None), "params", {})
        if mark is not None and not str(parameters.get("kernel_set", mark.args[0])).startswith(mark.args[0]):
            out.append(item)
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


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
