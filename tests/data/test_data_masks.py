"""Masks of every kind: what they hide is neither drawn nor measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.decoding import decode
from ngp_method.data.manager import InstantHashDataManager, InstantHashDataManagerConfig
from ngp_method.data.masks import MaskFiles, decode_mask
from ngp_method.errors import UserError
from ngp_method.studio.metrics import ImageMetrics
from support import scenes

KEEP = np.zeros((40, 48), dtype=bool)
KEEP[8:24, 16:40] = True


def manager(folder: Path, mode: str = "all", test_mode: Any = "val") -> InstantHashDataManager:
    parser = AutoDataParserConfig(data=folder, eval_mode=mode)  # type: ignore[arg-type]
    config = InstantHashDataManagerConfig(data=folder, dataparser=parser)
    return config.setup(device="cpu", test_mode=test_mode)


def give_masks(folder: Path, masks: dict[int, str]) -> None:
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    for index, name in masks.items():
        meta["frames"][index]["mask_path"] = name
    path.write_text(json.dumps(meta))


def rgba(color: Any, alpha: Any) -> Image.Image:
    planes = [np.broadcast_to(np.asarray(c, dtype=np.uint8), KEEP.shape) for c in (color, color, color, alpha)]
    return Image.fromarray(np.stack(planes, axis=-1))


def palette(transparency: int | None = None) -> Image.Image:
    """Number 0 is white and number 1 black: a palette's numbers mean nothing."""
    image = Image.fromarray(np.where(KEEP, 0, 1).astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0] if transparency is None else [255, 255, 255, 255, 255, 255])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


