"""Four sizes of the same views: a method trained on all of them, or on full size alone, and measured at each.

    python benchmarks/multiscale.py ../shared/data/lego --seconds 600
    python benchmarks/multiscale.py SCENE --seconds 600 --train-scales full
    python benchmarks/multiscale.py SCENE --seconds 600 --set pipeline.model.log2_hashmap_size=19

SCENE is a folder in Blender's layout, of which the multi-scale data are made in a temporary folder as mip-NeRF makes them
(scripts/multiscale_blender.py), or a folder that has them already. Trains for N seconds of training time, renders every
held-out view at every scale, and prints one JSON line last; also written to benchmarks/results/runs/ with machine, date and
command.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

START = time.monotonic()  # before the heavy imports: the first training step is counted from here

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

from measure import ordinary, records  # noqa: E402


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="a folder in Blender's layout, or with a metadata.json of several scales")
    parser.add_argument("--seconds", type=float, default=600.0, help="seconds of training")
    parser.add_argument(
        "--steps", type=int, default=None, help="steps of training instead: the same for a slow machine and a fast one"
    )
    parser.add_argument("--method", default="instant-hash", help="what is trained")
    parser.add_argument("--train-scales", choices=["all", "full"], default="all", help="images that are trained on")
    parser.add_argument("--views", type=int, default=None, help="held-out views that are measured at each scale (default: all)")
    parser.add_argument("--ordinary", action="store_true", help="held to AVX2, whatever the processor has")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the method's config")
    return parser.parse_args(argv)


def run(args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The figures of one run."""
    from measure import scales

    return scales.run(args.method, data, args, START)


def main() -> None:
    """Make the data, train, measure, record, and print one JSON line."""
    args = parse()
    if args.ordinary:
        ordinary.hold()
    if (args.scene / "metadata.json").is_file():
        figures = run(args, args.scene)
    else:
        import multiscale_blender

        with tempfile.TemporaryDirectory() as folder:
            multiscale_blender.convert(args.scene, Path(folder) / args.scene.name)
            figures = run(args, Path(folder) / args.scene.name)
    length = f"{args.seconds:.0f}s" if args.steps is None else f"{args.steps}steps"
    record = {
        **records.about("multiscale", "AVX2" if args.ordinary else ""),
        "scene": args.scene.name,
        "method": args.method,
        **({"seconds": args.seconds} if args.steps is None else {"wanted_steps": args.steps}),
        "trained_on": args.train_scales,
        **figures,
    }
    records.keep(record, f"multiscale-{args.scene.name}-{args.method}-{args.train_scales}-{length}")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
