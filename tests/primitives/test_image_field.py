"""A fitted picture as pixels of any size: where they lie, what the mean of several is, what alpha does to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.errors import UserError
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.pictures.curves import to_linear, to_srgb
from ngp_method.primitives.image import field as image_field
from ngp_method.primitives.image.field import BEHIND, SHARE, PictureField, Region, shown, suiting_hashmap

WIDTH, HEIGHT = 12, 8


def as_picture(pixels: np.ndarray, **more: Any) -> PictureField:
    """A field that is a given picture [H, W, C], constant within each pixel."""
    values = torch.from_numpy(pixels.astype(np.float32))
    height, width, channels = values.shape

    def value_at(positions: Tensor) -> Tensor:
        rows = (positions[:, 1] * height).long().clamp(max=height - 1)
        return values[rows, (positions[:, 0] * width).long().clamp(max=width - 1)]

    layout = SimpleNamespace(n_output_dims=channels)
    network: Any = SimpleNamespace(value_at=value_at, mlp_layout=layout, mlp_params=torch.zeros(1))
    return PictureField(network, width, height, **more)


def noise(channels: int) -> np.ndarray:
    """A picture of random values."""
    return np.random.default_rng(0).random((HEIGHT, WIDTH, channels))


def drawn(field: PictureField, width: int, height: int, region: Region | None = None) -> np.ndarray:
    """All stripes of a picture."""
    return np.concatenate(list(field.stripes(width, height, region or field.whole)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_as_large_as_it_is_every_pixel_is_its_own(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(channels)
    for at_a_time in (1 << 18, 3 * WIDTH):  # also in several stripes
        monkeypatch.setattr(image_field, "POINTS", at_a_time)
        np.testing.assert_array_equal(drawn(as_picture(picture), WIDTH, HEIGHT), picture.astype(np.float32))
    np.testing.assert_array_equal(as_picture(picture).rows(2, 5), picture[2:5].astype(np.float32))


def test_a_part_of_it_and_larger() -> None:
    picture = noise(3)
    field = as_picture(picture)
    cut = field.region((3, 2, 5, 4))
    np.testing.assert_array_equal(drawn(field, 5, 4, cut), picture[2:6, 3:8].astype(np.float32))
    np.testing.assert_array_equal(drawn(field, 15, 12, cut), picture[2:6, 3:8].astype(np.float32).repeat(3, 0).repeat(3, 1))
    assert field.region(None) == field.whole == Region(0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize("crop", [(0, 0, 0, 3), (0, 0, 3, 0), (-1, 0, 3, 3), (10, 0, 3, 3), (0, 6, 3, 3)])
def test_what_lies_beyond_it_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError, match=r"the picture has 12 x 8 pixels; stay within them"):
        as_picture(noise(3)).region(crop)


def test_smaller_it_is_the_mean_of_light() -> None:
    """Not of display values: black and white are 188 of 255 from afar."""
    chess = np.indices((HEIGHT, WIDTH)).sum(0)[..., None] % 2 * np.ones(3)
    half = drawn(as_picture(chess), WIDTH // 2, HEIGHT // 2)
    np.testing.assert_allclose(half, float(to_srgb(np.array(0.5))), atol=1e-5)
    np.testing.assert_allclose(drawn(as_picture(chess, space="linear"), WIDTH // 2, HEIGHT // 2), 0.5, atol=1e-6)
    picture = noise(3)
    light = to_linear(picture).reshape(HEIGHT // 4, 4, WIDTH // 3, 3, 3).mean((1, 3))
    np.testing.assert_allclose(drawn(as_picture(picture), WIDTH // 3, HEIGHT // 4), to_srgb(light), atol=1e-5)


def test_colours_count_as_much_as_they_are_seen() -> None:
    """A red that nobody sees does not colour the mean; where colours are multiplied by alpha, all count alike."""
    pixels = np.zeros((2, 2, 4))
    pixels[0, 0], pixels[1, 1] = (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(drawn(as_picture(pixels), 1, 1)[0, 0], (0, 1, 0, 0.25), atol=1e-5)
    plain = drawn(as_picture(pixels, space="linear", premultiplied=True), 1, 1)[0, 0]
    np.testing.assert_allclose(plain, (0.25, 0.25, 0, 0.25), atol=1e-6)
    pixels[..., 3] = 0.0
    np.testing.assert_array_equal(drawn(as_picture(pixels), 1, 1)[0, 0], np.zeros(4))


def test_what_a_screen_is_sent() -> None:
    torch.testing.assert_close(shown(torch.tensor([[0.5], [2.0], [-1.0]])), torch.tensor([[0.5], [1.0], [0.0]]).expand(3, 3))
    torch.testing.assert_close(shown(torch.tensor([[0.25, 0.5]])), torch.full((1, 3), 0.125 + 0.5 * BEHIND))
    torch.testing.assert_close(shown(torch.tensor([[0.25, 0.5]]), premultiplied=True), torch.full((1, 3), 0.25 + 0.5 * BEHIND))
    linear = shown(torch.tensor([[0.5, 0.0, 1.0]]), "linear")
    torch.testing.assert_close(linear, torch.tensor([[float(to_srgb(np.array(0.5))), 0.0, 1.0]]))


@pytest.mark.parametrize(("width", "height", "channels"), [(5600, 5600, 3), (20_000, 20_000, 3), (1, 1, 1), (640, 480, 3)])
def test_the_table_is_as_large_as_suits_the_picture(width: int, height: int, channels: int) -> None:
    """The largest that has an eighth of the picture's numbers, within bounds."""
    found = suiting_hashmap(width, height, channels, 16, 2, 22)
    finest = max(width, height, 32) // 2

    def share(size: int) -> float:
        return HashGridLayout(16, 2, size, min(16, finest), finest, 2).n_params / (width * height * channels)

    assert 16 <= found <= 22
    assert found == 16 or share(found) <= SHARE
    assert found == 22 or share(found + 1) > SHARE
