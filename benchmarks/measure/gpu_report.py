"""The short table at the end, and the results file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SHOWN = (
    "hash_encode 16x2 forward, random positions",
    "hash_encode 16x2 table gradient, random positions",
    "hash_encode 16x2 forward, samples of rays",
    "hash_encode 16x2 table gradient, samples of rays",
)
"""Times of the short table; all are in the file."""


def summary(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, figure) for each kernel set."""
    found = []
    for name, parts in record["kernels"].items():
        errors = parts.get("errors")
        if errors:
            right = len(errors["rows"]) - errors["wrong"]
            found.append((f"{name}: results within their bounds", f"{right} of {len(errors['rows'])}"))
        for row in (parts.get("times") or {}).get("rows", []):
            if row["operation"] in SHOWN and row["ms"] is not None:
                found.append((f"{name}: {row['operation']}", f"{row['ms']:.3f} ms, {row['of_floor']:.0%} of the ceiling"))
        training = parts.get("training")
        if training:
            curve = ", ".join(f"{p['psnr']:.2f} dB at {p['seconds']:.0f} s" for p in training["curve"])
            found.append((f"{name}: {training['scene']} {training['width']}x{training['height']}", curve))
            found.append((f"{name}: samples trained on", f"{training['samples_per_s'] / 1e6:.1f} M/s"))
            found.append((f"{name}: steps trained, all parameters finite", f"{training['steps']}, {training['finite']}"))
        if parts.get("steps"):
            forms = ", ".join(f"{form} {ms:.2f}" for form, ms in parts["steps"]["ms"].items())
            found.append((f"{name}: ms a step of {parts['steps']['kept_slots']} samples", forms))
        if parts.get("rendering"):
            side = parts["rendering"]["side"]
            found.append((f"{name}: frames at {side}x{side}", f"{parts['rendering']['frames_per_s']} /s"))
        if parts.get("peak_memory_gib") is not None:
            found.append((f"{name}: most memory, training and rendering", f"{parts['peak_memory_gib']} GiB"))
    return found


def write(record: dict[str, Any], folder: Path) -> None:
    """Print the table, write gpu-<device>.json."""
    slug = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu-{slug}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{record['device']}, {record['versions']}, {record['date']}\n\n| | |\n|---|---|")
    for what, figure in summary(record):
        print(f"| {what} | {figure} |")
    for what, why in record["failed"].items():
        print(f"| **FAILED** {what} | {why.splitlines()[0]} |")
    print(f"\nwritten: {path}", flush=True)
