"""Table and plot of the recorded runs of ``benchmarks/rivals.py``: the last one of each method, scene and length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = ("psnr", "ssim", "steps", "rays_per_s", "render_rays_per_s", "first_step_s", "peak_rss_gb")

HEAD = """# What else runs here

Same images, same seconds of training, each method with its own best settings and in a process of its own; PSNR over the same
few held-out views. `python benchmarks/rivals.py SCENE --seconds N` makes the runs and this file.

![PSNR over seconds of training](rivals.png)
"""

Key = tuple[str, float, str]


def latest(folder: Path) -> dict[Key, dict[str, Any]]:
    """Records by scene, seconds and method.

    Raises:
        SystemExit: there are none.
    """
    found: dict[Key, dict[str, Any]] = {}
    for path in sorted((folder / "runs").glob("rivals-*.json"), key=lambda path: path.name[-22:]):
        record = json.loads(path.read_text())
        found[record["scene"], record["seconds"], record["method"]] = record
    if not found:
        raise SystemExit(f"{folder / 'runs'}: no runs recorded; run `python benchmarks/rivals.py lego --seconds 300` first.")
    return found


def write(folder: Path) -> dict[str, str]:
    """rivals.md and rivals.png; returns their paths."""
    found = latest(folder)
    lines = [HEAD, "| scene | seconds | method | " + " | ".join(COLUMNS) + " | machine | date | command |"]
    lines.append("|---" * (len(COLUMNS) + 6) + "|")
    order = sorted(found, key=lambda key: (key[0], key[1], -found[key].get("psnr", 0.0)))
    for scene, seconds, method in order:
        record = found[scene, seconds, method]
        cells = [str(record.get(name, "")) for name in COLUMNS]
        if "cannot_run" in record:
            cells = [f"does not run: {record['cannot_run'].replace('|', '/')}", *[""] * (len(COLUMNS) - 1)]
        ends = f"{record['machine']} | {record['date']} | `{record['command']}`"
        lines.append(f"| {scene} | {seconds:g} | {method} | " + " | ".join(cells) + f" | {ends} |")
    (folder / "rivals.md").write_text("\n".join(lines) + "\n")
    _draw(found, folder / "rivals.png")
    return {"table": str(folder / "rivals.md"), "curves": str(folder / "rivals.png")}


def _draw(found: dict[Key, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = sorted({(scene, seconds) for scene, seconds, _ in found})
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4.5), squeeze=False)
    for axis, panel in zip(axes[0], panels):
        for (scene, seconds, method), record in sorted(found.items()):
            if (scene, seconds) == panel and "curve" in record:
                curve = record["curve"]
                axis.plot([p["seconds"] for p in curve], [p["psnr"] for p in curve], "o-", label=method)
        axis.set(xscale="log", xlabel="seconds of training", ylabel="PSNR (dB)", title=f"{panel[0]}, {panel[1]:g} s")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
