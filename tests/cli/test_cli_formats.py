"""``ns-train instant-hash --data DIR`` for every format, with nerfstudio's parser subcommands, and for bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import multiscale_blender
import pytest
import torch
import yaml

from ngp_method.kernels import KERNEL_SETS
from ngp_method.studio import checkpoints
from support import scenes
from support.cli import SMALL, Forks, Run, run, train

pytest_plugins = ["support.cli_fixtures"]

FORMATS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ngp": (lambda folder: scenes.write_ngp(folder, count=24, aabb_scale=4), "data: instant-ngp (transforms.json has"),
    "nerfstudio": (scenes.write_nerfstudio, "data: nerfstudio (transforms.json has camera_model"),
    "colmap": (scenes.write_colmap, "data: colmap (it has sparse/0"),
}
"""How a scene is written, and the line that says what it was taken for; Blender's is the run all other tests share."""


@pytest.fixture(scope="session", params=FORMATS)
def written(request: pytest.FixtureRequest, workspace: Path) -> tuple[str, Path]:
    """A scene in a room, in one of the formats."""
    return request.param, FORMATS[request.param][0](workspace / f"format_{request.param}")


def learned(run: Run) -> bool:
    """Whether the checkpoint holds numbers, and others than at the start (the table starts within 1e-4)."""
    state = checkpoints.read(next(run.models.iterdir()))["pipeline"]
    table = state["_model.field.network.encoding.params"]
    return bool(torch.isfinite(table).all() and table.abs().max() > 1e-2)


def test_a_folder_is_all_it_takes(written: tuple[str, Path], workspace: Path) -> None:
    name, folder = written
    done = train(None, folder, workspace / f"plain_{name}", "--max-num-iterations=10", "--vis=tensorboard")
    assert "Traceback" not in done.done.check().words
    assert FORMATS[name][1] in done.done.words
    assert "Training Finished" in done.done.words
    assert learned(done)


