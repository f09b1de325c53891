"""Pixels in a device's memory: the same values as the processor's loops give, for every kind of sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ngp_method.pictures.curves import Space
from ngp_method.primitives.image import on_device
from ngp_method.primitives.image.on_device import PixelsOnDevice, fits
from ngp_method.primitives.image.source import PictureSource


def picture(kind: Any, channels: int, space: Space) -> PictureSource:
    """600 rows, more than are copied at once, with the largest and least samples there are."""
    rng = np.random.default_rng(0)
    if np.dtype(kind).kind == "u":
        pixels = rng.integers(0, np.iinfo(kind).max, (600, 7, channels), dtype=kind, endpoint=True)
        pixels[0, 0], pixels[0, 1] = 0, np.iinfo(kind).max
    else:
        pixels = rng.normal(0.5, 1.0, (600, 7, channels)).astype(kind)
    return PictureSource(Path("p"), pixels, space)


@pytest.mark.parametrize("space", ["srgb", "linear"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16, np.float32])
def test_the_same_values(kind: Any, channels: int, space: Space) -> None:
    source = picture(kind, channels, space)
    copied = PixelsOnDevice(source, torch.device("cpu"))
    rows, columns = torch.arange(600).repeat_interleave(7), torch.arange(7).repeat(600)
    expected = source.gather(rows, columns)
    found = copied.gather(rows, columns)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, expected, atol=2e-6 if kind is np.float32 else 0.0, rtol=2e-6 if kind is np.float32 else 0.0
    )


def test_a_picture_in_another_order_of_memory() -> None:
    """A file's columns may lie one after the other, or backwards, as EXIF turns it."""
    source = picture(np.uint8, 3, "srgb")
    turned = PictureSource(source.path, source.pixels.swapaxes(0, 1)[:, ::-1])
    rows, columns = torch.arange(7).repeat_interleave(600), torch.arange(600).repeat(7)
    found = PixelsOnDevice(turned, torch.device("cpu")).gather(rows, columns)
    assert torch.equal(found, turned.gather(rows, columns))


def test_it_goes_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture(np.uint8, 3, "srgb")
    assert not fits(source, torch.device("cpu"))
    for free, expected in ((10 * source.pixels.nbytes, True), (source.pixels.nbytes, False)):
        monkeypatch.setattr(on_device.torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert fits(source, torch.device("cuda")) == expected
