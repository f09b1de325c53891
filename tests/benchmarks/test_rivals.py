"""Which views are measured, what a table says of methods that do not run, and the peer that is built here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchmetrics.image.lpip
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox

from measure import hashnerf, rivals_report, study_nerf
from measure.training import NoLpips, assign, chosen
from ngp_method.method_configs import auto_config


@pytest.mark.parametrize(
    ("views", "count", "taken"),
    [(None, 4, [0, 1, 2, 3]), (9, 4, [0, 1, 2, 3]), (1, 25, [12]), (3, 25, [4, 12, 20]), (2, 3, [0, 2])],
)
def test_views_are_evenly_spaced(views: int | None, count: int, taken: list[int]) -> None:
    which = chosen(views, count)
    assert [index for index in range(count) if which(index)] == taken


def _record(folder: Path, name: str, **values: object) -> None:
    about = {"machine": "a laptop", "date": "2026-11-28T10:00:00Z", "command": "python benchmarks/rivals.py lego"}
    (folder / "runs").mkdir(exist_ok=True)
    record = {**about, "scene": "lego", "seconds": 60.0, **values}
    (folder / "runs" / f"rivals-lego-{name}.json").write_text(json.dumps(record))


def test_the_table_says_what_does_not_run_and_why(tmp_path: Path) -> None:
    curve = [{"seconds": 3.0, "psnr": 20.0}, {"seconds": 60.0, "psnr": 31.25}]
    _record(tmp_path, "a-60s-2026-11-27T100000Z", method="instant-hash", psnr=30.0, ssim=0.9, curve=curve)
    _record(tmp_path, "a-60s-2026-11-28T100000Z", method="instant-hash", psnr=31.25, ssim=0.97, curve=curve)
    _record(tmp_path, "b-60s-2026-11-28T100000Z", method="instant-ngp", cannot_run="No CUDA | toolkit")
    rivals_report.write(tmp_path)
    rows = [line for line in (tmp_path / "rivals.md").read_text().splitlines() if line.startswith("| lego")]
    assert len(rows) == 2, "the last run of each"
    assert "31.25" in rows[0]
    assert "does not run: No CUDA / toolkit" in rows[1]
    assert (tmp_path / "rivals.png").stat().st_size > 1000


def test_no_records_end_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no runs recorded; run `python benchmarks/rivals\.py"):
        rivals_report.write(tmp_path)


def test_the_torch_grid_under_nerf_renders_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """nerfstudio's parts put together: a ray's colours, and gradients in both fields."""
    monkeypatch.setattr(torchmetrics.image.lpip, "LearnedPerceptualImagePatchSimilarity", NoLpips)
    config = hashnerf.config().pipeline.model
    config.num_coarse_samples, config.num_importance_samples = 8, 8
    box = SceneBox(aabb=torch.tensor([[-1.5] * 3, [1.5] * 3]))
    model = config.setup(scene_box=box, num_train_data=1)
    o = torch.tensor([[0.0, 0.0, 4.0]]).repeat(5, 1)
    d = torch.nn.functional.normalize(torch.tensor([[0.05, 0.1, -1.0]]), dim=-1).repeat(5, 1)
    rays = RayBundle(o, d, torch.full((5, 1), 1e-5), camera_indices=torch.zeros(5, 1, dtype=torch.long))
    outputs = model(model.collider(rays))
    assert outputs["rgb_fine"].shape == (5, 3)
    outputs["rgb_fine"].sum().backward()
    outputs = model(model.collider(rays))
    outputs["rgb_coarse"].sum().backward()
    for some in (model.field_coarse, model.field_fine):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in some.parameters())


def test_every_variant_of_the_study_names_settings_that_exist() -> None:
    for variants in study_nerf.EXPERIMENTS.values():
        for settings in variants.values():
            config = auto_config()
            for path, value in {**study_nerf._model(**study_nerf.PAPER), **settings}.items():
                assign(config, path, value)
    assert set(study_nerf.PRINTED) == set(study_nerf.EXPERIMENTS["figure2"])
