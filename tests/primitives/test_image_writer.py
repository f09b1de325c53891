"""Pictures written back: the bytes of the source, alpha and profile with them, and nothing left where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from ngp_method.errors import UserError
from ngp_method.primitives.image import writer
from ngp_method.primitives.image.source import PictureSource, open_picture
from ngp_method.primitives.image.writer import PictureWriter

RNG = np.random.default_rng(2)
WIDE = np.arange(65536, dtype=np.uint16).reshape(128, 512)
"""Every sample of 16 bits; its low bytes are every sample of 8."""


def stripes(source: PictureSource, rows: int = 9) -> Iterator[np.ndarray]:
    for first in range(0, source.height, rows):
        yield source.stripe(first, min(first + rows, source.height))


def writer_for(source: PictureSource, path: Path, **more: Any) -> PictureWriter:
    settings: dict[str, Any] = {"space": source.space, "profile": source.profile, "premultiplied": source.premultiplied}
    return PictureWriter(path, source.width, source.height, source.n_channels, **{**settings, **more})


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("bits", "ending"), [(8, "png"), (16, "png"), (8, "tif"), (16, "tif")])
def test_every_sample_comes_back(
    bits: Any, ending: str, channels: int, linear: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_STRIP_BYTES", 30_000)  # several strips, the last one shorter
    layers = [WIDE, WIDE[::-1], WIDE[:, ::-1], np.roll(WIDE, 77)][:channels]
    pixels = np.stack(layers, axis=-1).astype(np.uint8 if bits == 8 else np.uint16)
    source = PictureSource(Path("a"), pixels, "linear" if linear else "srgb")
    writer_for(source, tmp_path / f"b.{ending}", bits=bits).write(stripes(source))
    back = open_picture(tmp_path / f"b.{ending}")
    assert back.dtype == pixels.dtype
    np.testing.assert_array_equal(back.pixels, pixels)
    assert [path.name for path in tmp_path.iterdir()] == [f"b.{ending}"]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_half_floats_come_back(channels: int, linear: bool, tmp_path: Path) -> None:
    light = RNG.uniform(-0.5, 40.0, (30, 20, channels)).astype(np.float16)
    source = PictureSource(Path("a"), light, "linear" if linear else "srgb", premultiplied=channels % 2 == 0)
    writer_for(source, tmp_path / "b.exr").write(stripes(source))
    back = open_picture(tmp_path / "b.exr")
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back.pixels, light)


@pytest.mark.parametrize("ending", ["exr", "tif"])
def test_floats_come_back_to_six_digits(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_STRIP_BYTES", 2000)
    light = RNG.uniform(-0.5, 40.0, (30, 20, 3)).astype(np.float32)
    source = PictureSource(Path("a"), light)
    writer_for(source, tmp_path / f"b.{ending}", bits=32).write(stripes(source))
    np.testing.assert_allclose(open_picture(tmp_path / f"b.{ending}").pixels, light, rtol=2e-6, atol=1e-7)


def test_alpha_is_as_each_kind_wants_it(tmp_path: Path) -> None:
    straight = np.broadcast_to(np.array([200, 100, 50, 128], np.uint8), (4, 4, 4))
    source = PictureSource(Path("a"), straight)
    writer_for(source, tmp_path / "b.exr", bits=32).write(stripes(source))
    exr = open_picture(tmp_path / "b.exr")
    assert exr.premultiplied
    assert float(exr.pixels[0, 0, 0]) == pytest.approx(((200 / 255 + 0.055) / 1.055) ** 2.4 * 128 / 255, rel=1e-5)
    writer_for(exr, tmp_path / "c.png").write(stripes(exr))
    np.testing.assert_array_equal(open_picture(tmp_path / "c.png").pixels, straight)


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_the_profile_is_embedded(ending: str, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = PictureSource(Path("a"), np.zeros((5, 4, 3), np.uint8), profile=profile)
    writer_for(source, tmp_path / f"b.{ending}").write(stripes(source))
    with Image.open(tmp_path / f"b.{ending}") as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs(channels: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[:, None, None].repeat(48, 1).repeat(channels, 2)
    source = PictureSource(Path("a"), ramp)
    shares: list[float] = []
    writer_for(source, tmp_path / "b.jpg").write(stripes(source), shares.append)
    back = open_picture(tmp_path / "b.jpg").pixels
    assert back.shape == ramp.shape
    assert np.abs(back.astype(int) - ramp).max() < 6
    assert shares[-1] == 1.0


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("ending", ["png", "tif", "exr", "jpg"])
def test_small_and_narrow_pictures(ending: str, size: tuple[int, int], tmp_path: Path) -> None:
    source = PictureSource(Path("a"), np.full((*size, 3), 128, np.uint8))
    writer_for(source, tmp_path / f"b.{ending}").write(stripes(source))
    back = open_picture(tmp_path / f"b.{ending}")
    np.testing.assert_allclose(back.stripe(0, size[0]), 128 / 255, atol=0.004)


def test_pillow_and_tifffile_read_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = RNG.integers(0, 256, (50, 40, 4), dtype=np.uint8)
    source = PictureSource(Path("a"), pixels)
    monkeypatch.setattr(writer, "_STRIP_BYTES", 1000)
    for ending in ("png", "tif"):
        writer_for(source, tmp_path / f"b.{ending}").write(stripes(source))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"b.{ending}")), pixels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)


@pytest.mark.parametrize("ending", ["png", "tif", "exr", "jpg"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_half_a_picture(error: type[BaseException], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"b.{ending}"
    path.write_bytes(b"an older picture")

    def failing() -> Iterator[np.ndarray]:
        yield np.zeros((10, 40, 3), np.float32)
        raise error

    with pytest.raises(error):
        PictureWriter(path, 40, 50, 3).write(failing())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"an older picture"


@pytest.mark.parametrize("ending", ["png", "tif", "exr", "jpg"])
@pytest.mark.parametrize("rows", [4, 6])
def test_rows_are_counted(rows: int, ending: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows"):
        PictureWriter(tmp_path / f"b.{ending}", 7, 5, 3).write([np.zeros((1, 7, 3), np.float32)] * rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("b.gif", {}, "does not end in one of"),
        ("b", {}, "does not end in one of"),
        ("b.exr", {"bits": 8}, "take 16 or 32"),
        ("b.png", {"bits": 32}, "take 8 or 16"),
        ("b.jpg", {"n_channels": 4}, "cannot have alpha"),
        ("b.jpg", {"width": 70_000}, "more than 65500 pixels"),
        ("none/b.png", {}, "is no folder"),
        ("b.tif", {"width": 10**8, "height": 10**8}, "free; name an output on a larger one"),
    ],
)
def test_what_cannot_be_written_is_said_first(name: str, settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        PictureWriter(tmp_path / name, **{"width": 4, "height": 4, "n_channels": 3, **settings})
    assert str(tmp_path / name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
