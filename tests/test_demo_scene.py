"""The shipped demo scene: its layout, its poses and depth against its surface, and that the script is its source."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from demo_scene import make_scene, render, still_life
from ngp_method import demo
from ngp_method.demo import demo_scene_path

SPLITS = {"train": 100, "val": 5, "test": 25}
SIZE = 200
LIMIT_BYTES = 12_000_000
PROJECT = Path(__file__).resolve().parents[1]


def transforms(folder: Path, split: str) -> dict[str, Any]:
    return json.loads((folder / f"transforms_{split}.json").read_text(encoding="utf-8"))


def poses(folder: Path, split: str) -> np.ndarray:
    return np.array([frame["transform_matrix"] for frame in transforms(folder, split)["frames"]])


def picture(folder: Path, frame: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{frame['file_path']}.png"))


def depth(folder: Path, index: int) -> np.ndarray:
    """Depth (H, W) of a test view in scene units; 0 = nothing hit."""
    meta = transforms(folder, "test")
    return np.asarray(Image.open(folder / meta["frames"][index]["depth_file_path"])) * meta["depth_unit_scale_factor"]


@pytest.fixture(scope="module")
def scene() -> Path:
    return demo_scene_path()


@pytest.fixture(scope="module")
def triangles(scene: Path) -> np.ndarray:
    """The known surface as corners (F, 3, 3)."""
    mesh = trimesh.load(scene / "surface.ply", process=False)
    return np.asarray(mesh.vertices, dtype=np.float64)[mesh.faces]


@pytest.fixture(scope="module")
def parts() -> list[still_life.Part]:
    return still_life.still_life()


def test_importing_the_package_is_light() -> None:
    code = "import sys, ngp_method.demo as d; d.demo_scene_path(); print({'numpy', 'torch', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_scene_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "files", lambda _: tmp_path)
    with pytest.raises(FileNotFoundError, match="make it again with") as caught:
        demo_scene_path()
    assert str(tmp_path) in str(caught.value)


def test_layout(scene: Path) -> None:
    named = {"README.md", "surface.ply"} | {f"transforms_{split}.json" for split in SPLITS}
    for split, count in SPLITS.items():
        meta = transforms(scene, split)
        assert len(meta["frames"]) == count
        assert meta["camera_angle_x"] == transforms(scene, "train")["camera_angle_x"]
        named |= {str(Path(frame["file_path"] + ".png")) for frame in meta["frames"]}
        named |= {str(Path(frame["depth_file_path"])) for frame in meta["frames"] if "depth_file_path" in frame}
    there = [path for path in scene.rglob("*") if path.is_file()]
    assert {str(path.relative_to(scene)) for path in there} == named
    assert len(named) == 5 + sum(SPLITS.values()) + SPLITS["test"]
    assert sum(path.stat().st_size for path in there) < LIMIT_BYTES


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_have_a_meaningful_alpha(scene: Path, split: str) -> None:
    for frame in transforms(scene, split)["frames"]:
        image = picture(scene, frame)
        assert image.shape == (SIZE, SIZE, 4)
        assert image.dtype == np.uint8
        alpha = image[..., 3]
        assert 0.1 < (alpha == 255).mean() < 0.6
        assert 0.3 < (alpha == 0).mean() < 0.9
        assert ((alpha > 0) & (alpha < 255)).sum() > SIZE, "outlines are not smooth"
        assert not alpha[[0, -1]].any(), "the scene is cut off at the top or bottom"
        assert not alpha[:, [0, -1]].any(), "the scene is cut off at a side"
        assert not image[alpha == 0].any()
        opaque = image[alpha == 255][:, :3]
        # a real picture: many colours, neither black nor burnt out
        assert len(np.unique((opaque // 8).astype(np.int64) @ [1, 32, 1024])) > 500
        assert 60 < opaque.mean() < 200
        assert (opaque.min(-1) == 255).mean() < 0.01


def test_poses_are_rigid_upright_and_held_out(scene: Path) -> None:
    everything = np.concatenate([poses(scene, split) for split in SPLITS])
    turns, centres = everything[:, :3, :3], everything[:, :3, 3]
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-9)
    np.testing.assert_array_equal(everything[:, 3], np.broadcast_to([0.0, 0.0, 0.0, 1.0], (len(everything), 4)))
    distance = np.linalg.norm(centres, axis=1)
    np.testing.assert_allclose(distance, distance[0], rtol=1e-9)
    # OpenGL: the camera looks along -z, so its z axis points from the origin to the camera; x level, y upwards
    np.testing.assert_allclose(turns[:, :, 2], centres / distance[:, None], atol=1e-9)
    np.testing.assert_allclose(turns[:, 2, 0], 0.0, atol=1e-9)
    assert (turns[:, 2, 1] > 0).all()
    # cameras of the training set lie all around, above and a little below; no test camera is one of them
    train = poses(scene, "train")[:, :3, 3] / distance[0]
    assert train[:, 2].min() < -0.1
    assert train[:, 2].max() > 0.9
    for held_out in ("val", "test"):
        cosines = (poses(scene, held_out)[:, :3, 3] / distance[0]) @ train.T
        nearest = np.rad2deg(np.arccos(np.clip(cosines.max(1), -1.0, 1.0)))
        assert nearest.min() > 0.5
        assert nearest.max() < 20.0, "a held-out view that no training view is near"


def first_hits(triangles: np.ndarray, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distance (N,) to the first triangle (F, 3, 3) hit by each unit ray, 0 = none: Moeller and Trumbore, 1997."""
    corner, first, second = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    from_corner = origin - corner
    across = np.cross(from_corner, first)
    found = np.zeros(len(directions))
    for index, direction in enumerate(directions):
        normal = np.cross(direction, second)
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / np.einsum("fk,fk->f", first, normal)
            u = np.einsum("fk,fk->f", from_corner, normal) * inverse
            v = (across @ direction) * inverse
            t = np.einsum("fk,fk->f", second, across) * inverse
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        found[index] = t[inside].min() if inside.any() else 0.0
    return found


