"""``ns-train instant-image`` and ``instant-sdf``, and the commands that use their runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from support.cli import Forks, Run, train

pytest_plugins = ["support.cli_fixtures"]

WIDTH, HEIGHT = 160, 96
RADIUS, MIDDLE = 40.0, (1000.0, -300.0, 20.0)
SMALL = ("--pipeline.datamanager.first-batch=2048", "--pipeline.datamanager.batch=4096", "--vis=tensorboard")


def picture() -> np.ndarray:
    """Slopes, waves and a sharp edge, [H, W, 3] uint8."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = np.stack([x, y, 0.5 + 0.5 * np.sin(20 * x * y)], -1)
    rgb[20:40, 30:70] = (1.0, 0.9, 0.1)
    return np.asarray(255 * rgb, np.uint8)


@pytest.fixture(scope="module")
def of_picture(workspace: Path) -> Run:
    """The command itself, on a file with a space in its name."""
    file = workspace / "the picture.png"
    Image.fromarray(picture()).save(file)
    flags = (*SMALL, "--max-num-iterations=250")
    run = train(None, file.name, Path("image_runs"), *flags, cwd=workspace, method="instant-image")
    run.done.check()
    return Run(workspace / run.config, run.done)


@pytest.fixture(scope="module")
def of_mesh(workspace: Path, forks: Forks) -> Run:
    """A ball in units of its own, as STL: a soup of triangles."""
    ball = trimesh.creation.icosphere(4, RADIUS)
    ball.apply_translation(MIDDLE)
    ball.export(workspace / "ball.stl")
    flags = (*SMALL, "--pipeline.datamanager.pool-size=262144", "--pipeline.model.log2-hashmap-size=14")
    flags += ("--pipeline.model.finest-resolution=64", "--max-num-iterations=500")
    run = train(forks, workspace / "ball.stl", workspace / "mesh_runs", *flags, method="instant-sdf")
    run.done.check()
    return run


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Of two pictures of uint8."""
    return float(-10 * np.log10(((first.astype(float) - second.astype(float)) ** 2).mean() / 255**2))


def test_a_picture_says_what_it_is_and_what_it_is_worth(of_picture: Run) -> None:
    words = of_picture.done.words
    assert f"instant-image {WIDTH} x {HEIGHT} pixels of 3 channels" in words
    assert "instant-image kernels: cpu (auto" in words
    assert f"over all {WIDTH * HEIGHT:,} pixels" in words
    assert "Traceback" not in words


def test_a_picture_is_evaluated_as_a_whole(of_picture: Run, forks: Forks, workspace: Path) -> None:
    out, shown = workspace / "image_eval" / "eval.json", workspace / "image_eval" / "pictures"
    flags = ("--load-config", of_picture.config, "--output-path", out, "--render-output-path", shown)
    forks.run("ns-eval", *flags, cwd=workspace).check()
    results = json.loads(out.read_text())["results"]
    written = np.asarray(Image.open(shown / "the picture.png"))
    assert results["psnr"] > 28.0
    assert results["psnr"] == pytest.approx(psnr(written, picture()), abs=0.3)  # rounded to 8 bits
    assert results["num_pixels"] == WIDTH * HEIGHT
    assert f"PSNR {results['psnr']:.2f} dB" in of_picture.done.words, "what the run said at its end"


def test_a_picture_comes_back_whole_cut_and_small(of_picture: Run, forks: Forks, workspace: Path) -> None:
    out = workspace / "written"
    for name, flags in (
        ("whole.png", ()),
        ("cut.tif", ("--crop", 20, 10, 60, 40)),
        ("large.jpg", ("--crop", 20, 10, 60, 40, "--width", 240)),
        ("small.exr", ("--width", 40)),
    ):
        flags = ("--load-config", of_picture.config, "--output", out / name, *flags)
        done = forks.run("instant-hash-image", *flags, cwd=workspace)
        assert f"{name}:" in done.check().words
    whole = np.asarray(Image.open(out / "whole.png"))
    assert psnr(whole, picture()) > 28.0
    assert np.array_equal(np.asarray(Image.open(out / "cut.tif")), whole[10:50, 20:80])
    assert Image.open(out / "large.jpg").size == (240, 160)
    assert (out / "small.exr").stat().st_size > 0


def test_the_function_alone_is_the_picture(of_picture: Run, forks: Forks, workspace: Path) -> None:
    alone, out = workspace / "alone.npz", workspace / "alone.png"
    done = forks.run("instant-hash-image", "--load-config", of_picture.config, "--compact", alone, cwd=workspace).check()
    size = alone.stat().st_size
    assert f"{size / 1e6:.2f} MB" in done.words
    assert f"times the picture.png ({(workspace / 'the picture.png').stat().st_size / 1e6:.2f} MB" in done.words
    forks.run("instant-hash-image", "--load-compact", alone, "--output", out, cwd=workspace).check()
    whole = workspace / "alone_whole.png"
    forks.run("instant-hash-image", "--load-config", of_picture.config, "--output", whole, cwd=workspace).check()
    assert psnr(np.asarray(Image.open(out)), np.asarray(Image.open(whole))) > 45.0  # half precision


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--output", "out.png", "--crop", 0, 0, 500, 5), f"the picture has {WIDTH} x {HEIGHT} pixels; stay within them"),
        (("--output", "out.bmp"), "out.bmp"),
        (("--output", "the picture.png"), "is the picture that was fitted; give another name"),
        (("--compact", "alone2.npz", "--width", 100), "give its name with --output FILE"),
        (("--output", "out.png", "--width", 0), "--width 0: give at least 1"),
        ((), "Say what to write: --output FILE"),
    ],
)
def test_what_cannot_be_written_is_said(
    flags: tuple[object, ...], sentence: str, of_picture: Run, forks: Forks, workspace: Path
) -> None:
    before = (workspace / "the picture.png").read_bytes()
    done = forks.run("instant-hash-image", "--load-config", of_picture.config, *flags, cwd=workspace)
    assert done.rc == 1
    assert sentence in done.words
    assert "Traceback" not in done.text
    assert (workspace / "the picture.png").read_bytes() == before
    assert not (workspace / "out.png").exists()


def test_a_mesh_says_how_it_tells_inside(of_mesh: Run) -> None:
    words = of_mesh.done.words
    assert "ball.stl: 5,120 triangles, 2,562 vertices, 80 x 80 x 80 of the file's units" in words
    assert "sign: angle-weighted pseudonormals, as the surface is closed" in words
    assert "instant-sdf IoU 0.9" in words
    assert "Traceback" not in words


def test_a_mesh_is_evaluated_and_comes_back_closed(of_mesh: Run, forks: Forks, workspace: Path) -> None:
    out = workspace / "mesh_eval" / "eval.json"
    forks.run("ns-eval", "--load-config", of_mesh.config, "--output-path", out, cwd=workspace).check()
    results = json.loads(out.read_text())["results"]
    assert results["iou"] > 0.95
    assert results["surface_error_world"] < 0.01 * RADIUS
    flags = ("--load-config", of_mesh.config, "--output-dir", workspace / "surface", "--resolution", 96)
    forks.run("instant-hash-mesh", *flags, cwd=workspace).check()
    for name in ("mesh.ply", "mesh.obj"):
        mesh = trimesh.load(workspace / "surface" / name, force="mesh")
        assert mesh.is_watertight
        assert mesh.euler_number == 2
        assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03), "outwards, and in the units of the file"
        assert np.abs(mesh.centroid - MIDDLE).max() < 0.02 * RADIUS


def test_a_mesh_is_rendered_along_a_path_and_round(of_mesh: Run, forks: Forks, workspace: Path) -> None:
    pose = np.eye(4)
    pose[2, 3] = 2.0  # world: the unit cube round the origin
    camera = {"camera_to_world": pose.reshape(-1).tolist(), "fov": 40.0, "aspect": 1.0}
    path = {"camera_type": "perspective", "render_width": 64, "render_height": 64, "seconds": 1.0, "fps": 1.0}
    (workspace / "path.json").write_text(json.dumps({**path, "camera_path": [camera]}))
    out = workspace / "mesh_frames"
    flags = ("--camera-path-filename", workspace / "path.json", "--output-path", out, "--output-format", "images")
    outputs = ("--image-format", "png", "--rendered-output-names", "rgb", "normals", "error")
    forks.run("ns-render", "camera-path", "--load-config", of_mesh.config, *flags, *outputs, cwd=workspace).check()
    frame = np.asarray(Image.open(next(out.glob("*.png"))))
    assert frame.shape == (64, 192, 3)
    shaded, normals = frame[:, :64].astype(int), frame[:, 64:128].astype(int)
    assert (shaded[2, 2] == 255).all(), "white beside the ball"
    assert shaded[32, 32].max() < 250
    assert abs(normals[32, 32] - (128, 128, 255)).max() < 16, "its front looks at the camera"
    turn = ("--output-dir", workspace / "mesh_turn", "--frames", 4, "--size", 64)
    forks.run("instant-hash-turntable", "--load-config", of_mesh.config, *turn, cwd=workspace).check()
    assert (workspace / "mesh_turn" / "turntable.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("kind", "command", "words"),
    [
        ("image", ("ns-export", "pointcloud"), "instant-hash-image --load-config"),
        ("sdf", ("ns-export", "poisson"), "instant-hash-mesh --load-config"),
        ("sdf", ("ns-export", "marching-cubes"), "instant-hash-mesh --load-config"),
        ("sdf", ("ns-render", "dataset"), "instant-hash-turntable"),
        ("sdf", ("ns-render", "spiral"), "ns-render camera-path"),
        ("image", ("ns-render", "interpolate"), "ns-render camera-path"),
        ("image", ("instant-hash-mesh",), "which has no surface"),
        ("image", ("instant-hash-turntable",), "nothing to go round"),
        ("sdf", ("instant-hash-image", "--output", "x.png"), "not a run of instant-image"),
    ],
)
def test_commands_that_are_for_other_runs_say_which_is_for_these(
    kind: str, command: tuple[str, ...], words: str, request: pytest.FixtureRequest, forks: Forks, workspace: Path
) -> None:
    run: Run = request.getfixturevalue({"image": "of_picture", "sdf": "of_mesh"}[kind])
    to = {"ns-export": ("--output-dir", "nothing"), "ns-render": ("--output-path", "nothing"), "instant-hash-image": ()}
    done = forks.run(*command, "--load-config", run.config, *to.get(command[0], ("--output-dir", "nothing")), cwd=workspace)
    assert done.rc == 1
    assert words in done.words
    assert "Traceback" not in done.text
    assert not list(workspace.glob("nothing/*")), "ns-export makes its folder first of all"


@pytest.mark.parametrize(
    ("method", "name", "content", "words"),
    [
        ("instant-image", "gone.png", None, "gone.png"),
        ("instant-image", "a film.mp4", b"\0\0\0\x18ftypmp42" + bytes(100), "a film.mp4"),
        ("instant-image", "cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "cut.png"),
        ("instant-image", "text.jpg", b"hello", "text.jpg"),
        ("instant-sdf", "gone.obj", None, "gone.obj"),
        ("instant-sdf", "points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no triangles"),
        ("instant-sdf", "nan.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN or infinite"),
        ("instant-sdf", "thin.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no triangle with an area"),
        ("instant-sdf", "the picture.png", b"x", "is no mesh of a kind that is read here"),
    ],
)
def test_files_that_cannot_be_fitted(
    method: str, name: str, content: bytes | None, words: str, forks: Forks, tmp_path: Path
) -> None:
    """One sentence that names the file, and no run is left."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    run = train(forks, tmp_path / name, tmp_path / "out", "--max-num-iterations=2", method=method)
    assert run.done.rc == 1
    assert words in run.done.words
    assert "Traceback" not in run.done.text
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_picture_and_no_mesh(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    for method, words in (("instant-image", "scene"), ("instant-sdf", "is a folder; name the mesh in it")):
        run = train(forks, tmp_path / "scene", tmp_path / "out", "--max-num-iterations=2", method=method)
        assert run.done.rc == 1
        assert words in run.done.words
        assert "Traceback" not in run.done.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["one", "CMYK", "animated", "grey", "alpha16"])
