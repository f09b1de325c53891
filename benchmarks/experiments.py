"""Ideas that were tried, each against what it would replace: same scene, same steps, same seeds.

    python benchmarks/experiments.py lego                  # all of them, two seeds each
    python benchmarks/experiments.py fox --names rotation --steps 1500 --seeds 1 2 3
    python benchmarks/experiments.py report                # the table of all recorded runs

============  ==========================================================================================================
``grid``       8 levels of 4 features for 16 of 2 (instant-ngp's base_8x4), the levels that the images resolve
``half``       the table read as float16 (cpu-mixed) for float32 (cpu-float32)
``background``  a white background while training for one that is random at every ray
``rotation``   levels turned against one another (arXiv 2602.10495) for all along the axes
============  ==========================================================================================================
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

START = time.monotonic()

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import records, scenes  # noqa: E402

MODEL = "pipeline.model."
EXPERIMENTS: dict[str, dict[str, list[str]]] = {
    "grid": {
        "16 levels of 2": [],
        "8 levels of 4": [f"{MODEL}n_levels=8", f"{MODEL}n_features_per_level=4"],
    },
    "half": {"float32 table": [f"{MODEL}kernels=cpu-float32"], "float16 table": [f"{MODEL}kernels=cpu-mixed"]},
    "background": {"random": [], "white": [f"{MODEL}background_color=white"]},
    "rotation": {
        "along the axes": [f"{MODEL}encoding=straight", f"{MODEL}levels_fit_images=False", f"{MODEL}finest_resolution=512"],
        "turned": [f"{MODEL}encoding=turned", f"{MODEL}levels_fit_images=False", f"{MODEL}finest_resolution=512"],
    },
}
"""Settings by the name of a variant; the first is what there is."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", help="lego, fox, demo, a folder, or report")
    parser.add_argument("--names", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--steps", type=int, default=1000, help="steps of training, each")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43])
    parser.add_argument("--scale", type=float, default=None, help="scale of the images of a folder (default 1)")
    parser.add_argument("--variant", default=None, help=argparse.SUPPRESS)  # one run, in a process of its own
    return parser.parse_args(argv)


def run(args: argparse.Namespace, data: Path, scale: float) -> dict[str, Any]:
    """One variant of one experiment with one seed."""
    from measure import rotated
    from measure.training import configure, evaluate, train
    from ngp_method.fields.encodings import ENCODINGS

    ENCODINGS["straight"], ENCODINGS["turned"] = rotated.build(False), rotated.build(True)
    settings = EXPERIMENTS[args.names[0]][args.variant]
    given = argparse.Namespace(seconds=float("inf"), seed=args.seeds[0], set=settings)
    with tempfile.TemporaryDirectory() as folder:
        config = configure("instant-hash", data, scale, given, Path(folder))
        trainer, clock = train(config, START, None, args.steps)
        figures = evaluate(trainer.pipeline)
    table = trainer.pipeline.model.field.network.vectors()["table"].numel()
    return {
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "step_ms": round(1000 * clock.used / clock.steps, 1),
        "render_rays_per_s": figures["render_rays_per_s"],
        "table": table,
    }


def main() -> None:
    """Every variant with every seed in a process of its own, in turn."""
    args = parse()
    if args.scene == "report":
        from measure import experiments_report

        print("\n".join(experiments_report.rows(HERE / "results")))
        return
    data, scale = scenes.find(args.scene, args.scale)
    if args.variant is not None:
        print(json.dumps(run(args, data, scale)))
        return
    for name in args.names:
        for seed in args.seeds:
            for variant in EXPERIMENTS[name]:
                command = [sys.executable, __file__, args.scene, "--names", name, "--variant", variant, "--seeds", str(seed)]
                command += ["--steps", str(args.steps), "--scale", str(scale)]
                figures = records.of_command(command, f"{name}, {variant}")
                about = {"experiment": name, "variant": variant, "scene": data.name, "seed": seed, "steps": args.steps}
                record = {**records.about("experiments"), **about, **figures}
                records.keep(record, f"experiment-{name}-{records.label(variant)}-{data.name}-{seed}")
                print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
