"""The viewer: where it opens, that it may be interrupted anywhere, and what a real browser shows of a real training."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace
from numpy.typing import NDArray
from PIL import Image

from ngp_method.kernels.cpu import pool
from ngp_method.studio.model import InstantHashModel, InstantHashModelConfig
from ngp_method.studio.viewer import CPU_FIRST_RESOLUTION, CPU_RESOLUTION, ViewerComfort, first_view
from support import browser, scenes

Array = NDArray[np.float64]

PSNR_SHOWN = 20.0
"""dB that the browser's picture must reach against the training image: it is magnified, compressed and without the
pixels between; an empty page has about 8 dB, the fog of the first step about 10."""

CORRELATION_SHOWN = 0.93


def cameras_of(poses: Array, width: int = 48, height: int = 40, focal: float = 50.0) -> Cameras:
    matrices = torch.from_numpy(poses[:, :3]).float()
    return Cameras(matrices, fx=focal, fy=focal * 1.1, cx=width / 2, cy=height / 2, width=width, height=height)


def turned_by(position: Array, look_at: Array, up: Array) -> Array:
    """Rotation (right, up, backwards) of a browser's camera placed so."""
    back = (position - look_at) / np.linalg.norm(position - look_at)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=-1)


def rolled(poses: Array, angle: float) -> Array:
    """The cameras turned about their own axes."""
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return poses @ turn


def outwards(poses: Array) -> Array:
    """The cameras looking away from the origin, upright."""
    return poses @ np.diag([-1.0, 1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    "poses",
    [
        scenes.orbit(20),
        scenes.orbit(1),
        rolled(scenes.orbit(20), 0.3),
        rolled(scenes.orbit(20), math.pi),
        outwards(scenes.orbit(20)),
        np.stack([scenes.look_at(np.array([x, -3.0, 0.5]), np.array([x, 0.0, 0.0])) for x in (0.0, 0.5, 1.0)]),
        scenes.look_at(np.array([0.0, 1e-3, 5.0]))[None],
    ],
    ids=["orbit", "one", "rolled", "upside-down", "outwards", "parallel", "from-above"],
)
@pytest.mark.parametrize("index", [0, -1])
def test_first_view_is_the_training_camera(poses: Array, index: int) -> None:
    view = first_view(cameras_of(poses), index)
    np.testing.assert_allclose(view.position, poses[index, :3, 3], atol=1e-5)
    np.testing.assert_allclose(turned_by(view.position, view.look_at, view.up), poses[index, :3, :3], atol=1e-4)
    assert 0.05 < np.linalg.norm(view.position - view.look_at) < 20.0


def test_first_view_turns_about_the_scene_with_z_up() -> None:
    view = first_view(cameras_of(scenes.orbit(20)))
    np.testing.assert_allclose(view.look_at, 0.0, atol=1e-4)
    np.testing.assert_allclose(view.up, [0.0, 0.0, 1.0], atol=1e-5)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.2, 2.0])
def test_first_view_shows_the_whole_image(aspect: float) -> None:
    view = first_view(cameras_of(scenes.orbit(3), width=60, height=40, focal=50.0))
    half = math.tan(view.fov(aspect) / 2)
    wanted_x, wanted_y = 30 / 50.0, 20 / 55.0
    assert half >= wanted_y - 1e-6
    assert half * aspect >= wanted_x - 1e-6
    assert min(half / wanted_y, half * aspect / wanted_x) == pytest.approx(1.0)


class Panel(SimpleNamespace):
    """The viewer's control panel as far as ViewerComfort looks at it."""

    def __init__(self, **values: Any) -> None:
        super().__init__(output_render="rgb", split=False, split_output_render="rgb", train_util=0.7, **values)
        self._max_res, self._train_util = SimpleNamespace(value=512), SimpleNamespace(value=0.85)

    @property
    def max_res(self) -> int:
        return int(self._max_res.value)