BYTES = np.where(KEEP, 255, 0).astype(np.uint8)
KINDS: dict[str, tuple[Any, str]] = {
    "L": (lambda: Image.fromarray(BYTES), "png"),
    "faint": (lambda: Image.fromarray(BYTES // 255), "png"),
    "1": (lambda: Image.fromarray(BYTES).convert("1"), "png"),
    "RGB": (lambda: Image.fromarray(np.stack([0 * BYTES, BYTES, 0 * BYTES], axis=-1)), "png"),
    "RGBA": (lambda: rgba(BYTES, 255), "png"),
    "RGBA, alpha alone, white": (lambda: rgba(255, BYTES), "png"),
    "RGBA, alpha alone, black": (lambda: rgba(0, BYTES), "png"),
    "LA": (lambda: rgba(BYTES, 255).convert("LA"), "png"),
    "LA, alpha alone": (lambda: rgba(0, BYTES).convert("LA"), "png"),
    "P": (palette, "png"),
    "P, transparent": (lambda: palette(1), "png"),
    "I;16": (lambda: Image.fromarray(BYTES.astype(np.uint16) // 255 * 200), "png"),
    "F": (lambda: Image.fromarray(BYTES.astype(np.float32) / 255), "tif"),
    "JPEG": (lambda: Image.fromarray(BYTES), "jpg"),
    "CMYK": (lambda: Image.fromarray(BYTES).convert("RGB").convert("CMYK"), "tif"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_mode_are_read_by_what_they_mean(kind: str, tmp_path: Path) -> None:
    make, suffix = KINDS[kind]
    path = tmp_path / f"mask.{suffix}"
    make().save(path)
    Image.new("RGB", (48, 40)).save(tmp_path / "a.png")
    kept = decode_mask(MaskFiles(path), (48, 40), tmp_path / "a.png")
    np.testing.assert_array_equal(kept.numpy(), KEEP)
    hidden = decode_mask(MaskFiles(None, path), (48, 40), tmp_path / "a.png")
    np.testing.assert_array_equal(hidden.numpy(), ~KEEP)


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_mask_that_is_one_value_is_all_or_nothing(value: int, suffix: str, tmp_path: Path) -> None:
    Image.new("L", (48, 40), value or 2 * (suffix == "jpg")).save(tmp_path / f"mask.{suffix}")
    Image.new("RGB", (48, 40)).save(tmp_path / "a.png")
    kept = decode_mask(MaskFiles(tmp_path / f"mask.{suffix}"), (24, 20), tmp_path / "a.png")
    assert kept.shape == (20, 24)
    assert bool((kept == (value > 0)).all())


def test_a_frame_without_a_mask_has_nothing_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_nerfstudio(tmp_path, count=4)
    Image.fromarray(BYTES).save(tmp_path / "mask.png")
    give_masks(tmp_path, {1: "mask.png", 3: "mask.png"})
    data = manager(tmp_path)
    assert "gives mask_path for 2 of 4 frames; nothing is hidden in the other 2." in capsys.readouterr().out
    data.train_batches.set_num_rays_per_batch(20_000)
    indices = data.next_train(0)[1]["indices"]
    for view, expected in enumerate((1.0, KEEP, 1.0, KEEP)):
        rows = indices[indices[:, 0] == view]
        drawn = np.zeros_like(KEEP)
        drawn[rows[:, 1], rows[:, 2]] = True
        assert not (drawn & ~np.broadcast_to(np.asarray(expected, dtype=bool), KEEP.shape)).any()
        assert (drawn & ~KEEP).any() == (view in (0, 2))


def test_masks_that_no_frame_names_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_nerfstudio(tmp_path, count=3)
    (tmp_path / "masks").mkdir()
    manager(tmp_path)
    assert "not used" not in capsys.readouterr().out  # it is empty
    Image.fromarray(BYTES).save(tmp_path / "masks" / "0000.png")
    manager(tmp_path)
    said = f"The files in {tmp_path / 'masks'} are not used: {tmp_path / 'transforms.json'} gives no frame a mask_path."
    assert said in capsys.readouterr().out


def test_instant_ngps_mask_beside_the_picture_hides_what_is_bright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_ngp(tmp_path, count=4)
    for index in range(4):
        Image.fromarray(BYTES).save(tmp_path / "images" / f"dynamic_mask_{index:04d}.png")
    data = manager(tmp_path)
    assert "4 of 4 images" in capsys.readouterr().out
    indices = data.next_train(0)[1]["indices"]
    assert not KEEP[indices[:, 1], indices[:, 2]].any()
    assert not KEEP[data.next_eval(0)[1]["indices"][:, 1], data.next_eval(0)[1]["indices"][:, 2]].all()
    np.testing.assert_array_equal(data.eval_dataset[2]["mask"][..., 0].numpy(), ~KEEP)


def test_masks_count_in_the_measures() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((40, 48, 3), generator=generator)
    keep = torch.from_numpy(KEEP)[..., None]
    wrong_where_hidden = torch.where(keep, truth + 0.01, 1.0 - truth)
    measured = ImageMetrics()(wrong_where_hidden.clamp(0, 1), truth, keep)
    assert measured["psnr"] == pytest.approx(40.0, abs=0.1)
    assert measured["ssim"] > 0.99
    assert ImageMetrics()(wrong_where_hidden, truth)["psnr"] < 15.0
    assert ImageMetrics()(truth, truth, torch.zeros_like(keep)) == {}


def test_an_image_hidden_altogether_is_said_and_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_nerfstudio(tmp_path, count=4)
    Image.new("L", (48, 40)).save(tmp_path / "black.png")
    give_masks(tmp_path, {2: "black.png"})
    data = manager(tmp_path, test_mode="test")
    assert "1 of 4 images are hidden altogether by their masks, as 0002.png" in capsys.readouterr().out
    assert [batch["image_idx"] for _, batch in data.fixed_indices_eval_dataloader] == [0, 1, 3]
    give_masks(tmp_path, dict.fromkeys(range(4), "black.png"))
    with pytest.raises(UserError, match="leave no pixel"):
        manager(tmp_path)


def test_a_mask_of_another_shape(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=3)
    Image.new("L", (20, 40), 0).save(tmp_path / "images" / "dynamic_mask_0001.png")
    with pytest.raises(UserError, match=r"dynamic_mask_0001\.png is 20x40 pixels, its image 0001\.png 48x40, which is another"):
        manager(tmp_path)


@pytest.mark.parametrize("size", [(24, 20), (96, 80), (23, 20), (97, 81)])
def test_a_mask_of_another_resolution(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", (48, 40)).save(tmp_path / "a.png")
    Image.fromarray(BYTES).resize(size, Image.Resampling.NEAREST).save(tmp_path / "mask.png")
    kept = decode_mask(MaskFiles(tmp_path / "mask.png"), (48, 40), tmp_path / "a.png").numpy()
    assert (kept != KEEP).mean() < 0.06
    smaller = decode_mask(MaskFiles(tmp_path / "mask.png"), (24, 20), tmp_path / "a.png").numpy()
    assert (smaller != KEEP[1::2, 1::2]).mean() < 0.12


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("half", [False, True])
def test_a_mask_turns_with_its_picture(orientation: int, half: bool, tmp_path: Path) -> None:
    """The picture itself, as it is decoded, says where the mask must be bright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(BYTES).convert("RGB").save(tmp_path / "a.png", exif=exif)
    upright = (40, 48) if orientation > 4 else (48, 40)
    turn = orientation > 4
    expected = decode(tmp_path / "a.png", upright, turn)[..., 0] > 127
    step = 2 if half else 1
    Image.fromarray(BYTES[::step, ::step]).save(tmp_path / "stored.png")
    Image.fromarray(expected[::step, ::step]).save(tmp_path / "upright.png")
    for name in ("stored.png", "upright.png"):
        kept = decode_mask(MaskFiles(tmp_path / name), upright, tmp_path / "a.png")
        np.testing.assert_array_equal(kept.numpy(), expected)


def test_a_mask_turns_with_a_picture_that_is_almost_square(tmp_path: Path) -> None:
    """Either way round it would be a copy of another resolution, to a pixel; its exact size tells."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 47)).save(tmp_path / "a.jpg", exif=exif)
    stored = np.zeros((47, 48), dtype=np.uint8)
    stored[:10, :20] = 255
    Image.fromarray(stored).save(tmp_path / "mask.png")
    kept = decode_mask(MaskFiles(tmp_path / "mask.png"), (47, 48), tmp_path / "a.jpg")
    np.testing.assert_array_equal(kept.numpy(), np.rot90(stored, -1) > 0)


def test_a_mask_of_the_turned_picture_is_none_of_the_stored_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 40)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.rot90(BYTES, -1)).save(tmp_path / "turned.png")
    with pytest.raises(UserError, match="which is another shape"):
        decode_mask(MaskFiles(tmp_path / "turned.png"), (48, 40), tmp_path / "a.jpg")
