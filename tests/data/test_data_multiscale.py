"""Multi-scale Blender scenes: written as mip-NeRF's converter does, read again, drawn by weight, measured by scale."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import multiscale_blender
import numpy as np
import pytest
import torch
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.detect import detect
from ngp_method.data.images import ByteDataset
from ngp_method.data.pixels import PixelBatches
from ngp_method.data.weighted import WeightedRuns
from ngp_method.errors import UserError
from ngp_method.studio.metrics import by_scale
from support import scenes

SIZE = 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Blender scene, and what the script makes of it."""
    folder = tmp_path_factory.mktemp("multiscale")
    scene = scenes.write_blender(folder / "scene", train=6, val=0, test=2, size=(SIZE, SIZE))
    multiscale_blender.convert(scene, folder / "out")
    return scene, folder / "out"


def outputs(folder: Path, split: str = "train", **settings: Any) -> Any:
    return AutoDataParserConfig(data=folder, **settings).setup().get_dataparser_outputs(split)


def test_images_are_means_of_four_cut_off_to_bytes(folders: tuple[Path, Path]) -> None:
    scene, out = folders
    image = np.asarray(Image.open(scene / "train" / "r_3.png")).astype(np.float64)
    for scale in range(4):
        written = np.asarray(Image.open(out / "images_train" / f"003_d{scale}.png")).astype(int)
        assert (written >= np.floor(image - 1e-3)).all(), "float32 may fall short of a whole number"
        assert (written <= np.floor(image + 1e-3)).all()
        image = 0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2])
    assert written.shape == (SIZE // 8, SIZE // 8, 4)


def test_the_metadata_has_what_the_papers_data_has(folders: tuple[Path, Path]) -> None:
    meta = json.loads((folders[1] / "metadata.json").read_text())
    assert set(meta) == {"train", "test"}
    train = meta["train"]
    names = {"file_path", "cam2world", "width", "height", "focal", "label", "near", "far", "lossmult", "pix2cam"}
    assert set(train) == names
    assert {len(column) for column in train.values()} == {24}
    assert train["file_path"][:5] == [*(f"images_train/000_d{j}.png" for j in range(4)), "images_train/001_d0.png"]
    assert train["label"][:4] == [0, 1, 2, 3]
    assert train["lossmult"][:4] == [1.0, 4.0, 16.0, 64.0]
    focal = 0.5 * SIZE / math.tan(0.5 * scenes.FOV)
    assert train["focal"][:4] == pytest.approx([focal, focal / 2, focal / 4, focal / 8])
    direction = np.array(train["pix2cam"][2]) @ [train["width"][2], train["height"][2], 1.0]  # the far corner
    assert direction == pytest.approx([0.5 * SIZE / focal, -0.5 * SIZE / focal, -1.0])


def test_it_is_recognised_and_read(folders: tuple[Path, Path]) -> None:
    scene, out = folders
    assert detect(out).kind == detect(out / "metadata.json").kind == "multi-scale blender"
    found, plain = outputs(out), outputs(scene)
    assert len(found.image_filenames) == 24
    assert found.metadata["image_scales"][:4] == [1, 2, 4, 8]
    assert found.metadata["pixel_weights"][:4] == [1.0, 4.0, 16.0, 64.0]
    assert found.metadata["geometry"] == plain.metadata["geometry"]
    full = outputs(out, train_scales="full")
    assert full.cameras.width.unique().tolist() == [SIZE]
    assert "image_scales" not in full.metadata
    for name in ("camera_to_worlds", "fx", "cx"):
        torch.testing.assert_close(getattr(full.cameras, name), getattr(plain.cameras, name))
    eighth = found.cameras[3]
    assert (int(eighth.width), int(eighth.height)) == (SIZE // 8, SIZE // 8)
    torch.testing.assert_close(eighth.fx * 8, found.cameras[0].fx)
    assert len(outputs(out, "test", train_scales="full").image_filenames) == 8, "all scales are measured"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lossmult": [1.0]}, "'lossmult' of 'train' has no entry for each of the 24 images"),
        ({"focal": None}, "holds no transforms.json"),
        ({"label": ["x"] * 24}, "a label is 'x'"),
        ({"lossmult": [0.0] * 24}, "a lossmult is 0.0"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], said: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    meta = json.loads((folders[1] / "metadata.json").read_text())
    for name, value in change.items():
        meta["train"][name] = value
    (tmp_path / "metadata.json").write_text(json.dumps(meta))
    (tmp_path / "images_train").symlink_to(folders[1] / "images_train")
    (tmp_path / "images_test").symlink_to(folders[1] / "images_test")
    with pytest.raises(UserError) as raised:
        outputs(tmp_path)
    assert said in str(raised.value)


def test_another_programs_metadata_is_not_taken(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path, train=3, val=0, test=1)
    (tmp_path / "metadata.json").write_text('{"train": 3}')
    assert detect(tmp_path).kind == "blender"


def test_each_scale_is_drawn_as_often(folders: tuple[Path, Path]) -> None:
    dataset = ByteDataset(outputs(folders[1]))
    batches = PixelBatches(dataset, 40_000, "cpu", False, 1)
    drawn = batches.sample()
    images = drawn["indices"][:, 0]
    scales = torch.tensor(dataset.metadata["image_scales"])[images]
    shares = [float((scales == scale).float().mean()) for scale in (1, 2, 4, 8)]
    assert shares == pytest.approx([0.25] * 4, abs=0.01)
    eighths = drawn["indices"][scales == 8]
    assert eighths[:, 1:].amax(0).tolist() == [SIZE // 8 - 1] * 2
    counts = (eighths[:, 1] * (SIZE // 8) + eighths[:, 2]).bincount()
    assert len(counts) == (SIZE // 8) ** 2
    assert float(counts.min()) > 0.6 * float(counts.float().mean()), "all pixels of an image alike"
    whole = dataset[int(eighths[0, 0])]["image"]
    torch.testing.assert_close(drawn["image"][scales == 8][0], whole[int(eighths[0, 1]), int(eighths[0, 2])])
    again = PixelBatches(dataset, 40_000, "cpu", False, 1).sample()
    assert torch.equal(again["indices"], drawn["indices"])


def test_runs_by_weight() -> None:
    """Two runs of ten and of one pixel; the one weighs as much as all of the others."""
    runs = WeightedRuns(torch.tensor([5, 40]), torch.tensor([15, 41]), torch.tensor([1.0, 10.0]))
    drawn = runs.draw(20_000, torch.Generator().manual_seed(0))
    assert sorted(set(drawn.tolist())) == [*range(5, 15), 40]
    assert float((drawn == 40).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_measures_are_of_each_scale() -> None:
    rows = [{"psnr": 30.0, "ssim": 0.9}, {"psnr": 32.0}, {"psnr": 20.0, "ssim": 0.5}]
    assert by_scale(rows, [1, 1, 8]) == {"psnr_1": 31.0, "psnr_8": 20.0, "ssim_1": 0.9, "ssim_8": 0.5}
