"""What a device can do: whether Triton runs there at all, and in which precision the fields are computed."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from pathlib import Path

import torch

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

LEAST_CAPABILITY = (7, 5)
"""Oldest NVIDIA chips that Triton's matrix products are compiled for (Turing)."""

BFLOAT16_CAPABILITY = (8, 0)
"""Chips from which matrix units take bfloat16 (Ampere)."""


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the processor (set before this package is imported)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def complaint(device: torch.device | str | None = None) -> str | None:
    """Why Triton kernels cannot run on a device, as one sentence; None where they can."""
    if interpreted():
        return None
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"The triton kernels need the package triton, which cannot be imported here ({error}): pip install triton."
    if not torch.cuda.is_available():
        return "The triton kernels need a CUDA or ROCm device, and torch sees none; use --pipeline.model.kernels cpu."
    refusal = _build_complaint()
    if refusal or torch.version.hip:
        return refusal
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return (
            f"The triton kernels need compute capability {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]}, and {name} has "
            f"{capability[0]}.{capability[1]}; use --pipeline.model.kernels reference."
        )
    return None


def _build_complaint() -> str | None:
    """Whether Triton can build what it builds at its first launch: a small C program against Python's headers.

    Its own search for a compiler (``triton/runtime/build.py``): CC, clang, gcc. A program built before lies in its cache and
    needs neither, so what is missing counts only where Triton cannot do without.
    """
    missing = []
    if not (os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")):
        missing.append("no C compiler")
    scheme = sysconfig.get_default_scheme()
    header = Path(sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"], "Python.h")
    if not header.is_file():
        missing.append(f"no {header}")
    if not missing or _driver_starts():
        return None
    return (
        f"Triton builds a small C program before its first kernel and finds {' and '.join(missing)}: "
        "sudo apt-get install gcc python3-dev, or set CC to a C compiler."
    )


def _driver_starts() -> bool:
    """Whether Triton's driver for this GPU loads, from its cache or built anew."""
    from triton.runtime import driver

    try:
        driver.active.get_current_target()
    except Exception:  # RuntimeError, CalledProcessError, ImportError: by version
        return False
    return True


def compiled_before() -> bool:
    """Whether this machine's cache of Triton has our kernels for this chip: that of marching, which every step needs.

    Triton writes beside each program what it was compiled for (``triton/runtime/cache.py``): ``<hash>/<kernel>.json``.
    """
    home = Path(os.environ.get("TRITON_HOME") or Path.home())
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or home / ".triton" / "cache")
    if torch.version.hip:
        chip: int | str = torch.cuda.get_device_properties().gcnArchName.split(":")[0]
    else:
        major, minor = torch.cuda.get_device_capability()
        chip = 10 * major + minor
    return any(_compiled_for(path) == chip for path in folder.glob("*/walk.json"))


def _compiled_for(described: Path) -> int | str | None:
    try:
        found: int | str = json.loads(described.read_text())["target"]["arch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def precision_of(name: str) -> torch.dtype:
    """The dtype of features and hidden layers; ``auto`` is bfloat16 where the matrix units take it, else float16."""
    if name != "auto":
        return PRECISIONS[name]
    if interpreted() or torch.version.hip or torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY:
        return torch.bfloat16
    return torch.float16
