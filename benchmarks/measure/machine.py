"""Which machine and when: written beside every figure."""

from __future__ import annotations

import datetime
import os
import platform
import resource
from pathlib import Path


def describe() -> dict[str, str]:
    """Processor, cores, versions and the time (UTC)."""
    import numba
    import torch

    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {
        "machine": f"{name}, {len(os.sched_getaffinity(0))} cores",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numba {numba.__version__}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def peak_rss_gb() -> float:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
