"""``ns-eval`` and ``ns-render dataset``: the numbers are those of the pictures, and the pictures those of the scene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ngp_method.studio.metrics import load_lpips_weights, ssim
from support.cli import Forks, Run, run
from support.cli_truth import TEST_POSES, over_white, psnr, raw, rgba, view_of

pytest_plugins = ["support.cli_fixtures"]

OUTPUTS = ("rgb", "rgba", "raw-rgb", "raw-depth", "raw-median_depth", "raw-accumulation", "raw-normals")
VIEWS = range(len(TEST_POSES))


def render_dataset(forks: Forks | None, config: Path, out: Path, *outputs: str) -> Path:
    """The test views as ``ns-render dataset`` renders them, PNG and raw."""
    arguments = ("dataset", "--load-config", config, "--output-path", out, "--image-format", "png",
                 "--rendered-output-names", *outputs)  # fmt: skip
    if forks is None:
        run("ns-render", *arguments, cwd=out.parent).check()
    else:
        forks.run("ns-render", *arguments, cwd=out.parent).check()
    return out


def with_model(trained: Run, name: str, **changes: object) -> Path:
    """A copy of the run's config beside it, with other model settings: what a person does with an editor."""
    config = yaml.load(trained.config.read_text(), Loader=yaml.Loader)
    for key, value in changes.items():
        assert hasattr(config.pipeline.model, key)
        setattr(config.pipeline.model, key, value)
    path = trained.base / f"{name}.yml"
    path.write_text(yaml.dump(config))
    return path


@pytest.fixture(scope="session")
def evaluated(workspace: Path, trained: Run) -> dict[str, float]:
    """``ns-eval`` from a folder that has nothing to do with the run; LPIPS' weights are nowhere."""
    elsewhere = workspace / "elsewhere"
    elsewhere.mkdir()
    done = run(
        "ns-eval", "--load-config", trained.config, "--output-path", "eval.json", "--render-output-path", "pictures",
        cwd=elsewhere,
    ).check()  # fmt: skip
    assert done.words.count("LPIPS is left out") == 1
    assert "Traceback" not in done.words
    written = json.loads((elsewhere / "eval.json").read_text())
    assert written["method_name"] == "instant-hash"
    assert Path(written["checkpoint"]).parent == trained.models
    return dict(written["results"])


@pytest.fixture(scope="session")
def rendered(workspace: Path, trained: Run) -> Path:
    """The test views with all that is known of them."""
    return render_dataset(None, trained.config, workspace / "rendered", *OUTPUTS)


def truth(blender: Path, index: int) -> np.ndarray:
    """The RGBA picture of a test view."""
    return rgba(blender / "test" / f"r_{index}.png")


def test_the_metrics_are_those_that_are_asked_for(evaluated: dict[str, float], workspace: Path) -> None:
    assert {"psnr", "ssim"} <= set(evaluated)
    assert "lpips" not in evaluated
    assert evaluated["psnr"] > 28.0  # 31.7 dB with seed 42; an untrained field has 10
    assert 0.95 < evaluated["ssim"] < 1.0
    pictures = {p.name for p in (workspace / "elsewhere" / "pictures").iterdir()}
    assert {f"eval_img_{i:04d}.png" for i in VIEWS} <= pictures


def test_psnr_and_ssim_are_those_of_the_rendered_pictures(evaluated: dict[str, float], rendered: Path, blender: Path) -> None:
    pairs = [(raw(rendered, "rgb", i), over_white(truth(blender, i))) for i in VIEWS]
    # the mean of the views' own figures; the same field rendered twice differs by nothing but float32's last bits
    assert np.mean([psnr(*pair) for pair in pairs]) == pytest.approx(evaluated["psnr"], abs=1e-3)
    tensors = [[torch.from_numpy(np.float32(x)).movedim(-1, 0)[None] for x in pair] for pair in pairs]
    assert np.mean([ssim(*pair) for pair in tensors]) == pytest.approx(evaluated["ssim"], abs=1e-4)


def test_depth_is_the_scenes(rendered: Path) -> None:
    for index in VIEWS:
        view = view_of(TEST_POSES[index])
        facing = view.facing
        for name in ("depth", "median_depth"):
            error = raw(rendered, name, index)[..., 0] - view.depth
            # A pixel is 0.045 wide here: a surface of fog is half of that thick on either side, and lies a little behind.
            assert np.median(np.abs(error[facing])) < 0.06, name
            assert np.mean(np.abs(error[facing])) < 0.08, name


def test_empty_rays_end_where_the_box_does(rendered: Path) -> None:
    for index in VIEWS:
        empty = raw(rendered, "accumulation", index)[..., 0] < 1e-3
        depth = raw(rendered, "depth", index)[..., 0][empty]
        directions, origin = view_of(TEST_POSES[index]).directions[empty], TEST_POSES[index][:3, 3]
        near, far = np.sort([(-1.5 - origin) / directions, (1.5 - origin) / directions], axis=0)
        near, far = near.max(-1), far.min(-1)
        crosses = far > near + 1e-4
        assert crosses.mean() > 0.5
        np.testing.assert_allclose(depth[crosses], far[crosses], rtol=1e-4)


