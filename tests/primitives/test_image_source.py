"""Picture files of every kind as targets: what their samples mean, which way up they are, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import Imath
import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from ngp_method.errors import UserError
from ngp_method.pictures.curves import to_linear, to_srgb
from ngp_method.primitives.image import decoded
from ngp_method.primitives.image.source import PictureSource, open_picture

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (21, 34, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (21, 34, 4), dtype=np.uint16)
LIGHT = RNG.uniform(-0.1, 9.0, (21, 34, 4)).astype(np.float32)


def save_exr(path: Path, samples: np.ndarray, names: str = "RGBA") -> None:
    kind = Imath.PixelType(Imath.PixelType.HALF if samples.dtype == np.float16 else Imath.PixelType.FLOAT)
    header = OpenEXR.Header(samples.shape[1], samples.shape[0])
    header["channels"] = {name: Imath.Channel(kind) for name in names}
    file = OpenEXR.OutputFile(str(path), header)
    file.writePixels({name: np.ascontiguousarray(samples[..., i]).tobytes() for i, name in enumerate(names)})
    file.close()


def pillow(mode: str, **more: Any) -> Callable[[Path], Any]:
    image = Image.fromarray({"L": BYTES[..., 0], "RGB": BYTES[..., :3], "RGBA": BYTES, "LA": BYTES[..., :2]}[mode])
    return lambda path: image.save(path, **more)


def cv(samples: np.ndarray) -> Callable[[Path], Any]:
    return lambda path: cv2.imwrite(str(path), samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.ndim == 3 else samples)


def tiff(samples: np.ndarray, **more: Any) -> Callable[[Path], Any]:
    settings = {"photometric": "rgb" if samples.ndim == 3 else "minisblack", "metadata": None, **more}
    return lambda path: tifffile.imwrite(path, samples, **settings)


BANDS = np.concatenate([BYTES, BYTES[..., :1]], -1)
FOUR = np.ascontiguousarray(np.moveaxis(DEEP, -1, 0))
PLANES = np.ascontiguousarray(np.moveaxis(DEEP[..., :3], -1, 0))
EXACT: dict[str, tuple[str, Callable[[Path], Any], np.ndarray]] = {
    "grey": ("png", pillow("L"), BYTES[..., :1]),
    "grey and alpha": ("png", pillow("LA"), BYTES[..., :2]),
    "RGB": ("png", pillow("RGB"), BYTES[..., :3]),
    "RGBA": ("png", pillow("RGBA"), BYTES),
    "RGBA webp": ("webp", pillow("RGBA", lossless=True, exact=True), BYTES),
    "bmp": ("bmp", pillow("RGB"), BYTES[..., :3]),
    "a PNG by the name of a JPEG": ("jpg", pillow("RGB", format="PNG"), BYTES[..., :3]),
    "16-bit grey": ("png", cv(DEEP[..., 0]), DEEP[..., :1]),
    "16-bit RGB": ("png", cv(DEEP[..., :3]), DEEP[..., :3]),
    "16-bit RGBA": ("png", cv(DEEP), DEEP),
    "tiff": ("tif", tiff(BYTES[..., :3]), BYTES[..., :3]),
    "tiff alpha": ("tif", tiff(BYTES, extrasamples=["unassalpha"]), BYTES),
    "tiff deflate": ("tif", tiff(DEEP[..., :3], compression="zlib", rowsperstrip=4), DEEP[..., :3]),
    "tiff tiles": ("tif", tiff(DEEP[..., :3], compression="zlib", tile=(16, 16)), DEEP[..., :3]),
    "tiff lzw": ("tif", pillow("RGB", compression="tiff_lzw"), BYTES[..., :3]),
    "tiff jpeg-free lzw 16": ("tif", cv(DEEP[..., :3]), DEEP[..., :3]),
    "tiff planar": ("tif", tiff(PLANES, planarconfig="separate"), DEEP[..., :3]),
    "tiff planar deflate": ("tif", tiff(PLANES, planarconfig="separate", compression="zlib", rowsperstrip=5), DEEP[..., :3]),
    "tiff big endian": ("tif", tiff(DEEP[..., :3], byteorder=">"), DEEP[..., :3]),
    "bigtiff": ("tif", tiff(DEEP[..., 0], bigtiff=True), DEEP[..., :1]),
    "tiff and a band that is no alpha": ("tif", tiff(BYTES, extrasamples=["unspecified"]), BYTES[..., :3]),
    "tiff and two bands": ("tif", tiff(BANDS, extrasamples=["unassalpha", "unspecified"], compression="zlib"), BYTES),
    "tiff planes and one": (
        "tif",
        tiff(FOUR, planarconfig="separate", extrasamples=["unspecified"], rowsperstrip=5),
        DEEP[..., :3],
    ),
    "tiff three grey bands": ("tif", tiff(BYTES[..., :3], photometric="minisblack", planarconfig="contig"), BYTES[..., :3]),
    "tiff white is zero": ("tif", tiff(255 - BYTES[..., 0], photometric="miniswhite"), BYTES[..., :1]),
    "tiff float": ("tif", tiff(LIGHT[..., :3]), LIGHT[..., :3]),
    "tiff float deflate": ("tif", tiff(LIGHT[..., 0], compression="zlib"), LIGHT[..., :1]),
    "tiff half": ("tif", tiff(LIGHT.astype(np.float16)[..., :3]), LIGHT.astype(np.float16)[..., :3]),
    "exr half": ("exr", lambda path: save_exr(path, LIGHT[..., :3].astype(np.float16), "RGB"), LIGHT[..., :3].astype("f2")),
    "exr half alpha": ("exr", lambda path: save_exr(path, LIGHT.astype(np.float16)), LIGHT.astype(np.float16)),
    "exr float": ("exr", lambda path: save_exr(path, LIGHT[..., :3], "RGB"), LIGHT[..., :3]),
    "exr float alpha": ("exr", lambda path: save_exr(path, LIGHT), LIGHT),
    "exr grey": ("exr", lambda path: save_exr(path, LIGHT[..., :1], "Y"), LIGHT[..., :1]),
}


@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["memory", "mapped"])
@pytest.mark.parametrize("kind", EXACT)
def test_every_sample_is_what_the_file_holds(kind: str, budget: int, tmp_path: Path) -> None:
    ending, save, expected = EXACT[kind]
    path = tmp_path / f"a.{ending}"
    save(path)
    source = open_picture(path, tmp_path / "cache", budget_bytes=budget)
    assert source.dtype == expected.dtype
    np.testing.assert_array_equal(source.pixels, expected)
    assert isinstance(source.pixels, np.memmap) or budget > 0


def of_one_bit() -> Image.Image:
    return Image.fromarray(BYTES[..., 0] > 127)


def palette(**more: Any) -> Callable[[Path], Any]:
    image = Image.fromarray(BYTES[..., 0] // 64, mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    return lambda path: image.save(path, **more)


COLORS = (BYTES[..., 0] // 64)[..., None] * np.array([30, 30, 30]) + np.array([10, 20, 30])


@pytest.mark.parametrize("ending", ["png", "tif", "gif"])
def test_palettes_are_colours(ending: str, tmp_path: Path) -> None:
    palette()(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(open_picture(tmp_path / f"a.{ending}").pixels, COLORS)


@pytest.mark.parametrize("clear", [2, b"\x00\x80\xff\x10"], ids=["one entry", "alpha of each"])
def test_a_palette_with_transparency_has_alpha(clear: Any, tmp_path: Path) -> None:
    palette(transparency=clear)(tmp_path / "a.png")
    source = open_picture(tmp_path / "a.png")
    alphas = np.array([255, 255, 0, 255] if clear == 2 else list(clear))
    np.testing.assert_array_equal(source.pixels, np.dstack([COLORS, alphas[BYTES[..., 0] // 64]]))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_one_bit_is_black_and_white(ending: str, tmp_path: Path) -> None:
    of_one_bit().save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(open_picture(tmp_path / f"a.{ending}").pixels[..., 0], np.where(BYTES[..., 0] > 127, 255, 0))


@pytest.mark.parametrize("clear", [7, (9, 8, 7)])
def test_a_colour_that_stands_for_see_through_is_alpha(clear: Any, tmp_path: Path) -> None:
    image = Image.new("L" if clear == 7 else "RGB", (5, 4), clear)
    image.putpixel((1, 2), 3 if clear == 7 else (9, 8, 6))
    image.save(tmp_path / "a.png", transparency=clear)
    alpha = open_picture(tmp_path / "a.png").pixels[..., -1]
    assert alpha[2, 1] == 255
    assert int(alpha.sum()) == 255


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_printing_colours_are_converted_and_said(ending: str, tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (200, 60, 30))
    flat.convert("CMYK").save(tmp_path / f"a.{ending}")
    source = open_picture(tmp_path / f"a.{ending}")
    assert np.abs(source.pixels.astype(int) - (200, 60, 30)).max() <= 4
    assert source.profile is None
    assert any("CMYK" in note for note in source.notes)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_the_first_of_many_pictures_is_taken_and_said(ending: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
    source = open_picture(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(source.pixels[..., :3], np.broadcast_to((255, 0, 0), (6, 8, 3)))
    assert any("the first" in note for note in source.notes)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation: int, ending: str, tmp_path: Path) -> None:
    """The upright picture is bright at its top and red at its left, whichever way it is stored."""
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:20, :, 1], upright[:, :32, 0] = 255, 255
    way = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposition that undoes each
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(way[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 95, "subsampling": 0} if ending == "jpg" else {}))
    source = open_picture(tmp_path / f"a.{ending}")
    assert source.pixels.shape == upright.shape
    assert np.abs(source.pixels.astype(int) - upright).max() < 30
    at = source.gather(torch.tensor([2, 2, 37]), torch.tensor([2, 60, 60]))
    np.testing.assert_allclose(at, [[1, 1, 0], [0, 1, 0], [0, 0, 0]], atol=0.1)


def test_a_profile_is_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for ending in ("png", "jpg", "tif", "webp"):
        pillow("RGB", icc_profile=profile)(tmp_path / f"a.{ending}")
        assert open_picture(tmp_path / f"a.{ending}").profile == profile, ending
    pillow("RGB")(tmp_path / "b.png")
    assert open_picture(tmp_path / "b.png").profile is None


def test_hdr_is_linear_light(tmp_path: Path) -> None:
    cv(LIGHT[..., :3].clip(0))(tmp_path / "a.hdr")
    source = open_picture(tmp_path / "a.hdr")
    assert source.dtype == np.float32
    np.testing.assert_allclose(source.pixels, LIGHT[..., :3].clip(0), atol=1 / 16)  # 8 bits below 16
    assert any("linear light" in note for note in source.notes)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    "kind", ["RGBA", "16-bit RGBA", "exr half alpha", "exr float alpha", "grey", "grey and alpha", "tiff planar"]
)
def test_gather_and_stripe_agree_with_the_curves(kind: str, linear: bool, tmp_path: Path) -> None:
    ending, save, samples = EXACT[kind]
    save(tmp_path / f"a.{ending}")
    source = open_picture(tmp_path / f"a.{ending}", linear=linear)
    colors = samples.shape[2] - 1 + samples.shape[2] % 2
    expected = samples.astype(np.float64) / (np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1)
    curve = to_linear if linear else to_srgb
    if linear == (samples.dtype.kind == "u"):
        expected[..., :colors] = curve(expected[..., :colors])
    np.testing.assert_allclose(source.stripe(3, 20), expected[3:20], rtol=2e-6, atol=1e-6)
    rows, columns = torch.randint(0, 21, (5000,)), torch.randint(0, 34, (5000,))
    np.testing.assert_allclose(source.gather(rows, columns), expected[rows, columns], rtol=2e-6, atol=1e-6)
    assert source.space == ("linear" if linear else "srgb")
    for wrong in (-1, 34):
        with pytest.raises(IndexError):
            source.gather(torch.tensor([0]), torch.tensor([wrong]))
    assert source.gather(rows[:0], columns[:0]).shape == (0, samples.shape[2])


def test_the_curves_undo_each_other() -> None:
    values = np.concatenate([np.linspace(-0.2, 1.2, 10_001), [37.0, 65504.0]])
    np.testing.assert_allclose(to_linear(to_srgb(values)), values, rtol=1e-4, atol=1e-7)
    assert to_srgb(np.array([1.0, 0.0])).tolist() == pytest.approx([1.0, 0.0])
    assert float(to_srgb(np.array(0.5))) == pytest.approx(0.735357, abs=1e-6)


def test_a_thumbnail_is_the_mean_of_light() -> None:
    board = np.zeros((40, 60, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    thumb = PictureSource(Path("a"), board).thumbnail(30)
    assert thumb.shape == (20, 30, 3)
    assert set(np.unique(thumb)) == {188}  # sRGB of half the light
    half_clear = np.zeros((4, 4, 4), np.uint8)
    half_clear[:, ::2] = (200, 100, 50, 255)
    small = PictureSource(Path("a"), half_clear).thumbnail(2)
    np.testing.assert_array_equal(small, np.broadcast_to((200, 100, 50, 128), (2, 2, 4)))
    np.testing.assert_array_equal(PictureSource(Path("a"), BYTES[..., :3]).thumbnail(), BYTES[..., :3])
    assert PictureSource(Path("a"), BYTES[:1, :1]).thumbnail().shape == (1, 1, 4)
    assert PictureSource(Path("a"), BYTES).thumbnail(7).shape == (4, 7, 4)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_a_picture_of_one_pixel(ending: str, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (128, 128, 128)).save(tmp_path / f"a.{ending}")
    source = open_picture(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(source.gather(torch.tensor([0]), torch.tensor([0])), [[128 / 255] * 3], atol=0.01)


def test_a_second_start_finds_the_decoded_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow("RGB")(tmp_path / "a.png")
    cache, shares = tmp_path / "cache", []
    open_picture(tmp_path / "a.png", cache, budget_bytes=0, progress=shares.append)
    assert shares[-1] == 1.0
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    shares.clear()
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", cache, budget_bytes=0).pixels, BYTES[..., :3])
    assert (file.stat().st_mtime_ns, shares) == (before, [])
    pillow("RGBA")(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(1, 1))
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", cache, budget_bytes=0).pixels, BYTES)
    (newer,) = cache.iterdir()  # the older state is gone
    assert newer != file


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_half_a_file_is_never_taken_for_whole(error: type[BaseException], tmp_path: Path) -> None:
    pillow("RGB")(tmp_path / "a.png")

    def interrupt(_: float) -> None:
        raise error

    with pytest.raises(error):
        open_picture(tmp_path / "a.png", tmp_path / "cache", budget_bytes=0, progress=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    pillow("RGB")(tmp_path / "a.png")
    cache = tmp_path / "cache"
    open_picture(tmp_path / "a.png", cache, budget_bytes=0)
    (file,) = cache.iterdir()
    left = file.with_name(f"{file.name}.999999999.part")
    file.rename(left)
    open_picture(tmp_path / "a.png", cache, budget_bytes=0)
    assert list(cache.iterdir()) == [file]


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow("RGB")(tmp_path / "a.png")
    monkeypatch.setattr(decoded, "_SPARE", 1 << 60)
    with pytest.raises(UserError, match=r"a\.png takes .* free; give a cache folder on a larger disk"):
        open_picture(tmp_path / "a.png", tmp_path / "cache", budget_bytes=0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_budget_is_at_most_a_gigabyte() -> None:
    assert 0 <= decoded.default_budget() <= 1 << 30


@pytest.mark.parametrize("kind", ["RGB", "16-bit RGBA", "tiff", "tiff deflate", "tiff lzw", "tiff planar deflate", "exr half"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files(kind: str, share: float, tmp_path: Path) -> None:
    ending, save, _ = EXACT[kind]
    path = tmp_path / f"a.{ending}"
    save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(20, int(share * len(whole)))])
    with pytest.raises(UserError, match=r"a\.\w+ .*;") as caught:
        open_picture(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_jpegs(share: float, tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="truncated"):
        open_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.png", None, "is not there"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello, this is no picture at all", "cannot be read as an image"),
        ("a.pdf", b"%PDF-1.7 and more", "is a PDF"),
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(40), "is a video"),
        ("a.mkv", b"\x1aE\xdf\xa3" + bytes(40), "is a video"),
        ("a.exr", b"\x76\x2f\x31\x01" + bytes(40), "cannot be read as an image"),
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    ],
)
def test_what_is_no_picture(name: str, content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        open_picture(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        open_picture(tmp_path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_that_are_not_finite_are_counted(compression: str | None, tmp_path: Path) -> None:
    broken = LIGHT[..., :3].copy()
    broken[5, 7, 1], broken[20, 3] = np.nan, np.inf
    tiff(broken, compression=compression)(tmp_path / "a.tif")
    with pytest.raises(UserError, match="2 pixels that are NaN or infinite, the first in row 5, column 7"):
        open_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("bands", [4, 5])
def test_bands_of_which_nobody_says_what_they_are(bands: int, tmp_path: Path) -> None:
    tiff(BANDS[..., :bands], photometric="minisblack", planarconfig="contig")(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a.tif has {bands} bands and does not say which are red, green and blue"):
        open_picture(tmp_path / "a.tif")


def test_bands_that_are_left_out_are_told(tmp_path: Path) -> None:
    tiff(BYTES, extrasamples=["unspecified"])(tmp_path / "a.tif")
    assert "Of 4 samples a pixel 1 have no stated meaning and are left out." in open_picture(tmp_path / "a.tif").notes


def test_samples_of_another_type(tmp_path: Path) -> None:
    tiff(np.ones((8, 8), np.int32))(tmp_path / "a.tif")
    with pytest.raises(UserError, match="samples of int32"):
        open_picture(tmp_path / "a.tif")
