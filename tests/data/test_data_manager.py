"""The data manager: bytes in memory, uniform pixels, alpha, masks, sizes, determinism, and nerfstudio's loaders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.images import ByteDataset, decode
from ngp_method.data.manager import InstantHashDataManager, InstantHashDataManagerConfig
from ngp_method.errors import UserError
from ngp_method.kernels.scene import SceneGeometry
from support import scenes


def manager(folder: Path, parser: Any = None, seed: int = 0, test_mode: Any = "val", **options: Any) -> InstantHashDataManager:
    torch.manual_seed(seed)
    config = InstantHashDataManagerConfig(data=folder, dataparser=parser or AutoDataParserConfig(), **options)
    made = config.setup(device="cpu", test_mode=test_mode)
    assert isinstance(made, InstantHashDataManager)
    return made


def true_colors(data: InstantHashDataManager, indices: torch.Tensor) -> torch.Tensor:
    """Colours of pixels straight from the files, [n, C] float."""
    pictures = [np.asarray(Image.open(path)) for path in data.train_dataset.image_filenames]
    rows = [pictures[c][y, x] for c, y, x in indices.tolist()]
    return torch.from_numpy(np.stack(rows)).float() / 255.0


def test_batch_is_pixels_and_their_rays(tmp_path: Path) -> None:
    data = manager(scenes.write_blender(tmp_path, train=4), train_num_rays_per_batch=500)
    rays, batch = data.next_train(0)
    assert batch["image"].shape == (500, 4)
    assert batch["image"].dtype == torch.float32
    torch.testing.assert_close(batch["image"], true_colors(data, batch["indices"]), rtol=0, atol=1e-6)
    assert 0.0 < float(batch["image"][:, 3].mean()) < 1.0  # alpha came through, nothing was blended
    theirs = data.train_dataset.cameras.generate_rays(batch["indices"][:, :1], batch["indices"][:, 1:].float() + 0.5)
    torch.testing.assert_close(rays.directions, theirs.directions, rtol=0, atol=1e-6)
    assert data.train_batches.table is not None
    assert data.train_batches.table.pixels.dtype == torch.uint8
    assert data.train_batches.table.pixels.numel() == 4 * 48 * 48 * 4


def test_same_seed_same_batches_whatever_else_draws(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4)
    first, second, other = manager(tmp_path, seed=3), manager(tmp_path, seed=3), manager(tmp_path, seed=4)
    for step in range(3):
        torch.rand(step)  # a model that draws more numbers does not change the pixels
        mine, same, different = (d.next_train(step)[1]["indices"] for d in (first, second, other))
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)


def test_every_pixel_of_every_image_is_equally_likely(tmp_path: Path) -> None:
    """Images of different sizes: counts follow the pixels, within five standard deviations."""
    scenes.write_ngp(tmp_path, count=3)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    for i, frame in enumerate(meta["frames"]):
        size = (10 + 10 * i, 12)
        Image.fromarray(np.full((12, size[0], 3), 40 * i, dtype=np.uint8)).save(tmp_path / frame["file_path"])
        frame.update(scenes.intrinsics(size))
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    data = manager(tmp_path, AutoDataParserConfig(eval_mode="all"), train_num_rays_per_batch=60_000)
    batch = data.next_train(0)[1]
    total = 12 * (10 + 20 + 30)
    for i, width in enumerate((10, 20, 30)):
        share = 12 * width / total
        chosen = batch["indices"][:, 0] == i
        assert abs(float(chosen.float().mean()) - share) < 5 * (share * (1 - share) / 60_000) ** 0.5
        assert torch.equal(batch["image"][chosen].unique(), torch.tensor([40.0 * i]) * (1 / 255.0))
        columns = batch["indices"][chosen][:, 2]
        assert (int(columns.min()), int(columns.max())) == (0, width - 1)
    cells = torch.bincount(batch["indices"][:, 0] * 1000 + batch["indices"][:, 1] * 30 + batch["indices"][:, 2])
    hit = cells[cells > 0].float()
    assert len(hit) == total
    expected = 60_000 / total
    assert float((hit - expected).abs().max()) < 6 * expected**0.5


def test_masked_pixels_are_never_drawn(tmp_path: Path) -> None:
    scenes.write_nerfstudio(tmp_path, count=3)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[5:7, 10:13] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for frame in meta["frames"]:
        frame["mask_path"] = "mask.png"
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    data = manager(tmp_path, AutoDataParserConfig(eval_mode="all"))
    indices = data.next_train(0)[1]["indices"]
    assert len(indices) == 4096
    assert set(indices[:, 1].tolist()) == {5, 6}
    assert set(indices[:, 2].tolist()) == {10, 11, 12}
    assert len(indices.unique(dim=0)) == 3 * 6
    _, counts = indices.unique(dim=0, return_counts=True)
    assert float((counts - 4096 / 18).abs().max()) < 6 * (4096 / 18) ** 0.5, "each as likely as another"
    assert data.eval_dataset[0]["mask"].shape == (40, 48, 1)
    half = manager(tmp_path, AutoDataParserConfig(eval_mode="all", downscale_factor=2))
    assert half.eval_dataset[0]["mask"].shape == (20, 24, 1)
    assert half.eval_dataset[0]["image"].shape == (20, 24, 3)

    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="leave no pixel"):
        manager(tmp_path, AutoDataParserConfig(eval_mode="all"))
    Image.fromarray(np.zeros((30, 48), dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="which is another shape"):
        manager(tmp_path, AutoDataParserConfig(eval_mode="all"))


def test_fisheye_circle_is_kept_to(tmp_path: Path) -> None:
    scenes.write_nerfstudio(tmp_path, count=3)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    meta |= {"camera_model": "OPENCV_FISHEYE", "k1": 0.01, "fisheye_crop_radius": 10.0}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    data = manager(tmp_path, AutoDataParserConfig(eval_mode="all"))
    rays, batch = data.next_train(0)
    row, column = batch["indices"][:, 1] - 20, batch["indices"][:, 2] - 24
    radii = (row * row + column * column).float().sqrt()
    assert 9.0 < float(radii.max()) < 10.0
    theirs = data.train_dataset.cameras.generate_rays(batch["indices"][:, :1], batch["indices"][:, 1:].float() + 0.5)
    torch.testing.assert_close(rays.directions, theirs.directions, rtol=0, atol=1e-6)
    camera, image = data.next_eval_image(0)
    assert camera.generate_rays(camera_indices=0, keep_shape=True).shape == image["image"].shape[:2]


def test_number_of_rays_is_set_for_training_alone(tmp_path: Path) -> None:
    data = manager(scenes.write_ngp(tmp_path, count=3), eval_num_rays_per_batch=100)
    data.set_num_rays(777)
    assert len(data.next_train(0)[1]["image"]) == data.get_train_rays_per_batch() == 777
    assert len(data.next_eval(0)[1]["image"]) == data.get_eval_rays_per_batch() == 100
    data.set_num_rays(0)
    assert len(data.next_train(0)[1]["image"]) == 1
    assert data.train_pixel_sampler is not None
    data.train_pixel_sampler.num_rays_per_batch = 50  # what ns-export does
    assert len(data.next_train(0)[0]) == 50


@pytest.mark.parametrize("options", [{"camera_res_scale_factor": 0.5}, {"parser": AutoDataParserConfig(downscale_factor=2)}])
def test_smaller_images(tmp_path: Path, options: dict[str, Any]) -> None:
    data = manager(scenes.write_blender(tmp_path, train=3), **options)
    assert data.train_batches.table is not None
    assert data.train_batches.table.pixels.shape == (3 * 24 * 24, 4)
    assert data.train_dataset[0]["image"].shape == (24, 24, 4)
    assert float(data.train_dataset.cameras.fx[0]) == pytest.approx(0.5 * 24 / np.tan(0.5 * scenes.FOV) * 2 / 2)
    path = data.train_dataset.image_filenames[1]
    small = Image.open(path).resize((24, 24), resample=Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.train_dataset.get_numpy_image(1), np.asarray(small))


def test_model_gets_geometry_and_cameras_from_any_parser(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path / "b", train=4)
    scenes.write_ngp(tmp_path / "n", count=9, aabb_scale=8)
    scenes.write_nerfstudio(tmp_path / "s", count=9)
    expected = {"b": (3.0, 1), "n": (1.0, 8)}
    foreign = {"b": BlenderDataParserConfig(), "n": InstantNGPDataParserConfig(), "s": NerfstudioDataParserConfig()}
    for name, parser in foreign.items():
        for chosen in (None, parser):
            data = manager(tmp_path / name, chosen)
            geometry = data.train_dataset.metadata["geometry"]
            assert isinstance(geometry, SceneGeometry)
            if name in expected:
                assert (pytest.approx(geometry.unit_size), geometry.aabb_scale) == expected[name]
            assert data.eval_dataset.metadata["geometry"] == geometry
            torch.testing.assert_close(data.train_dataset.scene_box.aabb, geometry.aabb)
            assert len(data.train_dataset.metadata["train_cameras"]) == len(data.train_dataset)
            assert data.next_train(0)[1]["image"].shape[1] == (3 if name != "b" or chosen else 4)
    # nerfstudio's own parser holds out other views, so its frame differs a little
    assert geometry.aabb_scale == 16


def test_whole_held_out_images(tmp_path: Path) -> None:
    data = manager(scenes.write_blender(tmp_path, train=3, val=2, test=4), test_mode="test")
    assert data.train_batches.table is None  # evaluation does not decode training images
    seen = []
    for camera, batch in data.fixed_indices_eval_dataloader:
        assert camera.shape == (1,)
        assert batch["image"].shape == (48, 48, 4)
        assert batch["image"].dtype == torch.float32
        seen.append(batch["image_idx"])
    assert seen == [0, 1, 2, 3]
    camera, batch = data.next_eval_image(0)
    assert batch["image"].shape == (48, 48, 4)
    assert len(data.next_train(0)[0]) == 4096  # ns-export asks for training rays all the same


def test_bytes_and_files_give_the_same_image(tmp_path: Path) -> None:
    data = manager(scenes.write_ngp(tmp_path, count=3))
    cached = data.train_dataset[1]["image"]
    data.train_dataset.pixels = None
    torch.testing.assert_close(data.train_dataset[1]["image"], cached, rtol=0, atol=0)


def test_alpha_in_some_images_only(tmp_path: Path) -> None:
    scenes.write_ngp(tmp_path, count=4, room=True)
    path = tmp_path / "images" / "0002.png"
    picture = np.asarray(Image.open(path).convert("RGBA")).copy()
    picture[:10, :, 3] = 0
    Image.fromarray(picture).save(path)
    data = manager(tmp_path, AutoDataParserConfig(eval_mode="all"))
    batch = data.next_train(0)[1]
    assert batch["image"].shape[1] == 4
    clear = (batch["indices"][:, 0] == 2) & (batch["indices"][:, 1] < 10)
    assert torch.equal(batch["image"][:, 3] == 0, clear)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "I;16", "1"])
def test_images_of_every_mode(tmp_path: Path, mode: str) -> None:
    gray = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (8, 1))
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gray)
        image = image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    out = decode(path, (16, 8))
    assert out.dtype == np.uint8
    assert out.shape == (8, 16, 4 if mode == "LA" else 3)
    if mode != "1":
        assert int(np.abs(out[..., :3].astype(int) - gray[..., None]).max()) <= 1


def test_blending_asked_for_by_the_parser(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path, train=3)
    data = manager(tmp_path, BlenderDataParserConfig(alpha_color="white"))
    image = data.train_dataset[0]["image"]
    assert image.shape == (48, 48, 3)
    assert float(image[0, 0].min()) == 1.0


def test_config(tmp_path: Path) -> None:
    config = InstantHashDataManagerConfig(data=tmp_path, dataparser=AutoDataParserConfig(data=tmp_path, aabb_scale=2))
    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert again.dataparser == config.dataparser
    assert again._target is InstantHashDataManager
    with pytest.raises(ValueError, match="patch_size"):
        InstantHashDataManagerConfig(patch_size=8)
    with pytest.raises(ValueError, match="downscale-factor"):
        InstantHashDataManagerConfig(train_num_images_to_sample_from=10)


def test_one_held_out_image_of_nerfstudios_ngp_parser(tmp_path: Path) -> None:
    """Its pose is lost in the parser: one sentence instead of a shape error deep below."""
    data = scenes.write_ngp(tmp_path / "ten", count=10)
    outputs = InstantNGPDataParserConfig(data=data).setup().get_dataparser_outputs(split="val")
    with pytest.raises(UserError, match=r"0008\.png is the only image .* leave the subcommand out"):
        ByteDataset(outputs)


@pytest.mark.parametrize(
    ("asked", "device", "free", "expected"),
    [
        (None, "cpu", 0, False),
        (True, "cpu", 0, True),
        (None, "cuda", 10**9, True),
        (None, "cuda", 10_000, False),
        (False, "cuda", 10**9, False),
        (True, "cuda", 10_000, True),
    ],
)
def test_images_lie_on_the_gpu_where_they_fit(
    asked: bool | None, device: str, free: int, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = manager(scenes.write_blender(tmp_path, train=4), images_on_gpu=asked)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    data.device = device
    assert data._on_gpu(data.train_dataset) == expected
