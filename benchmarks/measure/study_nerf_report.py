"""Tables and curves of the study of a radiance field, the paper's printed figures beside: the last run of each variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .study_nerf import EXPERIMENTS, PRINTED

TITLES = {
    "figure2": "Figure 2: encodings, at equal seconds",
    "T": "Figure 4: entries of a level's table, T",
    "FL": "Figure 5: features and levels at a constant F x L x T",
    "mlp": "Figure 10: width and depth of the networks",
    "dense": "Section 3: the same grid with every level dense, and hashed",
    "nmax": "Section 4: the finest resolution, N_max",
}

HEAD = """# The paper's study of its radiance field

`python benchmarks/study.py nerf SCENE` makes the runs, `python benchmarks/study.py report` this file. What each varies and what
stays stands in `benchmarks/measure/study_nerf.py`. PSNR is over all held-out views. The paper's figures are another scene's,
after 11,000 steps on an RTX 3090: what can be compared is their order.

![PSNR of each experiment](study-nerf.png)
"""

Runs = dict[tuple[str, str, str], dict[str, Any]]


def write(folder: Path) -> dict[str, str]:
    """study-nerf.md and study-nerf.png from runs/study-nerf-*.json; returns their paths, nothing where there are no runs."""
    paths = sorted((folder / "runs").glob("study-nerf-*.json"), key=lambda path: path.name[-22:])
    records = [json.loads(path.read_text()) for path in paths]
    if not records:
        return {}
    found: Runs = {(r["file"], r["experiment"], r["variant"]): r for r in records}
    lines = [HEAD]
    for experiment, title in TITLES.items():
        rows = _rows(found, experiment)
        if rows:
            lines += [f"## {title}", "", *rows, ""]
    (folder / "study-nerf.md").write_text("\n".join(lines))
    _draw(found, folder / "study-nerf.png")
    return {"fields": str(folder / "study-nerf.md"), "fields_curves": str(folder / "study-nerf.png")}


def _rows(found: Runs, experiment: str) -> list[str]:
    """Lines of Markdown: a variant in its order, of each scene."""
    scenes = sorted({scene for scene, name, _ in found if name == experiment})
    printed = experiment == "figure2"
    head = "| scene | variant | parameters | PSNR | SSIM | steps | seconds |" + (
        " the paper's parameters | PSNR |" if printed else ""
    )
    lines = [head + " machine | date | command |", "|---" * (head.count("|") - 1 + 3) + "|"]
    for scene in scenes:
        for variant in EXPERIMENTS[experiment]:
            record = found.get((scene, experiment, variant))
            if record is None:
                continue
            cells = [scene, variant, record["n_params"], record["psnr"], record["ssim"], record["steps"], record["seconds"]]
            cells += [f"{PRINTED[variant][0]:.3g}", PRINTED[variant][1]] if printed else []
            cells += [record["machine"], record["date"], f"`{record['command']}`"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines if scenes else []


def _draw(found: Runs, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [name for name in TITLES if any(experiment == name for _, experiment, _ in found)]
    rows = -(-len(shown) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(13, 4.2 * rows), squeeze=False)
    for axis, experiment in zip(axes.flat, shown):
        for scene in sorted({scene for scene, name, _ in found if name == experiment}):
            variants = [v for v in EXPERIMENTS[experiment] if (scene, experiment, v) in found]
            axis.plot(variants, [found[scene, experiment, v]["psnr"] for v in variants], "o-", label=scene)
        if experiment == "figure2":
            axis.plot(list(PRINTED), [psnr for _, psnr in PRINTED.values()], "x--", color="0.5", label="paper, another scene")
        axis.set(title=TITLES[experiment], ylabel="PSNR (dB)")
        axis.tick_params(axis="x", rotation=30, labelsize=7)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