class FakeViewer(SimpleNamespace):
    """A viewer without a server."""

    def __init__(self, trainer: object = None) -> None:
        super().__init__(control_panel=Panel(), trainer=trainer, render_statemachines={}, train_util=0.9)
        self.welcomed: list[Callable[[Any], None]] = []
        self.viser_server = SimpleNamespace(on_client_connect=self.welcomed.append, get_clients=dict)


def comfort_in(viewer: FakeViewer, device: str = "cpu") -> ViewerComfort:
    comfort = ViewerComfort(cameras_of(scenes.orbit(4)), torch.device(device))
    comfort._setup(viewer)  # type: ignore[arg-type]
    return comfort


def in_viewer_thread(task: Callable[[], Any]) -> Any:
    """What ``task`` returns in a thread of the class that nerfstudio renders in; its exception if it raises one."""
    found: list[Any] = []

    class Thread(RenderStateMachine):
        def __init__(self) -> None:
            threading.Thread.__init__(self)

        def run(self) -> None:
            try:
                found.append(task())
            except Exception as error:
                found.append(error)

    thread = Thread()
    thread.start()
    thread.join(120)
    assert found, "the viewer's thread hangs"
    return found[0]


def test_sizes_on_a_processor_grow_out_of_the_fog() -> None:
    training, watching, gpu = FakeViewer(trainer=object()), FakeViewer(), FakeViewer(trainer=object())
    comfort = comfort_in(training)
    comfort_in(watching)
    comfort_in(gpu, "cuda")
    assert (training.control_panel.max_res, watching.control_panel.max_res) == (CPU_FIRST_RESOLUTION, CPU_RESOLUTION)
    assert gpu.control_panel.max_res == 512
    (callback,) = comfort.callbacks()
    callback.run_callback(0)
    assert training.control_panel.max_res == CPU_FIRST_RESOLUTION
    assert training.train_util == 0.7
    callback.run_callback(10_000)
    assert training.control_panel.max_res == CPU_RESOLUTION
    training.control_panel._max_res.value = 700  # a user's own choice stays
    callback.run_callback(10_001)
    assert training.control_panel.max_res == 700


def test_normals_are_rendered_in_the_viewer_only_when_looked_at() -> None:
    viewer = FakeViewer()
    comfort = comfort_in(viewer)
    panel = viewer.control_panel
    assert comfort.wants("normals")
    assert not in_viewer_thread(lambda: comfort.wants("normals"))
    panel.output_render = "normals"
    assert in_viewer_thread(lambda: comfort.wants("normals"))
    panel.output_render, panel.split_output_render = "depth", "normals"
    assert not in_viewer_thread(lambda: comfort.wants("normals"))
    panel.split = True
    assert in_viewer_thread(lambda: comfort.wants("normals"))


@pytest.fixture(scope="module")
def model() -> InstantHashModel:
    """A small model with something in it."""
    torch.manual_seed(3)
    config = InstantHashModelConfig(log2_hashmap_size=12, n_levels=4, finest_resolution=64, grid_resolution=32)
    made = InstantHashModel(config, scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=1)
    with torch.no_grad():
        made.field.network.average_table.normal_()
        made.field.network.average_density.mul_(4.0)  # solid enough for normals
    return made.eval()


