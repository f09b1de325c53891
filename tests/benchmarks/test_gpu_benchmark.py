"""The GPU benchmark without a GPU: it runs in Triton's interpreter on torch alone, and it tells right from wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu
import numpy as np
import pytest
import torch
from torch import Tensor

from measure import (
    gpu_aot,
    gpu_check,
    gpu_compare,
    gpu_parts,
    gpu_png,
    gpu_scene,
    gpu_sources,
)
from ngp_method.demo import demo_scene_path
from ngp_method.kernels.batch import PixelTable, RayTable, WorldRays
from ngp_method.kernels.interface import Composited
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.losses import ColorLoss
from ngp_method.kernels.reference import ReferenceKernels
from ngp_method.kernels.samples import PackedSamples

ROOT = Path(__file__).resolve().parents[2]
CHECKS = gpu_parts.CHECKS
TORCH_ALONE = ("nerfstudio", "nerfacc", "numba", "PIL", "torchvision", "tyro", "viser", "rich", "scipy")


def test_errors_and_training_run_in_the_interpreter_on_torch_alone(tmp_path: Path) -> None:
    """Parts a and c of the triton kernels, in a process in which nothing but torch, triton and numpy can be imported."""
    block = f"import sys\nfor name in {TORCH_ALONE!r}: sys.modules[name] = None\n"
    words = ["--device", "cpu", "--parts", "ac", "--steps", "2", "--scene", "demo", "--output", str(tmp_path)]
    run = f"import runpy\nsys.argv = ['gpu.py', *{words!r}]\nrunpy.run_path('benchmarks/gpu.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", block + run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (path,) = tmp_path.glob("gpu-*.json")
    record = json.loads(path.read_text())
    found = record["kernels"]["triton"]
    assert record["failed"] == {}
    assert found["errors"]["wrong"] == 0
    assert {row["operation"].split()[0] for row in found["errors"]["rows"]} >= set(CHECKS)
    assert found["training"]["steps"] == 2
    assert found["training"]["samples_per_s"] > 0
    assert found["training"]["finite"] is True
    assert found["steps"]["counts"]["launches"] <= 50, "45 of the step, and a batch"
    assert found["steps"]["counts"]["waits"] == {"_local_scalar_dense": 1}, "for the number of samples that are kept"
    assert set(found["steps"]["ms"]) == {"two waits", "one wait", "no wait"}  # a graph needs a GPU
    assert math.isfinite(found["training"]["psnr"])
    assert record["command"].startswith("python benchmarks/gpu.py --device cpu")
    assert {"device", "versions", "date"} <= set(record)
    assert f"written: {path}" in done.stdout


def _table(kernels: Any, *names: str) -> gpu_compare.Table:
    return gpu_parts.examine(gpu_check.Cases(kernels, torch.device("cpu"), (0, 1, 31, 300), 700), names or CHECKS)


def test_the_reference_passes_its_own_examination() -> None:
    table = _table(ReferenceKernels())
    assert [row for row in table.rows.values() if not row.ok] == []
    assert all(table.passed(name) for name in CHECKS)


class Wrong(ReferenceKernels):
    """Each operation with a small fault in the value, the gradient or the bookkeeping."""

    def pick_pixels(self, chosen: Tensor, views: Tensor, table: PixelTable) -> tuple[Tensor, Tensor]:
        return super().pick_pixels(chosen, views, table)[0], torch.stack([views, chosen, chosen], -1)

    def table_rays(self, indices: Tensor, table: RayTable) -> WorldRays:
        return super().table_rays(indices, table._replace(rotations=table.rotations.mT))  # from the world to the camera

    def enter_box(self, rays_o: Tensor, directions: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        rays_d, begin, end = super().enter_box(rays_o, directions, *args)
        return rays_d, begin + 1e-4, end

    def hash_encode(self, positions: Tensor, table: Tensor, layout: HashGridLayout, *args: Any) -> Tensor:
        return super().hash_encode(positions.detach(), table, layout, *args) + 0.0 * positions.sum()  # no gradient of positions

    def sh_encode(self, directions: Tensor) -> Tensor:
        return super().sh_encode(-directions)

    def mlp(self, parts: Any, weights: Tensor, layout: MLPLayout, rows: int | None = None) -> Tensor:
        return super().mlp(parts, weights * (1 + 1e-3), layout, rows)

    def march(self, *args: Any, **kwargs: Any) -> tuple[PackedSamples, Tensor]:
        samples, resume = super().march(*args, **kwargs)
        return samples, resume * 1.001

    def points(self, *args: Any) -> Tensor:
        return super().points(*args) + 1e-4

    def visible_counts(self, sigmas: Tensor, samples: PackedSamples, threshold: float) -> Tensor:
        return super().visible_counts(sigmas, samples, 2 * threshold)

    def keep_first(self, samples: PackedSamples, counts: Tensor, features: Any) -> Any:
        kept, chosen = super().keep_first(samples, counts, features)
        return kept, [one.roll(1, 0) for one in chosen]

    def composite(self, sigmas: Tensor, rgbs: Tensor, samples: PackedSamples) -> Composited:
        out = super().composite(sigmas, rgbs, samples)
        out.depths = out.depths.detach() + 0.0 * sigmas.sum()  # no gradient of depths
        return out

    def density_head(self, raw: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        sigmas, _ = super().density_head(raw, unit)
        return sigmas, raw.detach()  # no gradient of the outputs themselves

    def color_loss(self, rgbs: Tensor, opacities: Tensor, *args: Any) -> ColorLoss:
        return super().color_loss(rgbs, opacities.detach() + 0.0 * opacities, *args)  # no gradient of opacities

    def room(self, samples: PackedSamples, resume: Tensor, t_max: Tensor) -> tuple[Tensor, Tensor]:
        room, numbers = super().room(samples, resume, t_max)
        return room, numbers.flip(0)

    def sh_mlp(self, *args: Any) -> Tensor:
        return 10.0 * super().sh_mlp(*args)

    def adam_step(self, param: Tensor, grad: Tensor, *args: Any) -> None:
        kept = grad.clone()
        super().adam_step(param, grad, *args)
        grad.copy_(kept)  # not cleared


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_wrong_kernel_is_found(name: str) -> None:
    table = _table(Wrong(), name)
    assert not table.passed(name)
    assert "**WRONG**" in "\n".join(gpu_compare.lines(table.rows.values()))


def test_a_kernel_that_was_not_tried_has_not_passed() -> None:
    assert not gpu_compare.Table().passed("mlp")


@pytest.mark.parametrize("values", [[float("nan"), 1.0], [float("inf"), 1.0], [1.0]])
def test_what_is_not_finite_or_of_another_shape_is_wrong(values: list[float]) -> None:
    got, truth = torch.tensor(values), torch.ones(2)
    assert not gpu_compare.near("op", "what", got, truth, 1e9).ok
    assert not all(row.ok for row in gpu_compare.no_worse("op", "what", got, truth + 0.1, truth))


def test_a_part_that_fails_is_reported_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "training", lambda *args: 1 / 0)
    words = ["--device", "cpu", "--parts", "abc", "--kernels", "reference", "nonsense", "--output", str(tmp_path)]
    assert gpu.main(words) == 1
    record = json.loads(next(tmp_path.glob("gpu-*.json")).read_text())
    assert set(record["failed"]) == {"reference: b, times", "reference: c, training", "nonsense: load"}
    assert "no kernel set 'nonsense'" in record["failed"]["nonsense: load"]
    assert record["kernels"]["reference"]["errors"]["wrong"] == 0


def test_without_a_gpu_it_says_what_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # main takes it away: put it back afterwards
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no GPU here; --compile-only and --device cpu work without one"):
        gpu.main([])
    with pytest.raises(SystemExit):
        gpu.main(["--parts", "xyz"])


def test_pictures_without_pillow() -> None:
    """Every filter that Pillow's files use, decoded as Pillow decodes them."""
    paths = sorted((demo_scene_path() / "train").glob("*.png"))[:2]
    plain = gpu_png.read_plain(paths)
    assert np.array_equal(plain, gpu_png.read(paths))
    assert len({int(kind) for path in paths for kind in gpu_png._inflate(path)[0]}) >= 4


