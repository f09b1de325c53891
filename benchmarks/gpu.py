"""Errors, speed and quality of the GPU kernels: one command on a machine that has a GPU. torch and Triton suffice.

    python benchmarks/gpu.py                           # all parts, training for 300 s
    python benchmarks/gpu.py --quick                   # under two minutes: 30 s of training, few repeats
    python benchmarks/gpu.py --parts ab                # kernels only
    python benchmarks/gpu.py --compile-only            # without a GPU: every kernel for every chip, results/aot.md
    python benchmarks/gpu.py --device cpu --parts ac --steps 2 --scene demo   # in Triton's interpreter: does it run?

Parts: a every operation against the reference, values and gradients; b time of each beside its floor (what the chip's
measured ceilings allow) and beside torch.compile of the reference; c training lego: PSNR against seconds, samples a second;
d frames a second at 800x800. The most memory of c and d is recorded with them. Kernel sets: triton, and tcnn where
tiny-cuda-nn is installed (or --kernels).

A wrong kernel is not timed. A part that fails is reported and the others go on; the exit status is 1 then. The last lines are
a short table; everything is in results/gpu-<device>.json, with device, versions, date and command.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
if importlib.util.find_spec("ngp_method") is None:
    sys.path.insert(1, str(HERE.parent))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="abcd", help="letters of the parts to run (default: abcd)")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, 30 s of training, no torch.compile")
    parser.add_argument("--kernels", nargs="*", default=None, help="kernel sets (default: triton, and tcnn if it is there)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tiny sizes in Triton's interpreter")
    parser.add_argument("--seconds", type=float, default=None, help="seconds of training (default 300)")
    parser.add_argument("--curve", type=float, nargs="*", default=[2, 5, 10, 15, 30, 60, 120, 200], help="evaluate at these")
    parser.add_argument("--cuda-graph", action="store_true", help="part c trains by CUDA graphs (see the README: not yet safe)")
    parser.add_argument("--steps", type=int, default=None, help="most training steps")
    parser.add_argument("--samples", type=int, default=1 << 18, help="samples of a training step")
    parser.add_argument("--scene", default="lego", help="lego ($NGP_DATA or ../shared/data) or demo (shipped)")
    parser.add_argument("--data", default=None, help="folder of the scene, in Blender's layout")
    parser.add_argument("--compile-seconds", type=float, default=45.0, help="no torch.compile is begun after so long")
    parser.add_argument("--compile-only", action="store_true", help="the ahead-of-time table; needs no GPU")
    parser.add_argument("--chips", nargs="*", default=None, help="with --compile-only: these only")
    parser.add_argument("--fresh", action="store_true", help="with --compile-only: take nothing over from the recorded table")
    parser.add_argument("--pattern", default="", help="with --compile-only: kernels whose name holds this")
    parser.add_argument("--output", default=None, help="folder of the results (default: benchmarks/results)")
    args = parser.parse_args(argv)
    args.parts = args.parts.replace(",", "").replace(" ", "")
    if set(args.parts) - set("abcdef"):
        parser.error(f"--parts {args.parts}: the parts are a, b, c and d")
    if args.seconds is None:
        args.seconds = 30.0 if args.quick else 300.0
    args.command = shlex.join(["python", "benchmarks/gpu.py", *(sys.argv[1:] if argv is None else argv)])
    return args


def attempt(name: str, failed: dict[str, str], run: Any, *given: Any) -> Any:
    """What a part returns, or None where it failed: noted and printed, and the others go on."""
    print(f"\n== {name}", flush=True)
    try:
        return run(*given)
    except (Exception, SystemExit) as error:
        failed[name] = f"{type(error).__name__}: {error}"[:500]
        traceback.print_exc()
        return None


def measure_set(name: str, args: argparse.Namespace, device: Any, failed: dict[str, str]) -> dict[str, Any]:
    """All parts of one kernel set."""
    from measure import gpu_parts
    from ngp_method.kernels import load_kernels

    found: dict[str, Any] = {}
    kernels = attempt(f"{name}: load", failed, load_kernels, name)
    if kernels is None:
        return found
    found["description"] = kernels.description
    print(kernels.description, flush=True)
    if set(args.parts) & set("ab"):
        errors = attempt(f"{name}: a, errors", failed, gpu_parts.errors, kernels, args, device)
        if errors is not None:
            table, found["errors"] = errors
            if found["errors"]["wrong"]:
                failed[f"{name}: a, errors"] = f"{found['errors']['wrong']} results are wrong"
            if "b" in args.parts:
                found["times"] = attempt(f"{name}: b, times", failed, gpu_parts.times, kernels, args, device, table)
    if set(args.parts) & set("cd"):
        trained = attempt(f"{name}: c, training", failed, gpu_parts.training, kernels, args, device)
        if trained is not None:
            run, test, found["training"] = trained
            if "d" in args.parts:
                found["rendering"] = attempt(f"{name}: d, rendering", failed, gpu_parts.rendering, run, test, args, device)
            found["peak_memory_gib"] = gpu_parts.memory(device)
            if not found["training"]["finite"]:
                failed[f"{name}: c, training"] = "a parameter is not a number"
            found["profile"] = attempt(f"{name}: c, kernels of a step", failed, gpu_parts.profile, run, args, device)
            found["steps"] = attempt(f"{name}: c, forms of a step", failed, gpu_parts.steps, run, args, device)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; the exit status."""
    args = parse(argv)
    if args.device == "cpu" and not args.compile_only:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    else:
        os.environ.pop("TRITON_INTERPRET", None)
    import torch

    from measure import gpu_aot, gpu_machine, gpu_report, gpu_stand_ins

    if args.compile_only:
        return gpu_aot.run(args, HERE / "results")
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here; --compile-only and --device cpu work without one.")
    device = torch.device(args.device)
    record: dict[str, Any] = {**gpu_machine.describe(device), "command": args.command, "kernels": {}}
    names = args.kernels or ["triton", *(["tcnn"] if record["tinycudann"] == "installed" else [])]
    missing = gpu_stand_ins.put()
    print(f"{record['device']}; {record['versions']}" + (f"; stand-ins for {', '.join(missing)}" if missing else ""))
    failed: dict[str, str] = {}
    torch.manual_seed(42)
    for name in names:
        record["kernels"][name] = measure_set(name, args, device, failed)
    record["failed"] = failed
    gpu_report.write(record, Path(args.output) if args.output else HERE / "results")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
