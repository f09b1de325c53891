"""What else can be installed and trained here, in one run: same images, same seconds, one table and one plot.

    python benchmarks/rivals.py lego --seconds 300
    python benchmarks/rivals.py fox --seconds 600 --methods instant-hash nerfacto

Each method is trained in a process of its own with its own best settings, as ``benchmarks/cpu.py`` runs it alone:

=================  =====================================================================================================
``instant-hash``    this package's
``nerfacto``        nerfstudio's default method, its hash grid in torch (tiny-cuda-nn needs CUDA)
``instant-ngp``     nerfstudio's Instant-NGP, whose ray marching is nerfacc's CUDA extension
``hashnerf``        nerfstudio's torch hash grid under NeRF's two passes, with HashNeRF-pytorch's settings
``litesplat``       LiteSplat, Gaussian splatting in Keras (pip install litesplat)
=================  =====================================================================================================

PSNR is of the same few held-out views for all (some render a picture in minutes); what cannot run says why. Writes
benchmarks/results/rivals.md and rivals.png, and each method's record with machine, date and command.
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

from measure import records, rivals_report, scenes  # noqa: E402

METHODS = ("instant-hash", "nerfacto", "hashnerf", "litesplat", "instant-ngp")
SHARES = (0.05, 0.1, 0.25, 0.5)
"""Of the seconds, after which the views are measured on the way."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", help="lego, fox, demo, a folder, or report")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds of training, each")
    parser.add_argument("--scale", type=float, default=None, help="scale of the images of a folder (default 1)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="these alone")
    parser.add_argument("--views", type=int, default=3, help="held-out views that are measured, evenly spaced")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args(argv)


def one(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of a method, or why there are none."""
    command = [sys.executable, str(HERE / "cpu.py"), args.scene, "--method", method, "--seconds", f"{args.seconds:g}"]
    command += ["--views", str(args.views), "--seed", str(args.seed)]
    command += ["--curve", *(f"{share * args.seconds:g}" for share in SHARES)]
    command += [] if args.scale is None else ["--scale", str(args.scale)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    said = [line.strip() for line in done.stderr.strip().splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    return {"cannot_run": said[-1]}


def main() -> None:
    """Each method in turn, then the table of all that is recorded."""
    args = parse()
    if args.scene == "report":
        print(json.dumps(rivals_report.write(HERE / "results")))
        return
    scenes.find(args.scene, args.scale)
    for method in args.methods:
        figures = one(method, args)
        name = Path(args.scene).name
        record = {**records.about("rivals"), "scene": name, "seconds": args.seconds, "method": method, **figures}
        records.keep(record, f"rivals-{name}-{method}-{args.seconds:.0f}s")
        print(json.dumps({key: record.get(key) for key in ("method", "psnr", "ssim", "steps", "cannot_run")}), flush=True)
    print(json.dumps(rivals_report.write(HERE / "results")))


if __name__ == "__main__":
    main()