def test_pictures_as_people_have_them(kind: str, forks: Forks, tmp_path: Path) -> None:
    """They train, and come back in their own kind."""
    rng = np.random.default_rng(0)
    file = tmp_path / {"CMYK": "p.jpg", "animated": "p.gif"}.get(kind, "p.png")
    if kind == "animated":
        frames = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]
        frames[0].save(file, save_all=True, append_images=frames[1:])
    elif kind == "alpha16":
        from ngp_method.primitives.image.writer import PictureWriter

        PictureWriter(file, 30, 20, 4, 16, "srgb", None, False).write([rng.random((20, 30, 4), np.float32)])
    else:
        size, mode = ((1, 1), "RGB") if kind == "one" else ((30, 20), {"grey": "L"}.get(kind, kind))
        Image.effect_noise(size, 60).convert(mode).save(file)
    run = train(forks, file, tmp_path / "out", "--max-num-iterations=3", *SMALL, method="instant-image")
    said = run.done.check().words
    assert ("first of 3" in said) == (kind == "animated") or "3 pictures" in said
    done = forks.run("instant-hash-image", "--load-config", run.config, "--output", tmp_path / "back.png", cwd=tmp_path).check()
    back = Image.open(tmp_path / "back.png")
    assert f"{back.width} x {back.height} pixels" in done.words
    expected = {"one": ("RGB", (1, 1)), "grey": ("L", (30, 20)), "alpha16": ("RGBA", (30, 20))}.get(kind, ("RGB", (30, 20)))
    assert (back.mode, back.size) == expected
