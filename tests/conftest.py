"""What every test shares: quiet threads, and where the benchmark scenes lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Threads that spin while they wait slow down every other process on a small machine; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Read when triton is imported: its kernels then run on the processor, on the processor's tensors that all tests use (with a
# GPU too: there, benchmarks/gpu.py --parts a proves the compiled ones).
os.environ.setdefault("TRITON_INTERPRET", "1")

# Read when the cpu kernels are imported: what the processor lacks for bfloat16 is emulated, for who asks for it by name.
os.environ.setdefault("INSTANT_HASH_BFLOAT16", "emulate")

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks"), str(ROOT / "scripts")]

pytest_plugins = ["support.kernel_guard", "support.proven", "support.triton_interpreter"]


def data_root() -> Path:
    """Folder of the benchmark scenes: $NGP_DATA, else ../shared/data beside the checkout."""
    return Path(os.environ.get("NGP_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def find_data() -> Callable[[str], Path]:
    """``find_data("fox")``: that folder or file of the benchmark data; a skip that names it where it is missing."""

    def find(name: str) -> Path:
        path = data_root() / name
        if not path.exists():
            pytest.skip(f"needs {path}: set $NGP_DATA to the folder that holds {name}")
        return path

    return find


@pytest.fixture
def clean_writers() -> Iterator[None]:
    """nerfstudio's writers are globals: leaves none behind, so that one test's run does not log into another's."""
    from nerfstudio.utils import profiler, writer

    def clear() -> None:
        writer.EVENT_WRITERS.clear()
        writer.EVENT_STORAGE.clear()
        writer.GLOBAL_BUFFER.clear()
        profiler.PROFILER.clear()

    clear()
    yield
    clear()


def pytest_report_header() -> str:
    """Says at the top whether the benchmark scenes were found."""
    root = data_root()
    if not root.is_dir():
        return f"benchmark scenes: none at {root} (set $NGP_DATA); the tests that need them are skipped and listed"
    return f"benchmark scenes: {root} ({', '.join(sorted(p.name for p in root.iterdir()))})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the end how many tests did not run for want of the benchmark scenes."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "$NGP_DATA" in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests did NOT run: the benchmark scenes are not at {data_root()} (set $NGP_DATA).",
            red=True,
        )