def test_alpha_is_the_silhouette(rendered: Path, blender: Path) -> None:
    for index in VIEWS:
        alpha, picture = truth(blender, index)[..., 3], rgba(rendered / "test" / "rgba" / f"r_{index}.png")
        assert picture.shape == (64, 64, 4)
        # 8 bits of a PNG
        np.testing.assert_allclose(picture[..., 3], raw(rendered, "accumulation", index)[..., 0], atol=0.51 / 255)
        both = ((picture[..., 3] > 0.5) & (alpha > 0.5)).sum() / ((picture[..., 3] > 0.5) | (alpha > 0.5)).sum()
        assert both > 0.95
        assert picture[..., 3][alpha == 1].mean() > 0.97
        assert picture[..., 3][alpha == 0].mean() < 0.02
        # straight alpha: the colours at the rim are the sphere's, not the white behind it
        rim = (alpha > 0.3) & (alpha < 1.0) & (picture[..., 3] > 0.3)
        background = np.abs(picture[rim][:, :3] - 1.0).mean()
        assert np.abs(picture[rim][:, :3] - truth(blender, index)[rim][:, :3]).mean() < 0.5 * background


def test_normals_point_outward(rendered: Path) -> None:
    for index in VIEWS:
        view = view_of(TEST_POSES[index])
        normals = 2.0 * raw(rendered, "normals", index) - 1.0
        found = normals[view.facing]
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-3)
        cosine = (found * view.normals[view.facing]).sum(-1)
        assert cosine.mean() > 0.75  # 40 degrees: the gradient of a field of 400 steps is rough
        assert (cosine > 0.0).mean() > 0.95


def test_lpips_is_there_with_its_weights(trained: Run, workspace: Path, forks: Forks) -> None:
    weights = workspace / "weights.npz"
    write_weights(weights)
    assert load_lpips_weights(weights)
    by_variable = forks.run(
        "ns-eval", "--load-config", trained.config, "--output-path", workspace / "lpips_a.json", cwd=workspace,
        LPIPS_WEIGHTS=str(weights),
    ).check()  # fmt: skip
    config = with_model(trained, "lpips", lpips_weights=weights)
    by_config = forks.run(
        "ns-eval", "--load-config", config, "--output-path", workspace / "lpips_b.json", cwd=workspace
    ).check()
    values = []
    for done, name in ((by_variable, "lpips_a"), (by_config, "lpips_b")):
        assert "LPIPS is left out" not in done.words
        values.append(json.loads((workspace / f"{name}.json").read_text())["results"]["lpips"])
    assert values[0] == values[1] > 0.0


def write_weights(path: Path) -> None:
    """Weights of LPIPS' shapes and no meaning: test_metrics.py holds its value against known ones."""
    rng = np.random.default_rng(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    arrays = {}
    for layer, (index, (out, into, edge)) in enumerate(shapes.items()):
        scale = (2.0 / (into * edge * edge)) ** 0.5
        arrays[f"features.{index}.weight"] = rng.normal(0, scale, (out, into, edge, edge)).astype(np.float32)
        arrays[f"features.{index}.bias"] = np.zeros(out, np.float32)
        arrays[f"lin{layer}.model.1.weight"] = rng.uniform(0, 1, (1, out, 1, 1)).astype(np.float32)
    np.savez(path, **arrays)


def test_a_checkpoint_gives_the_same_picture_with_every_kernel_set(
    trained: Run, workspace: Path, forks: Forks, rendered: Path
) -> None:
    pictures = {}
    for name in ("reference", "cpu-float32", "cpu"):
        config = with_model(trained, f"kernels_{name}", kernels=name)
        out = render_dataset(forks, config, workspace / f"with_{name}", "raw-rgb", "raw-depth")
        pictures[name] = np.stack([raw(out, "rgb", i) for i in VIEWS])
    auto = np.stack([raw(rendered, "rgb", i) for i in VIEWS])
    np.testing.assert_array_equal(auto, pictures["cpu"])  # what "auto" is on a processor
    # One function: float32 differs by the order of its sums alone, under 1e-5 of a colour = 100 dB (147 dB measured; a ray
    # whose last sample falls to the other side of the cut-off would still keep it above 60).
    assert psnr(pictures["reference"], pictures["cpu-float32"]) > 90.0
    # bfloat16 keeps 8 bits: weights and activations are off by up to 2^-9 each, with random signs; a colour by no more than
    # one such roundoff on average, 2^-9 = 54 dB (73 dB measured).
    assert psnr(pictures["reference"], pictures["cpu"]) > 54.0
