"""A headless Chromium for tests of the viewer, and a training run with a viewer for it to look at."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOW = (900, 640)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]


def chromium_programs() -> tuple[str, str]:
    """Paths of chromium and chromedriver.

    Raises:
        FileNotFoundError: with the command that installs what is missing.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = " and ".join(n for n, p in (("chromium", chromium), ("chromedriver", driver)) if p is None)
        raise FileNotFoundError(
            f"The viewer's test needs {missing} on the PATH: sudo apt-get install chromium chromium-driver. "
            "To leave the test out: NGP_SKIP_BROWSER=1."
        )
    return chromium, driver


SLOW_FRAMES = "window.requestAnimationFrame = f => setTimeout(() => f(performance.now()), 150);"


@contextmanager
def open_browser() -> Iterator[Any]:
    """A selenium driver on a headless Chromium with an empty profile."""
    from selenium import webdriver

    chromium, driver = chromium_programs()
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WINDOW[0]},{WINDOW[1]}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver)
        browser = webdriver.Chrome(options=options, service=service)
        # Without a GPU the page's 60 frames a second would take both cores from the training it looks at.
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SLOW_FRAMES})
        try:
            yield browser
        finally:
            browser.quit()


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def command(name: str) -> str:
    """Path of a console script of the environment that runs the tests."""
    found = Path(sys.executable).parent / name
    return str(found) if found.exists() else name


class TrainingRun:
    """``ns-train METHOD ... --vis viewer`` in a process of its own."""

    def __init__(self, data: Path, folder: Path, *flags: str, method: str = "instant-hash") -> None:
        self.port = free_port()
        self.log = folder / "train.log"
        self._out = self.log.open("w")
        arguments = [
            command("ns-train"), method, "--data", str(data), "--output-dir", str(folder), "--vis", "viewer",
            "--viewer.websocket-host", "127.0.0.1", "--viewer.websocket-port", str(self.port), *flags,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "COLUMNS": "200", "INSTANT_HASH_BFLOAT16": ""}
        self.process = subprocess.Popen(arguments, stdout=self._out, stderr=subprocess.STDOUT, env=environment)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """What the run has printed."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Fails with the end of the log if the run has ended."""
        assert self.process.poll() is None, f"ns-train ended with {self.process.returncode}:\n{self.text()[-3000:]}"

    def wait_for_server(self, seconds: float) -> None:
        """Waits until the viewer's page is served."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError(f"No viewer within {seconds} s:\n{self.text()[-3000:]}")

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()
        return self.process.returncode


def screenshot(browser: Any) -> NDArray[np.uint8]:
    """What the page shows, [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def viewport(browser: Any) -> NDArray[np.uint8]:
    """What the viewer shows left of its panel, [height, width, 3]: the picture of the camera, which fills it."""
    box = browser.execute_script(
        "let c = [...document.querySelectorAll('canvas')].sort((a, b) => b.width * b.height - a.width * a.height)[0];"
        "if (!c) return null; let r = c.getBoundingClientRect(); return [r.left, r.top, r.bottom];"
    )
    assert box is not None, "the page has no canvas"
    left, top, bottom = (round(v) for v in box)
    width, height = shown_size(browser)
    assert width, "no picture has been sent"
    return screenshot(browser)[top:bottom, left : left + round((bottom - top) * width / height)]


def button(browser: Any, label: str) -> Any:
    """The visible button with this text, None if there is none."""
    found = browser.find_elements("xpath", f"//button[contains(., '{label}')]")
    return next((b for b in found if b.is_displayed()), None)


def wait_until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.2) -> Any:
    """The first true value of ``condition``; fails saying ``what`` was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"Waited {seconds:.0f} s for {what}.")


def shown_step(browser: Any) -> int:
    """The step in the viewer's panel, -1 if it shows none."""
    found = re.search(r"Step: (\d+)", browser.find_element("tag name", "body").text)
    return int(found[1]) if found else -1


def shown_size(browser: Any) -> tuple[int, int]:
    """Width and height in the viewer's panel of the picture sent last, zeros if it shows none."""
    found = re.search(r"Resolution: (\d+)x(\d+)px", browser.find_element("tag name", "body").text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def choose(browser: Any, label: str, option: str) -> None:
    """Picks an option of one of the panel's drop-down lists."""
    browser.find_element("xpath", f"//label[contains(., '{label}')]/following::input[1]").click()
    found = wait_until(
        lambda: [
            o for o in browser.find_elements("css selector", "[role=option]") if o.is_displayed() and o.text.strip() == option
        ],
        20,
        f"the option '{option}' of '{label}'",
    )
    found[0].click()


def main(data: str, seconds: str, target: str) -> None:
    """Trains on a scene for some seconds, looked at by a browser, and writes what it shows: the docs' screenshot."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(Path(data), Path(folder), "--max-num-iterations", "100000")
        try:
            run.wait_for_server(300)
            with open_browser() as driver:
                driver.get(run.url)
                wait_until(lambda: run.check() or shown_step(driver) > 0, 300, "the first step")
                time.sleep(float(seconds))
                run.check()
                Image.fromarray(screenshot(driver)).save(target, optimize=True)
        finally:
            run.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