PARSERS = {
    "blender-data": ("blender", ()),
    "instant-ngp-data": ("format_ngp", ()),
    "nerfstudio-data": ("format_nerfstudio", ()),
    "colmap": ("format_colmap", ("--colmap-path=sparse/0", "--downscale-factor=1")),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_nerfstudios_parsers_work_too(parser: str, workspace: Path, blender: Path, forks: Forks) -> None:
    folder, flags = workspace / PARSERS[parser][0], PARSERS[parser][1]
    if not folder.exists():
        FORMATS[folder.name.removeprefix("format_")][0](folder)
    done = train(forks, folder, workspace / f"by_{parser}", *SMALL, "--max-num-iterations=10", "--vis=tensorboard",
                 parser, *flags)  # fmt: skip
    assert "Traceback" not in done.done.check().words
    assert "data: " not in done.done.words.split("instant-hash kernels")[0]  # nothing is guessed
    assert learned(done)


def test_a_parsers_own_data_flag_is_enough(workspace: Path, blender: Path, forks: Forks) -> None:
    done = forks.run(
        "ns-train", "instant-hash", "--output-dir", workspace / "own_flag", *SMALL, "--max-num-iterations=3",
        "--vis=tensorboard", "--timestamp=run", "blender-data", "--data", blender, cwd=workspace,
    )  # fmt: skip
    assert "Traceback" not in done.check().words
    assert len(list((workspace / "own_flag").rglob("step-000000002.ckpt"))) == 1


@pytest.mark.parametrize("encoding", ["dense", "frequency", "none"])
def test_encodings_from_the_command_line(encoding: str, workspace: Path, blender: Path, forks: Forks) -> None:
    done = train(forks, blender, workspace / f"encoding_{encoding}", *SMALL, "--max-num-iterations=30", "--vis=tensorboard",
                 f"--pipeline.model.encoding={encoding}")  # fmt: skip
    assert "Traceback" not in done.done.check().words
    out = workspace / f"encoding_{encoding}.json"
    forks.run("ns-eval", "--load-config", done.config, "--output-path", out, cwd=workspace).check()
    assert json.loads(out.read_text())["results"]["psnr"] > 8.0


def test_several_scales_are_measured_each_by_itself(workspace: Path, blender: Path, forks: Forks) -> None:
    """Multi-scale Blender data under the anti-aliased preset, as ns-eval writes it: the four scales, and their mean."""
    multiscale_blender.convert(blender, workspace / "multiscale")
    flags = (*SMALL, "--max-num-iterations=100", "--vis=tensorboard")
    done = train(forks, workspace / "multiscale", workspace / "by_scales", *flags, method="instant-hash-antialiased")
    assert "data: multi-scale blender (metadata.json has cameras of several scales)" in done.done.check().words
    out = workspace / "by_scales.json"
    forks.run("ns-eval", "--load-config", done.config, "--output-path", out, cwd=workspace).check()
    results = json.loads(out.read_text())["results"]
    each = [results[f"psnr_{scale}"] for scale in (1, 2, 4, 8)]
    assert results["psnr"] == pytest.approx(sum(each) / 4, abs=1e-3)
    assert min(each) > 15.0
    assert len(set(each)) == 4
    mesh = workspace / "by_scales_mesh"
    words = ("--load-config", done.config, "--output-dir", mesh, "--resolution", 48)
    forks.run("instant-hash-mesh", *words, cwd=workspace).check()  # asks at points, not at pixels
    assert (mesh / "mesh.ply").stat().st_size > 1000


# -- bad input; every case of it, without the command: test_data_checks.py


def gone(folder: Path) -> Path:
    """A folder that is not there."""
    return folder / "gone"


def broken(folder: Path) -> Path:
    """A transforms.json that ends too early."""
    (folder / "transforms.json").write_text('{"frames": [')
    return folder


def no_picture(folder: Path) -> Path:
    """A Blender scene one of whose pictures is none."""
    data = scenes.write_blender(folder, train=3, val=0, test=1, size=(16, 16))
    (data / "train" / "r_1.png").write_text("not a picture")
    return data


def torn(folder: Path) -> Path:
    """A Blender scene one of whose pictures ends in the middle."""
    data = scenes.write_blender(folder, train=3, val=0, test=1, size=(16, 16))
    picture = data / "train" / "r_1.png"
    picture.write_bytes(picture.read_bytes()[:200])
    return data


def single(folder: Path) -> Path:
    """One picture only."""
    return scenes.write_ngp(folder, count=1)


@pytest.mark.parametrize(
    ("make", "sentence", "itself"),
    [
        (gone, "gone does not exist; give the folder of a scene with --data DIR.", True),
        (broken, "transforms.json", True),
        (no_picture, "r_1.png", True),
        (single, "has one image only; a radiance field needs views from at least two places.", False),
    ],
)
def test_bad_input_gets_a_sentence_and_writes_nothing(
    make: Callable[[Path], Path], sentence: str, itself: bool, tmp_path: Path, forks: Forks
) -> None:
    (tmp_path / "data").mkdir()
    folder, out = make(tmp_path / "data"), tmp_path / "out"
    before = sorted(p for p in tmp_path.rglob("*"))
    # one of the cases through a fork: the same code, 10 seconds less
    done = train(None if itself else forks, folder, out, "--vis=tensorboard", "--max-num-iterations=3").done
    assert done.rc == 1
    assert "Traceback" not in done.text
    lines = [line for line in done.text.strip().splitlines() if line.strip()]
    assert sentence in lines[-1], done.text[-1000:]
    assert sum(sentence in line for line in lines) == 1
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_a_torn_picture_is_named_when_it_is_read(tmp_path: Path, forks: Forks) -> None:
    """Its header is whole, so that the checks before the start pass; the run that was begun holds its settings alone."""
    done = train(forks, torn(tmp_path / "data"), tmp_path / "out", "--vis=tensorboard", "--max-num-iterations=3").done
    assert done.rc == 1
    assert "Traceback" not in done.text
    assert "r_1.png" in done.text.strip().splitlines()[-1]
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["config.yml"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--machine.device-type=cuda",), "torch sees no CUDA device"),
        (("--load-dir=nowhere",), "no step-*.ckpt in it"),
        (("--max-num-iterations=0",), "give at least 1"),
    ],
)
def test_flags_that_cannot_be_met(flags: tuple[str, ...], sentence: str, tmp_path: Path, blender: Path, forks: Forks) -> None:
    done = train(forks, blender, tmp_path / "out", "--vis=tensorboard", *flags).done
    assert done.rc == 1
    assert "Traceback" not in done.text
    assert sentence in done.words
    assert not (tmp_path / "out").exists()


def test_settings_from_a_file(workspace: Path, blender: Path) -> None:
    file = workspace / "tiny.yml"
    file.write_text(
        "method: instant-hash-lite\npipeline.model.n_levels: 4\npipeline.model.log2_hashmap_size: 14\nmax_num_iterations: 4\n"
    )
    flags = ("--vis=tensorboard", "--output-dir", workspace / "by_file", "--timestamp=run", "--max-num-iterations=3")
    done = run("instant-hash-train", file, "--data", blender, *flags, cwd=workspace).check()
    assert "ns-train instant-hash-lite --pipeline.model.n-levels 4 --pipeline.model.log2-hashmap-size 14 --data" in done.words
    base = workspace / "by_file" / "blender" / "instant-hash-lite" / "run"
    assert checkpoints.steps_in(base / "nerfstudio_models") == [2]  # the flag wins over the file
    config = yaml.load((base / "config.yml").read_text(), Loader=yaml.Loader)
    assert config.pipeline.model.n_levels == 4
    assert config.pipeline.model.log2_hashmap_size == 14


def test_the_help_names_every_flag_of_the_model(workspace: Path) -> None:
    done = run("ns-train", "instant-hash", "--help", cwd=workspace).check()
    assert "--max-train-seconds" in done.text
    for name in ("kernels", "encoding", "lpips-weights", "sample-budget"):
        assert f"--pipeline.model.{name}" in done.text
    for name in ("auto", *KERNEL_SETS):  # the help wraps the list of choices
        assert re.search(rf"[{{,\s]{name}[,}}]", done.text), name
    assert "auto-data" in done.text