def test_rays_look_where_the_camera_looks() -> None:
    views = gpu_scene.load(demo_scene_path(), "test", torch.device("cpu"), 1)
    height, width = views.size
    o, d = views.picture_rays(0)
    assert o.shape == d.shape == (height * width, 3)
    assert torch.allclose(d.norm(dim=-1), torch.ones(height * width), atol=1e-6)
    middle = d.view(height, width, 3)[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].mean((0, 1))
    assert torch.allclose(middle / middle.norm(), -views.poses[0, :, 2], atol=1e-5)
    assert torch.equal(o[0], views.poses[0, :, 3])
    wide, _ = views.picture_rays(0, zoom=2.0)
    assert wide.shape[0] == 4 * height * width


def test_new_spills_are_those_that_were_not_there() -> None:
    before = {"a": {"sm_80": [32, 0, 0], "sm_90": [32, 0, 16]}}
    after = {"a": {"sm_80": [40, 0, 8], "sm_90": [255, 0, 16]}, "b": {"sm_80": [1, 0, 0], "gfx942": [1, 0, 3]}}
    assert gpu_aot.new_spills(before, after) == [
        "a for sm_80: spills 8, recorded 0",
        "b for gfx942: spills 3, recorded 0",
    ]


def test_a_kernel_that_does_not_compile_ends_in_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: {"sm_80": [32, 2048, 0]} for name in gpu_aot._variants() if name.startswith("adam")}
    monkeypatch.setattr(gpu_aot, "compile_all", lambda jobs, processes: (found, ["b for sm_80: bad"]))
    args = Namespace(chips=["sm_80"], pattern="adam", output=str(tmp_path), command="it", fresh=False)
    assert gpu_aot.run(args, tmp_path) == 1
    assert "| 32/2K |" in (tmp_path / "aot.md").read_text()
    assert gpu_aot.read(tmp_path, gpu_aot.compiler())["kernels"] == found
    assert gpu_aot.recorded_compilers(tmp_path) == [gpu_aot.compiler()]
    args.chips = ["sm_1"]
    with pytest.raises(SystemExit, match="this Triton knows sm_75"):
        gpu_aot.run(args, tmp_path)