@pytest.mark.parametrize("view", [0, 9, 18])
def test_depth_lies_on_the_surface_through_nerfstudios_own_cameras(scene: Path, triangles: np.ndarray, view: int) -> None:
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    parsed = BlenderDataParserConfig(data=scene).setup().get_dataparser_outputs("test")
    assert len(parsed.image_filenames) == SPLITS["test"]
    rays = parsed.cameras.generate_rays(camera_indices=view)
    stored = depth(scene, view)
    rows, columns = np.random.default_rng(view).integers(0, SIZE, (2, 150))
    assert 30 < (stored[rows, columns] > 0).sum() < 120, "the draw should hold both surface and background"
    directions = rays.directions.numpy().astype(np.float64)[rows, columns]
    origin = rays.origins.numpy().astype(np.float64)[0, 0]
    found = first_hits(triangles, origin, directions / np.linalg.norm(directions, axis=1, keepdims=True))
    # half a step of the 16-bit depth, and the float32 rays: 4 units away, 1e-7 relative, steep surfaces
    np.testing.assert_allclose(found, stored[rows, columns], atol=0.5e-4 + 2e-5)


def test_depth_and_alpha_show_the_same_outline(scene: Path) -> None:
    for index, frame in enumerate(transforms(scene, "test")["frames"]):
        alpha, hit = picture(scene, frame)[..., 3], depth(scene, index) > 0
        assert hit[alpha == 255].all()
        assert not hit[alpha == 0].any()
        # a pixel's centre is hit about as often as its area is covered
        assert abs(hit.mean() - alpha.mean() / 255.0) < 0.002


def test_every_part_is_closed_outward_and_in_the_cube(parts: list[still_life.Part]) -> None:
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        mesh = part.mesh
        assert np.abs(mesh.vertices).max() <= 1.2
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-6)
        corners = mesh.vertices[mesh.faces]
        facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.einsum("fk,fk->f", facing, mesh.normals[mesh.faces].mean(1)) > 0).all(), part.name
    table = [part for part in parts if part.name.startswith("table")]
    for solid in (table, *([part] for part in parts if part not in table)):
        vertices, faces = still_life.surface(solid)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        forward = np.unique(edges, axis=0, return_counts=True)
        backward = np.unique(edges[:, ::-1], axis=0, return_counts=True)
        np.testing.assert_array_equal(forward[0], backward[0])  # each edge is walked both ways: closed, wound alike
        np.testing.assert_array_equal(forward[1], backward[1])
        assert trimesh.Trimesh(vertices, faces, process=False).volume > 0


