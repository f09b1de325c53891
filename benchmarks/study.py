"""The paper's study: its radiance field with everything that it varies, a picture with tables of all sizes, a distance.

    python benchmarks/study.py nerf lego                   # figure 2, T, F x L, networks, dense against hash, N_max
    python benchmarks/study.py nerf demo --experiments T FL --steps 500
    python benchmarks/study.py image --seconds 30          # hash grids of 2^12 to 2^22, then frequency and dense grid
    python benchmarks/study.py sdf --seconds 60            # hash grid, dense grid, frequency
    python benchmarks/study.py image FILE --seconds 120 --encodings hash --sizes 20 --uses   # one run, and a still and the file
    python benchmarks/study.py sdf FILE --seconds 60 --encodings hash --sizes 17 --ordinary  # held to AVX2
    python benchmarks/study.py report                      # table and curves of all recorded runs

FILE is by default the picture or the armadillo of $NGP_DATA (../shared/data), of nerf lego, or demo, or a scene's folder. Each
run trains for N seconds of training time (of nerf, but for figure 2, for N steps) in a process of its own, is measured as a
whole, printed as one JSON line and written to benchmarks/results/runs/ with machine, date and command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

START = time.monotonic()  # before the heavy imports: the first training step is counted from here

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import ordinary, records, scenes, study_nerf, study_report  # noqa: E402

ENCODINGS = {"image": ("hash", "frequency", "dense"), "sdf": ("hash", "dense", "frequency")}
SIZES = {"image": (12, 14, 16, 18, 20, 22), "sdf": (14, 17)}
FILES = {"image": "image/MW_bg_unannotate.jpg", "sdf": "sdf/ingp_armadillo.obj"}

FREQUENCY = {
    "pipeline.model.n_neurons": 128,
    "pipeline.model.n_hidden_layers": 8,
    "optimizers.encoding.optimizer.lr": 1e-3,
    "optimizers.networks.optimizer.lr": 1e-3,
}
"""The paper's network where sines and cosines are all it gets (appendix D), 124,928 parameters for a distance. Its rate of 3e-4
is for 11,000 steps of 2^18 points: in 60 s on two cores it reached an IoU of 0.943, 1e-3 reached 0.976."""

FREQUENCY_OF = {
    "image": {"pipeline.model.n_frequencies": 12},
    "sdf": {"pipeline.model.n_frequencies": 10, "pipeline.model.loss": "relative_l2"},
}
"""Octaves: down to a pixel or so of a picture of some thousands; of a distance octaves and loss of the paper."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("primitive", choices=["nerf", "image", "sdf", "report"], help="what is fitted, or report")
    parser.add_argument("file", nargs="?", type=Path, help="the picture or mesh")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of training, each run")
    parser.add_argument("--encodings", nargs="+", choices=["hash", "frequency", "dense", "none"], default=None)
    parser.add_argument("--sizes", nargs="+", type=int, default=None, metavar="T", help="log2 of a hash table's entries")
    parser.add_argument("--experiments", nargs="+", choices=list(study_nerf.EXPERIMENTS), default=list(study_nerf.EXPERIMENTS))
    parser.add_argument("--variants", nargs="+", default=None, metavar="NAME", help="of an experiment of nerf, these alone")
    parser.add_argument("--steps", type=int, default=500, help="steps of training of nerf, each run")
    parser.add_argument("--scale", type=float, default=None, help="scale of the images of a folder (default 1)")
    parser.add_argument("--uses", action="store_true", help="also time a still of 512x512, and the picture or a mesh written")
    parser.add_argument("--ordinary", action="store_true", help="held to AVX2, whatever the processor has")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the method's config")
    return parser.parse_args(argv)


def variants(args: argparse.Namespace) -> list[tuple[str, int | None]]:
    """Encodings, and the hash table's size where it is one."""
    found: list[tuple[str, int | None]] = []
    for encoding in args.encodings or ENCODINGS[args.primitive]:
        sizes = args.sizes or SIZES[args.primitive]
        found += [(encoding, size) for size in sizes] if encoding == "hash" else [(encoding, None)]
    return found


