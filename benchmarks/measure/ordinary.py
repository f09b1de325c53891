"""A process held to AVX2, whatever the processor has: what every PC since 2013 can do."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NUMBA_CACHE_DIR": str(Path(tempfile.gettempdir()) / "instant-hash-ordinary"),
}
"""In which numba, oneDNN and torch use no more than AVX2, FMA and F16C."""


def hold() -> None:
    """Starts the program again in that environment, unless it is in it: it is read when numba and torch are imported."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
