"""Table and curves of the recorded studies, with what others have published beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import study_nerf_report

COLUMNS = (
    *("file", "seconds", "encoding", "log2_hashmap_size", "n_params", "psnr", "ssim", "iou", "surface_error", "chamfer"),
    *(
        "steps",
        "points_per_s",
        "first_step_s",
        "measuring_s",
        "still_s",
        "written_s",
        "mesh_s",
        "peak_rss_gb",
        "kernels",
        "held_to",
    ),
)

PUBLISHED_IOU = {
    "hash grid": [(12.2e6, 0.9812), (12.2e6, 0.9997), (12.2e6, 0.9872), (12.2e6, 0.9691)],
    "NGLOD": [(22.3e6, 0.9777), (16.0e6, 0.9998), (11.1e6, 0.9911), (24.2e6, 0.9749)],
    "frequency": [(124.9e3, 0.8432), (124.9e3, 0.9898), (124.9e3, 0.8470), (124.9e3, 0.7575)],
}
"""Parameters and IoU of the four shapes of the paper's figure 7, which the text does not name; trained on a GPU."""

PUBLISHED = (
    "| method | what | result | machine | source |",
    "|---|---|---|---|---|",
    "| ACORN | Pluto, 16 megapixels | 30 dB in about 30 s | a GPU | ACORN's project page |",
    "| ACORN | Tokyo, a gigapixel | 38.59 dB after 36.9 h | a GPU | Müller et al. 2022 |",
    "| instant-ngp | Tokyo, T = 2^24 | 38.59 dB after 2.5 min, 41.9 dB after 4 min | RTX 3090 | Müller et al. 2022 |",
    "| instant-ngp, hash | four shapes, 12.2 M | IoU 0.9812, 0.9997, 0.9872, 0.9691 | RTX 3090, 64 to 114 s | its figure 7 |",
    "| NGLOD | the same, 11 to 24 M | IoU 0.9777, 0.9998, 0.9911, 0.9749 | RTX 3090, 97 to 116 s | its figure 7 |",
    "| frequency | the same, 124.9 k | IoU 0.8432, 0.9898, 0.8470, 0.7575 | RTX 3090, 81 to 130 s | its figure 7 |",
)
"""Figures of others, tagged with their source: other pictures, other shapes, other machines."""

HEAD = """# Pictures and distances

Each line is one run; `python benchmarks/study.py report` writes this file. PSNR is over all pixels; IoU is strict
(2^22 points in the whole cube, each asked of the field); surface error and Chamfer distance are in edges of the cube.

![Quality over the number of parameters](study.png)
"""


def write(folder: Path) -> dict[str, str]:
    """study.md (tables) and study.png (quality over parameters) from runs/study-*.json; returns their paths."""
    fields = study_nerf_report.write(folder)
    records = [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("study-*.json"))]
    records = [record for record in records if record["primitive"] != "nerf"]
    if not records and fields:
        return fields
    if not records:
        raise SystemExit(f"{folder / 'runs'}: no runs recorded; run `python benchmarks/study.py image --seconds 30` first.")
    lines = [HEAD]
    for primitive in ("image", "sdf"):
        lines += [f"## {primitive}", "", *_table([record for record in records if record["primitive"] == primitive]), ""]
    lines += ["## What others have published", "", *PUBLISHED]
    (folder / "study.md").write_text("\n".join(lines) + "\n")
    _draw(records, folder / "study.png")
    return {"table": str(folder / "study.md"), "curves": str(folder / "study.png"), **fields}


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown, with the columns that there are values for."""
    shown = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
    lines = ["| " + " | ".join([*shown, "machine", "date", "command"]) + " |", "|---" * (len(shown) + 3) + "|"]
    for row in sorted(rows, key=lambda r: (r["file"], r["encoding"], r["n_params"], r["seconds"], r["held_to"], r["date"])):
        cells = ["" if row.get(name) is None else str(row[name]) for name in shown]
        lines.append("| " + " | ".join([*cells, row["machine"], row["date"], f"`{row['command']}`"]) + " |")
    return lines


def _draw(records: list[dict[str, Any]], path: Path) -> None:
    """PSNR and one minus IoU over the number of parameters, a line for each table's file, seconds and encoding."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    for axes, primitive, value in ((left, "image", lambda r: r["psnr"]), (right, "sdf", lambda r: max(1e-5, 1.0 - r["iou"]))):
        groups: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
        for row in records:
            if row["primitive"] == primitive:
                name = Path(row["file"]).stem, row["encoding"], row["seconds"], row["held_to"]
                groups.setdefault(name, []).append((row["n_params"], value(row)))
        for (stem, encoding, seconds, held), points in sorted(groups.items()):
            label = f"{stem}, {encoding}, {seconds:g} s{f', {held}' if held else ''}"
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=label)
        axes.set_xscale("log")
        axes.set_xlabel("parameters")
        axes.grid(alpha=0.3)
    for name, marker in (("hash grid", "+"), ("NGLOD", "x"), ("frequency", "1")):
        sizes, values = zip(*PUBLISHED_IOU[name], strict=True)
        right.plot(sizes, [1.0 - v for v in values], marker, color="0.5", label=f"paper, four other shapes, GPU: {name}")
    left.set_ylabel("PSNR over all pixels (dB)")
    right.set_ylabel("1 - strict IoU")
    right.set_yscale("log")
    for axes in (left, right):
        axes.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