def settings_of(args: argparse.Namespace, encoding: str, size: int | None) -> dict[str, Any]:
    """Settings of the method's config for a run, by dotted path; those of --set win."""
    from measure.training import value_of

    found: dict[str, Any] = {"pipeline.model.encoding": encoding}
    if size is not None:
        found["pipeline.model.log2_hashmap_size"] = size
    if encoding == "frequency":
        found |= FREQUENCY | FREQUENCY_OF[args.primitive]
    return found | {path: value_of(text) for path, text in (setting.split("=", 1) for setting in args.set)}


def one(args: argparse.Namespace, data: Path, encoding: str, size: int | None) -> None:
    """One run in this process: trained, measured, recorded and printed."""
    from measure import points

    figures = points.run(
        f"instant-{args.primitive}", data, args.seconds, settings_of(args, encoding, size), args.seed, START, args.uses
    )
    record = {
        **records.about("study", "AVX2" if args.ordinary else ""),
        "primitive": args.primitive,
        "file": data.name,
        "seconds": args.seconds,
        **figures,
    }
    kind = f"{encoding}{'' if size is None else size}" + ("-ordinary" if args.ordinary else "")
    records.keep(record, f"study-{args.primitive}-{data.stem}-{kind}-{args.seconds:.0f}s")
    print(json.dumps(record), flush=True)


def field_runs(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Experiments of a radiance field, and their variants.

    Raises:
        SystemExit: a variant that is named is in none of the experiments.
    """
    runs = [(name, variant) for name in args.experiments for variant in study_nerf.EXPERIMENTS[name]]
    unknown = set(args.variants or ()) - {variant for _, variant in runs}
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: no such variant of {', '.join(args.experiments)}.")
    return [run for run in runs if args.variants is None or run[1] in args.variants]


def fields(args: argparse.Namespace) -> None:
    """The study of a radiance field: one run here, or several in processes of their own."""
    scene = str(args.file or "lego")
    data, scale = scenes.find(scene, args.scale)
    runs = field_runs(args)
    if len(runs) > 1:
        common = ["--seconds", f"{args.seconds:g}", "--steps", str(args.steps), "--seed", str(args.seed), "--scale", str(scale)]
        common += ["--ordinary"] if args.ordinary else []
        for experiment, variant in runs:
            own = ["--experiments", experiment, "--variants", variant, *(["--set", *args.set] if args.set else [])]
            launch([sys.executable, __file__, "nerf", scene, *common, *own], f"{experiment}, {variant}")
        return
    (experiment, variant) = runs[0]
    record = {
        **records.about("study", "AVX2" if args.ordinary else ""),
        "primitive": "nerf",
        "file": data.name,
        **study_nerf.run(data, scale, experiment, variant, args, START),
    }
    kind = records.label(variant) + ("-ordinary" if args.ordinary else "")
    records.keep(record, f"study-nerf-{data.name}-{experiment}-{kind}")
    print(json.dumps(record), flush=True)


def launch(command: list[str], what: str) -> None:
    """A run in a process of its own, which must end well."""
    code = subprocess.run(command, check=False, env=os.environ).returncode
    if code:
        sys.exit(f"{what} ended with exit code {code}; what it said stands above.")


def main() -> None:
    """One run here, or several in processes of their own."""
    args = parse()
    if args.primitive == "report":
        print(json.dumps(study_report.write(HERE / "results")))
        return
    if args.ordinary:
        ordinary.hold()
    if args.primitive == "nerf":
        fields(args)
        return
    data = args.file or scenes.root() / FILES[args.primitive]
    if not data.is_file():
        sys.exit(f"{data}: no such file; name a picture or mesh, or the folder of the data with $NGP_DATA.")
    runs = variants(args)
    if len(runs) == 1:
        one(args, data, *runs[0])
        return
    common = ["--seconds", f"{args.seconds:g}", "--seed", str(args.seed)]
    common += [flag for flag, wanted in (("--uses", args.uses), ("--ordinary", args.ordinary)) if wanted]
    for encoding, size in runs:
        command = [sys.executable, __file__, args.primitive, str(data), "--encodings", encoding, *common]
        command += [] if size is None else ["--sizes", str(size)]
        command += ["--set", *args.set] if args.set else []
        launch(command, f"{encoding} {size or ''}")


if __name__ == "__main__":
    main()
