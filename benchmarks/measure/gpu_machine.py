"""Which machine, versions and when: written beside every figure of a GPU; torch alone is needed."""

from __future__ import annotations

import datetime
import importlib.util
import platform

import torch


def now() -> str:
    """The time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def device_name(device: torch.device) -> str:
    """What the driver calls the device; the processor's architecture where there is none."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} processor, interpreted"


def describe(device: torch.device) -> dict[str, str]:
    """Device, versions and date."""
    import triton

    found = {"device": device_name(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["memory_gib"] = f"{properties.total_memory / 2**30:.1f}"
    found["versions"] = f"python {platform.python_version()}, torch {torch.__version__}, triton {triton.__version__}"
    for name in ("tinycudann", "nerfacc", "nerfstudio"):
        found[name] = "installed" if importlib.util.find_spec(name) else "not installed"
    found["date"] = now()
    return found