def test_viewer_can_be_interrupted_at_any_line(model: InstantHashModel) -> None:
    viewer = FakeViewer()
    model.viewer_comfort._setup(viewer)  # type: ignore[arg-type]
    viewer.control_panel.output_render = "normals"
    camera = cameras_of(scenes.orbit(1))[0:1]

    def render() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return model.get_outputs_for_camera(camera)

    wanted = render()
    assert float(wanted["normals"].std()) > 0.01
    count, files = 0, set()

    def interrupted_at(number: int) -> Any:
        lines = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal lines, count
            if event == "line":
                lines += 1
                files.add(frame.f_code.co_filename)
                count = max(count, lines)
                if lines == number:
                    raise IOChangeException
            return trace

        def task() -> Any:
            with torch.no_grad(), SetTrace(trace):
                return model.get_outputs_for_camera(camera)

        return in_viewer_thread(task)

    interrupted_at(-1)  # the first time, nerfstudio runs lines that it never runs again
    count = 0
    whole = interrupted_at(-1)
    assert isinstance(whole, dict), whole
    total = count
    assert total > 30
    for number in np.unique(np.linspace(1, total, 40).astype(int)).tolist():
        assert isinstance(interrupted_at(number), IOChangeException), f"line {number} of {total} was not interrupted"
        found = render()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), f"{name} differs after an interruption at line {number}"
    # Within a chunk nothing is interrupted: a with statement can be cut off before it gives its lock back. The scene's geometry
    # and constants that are made already hold none.
    inside = [name for name in files if "kernels" in name or "concurrent" in name]
    assert {name.rsplit("/", 1)[1] for name in inside} <= {"scene.py", "constants.py"}, files


def test_no_task_runs_on_when_the_caller_is_stopped() -> None:
    before = pool.use_threads()
    pool.use_threads(2)
    try:
        running, caller = threading.Event(), threading.current_thread()
        ended = threading.Event()

        def task(index: int) -> None:
            if threading.current_thread() is caller:
                running.wait(30)
                raise KeyboardInterrupt
            running.set()
            time.sleep(0.3)
            ended.set()

        with pytest.raises(KeyboardInterrupt):
            pool.run(task, 2)
        assert ended.is_set()
    finally:
        pool.use_threads(before)


def test_missing_browser_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install chromium chromium-driver"):
        browser.chromium_programs()


# -- a real browser on a real training


