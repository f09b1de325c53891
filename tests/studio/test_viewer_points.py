"""A picture in nerfstudio's viewer, in a real browser: it fills the window, and one can go near to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support import browser

WIDTH, HEIGHT = 96, 72
GOOD = 24.0
"""dB between the viewer's picture, a JPEG of another size, and the file; another part of it has 10 to 15."""


def picture() -> NDArray[np.uint8]:
    """Waves, and a corner each of its own colour."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = 0.5 + 0.35 * np.stack([np.sin(7 * x + 2 * y), np.sin(5 * y - x), np.cos(6 * x * y)], -1)
    for corner, color in (((0, 0), (1, 0, 0)), ((0, 1), (0, 1, 0)), ((1, 0), (0, 0, 1)), ((1, 1), (1, 1, 0))):
        rows = slice(0, 14) if corner[0] == 0 else slice(HEIGHT - 14, HEIGHT)
        rgb[rows, slice(0, 14) if corner[1] == 0 else slice(WIDTH - 14, WIDTH)] = color
    return np.asarray(255 * rgb, np.uint8)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of bytes."""
    return float(-10 * np.log10(max(((a.astype(float) - b.astype(float)) ** 2).mean() / 255**2, 1e-9)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, browser.TrainingRun]]:
    """A browser on a picture that is trained on until the test ends."""
    if os.environ.get("NGP_SKIP_BROWSER", "") not in ("", "0"):
        pytest.skip("NGP_SKIP_BROWSER is set: the viewer was NOT tested in a browser")
    browser.chromium_programs()
    folder = tmp_path_factory.mktemp("run")
    Image.fromarray(picture()).save(folder / "picture.png")
    flags = ("--max-num-iterations", "1000000", "--pipeline.datamanager.batch", "4096")
    run = browser.TrainingRun(folder / "picture.png", folder, *flags, method="instant-image")
    try:
        run.wait_for_server(300)
        with browser.open_browser() as driver:
            driver.get(run.url)
            yield driver, run
    finally:
        code = run.stop()
    assert code == 130, f"Ctrl-C: exit code {code}\n{run.text()[-3000:]}"


def part_shown(driver: Any) -> tuple[float, float]:
    """The share of the picture's height that the window's height shows, as what fits best, and how well it fits in dB."""
    shot = browser.viewport(driver)
    high, wide = shot.shape[:2]
    best = (0.0, 0.0)
    for share in np.geomspace(0.15, 1.6, 40):
        rows = max(8, round(HEIGHT * min(share, 1.0)))
        middle = shot[high // 2 - int(high * rows / HEIGHT / share / 2) : high // 2 + int(high * rows / HEIGHT / share / 2)]
        columns = min(WIDTH, int(WIDTH * wide / high * HEIGHT / WIDTH * share))
        half = int(columns / HEIGHT / share * high / 2)
        middle = middle[:, wide // 2 - half : wide // 2 + half]
        top, left = (HEIGHT - rows) // 2, (WIDTH - columns) // 2
        expected = picture()[top : top + rows, left : left + columns]
        if min(middle.shape[:2]) < 8 or min(expected.shape[:2]) < 8:
            continue
        seen = np.asarray(Image.fromarray(middle).resize(expected.shape[1::-1], Image.Resampling.BOX))
        best = max(best, (psnr(seen, expected), float(share)))
    return best[1], best[0]


def test_a_picture_fills_the_window_and_comes_nearer(
    page: tuple[Any, browser.TrainingRun], capsys: pytest.CaptureFixture[str]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    driver, run = page
    seen: list[tuple[float, float]] = []

    def whole() -> bool:
        run.check()
        if min(browser.shown_size(driver)) < 40:
            return False
        seen.append(part_shown(driver))
        return seen[-1][1] > GOOD

    browser.wait_until(whole, 120, f"the picture as it is, {GOOD} dB", every=0.5)
    share = seen[-1][0]
    shot = browser.viewport(driver)
    wide_window = shot.shape[1] / shot.shape[0] > WIDTH / HEIGHT
    expected = 1.0 if wide_window else WIDTH / HEIGHT / (shot.shape[1] / shot.shape[0])
    assert share == pytest.approx(expected, rel=0.08), "all of it, and nothing more than the window's shape asks for"
    pause = browser.button(driver, "Pause Training")
    assert pause is not None
    pause.click()
    browser.wait_until(lambda: max(browser.shown_size(driver)) == 512, 60, "a still of 512 pixels")
    canvas = driver.find_element("css selector", "canvas")
    for _ in range(4):
        ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(canvas, -150, 0), 0, -240).perform()
    near: list[tuple[float, float]] = []

    def nearer() -> bool:
        run.check()
        near.append(part_shown(driver))
        return near[-1][0] < 0.8 * share and near[-1][1] > GOOD

    browser.wait_until(nearer, 60, "a part of the picture", every=0.5)
    with capsys.disabled():
        print(
            f"\nviewer: the picture with {seen[-1][1]:.1f} dB, then {near[-1][0] / share:.2f} of it with {near[-1][1]:.1f} dB"
        )
