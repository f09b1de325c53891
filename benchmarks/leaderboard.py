"""A record of progress: seconds of training to 30 dB on lego (200x200) and to 29 dB on the fox (270x480), on this machine.

    python benchmarks/leaderboard.py "0.1.0"                 # trains both, adds a row to benchmarks/leaderboard.md
    python benchmarks/leaderboard.py "0.1.0" --scenes lego

Each scene is trained once with the defaults, for 60 and 120 seconds, and all held-out views are rendered every few seconds
(which stops the clock); the row has the second at which their PSNR passes the mark, between two looks by a straight line.
Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import records  # noqa: E402

MARKS = {"lego": (30.0, 60.0, 4.0), "fox": (29.0, 120.0, 10.0)}
"""For each scene the mark in dB, seconds of training, and seconds between two looks."""

TABLE = HERE / "leaderboard.md"
HEAD = """# Seconds to a mark

Each row is one run of `python benchmarks/leaderboard.py VERSION` on two cores: seconds of training until the held-out views
have 30 dB (lego, 200x200) and 29 dB (fox, 270x480). Machines differ, and are shared: only rows of one machine can be compared,
and those swing by a tenth.

| version | commit | date | lego to 30 dB | fox to 29 dB | PSNR at the end | machine | kernels | command |
|---|---|---|---|---|---|---|---|---|
"""


def passes(curve: list[dict[str, float]], mark: float) -> float | None:
    """The second at which a curve passes a mark; None: it does not."""
    before: dict[str, float] | None = None
    for point in curve:
        if point["psnr"] >= mark:
            if before is None:
                return point["seconds"]  # at the first look: no later than that
            share = (mark - before["psnr"]) / (point["psnr"] - before["psnr"])
            return round(before["seconds"] + share * (point["seconds"] - before["seconds"]), 1)
        before = point
    return None


def measured(scene: str) -> dict[str, Any]:
    """A run's curve and figures, from a process of its own."""
    mark, seconds, every = MARKS[scene]
    looks = [f"{every * i:g}" for i in range(1, int(seconds / every))]
    command = [sys.executable, str(HERE / "cpu.py"), scene, "--seconds", f"{seconds:g}", "--curve", *looks]
    figures = records.of_command(command, scene)
    return {"seconds": passes(figures["curve"], mark), "psnr": figures["psnr"], "kernels": figures["kernels"]}


def commit() -> str:
    """The checkout's, short."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measure, add a row, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="what is measured, in a few words")
    parser.add_argument("--scenes", nargs="+", choices=list(MARKS), default=list(MARKS))
    args = parser.parse_args()
    found = {scene: measured(scene) for scene in args.scenes}
    about = records.about("leaderboard")
    shown = {scene: (found[scene]["seconds"] if scene in found else None) for scene in MARKS}
    cells = [f"{shown[scene]} s" if shown[scene] is not None else "not reached" if scene in found else "" for scene in MARKS]
    ends = ", ".join(f"{scene} {figures['psnr']:.2f}" for scene, figures in found.items())
    kernels = next(iter(found.values()))["kernels"]
    row = [args.version, commit(), about["date"], *cells, ends, about["machine"], kernels, f"`{about['command']}`"]
    text = TABLE.read_text() if TABLE.exists() else HEAD
    TABLE.write_text(text + "| " + " | ".join(row) + " |\n")
    print(json.dumps({**about, "commit": commit(), "version": args.version, **found}))


if __name__ == "__main__":
    main()
