"""Quality and speed without a GPU, through nerfstudio's own trainer.

    python benchmarks/cpu.py lego --seconds 60            # $NGP_DATA/lego or ../shared/data/lego, at 200x200
    python benchmarks/cpu.py fox --seconds 120            # at 270x480, every 8th image held out
    python benchmarks/cpu.py path/to/scene --scale 0.5 --seconds 60
    python benchmarks/cpu.py fox --seconds 300 --peer nerfacto --peer-seconds 900
    python benchmarks/cpu.py lego --seconds 60 --peer litesplat --peer-seconds 900
    python benchmarks/cpu.py lego --seconds 60 --ordinary  # held to AVX2, as on a laptop without AVX-512
    python benchmarks/cpu.py report                       # table and curves of all recorded runs

Trains for N seconds of training time (evaluation and rendering are not counted), evaluates on all held-out views, and prints
one JSON line last. Every run is also written to benchmarks/results/runs/, with machine, date and command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

START = time.monotonic()  # before the heavy imports: the first training step is counted from here

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import ordinary, records, report, scenes  # noqa: E402


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", help="lego, fox, demo, a folder, or report")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of training")
    parser.add_argument("--scale", type=float, default=None, help="scale of the images of a folder (default 1)")
    parser.add_argument("--curve", type=float, nargs="*", default=[], help="also evaluate at these seconds of training")
    parser.add_argument("--peer", choices=["nerfacto", "litesplat"], default=None, help="run another method beside it, in turn")
    parser.add_argument("--peer-seconds", type=float, default=None, help="seconds of the peer's training (default: as many)")
    parser.add_argument("--ordinary", action="store_true", help="held to AVX2, whatever the processor has")
    parser.add_argument("--method", default="instant-hash", help="what is trained")
    parser.add_argument(
        "--views", type=int, default=None, help="held-out views that are measured, evenly spaced (default: all)"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the method's config")
    parser.add_argument("--note", default="", help="kept with the results")
    return parser.parse_args(argv)


def beside(args: argparse.Namespace, figures: dict[str, Any]) -> dict[str, Any]:
    """The peer's figures, from a process of its own (its own thread settings and loggers), and the ratios."""
    seconds = args.peer_seconds or args.seconds
    command = [sys.executable, __file__, args.scene, "--seconds", str(seconds), "--method", args.peer]
    if args.scale is not None:
        command += ["--scale", str(args.scale)]
    peer = records.of_command(command, args.peer)
    return {
        "peer": {"method": args.peer, "seconds": seconds, **peer},
        "rays_per_s_ratio": round(figures["rays_per_s"] / peer["rays_per_s"], 2),
        "render_rays_per_s_ratio": round(figures["render_rays_per_s"] / peer["render_rays_per_s"], 2),
    }


def main() -> None:
    """Run, record, and print one JSON line."""
    args = parse()
    if args.scene == "report":
        print(json.dumps(report.write(HERE / "results")))
        return
    if args.ordinary:
        ordinary.hold()
    if "litesplat" in (args.peer, args.method):
        from measure import litesplat

        litesplat.require()
    from measure import training

    data, scale = scenes.find(args.scene, args.scale)
    if args.method == "litesplat":
        figures = litesplat.run(data, scale, args, START)
    else:
        figures = training.run(args.method, data, scale, args, START)
    if args.method != "instant-hash":
        print(json.dumps(figures))
        return
    if args.peer:
        figures |= beside(args, figures)
    kind = "-ordinary" if args.ordinary else ""
    record = {**records.about("cpu", "AVX2" if args.ordinary else ""), **figures}
    if args.views is None:  # figures of some views would stand beside those of all
        records.keep(record, f"cpu-{Path(args.scene).name}-{args.seconds:.0f}s{kind}")
    print(json.dumps({"scene": args.scene, "seconds": args.seconds, **figures}))


if __name__ == "__main__":
    main()
