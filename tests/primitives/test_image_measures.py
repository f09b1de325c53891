"""Measures in stripes are those of the whole picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from ngp_method.pictures.curves import to_linear
from ngp_method.primitives.image import measures
from ngp_method.primitives.image.measures import measure
from ngp_method.primitives.image.source import PictureSource

RNG = np.random.default_rng(1)
SMOOTH = np.linspace(0, 1, 70)[:, None, None] * np.linspace(0.2, 1, 90)[None, :, None] * np.array([1.0, 0.7, 0.4])
BYTES = np.rint(255 * (SMOOTH + RNG.normal(0, 0.05, SMOOTH.shape)).clip(0, 1)).astype(np.uint8)
SAID = (BYTES / 255 + RNG.normal(0, 0.03, BYTES.shape)).astype(np.float32)


def judge(said: np.ndarray, truth: np.ndarray) -> float:
    first, second = (torch.from_numpy(x.astype(np.float64)).movedim(-1, 0)[None] for x in (said, truth))
    return float(structural_similarity_index_measure(first, second, data_range=1.0))


@pytest.mark.parametrize("rows_at_once", [11, 16, 70])
@pytest.mark.parametrize("channels", [1, 3])
def test_stripes_measure_what_the_whole_does(rows_at_once: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_STRIPE_PIXELS", 90 * rows_at_once)
    source, said, asked = PictureSource(Path("a"), BYTES[..., :channels]), SAID[..., :channels], []

    def predict(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        return said[first:last]

    shares: list[float] = []
    found = measure(source, predict, progress=shares.append)
    clipped, truth = said.clip(0, 1), BYTES[..., :channels] / 255
    assert found.ssim == pytest.approx(judge(clipped, truth), abs=1e-6)
    assert found.mse == pytest.approx(((clipped - truth) ** 2).mean(), rel=1e-5)
    assert found.psnr == pytest.approx(-10 * math.log10(((clipped - truth) ** 2).mean()), abs=1e-4)
    assert [pair[0] for pair in asked] == list(range(0, 70, rows_at_once))
    assert shares[-1] == 1.0
    assert found.n_pixels == 6300


def test_the_same_picture() -> None:
    source = PictureSource(Path("a"), BYTES)
    found = measure(source, source.stripe)
    assert (found.mse, found.psnr) == (0.0, math.inf)
    assert found.ssim == pytest.approx(1.0, abs=1e-6)


def test_what_is_trained_linear_is_measured_as_it_is_seen() -> None:
    linear = PictureSource(Path("a"), BYTES, "linear")
    found = measure(linear, lambda first, last: to_linear(SAID[first:last].clip(0)).astype(np.float32))
    seen = measure(PictureSource(Path("a"), BYTES), lambda first, last: SAID[first:last])
    assert found.psnr == pytest.approx(seen.psnr, abs=1e-3)


def test_floats_are_not_clipped_and_bytes_are() -> None:
    bright = np.full((12, 12, 3), 4.0, np.float32)
    found = measure(PictureSource(Path("a"), bright, "srgb"), lambda first, last: np.ones((last - first, 12, 3), np.float32))
    assert found.mse == pytest.approx((1.055 * 4 ** (1 / 2.4) - 0.055 - 1) ** 2, rel=1e-5)
    white = PictureSource(Path("a"), np.full((12, 12, 3), 255, np.uint8))
    assert measure(white, lambda first, last: np.full((last - first, 12, 3), 3.0, np.float32)).psnr == math.inf


def test_quantised_is_what_a_file_of_bytes_would_have() -> None:
    source = PictureSource(Path("a"), BYTES)
    near = (BYTES / 255 + 0.4 / 255).astype(np.float32)
    assert measure(source, lambda first, last: near[first:last], quantised=True).mse < 1e-14
    assert measure(source, lambda first, last: near[first:last]).mse > 1e-6


def test_small_pictures_have_no_ssim_and_wrong_rows_are_refused() -> None:
    source = PictureSource(Path("a"), BYTES[:10])
    assert measure(source, source.stripe).ssim is None
    with pytest.raises(ValueError, match="were predicted as"):
        measure(source, lambda first, last: np.zeros((last - first, 90, 4), np.float32))