def needs_browser() -> None:
    if os.environ.get("NGP_SKIP_BROWSER", "") not in ("", "0"):
        pytest.skip("NGP_SKIP_BROWSER is set: the viewer was NOT tested in a browser")
    browser.chromium_programs()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty 100x100 views of the spheres."""
    return scenes.write_blender(tmp_path_factory.mktemp("spheres"), train=30, val=1, test=1, size=(100, 100))


@pytest.fixture(scope="module")
def page(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, browser.TrainingRun]]:
    """A browser on the viewer of a training that goes on until the test ends."""
    needs_browser()
    run = browser.TrainingRun(scene, tmp_path_factory.mktemp("run"), "--max-num-iterations", "100000")
    try:
        run.wait_for_server(300)
        with browser.open_browser() as driver:
            driver.get(run.url)
            hide = browser.wait_until(
                lambda: run.check() or browser.button(driver, "Hide Train Cams"), 120, "the viewer's panel"
            )
            hide.click()
            yield driver, run
    finally:
        code = run.stop()
    assert code == 130, f"Ctrl-C: exit code {code}\n{run.text()[-3000:]}"


def training_images(scene: Path) -> Array:
    """[N, H, W, 3] over white, in [0, 1], in the order of transforms_train.json."""
    pictures = [np.asarray(Image.open(scene / "train" / f"r_{i}.png"), float) / 255.0 for i in range(30)]
    stacked = np.stack(pictures)
    return stacked[..., :3] * stacked[..., 3:] + 1.0 - stacked[..., 3:]


def as_training_image(shot: NDArray[np.uint8], size: int) -> Array:
    """The middle square of the viewport, which is as high as the training image's view, at the image's size."""
    height, width = shot.shape[:2]
    assert width >= height, "the window is meant to be wider than high"
    left = (width - height) // 2
    square = Image.fromarray(shot[:, left : left + height]).resize((size, size), Image.Resampling.BOX)
    return np.asarray(square, float) / 255.0


def psnr(a: Array, b: Array) -> float:
    return -10.0 * math.log10(max(float(np.mean((a - b) ** 2)), 1e-10))


def test_a_browser_sees_the_scene_from_a_training_camera(
    page: tuple[Any, browser.TrainingRun], scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driver, run = page
    images = training_images(scene)
    seen: dict[int, Array] = {}
    sizes: dict[int, tuple[int, int]] = {}

    def good() -> bool:
        run.check()
        step = browser.shown_step(driver)
        if min(browser.shown_size(driver)) < 40:
            return False
        picture = as_training_image(browser.viewport(driver), images.shape[1])
        seen[step], sizes[step] = picture, browser.shown_size(driver)
        return psnr(picture, images[0]) >= PSNR_SHOWN and max(sizes[step]) == CPU_RESOLUTION

    begin = time.monotonic()
    browser.wait_until(good, 300, f"a picture of {PSNR_SHOWN} dB against training image 0", every=0.5)
    seconds = time.monotonic() - begin
    first, last = seen[min(seen)], seen[max(seen)]
    quality = {step: psnr(picture, images[0]) for step, picture in seen.items()}
    correlation = float(np.corrcoef(last.ravel(), images[0].ravel())[0, 1])
    with capsys.disabled():
        print(
            f"\nviewer: {quality[max(seen)]:.1f} dB and correlation {correlation:.3f} against training image 0 at step "
            f"{max(seen)}, {seconds:.0f} s after the page opened; first picture {quality[min(seen)]:.1f} dB at step "
            f"{min(seen)}; {len(seen)} pictures"
        )
    assert correlation >= CORRELATION_SHOWN
    # It is this camera's view and no other's, and no grey smear.
    assert int(np.argmax([psnr(last, image) for image in images])) == 0
    assert last.std() > 0.5 * images[0].std()
    # The picture follows the training.
    assert len(seen) >= 2
    assert np.abs(first - last).mean() > 0.01
    assert quality[max(seen)] > quality[min(seen)] + 1.0


def test_a_browser_turns_the_camera_and_gets_a_still(
    page: tuple[Any, browser.TrainingRun], capsys: pytest.CaptureFixture[str]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    driver, run = page
    pause = browser.button(driver, "Pause Training")
    assert pause is not None
    pause.click()
    browser.wait_until(lambda: max(browser.shown_size(driver)) == CPU_RESOLUTION, 60, "a still")
    before = browser.viewport(driver)
    canvas = driver.find_element("css selector", "canvas")
    drag = ActionChains(driver).move_to_element_with_offset(canvas, -200, 0).click_and_hold()
    for _ in range(5):
        drag = drag.move_by_offset(15, 4)
    drag.release().perform()
    released = time.monotonic()
    browser.wait_until(
        lambda: max(browser.shown_size(driver)) < CPU_RESOLUTION, 30, "a picture of the moving camera", every=0.02
    )
    browser.wait_until(lambda: max(browser.shown_size(driver)) == CPU_RESOLUTION, 60, "the next still", every=0.02)
    seconds = time.monotonic() - released
    after = browser.viewport(driver)
    with capsys.disabled():
        print(f"\nviewer: a still of {CPU_RESOLUTION} pixels {seconds:.2f} s after the camera stopped")
    run.check()
    assert before.shape == after.shape
    assert np.abs(before.astype(float) - after).mean() > 2.0
    assert after.std() > 10.0


def test_a_browser_sees_normals_when_it_asks_for_them(page: tuple[Any, browser.TrainingRun]) -> None:
    driver, run = page
    before = browser.viewport(driver).astype(float)
    browser.choose(driver, "Output type", "normals")

    def drawn() -> bool:
        run.check()
        return max(browser.shown_size(driver)) == CPU_RESOLUTION and normals_like(browser.viewport(driver))

    def normals_like(shot: NDArray[np.uint8]) -> bool:
        # In the middle is a sphere: all three components vary over it, and two of them have both signs.
        height, width = shot.shape[:2]
        middle = shot[height // 3 : 2 * height // 3, (width - height // 3) // 2 : (width + height // 3) // 2].reshape(-1, 3)
        return bool((middle.std(0) > 20).sum() >= 2 and np.abs(shot.astype(float) - before).mean() > 5.0)

    browser.wait_until(drawn, 90, "a picture of normals", every=0.5)
