"""Table and curves of the recorded runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = ("scene", "seconds", "steps", "psnr", "ssim", "samples_per_s", "rays_per_s", "render_rays_per_s", "peak_rss_gb",
           "first_step_s", "kernels", "held_to")  # fmt: skip


def _scene(record: dict[str, Any]) -> tuple[str, float]:
    words = record["command"].split()
    seconds = float(words[words.index("--seconds") + 1]) if "--seconds" in words else 60.0
    return Path(words[2]).name, seconds


def write(folder: Path) -> dict[str, str]:
    """cpu.md (a table) and cpu.png (PSNR over seconds of training) from runs/cpu-*.json; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("cpu-*.json"))]
    if not records:
        raise SystemExit(f"{folder / 'runs'}: no runs recorded; run `python benchmarks/cpu.py lego --seconds 60` first.")
    lines = [
        "# Runs without a GPU",
        "",
        "Each line is one run; `python benchmarks/cpu.py report` writes this file.",
        "",
    ]
    lines += ["| method | " + " | ".join(COLUMNS) + " | machine | date | command |", "|---" * (len(COLUMNS) + 4) + "|"]
    figure, axes = plt.subplots(figsize=(8, 5.5))
    axes.set_prop_cycle(color=plt.colormaps["tab20"].colors)
    for record in records:
        scene, seconds = _scene(record)
        for method, figures in (("instant-hash", record), (record.get("peer", {}).get("method"), record.get("peer"))):
            if not figures:
                continue
            row: dict[str, Any] = {"scene": scene, "seconds": seconds, "held_to": record.get("held_to", ""), **figures}
            cells = [str(row.get(name, "")) for name in COLUMNS]
            lines.append(
                f"| {method} | " + " | ".join(cells) + f" | {record['machine']} | {record['date']} | `{record['command']}` |"
            )
            points = figures["curve"]
            style = "o--" if method != "instant-hash" else "o-"
            axes.plot(
                [p["seconds"] for p in points],
                [p["psnr"] for p in points],
                style,
                label=f"{scene}, {method}, {float(row['seconds']):.0f} s, "
                + (record.get("held_to") or record["machine"].split(" Proc")[0]),
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.set(xlabel="seconds of training", ylabel="PSNR of held-out views (dB)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    figure.tight_layout()
    figure.savefig(folder / "cpu.png", dpi=130)
    (folder / "cpu.md").write_text("\n".join(lines) + "\n")
    return {"table": str(folder / "cpu.md"), "curves": str(folder / "cpu.png")}
