"""Table of the recorded runs of ``benchmarks/experiments.py``: means over seeds, and the difference that a variant makes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

COLUMNS = ("experiment", "scene", "variant", "PSNR", "by seed", "SSIM", "ms a step", "rays rendered a second", "table",
           "machine", "date", "command")  # fmt: skip


def rows(folder: Path) -> list[str]:
    """Lines of Markdown.

    Raises:
        SystemExit: there are no runs.
    """
    latest: dict[tuple[str, str, int, str, int], dict[str, Any]] = {}
    for path in sorted((folder / "runs").glob("experiment-*.json"), key=lambda path: path.name[-22:]):
        r = json.loads(path.read_text())
        latest[r["experiment"], r["scene"], r["steps"], r["variant"], r["seed"]] = r
    if not latest:
        raise SystemExit(f"{folder / 'runs'}: no runs recorded; run `python benchmarks/experiments.py lego` first.")
    groups: dict[tuple[str, str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for key, record in latest.items():
        groups[key[:4]].append(record)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for (experiment, scene, steps, variant), runs in sorted(groups.items(), key=lambda item: item[0][:3]):
        mean = {name: sum(r[name] for r in runs) / len(runs) for name in ("psnr", "ssim", "step_ms", "render_rays_per_s")}
        seeds = ", ".join(f"{r['psnr']:.2f}" for r in sorted(runs, key=lambda r: r["seed"]))
        cells = [experiment, f"{scene}, {steps} steps", variant, f"{mean['psnr']:.2f}", seeds, f"{mean['ssim']:.4f}"]
        cells += [f"{mean['step_ms']:.0f}", f"{mean['render_rays_per_s']:.0f}", f"{runs[0]['table']:,}"]
        lines.append("| " + " | ".join([*cells, runs[-1]["machine"], runs[-1]["date"], f"`{runs[-1]['command']}`"]) + " |")
    return lines
