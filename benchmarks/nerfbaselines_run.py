"""The method under nerfbaselines: trained and evaluated by nerfbaselines' own command and protocol.

    python benchmarks/nerfbaselines_run.py lego --steps 1200          # $NGP_DATA/lego or ../shared/data/lego, at 200x200
    python benchmarks/nerfbaselines_run.py SCENE --scale 0.5 --steps 8000
    python benchmarks/nerfbaselines_run.py lego --steps 1200 --contract
    python benchmarks/nerfbaselines_run.py SCENE --preset paper --set pipeline.model.log2_hashmap_size=18

SCENE is a folder in Blender's layout. It is written anew as nerfbaselines reads a local scene; `nerfbaselines train` trains on
it for so many steps (default: as many as the preset has) and evaluates every held-out view by the protocol `nerf`: over white,
in 8 bits, PSNR, SSIM, MAE and LPIPS with AlexNet and VGG16. For LPIPS nerfbaselines downloads both networks once, 760 MB; where
$LPIPS_TRUNKS names a folder, their convolutions are taken from alexnet.npz and vgg16.npz in it, and nothing is downloaded.
--contract then runs `nerfbaselines test-method`, which looks for all that nerfbaselines asks of a method, and whether the run
just trained can be had again from its checkpoint.

Prints one JSON line last; also written to benchmarks/results/runs/ with machine, date and command.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import records, scenes  # noqa: E402

METHOD = "instant-hash"
VERDICTS = {"\N{CHECK MARK}": "passed", "\N{WARNING SIGN}": "left_out", "\N{BALLOT X}": "failed"}
"""What nerfbaselines writes before each line of its summary."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", help="lego, demo, or a folder in Blender's layout")
    parser.add_argument("--scale", type=float, default=None, help="scale of the images of a folder (default 1)")
    parser.add_argument("--steps", type=int, default=None, help="steps of training (default: the preset's)")
    parser.add_argument("--preset", choices=["lite", "paper", "big"], default=None, help="default: what suits the machine")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the method")
    parser.add_argument("--contract", action="store_true", help="run nerfbaselines test-method as well")
    return parser.parse_args(argv)


TRUNKS = "LPIPS_TRUNKS"
"""Names the folder of LPIPS' networks in the environment."""


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of nerfbaselines: its backend without containers, no look for updates, LPIPS' networks."""
    found = {**os.environ, "NERFBASELINES_BACKEND": "python", "NERFBASELINES_NO_UPDATE_CHECK": "1"}
    found.setdefault("OMP_WAIT_POLICY", "passive")
    if os.environ.get(TRUNKS):
        from measure import lpips_trunks

        lpips_trunks.write(lpips_trunks.read(Path(os.environ[TRUNKS])), folder / "torch")
        found["TORCH_HOME"] = str(folder / "torch")
    return found


def settings(args: argparse.Namespace) -> list[str]:
    """Of the method, as words of nerfbaselines' command line."""
    given = [*([f"max_num_iterations={args.steps}"] if args.steps is not None else []), *args.set]
    presets = ["--presets", f"@auto,{args.preset}"] if args.preset else []
    return [*presets, *(word for one in given for word in ("--set", one))]


def nerfbaselines(words: list[str], env: dict[str, str]) -> str:
    """Runs one of its commands and shows what it says.

    Returns:
        what it said on standard output.

    Raises:
        SystemExit: it ended otherwise than well.
    """
    command = [sys.executable, "-m", "nerfbaselines", *words]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\nnerfbaselines {words[0]} ended with exit code {done.returncode}; what it said stands above.")
    return done.stdout


def trained(args: argparse.Namespace, scene: Path, out: Path, env: dict[str, str]) -> dict[str, Any]:
    """Trains and evaluates; the figures of nerfbaselines' own JSON."""
    words = ["train", "--method", METHOD, "--data", str(scene), "--output", str(out), "--eval-few-iters", "-1"]
    nerfbaselines([*words, *settings(args)], env)
    file = max(out.glob("results-*.json"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))
    found = json.loads(file.read_text())
    info = found["nb_info"]
    return {
        "steps": info["num_iterations"],
        "train_s": round(info["total_train_time"], 1),
        "peak_memory_mb": info["resources_utilization"].get("memory"),
        "views": sum(1 for _ in (scene / "test").iterdir()),
        "protocol": found["evaluation_protocol"],
        **found["metrics"],
        "preset": info["hparams"]["method"],
        "kernels": info["hparams"]["pipeline.model.kernels"],
        "nerfbaselines": info["nb_version"],
    }


def contract(args: argparse.Namespace, scene: Path, out: Path, env: dict[str, str]) -> dict[str, list[str]]:
    """nerfbaselines' test of a method; the run in ``out`` stands where one is published."""
    name = json.loads((scene / "nb-info.json").read_text())["scene"]
    published = out / "published" / METHOD / "blender"
    published.mkdir(parents=True)
    shutil.copy(out / "output.zip", published / f"{name}.zip")
    shutil.copy(next(out.glob("results-*.json")), published / f"{name}.json")
    env = {**env, "NERFBASELINES_LOCAL_RESULTS_PATH": str(out / "published")}
    said = nerfbaselines(["test-method", "--method", METHOD, "--data", str(scene), *settings(args)], env)
    found: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS.values()}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines():
        mark, _, text = line.strip().partition(" ")
        if mark in VERDICTS:
            found[VERDICTS[mark]].append(text)
    return found


def main() -> None:
    """Write the scene, train, evaluate, check, record, and print one JSON line."""
    args = parse()
    if importlib.util.find_spec("nerfbaselines") is None:
        sys.exit("nerfbaselines is not installed: pip install 'nerfbaselines>=1.2.12'.")
    if METHOD not in metadata.entry_points(group="nerfbaselines.specs").names:
        sys.exit("This installation of instant-hash does not know nerfbaselines yet: install it anew, pip install .")
    from measure import nerfbaselines_scene

    data, scale = scenes.find(args.scene, args.scale)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scene = nerfbaselines_scene.write(data, scale, folder / "scene", public=data.name)
        env = surroundings(folder)
        figures = trained(args, scene, folder / "out", env)
        if args.contract:
            figures["contract"] = contract(args, scene, folder / "out", env)
    record = {**records.about("nerfbaselines_run"), "scene": data.name, "scale": scale, **figures}
    records.keep(record, f"nerfbaselines-{data.name}-{figures['steps']}")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