def test_the_surface_is_that_of_the_parts(parts: list[still_life.Part], scene: Path) -> None:
    vertices, faces = still_life.surface(parts)
    shipped = trimesh.load(scene / "surface.ply", process=False)
    assert len(faces) == len(shipped.faces)
    for some, others in ((vertices, shipped.vertices), (shipped.vertices, vertices)):
        gap, _ = cKDTree(others).query(some)
        assert gap.max() < 3e-6  # coordinates are rounded to 1e-6


def to_light(image: np.ndarray) -> np.ndarray:
    """RGBA uint8 -> premultiplied scene-linear RGB and alpha, float (H, W, 4): what may be averaged over pixels.

    Undoes the transfer curve and the film-like shoulder of ``render.render_view``.
    """
    values = image / 255.0
    shown, alpha = render.srgb_to_linear(values[..., :3]), values[..., 3:]
    start = 0.6
    over = np.clip((shown - start) / (1.0 - start), 0.0, 0.98)
    linear = np.where(shown > start, start + (1.0 - start) * over / (1.0 - over), shown)
    return np.concatenate([linear * alpha, alpha], -1)


def to_display(light: np.ndarray) -> np.ndarray:
    """Premultiplied linear RGBA -> premultiplied sRGB after the shoulder, and alpha: as one sees it."""
    alpha = light[..., 3:]
    shown = render.linear_to_srgb(render.shoulder(light[..., :3] / np.maximum(alpha, 1e-6)))
    return np.concatenate([shown * alpha, alpha], -1)


def test_the_script_makes_the_shipped_scene(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "mitsuba", reason="mitsuba (extra dev) renders the demo scene; without it only the pictures are checked"
    )
    out, size = tmp_path / "small", 40
    command = [
        sys.executable,
        str(PROJECT / "scripts" / "demo_scene" / "make_scene.py"),
        "--out",
        str(out),
        "--size",
        str(size),
        "--spp",
        "64",
    ]
    command += ["--views", "2", "--val-views", "1", "--test-views", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    block = SIZE // size
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        np.testing.assert_allclose(poses(out, split), poses(scene, split)[:count], atol=1e-9)
        for frame in transforms(out, split)["frames"]:
            large = to_light(picture(scene, frame)).reshape(size, block, size, block, 4).mean((1, 3))
            difference = to_display(to_light(picture(out, frame))) - to_display(large)
            assert np.abs(difference[..., 3]).max() < 0.12
            # noise of 64 samples at outlines and in gloss; it averages out over the picture
            assert np.sqrt(np.mean(difference[..., :3] ** 2)) < 0.03
            assert np.abs(difference[..., :3].mean((0, 1))).max() < 0.004
    # the middle pixel of each block looks along the very same ray
    middle = depth(scene, 0)[block // 2 :: block, block // 2 :: block]
    differs = np.abs(depth(out, 0) - middle) > 1.5e-4
    assert differs.mean() < 0.002, "depth differs beyond a few pixels on outlines"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "full"], 2, r"full is not an empty folder: choose another --out, or add --overwrite\.$"),
        (["--out", "full/file"], 2, r"file is not an empty folder"),
        (["--out", "full/file/below"], 1, r"cannot be written \(.*\): choose another --out\.$"),
        (["--out", "new", "--variant", "no_such"], 1, r"Mitsuba has no variant 'no_such': choose one of "),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_scene, "still_life", list)
    pytest.importorskip("mitsuba", reason="mitsuba (extra dev) is what the arguments are for")
    assert make_scene.main(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_missing_mitsuba_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert make_scene.main(["--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.strip().endswith("install it with 'pip install mitsuba'.")
    assert not (tmp_path / "out").exists()


def test_numbers_that_make_no_picture_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_scene.main(["--out", str(tmp_path / "out"), "--size", "0"])
    assert caught.value.code == 2
    assert "0 is not a positive number" in capsys.readouterr().err
