"""Picture files as people have them: modes, depths, orientation, kinds that need another package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, features

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.checks import check_data
from ngp_method.data.decoding import decode
from ngp_method.data.images import ByteDataset, check_memory
from ngp_method.errors import UserError
from ngp_method.pictures.opening import read_header, reads_heif
from support import scenes

DEEP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
"""Every byte times 257: 16-bit samples that mean exactly the bytes 0 to 255."""


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiffs_of_16_bits_are_scaled(channels: int, compression: str | None, planes: Any, tmp_path: Path) -> None:
    samples = DEEP if channels == 1 else np.stack([DEEP, DEEP[::-1], DEEP.T, DEEP][:channels], axis=-1)
    stored = np.moveaxis(samples, -1, 0) if planes == "separate" and channels > 1 else samples
    kind: Any = "minisblack" if channels == 1 else "rgb"
    extra = ["unassalpha"] if channels == 4 else None
    more = {} if channels == 1 else {"planarconfig": planes}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, compression=compression, extrasamples=extra, **more)
    expected = np.stack([samples] * 3, axis=-1) if channels == 1 else samples
    np.testing.assert_allclose(decode(tmp_path / "a.tif", (16, 16)).astype(int), expected // 257, atol=1)


def test_a_grey_png_of_16_bits_is_rounded(tmp_path: Path) -> None:
    Image.fromarray(DEEP + np.uint16(0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", (16, 16))[..., 0], DEEP // 257)
    Image.fromarray(np.full((16, 16), 65535, dtype=np.uint16)).save(tmp_path / "white.png")
    assert int(decode(tmp_path / "white.png", (16, 16)).min()) == 255


@pytest.mark.parametrize("kind", ["P", "L", "RGB"])
def test_a_colour_that_stands_for_see_through_is_alpha(kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (10, 200, 30))
    image.paste((90, 20, 60), (0, 0, 8, 16))
    image = image.quantize(2) if kind == "P" else image.convert(kind)
    clear = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=clear)
    out = decode(tmp_path / "a.png", (16, 16))
    assert out.shape == (16, 16, 4)
    assert out[:, :8, 3].max() == 0
    assert out[:, 8:, 3].min() == 255


COLORS = np.stack([np.full((16, 16), 10), np.full((16, 16), 200), np.full((16, 16), 30)], axis=-1).astype(np.uint8)
HALF = np.where(np.arange(16) < 8, 0, 255).astype(np.uint8)[None].repeat(16, 0)


@pytest.mark.parametrize(
    ("make", "suffix", "expected"),
    [
        (lambda: Image.fromarray(COLORS).convert("CMYK"), "tif", COLORS),
        (lambda: Image.fromarray(COLORS).convert("CMYK"), "jpg", COLORS),
        (lambda: Image.fromarray(COLORS).convert("YCbCr"), "tif", COLORS),
        (lambda: Image.fromarray(COLORS).quantize(4), "png", COLORS),
        (lambda: Image.fromarray(HALF).convert("1"), "png", np.stack([HALF] * 3, axis=-1)),
        (lambda: Image.fromarray(HALF), "bmp", np.stack([HALF] * 3, axis=-1)),
        (lambda: Image.fromarray(np.stack([HALF, HALF[:, ::-1]], axis=-1)), "png", np.stack([HALF] * 3 + [HALF[:, ::-1]], -1)),
        (lambda: Image.fromarray(np.dstack([COLORS, HALF])), "webp", np.dstack([COLORS, HALF])),
    ],
    ids=["CMYK", "CMYK JPEG", "YCbCr", "P", "1", "L", "LA", "RGBA"],
)
def test_pictures_of_every_mode_are_colours(make: Any, suffix: str, expected: np.ndarray, tmp_path: Path) -> None:
    make().save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    out = decode(tmp_path / f"a.{suffix}", (16, 16)).astype(int)
    assert out.shape == expected.shape
    seen = (expected[..., 3] if expected.shape[-1] == 4 else np.ones((16, 16))) > 0
    assert np.abs(out - expected)[seen].max() <= 4


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_pngs_of_16_bits_are_scaled(channels: int, tmp_path: Path) -> None:
    samples = np.stack([DEEP, DEEP[::-1], DEEP.T, np.full_like(DEEP, 65535)][:channels], axis=-1)
    cv2.imwrite(str(tmp_path / "a.png"), samples[..., [2, 1, 0, 3][:channels]])
    np.testing.assert_allclose(decode(tmp_path / "a.png", (16, 16)).astype(int), samples // 257, atol=1)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((16, 16), dtype=np.float32)).save(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.ones((16, 16, 3), dtype=np.float32), photometric="rgb")
    (tmp_path / "c.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(100))
    (tmp_path / "d.hdr").write_bytes(b"#?RADIANCE\n" + bytes(100))
    for name in "a.tif", "b.tif", "c.exr", "d.hdr":
        with pytest.raises(UserError, match="floating point") as caught:
            decode(tmp_path / name, (16, 16))
        assert str(tmp_path / name) in str(caught.value)
        assert "PNG" in str(caught.value)


def test_heic_names_the_package_that_reads_it(tmp_path: Path) -> None:
    if reads_heif():
        pytest.fail("pillow-heif is installed here: decode a real HEIC file in this test instead")
    for name in ("a.heic", "really_heic.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        with pytest.raises(UserError, match=r"pip install pillow-heif"):
            read_header(tmp_path / name)


def test_avif_is_read_by_pillow_itself_or_names_the_pillow_that_does(tmp_path: Path) -> None:
    if features.check("avif"):
        Image.fromarray(COLORS).save(tmp_path / "a.avif", quality=95)
        assert np.abs(decode(tmp_path / "a.avif", (16, 16)).astype(int) - COLORS).max() < 6
    else:
        (tmp_path / "a.avif").write_bytes(b"\0\0\0\x18ftypavif" + bytes(100))
        with pytest.raises(UserError, match=r"pillow>=11\.3"):
            read_header(tmp_path / "a.avif")


def test_big_pictures_are_read(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").size == (20_000, 10_000)
    with pytest.raises(UserError, match="auto-data --downscale-factor"):
        check_memory(10**15, 20)
    check_memory(10**6, 20)


def turned_scene(folder: Path, orientation: int, stated: tuple[int, int] | None) -> Path:
    """Pictures of 40x48 upright, stored turned by a quarter with EXIF that says so."""
    scenes.write_ngp(folder, count=4, size=(40, 48))
    meta = json.loads((folder / "transforms.json").read_text())
    for frame in meta["frames"]:
        path = folder / frame["file_path"]
        upright = Image.open(path)
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright.transpose(Image.Transpose.ROTATE_90 if orientation == 6 else Image.Transpose.ROTATE_270)
        stored.save(path.with_suffix(".jpg"), exif=exif, quality=95)
        path.unlink()
        frame["file_path"] = frame["file_path"].replace(".png", ".jpg")
    if stated is None:
        del meta["w"], meta["h"], meta["cx"], meta["cy"]
    else:
        meta["w"], meta["h"] = stated
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def first_picture(folder: Path) -> np.ndarray:
    outputs = AutoDataParserConfig(data=folder, eval_mode="all").setup().get_dataparser_outputs("train")
    return ByteDataset(outputs).get_numpy_image(0)


@pytest.mark.parametrize("orientation", [6, 8])
def test_exif_turns_a_picture_where_the_stated_size_is_that_of_the_turned_one(orientation: int, tmp_path: Path) -> None:
    straight = scenes.write_ngp(tmp_path / "straight", count=4, size=(40, 48))
    expected = first_picture(straight).astype(int)
    upright = turned_scene(tmp_path / "upright", orientation, (40, 48))
    check_data(AutoDataParserConfig(data=upright))
    assert np.abs(first_picture(upright)[..., :3] - expected[..., :3]).mean() < 4.0


def test_exif_is_left_alone_where_nothing_tells_of_a_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, stated in (("stored", (48, 40)), ("unstated", None)):
        folder = turned_scene(tmp_path / name, 6, stated)
        picture = first_picture(folder)
        assert picture.shape[:2] == (40, 48)
        said = f"4 of 4 images listed in {folder / 'transforms.json'} ask by EXIF to be turned, as 0000.jpg; they are used as"
        assert capsys.readouterr().out.count(said) == (stated is None)


def test_the_principal_point_tells_a_turn_where_no_size_is_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight = scenes.write_ngp(tmp_path / "straight", count=4, size=(40, 48))
    expected = first_picture(straight).astype(int)
    folder = turned_scene(tmp_path / "turned", 8, None)
    meta = json.loads((folder / "transforms.json").read_text())
    lens = scenes.intrinsics((40, 48))
    (folder / "transforms.json").write_text(json.dumps({**meta, "cx": lens["cx"], "cy": lens["cy"]}))
    assert np.abs(first_picture(folder)[..., :3] - expected[..., :3]).mean() < 4.0
    assert f"Images listed in {folder / 'transforms.json'} are turned as EXIF asks" in capsys.readouterr().out
    (folder / "transforms.json").write_text(json.dumps({**meta, "cx": lens["cy"], "cy": lens["cx"]}))
    assert first_picture(folder).shape[:2] == (40, 48)