def test_what_is_recorded_of_a_kernel_as_it_is_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def compile_all(jobs: Any, processes: int) -> Any:
        asked.append(jobs)
        return {name: {chip: [32, 0, 0]} for name, chip in jobs}, []

    monkeypatch.setattr(gpu_aot, "compile_all", compile_all)
    some = {name: v for name, v in gpu_aot._variants().items() if name.startswith("adam")}
    monkeypatch.setattr(gpu_aot, "_variants", lambda: some)
    monkeypatch.setattr(gpu_aot, "_chips", lambda asked: ["sm_80"])
    args = Namespace(chips=None, pattern="", output=None, command="it", fresh=False)
    assert [gpu_aot.run(args, tmp_path), gpu_aot.run(args, tmp_path)] == [0, 0]
    assert [len(jobs) for jobs in asked] == [len(some), 0]
    other = next(iter(some))
    some[other] = replace(some[other], num_warps=16)
    assert gpu_aot.run(args, tmp_path) == 0
    assert asked[-1] == [(other, "sm_80")]


def test_one_compilers_table_is_not_held_against_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: v for name, v in gpu_aot._variants().items() if name.startswith("adam")}
    monkeypatch.setattr(gpu_aot, "_variants", lambda: some)
    args = Namespace(chips=["sm_80"], pattern="", output=None, command="it", fresh=False)
    for version, spills, said in (
        ("9.1.0", 0, "nothing recorded with this Triton to compare with"),
        ("9.2.0", 8, "nothing recorded with this Triton to compare with"),
        ("9.1.0", 8, f"{len(some)} spill more than recorded"),
    ):
        monkeypatch.setattr(gpu_aot, "compiler", lambda version=version: version)
        rows = {name: {"sm_80": [32, 0, spills]} for name in some}
        monkeypatch.setattr(gpu_aot, "compile_all", lambda jobs, processes, rows=rows: (rows, []))
        args.fresh = True
        assert gpu_aot.run(args, tmp_path) == 0
        assert said in capsys.readouterr().out
    assert gpu_aot.recorded_compilers(tmp_path) == ["9.1.0", "9.2.0"]
    assert not (tmp_path / "aot.md").exists(), "the page is of all chips"


def test_fingerprints_follow_what_is_compiled_and_nothing_else() -> None:
    variants = gpu_aot._variants()
    digits = {name: gpu_sources.fingerprint(variant) for name, variant in variants.items()}
    assert len(set(digits.values())) == len(digits)
    variant = next(iter(variants.values()))
    assert gpu_sources.fingerprint(replace(variant, name="another")) == gpu_sources.fingerprint(variant)
    assert gpu_sources.fingerprint(replace(variant, num_stages=7)) != gpu_sources.fingerprint(variant)
    found: dict[str, str] = {}
    gpu_sources._collect(next(v for n, v in variants.items() if n.startswith("fused_encode_mlp")).function, found)
    assert {"lattice", "product"} <= {name.rsplit(".", 1)[-1] for name in found}, "what a kernel calls is part of it"
