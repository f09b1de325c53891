"""The model and its pipeline in this process: odd bundles of rays, backgrounds, chunks, ray counts, seeds."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components import renderers
from torch import Tensor

from ngp_method.kernels import Composited, load_kernels
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.method_configs import lite_config
from ngp_method.studio import captured
from ngp_method.studio import model as model_module
from ngp_method.studio.model import InstantHashModel, without_normals
from ngp_method.studio.optimizers import NgpAdam
from ngp_method.studio.pipeline import InstantHashPipeline
from ngp_method.studio.trainer import InstantHashTrainer
from ngp_method.volume.camera import MARGIN
from ngp_method.volume.occupancy import UNSEEN, OccupancyGrid
from ngp_method.volume.ray_budget import MAX_GROWTH, RAY_MULTIPLE, RayBudget
from ngp_method.volume.rays import Rays
from ngp_method.volume.tracing import Traced
from support import scenes
from support.runs import set_up

pytestmark = pytest.mark.usefixtures("clean_writers")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, RGBA."""
    return scenes.write_blender(tmp_path_factory.mktemp("model"), train=24, test=2, size=(40, 40))


def trainer_for(
    data: Path, out: Path, seed: int = 42, steps: int = 40, load_dir: Path | None = None, **model: Any
) -> InstantHashTrainer:
    """A trainer as ``ns-train`` sets it up, of a small model."""
    config = copy.deepcopy(lite_config())
    small = {"n_levels": 6, "log2_hashmap_size": 14, "finest_resolution": 128, "sample_budget": 8192, "grid_resolution": 32}
    return set_up(config, data, out, seed, steps, load_dir, {**small, **model})


def no_samples(n_rays: int) -> PackedSamples:
    """Of so many rays."""
    none = torch.empty(0)
    info = packed_info_from_counts(torch.zeros(n_rays, dtype=torch.int32))
    return PackedSamples(none, none, torch.empty(0, dtype=torch.int32), info)


@pytest.fixture(scope="module")
def trained(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> InstantHashPipeline:
    """A pipeline after 120 steps, in eval mode."""
    trainer = trainer_for(scene, tmp_path_factory.mktemp("trained"), steps=250)
    trainer.train()
    trainer.pipeline.eval()
    return trainer.pipeline  # type: ignore[return-value]


@pytest.fixture
def model(trained: InstantHashPipeline) -> InstantHashModel:
    """Its model."""
    return trained.model.eval()


def bundle(origins: Tensor, directions: Tensor, **more: Any) -> RayBundle:
    """Rays as nerfstudio hands them over."""
    shape = (*origins.shape[:-1], 1)
    return RayBundle(
        origins=origins, directions=directions, pixel_area=torch.ones(shape),
        camera_indices=torch.zeros(shape, dtype=torch.long), metadata={"directions_norm": torch.ones(shape)}, **more,
    )  # fmt: skip


def rays(count: int = 500, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rays from all around, most of which meet the great sphere."""
    generator = torch.Generator().manual_seed(seed)
    origins = 4.0 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    targets = 0.5 * torch.randn(count, 3, generator=generator)
    return origins, torch.nn.functional.normalize(targets - origins, dim=-1)


def outputs(model: InstantHashModel, *args: Any, **more: Any) -> dict[str, Tensor]:
    """Rendered outputs of rays."""
    with torch.no_grad():
        return model.get_outputs(bundle(*args, **more))


# -- odd bundles of rays


def test_no_rays(model: InstantHashModel) -> None:
    found = outputs(model, torch.zeros(0, 3), torch.zeros(0, 3))
    assert {name: value.shape for name, value in found.items()} == {
        "rgb": (0, 3), "accumulation": (0, 1), "depth": (0, 1), "median_depth": (0, 1), "normals": (0, 3),
    }  # fmt: skip


def test_rays_that_meet_nothing(model: InstantHashModel) -> None:
    origins, directions = rays(64)
    found = outputs(model, origins, -directions)  # away from the box
    assert (found["rgb"] == 1.0).all()  # the white background
    for name in ("accumulation", "depth", "median_depth"):
        assert (found[name] == 0.0).all(), name
    assert (found["normals"] == 0.5).all()


def test_training_on_rays_that_meet_nothing(model: InstantHashModel) -> None:
    model.train()
    try:
        origins, directions = rays(32)
        found = model.get_outputs(bundle(origins, -directions))
        batch = {"image": torch.rand(32, 4)}
        loss = model.get_loss_dict(found, batch)["rgb_loss"]
        assert torch.isfinite(loss)
        assert model.training_step.counts == {"rays": 32, "marched": 0, "kept": 0}
        metrics = model.get_metrics_dict(found, batch)
        assert all(torch.isfinite(value) for value in metrics.values())
        if loss.requires_grad:
            loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.field.parameters() if p.grad is not None)
        for p in model.field.parameters():
            if p.grad is not None:
                p.grad.zero_()
    finally:
        model.eval()


def test_shapes_of_pictures_and_odd_types(model: InstantHashModel) -> None:
    origins, directions = rays(60)
    flat = outputs(model, origins, directions)
    picture = outputs(model, origins.view(6, 10, 3), directions.view(6, 10, 3))
    strided = outputs(model, origins.double().repeat(1, 2)[:, :3], directions.double())
    for name, value in flat.items():
        assert torch.equal(picture[name], value.view(6, 10, -1))
        torch.testing.assert_close(strided[name], value, atol=2e-3, rtol=2e-3)
        assert value.dtype == torch.float32


def test_lengths_of_directions_do_not_count(model: InstantHashModel) -> None:
    origins, directions = rays()
    unit = outputs(model, origins, directions)
    scaled = outputs(model, origins, directions * torch.linspace(0.1, 7.0, len(origins))[:, None])
    # normalising leaves the last bit of a direction: its march may take a sample more or less
    assert (scaled["rgb"] - unit["rgb"]).abs().mean() < 1e-3
    assert (scaled["depth"] - unit["depth"]).abs().median() < 1e-4


def test_near_and_far_cut_the_ray(model: InstantHashModel) -> None:
    origins, directions = rays()
    whole = outputs(model, origins, directions)
    solid = whole["accumulation"][:, 0] > 0.95
    assert solid.sum() > 100
    o, d, depth = origins[solid], directions[solid], whole["median_depth"][solid]
    short = outputs(model, o, d, nears=torch.zeros_like(depth), fars=depth - 0.4)
    assert short["accumulation"].mean() < 0.1
    late = outputs(model, o, d, nears=depth - 0.3, fars=torch.full_like(depth, 1e10))
    torch.testing.assert_close(late["accumulation"].mean(), whole["accumulation"][solid].mean(), atol=0.02, rtol=0)
    assert (late["median_depth"] - depth).abs().median() < 0.02
    # what a crop box gives a ray that misses it, and what ns-render gives for the nearest camera (integers)
    missed = outputs(model, o, d, nears=torch.full_like(depth, 1e10), fars=torch.full_like(depth, 1e10))
    assert (missed["accumulation"] == 0).all()
    assert torch.isfinite(missed["depth"]).all()
    one = outputs(model, o[:1], d[:1], nears=torch.tensor([[0.05]]), fars=torch.tensor([[100]]))
    assert one["accumulation"].item() > 0.9


def test_any_number_of_rays_is_rendered_a_chunk_at_a_time(model: InstantHashModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "RAYS_AT_A_TIME", {"cpu": 128, "other": 128})
    sizes: list[int] = []
    original = model._eval_outputs
    monkeypatch.setattr(model, "_eval_outputs", lambda rays: sizes.append(rays.n_rays) or original(rays))
    origins, directions = rays(500)
    chunked = outputs(model, origins, directions)
    assert sum(sizes) == 500
    assert max(sizes) <= 128
    monkeypatch.undo()
    whole = outputs(model, origins, directions)
    for name in whole:
        # where chunks end decides how many samples a round takes: sums in another order
        assert (chunked[name] - whole[name]).abs().mean() < 2e-3, name


# -- backgrounds and alpha


def test_background_of_pictures_and_of_a_crop(model: InstantHashModel) -> None:
    origins, directions = rays()
    white = outputs(model, origins, directions)
    with renderers.background_color_override_context(torch.tensor([0.0, 1.0, 0.0])):
        green = outputs(model, origins, directions)
    alpha = white["accumulation"]
    torch.testing.assert_close(white["rgb"] - green["rgb"], (1 - alpha) * torch.tensor([1.0, 0.0, 1.0]), atol=1e-5, rtol=0)


def test_rgba_takes_the_background_out_again(model: InstantHashModel) -> None:
    alpha = torch.tensor([[0.0], [0.25], [0.5], [1.0]])
    color = torch.tensor([0.2, 0.4, 0.9]).expand(4, 3)
    given = {"rgb": alpha * color + (1 - alpha), "accumulation": alpha, "depth": torch.rand(4, 1)}
    found = model.get_rgba_image(given)
    torch.testing.assert_close(found[:, 3:], alpha)
    torch.testing.assert_close(found[1:, :3], color[1:], atol=1e-5, rtol=0)
    assert model.get_rgba_image({**given, "normals": color}, "normals").shape == (4, 4)


@pytest.mark.parametrize("kind", ["random", "white", "black"])
def test_background_of_training(kind: str, model: InstantHashModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.plain_background, "trained", kind)
    model.train()
    try:
        color, alpha, (o, d) = torch.rand(64, 3), torch.rand(64, 1), rays(64)
        batch = {"image": torch.cat([color, alpha], -1)}
        traced = Rays(o, d, torch.zeros(64), torch.ones(64))

        def loss(rgbs: Tensor, opacities: Tensor) -> Tensor:
            found = Composited(rgbs, opacities[:, 0], torch.zeros(64), torch.empty(0))
            monkeypatch.setattr(model.training_step, "tracer", lambda rays: Traced(rays, no_samples(64), found, None, 0))
            outputs = model._train_outputs(traced)
            return model.get_loss_dict(outputs, batch)["rgb_loss"]

        # right colour and right alpha: no loss, whatever the background
        assert loss(color * alpha, alpha) < 1e-10
        # the same picture over grey, as haze would make it: alpha counts, but for a background of the same colour
        assert loss(color * alpha + (1 - alpha) * 0.5, torch.ones(64, 1)) > 1e-2
    finally:
        model.eval()


# -- the number of rays


def test_ray_count_follows_the_budget_and_is_capped(trained: InstantHashPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(trained.datamanager, "set_num_rays", counts.append)
    samples = trained.model.training_step.settings.sample_budget
    budget = RayBudget(samples, max_rays=960)
    budget.begin(64)
    monkeypatch.setattr(trained.model.training_step, "budget", budget)

    def train(model: InstantHashModel, bundle: RayBundle, batch: dict[str, Any]) -> Any:
        budget.adapt(*found)
        return {}, {}

    monkeypatch.setattr(captured, "train", train)
    found = (64, 0, 0)  # batch after batch that meets nothing
    for step in range(12):
        trained.get_train_loss_dict(step)
    assert counts[0] == 64 * MAX_GROWTH
    assert counts[-1] == max(counts) == 960
    assert all(count % RAY_MULTIPLE == 0 for count in counts)
    found = (900, 900 * 1024, 900 * 1024)  # and one that is all fog
    trained.get_train_loss_dict(12)
    assert RAY_MULTIPLE <= counts[-1] <= max(RAY_MULTIPLE, samples // 1024)
    found = (100, 3000, 2000)
    for step in range(12):
        trained.get_train_loss_dict(step)
    assert counts[-1] == samples / 20 // RAY_MULTIPLE * RAY_MULTIPLE


# -- the occupancy grid


def grid_of(share: float) -> OccupancyGrid:
    """Two cascades of 32^3 cells."""
    geometry = SceneGeometry(unit_size=2.0, aabb_scale=2)
    return OccupancyGrid(geometry, load_kernels("reference"), 32, share)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_updates_evaluate_their_share_of_the_samples_and_no_more(share: float) -> None:
    grid = grid_of(share)
    asked = 0

    def density(positions: Tensor) -> Tensor:
        nonlocal asked
        asked += len(positions)
        return torch.full(positions.shape[:1], 100.0)

    # the first sweep over the whole grid is for nothing; what follows is paid for
    gift, kept, updates = 2 * 32**3, 0, 0
    for step in range(1500):
        kept += 3000
        updates += grid.count_and_update(step, 3000, density)
        assert asked <= share * kept + gift
    assert updates > 10
    assert asked - gift > 0.2 * share * kept  # and not next to nothing


def test_cells_that_no_camera_sees_stay_empty(tmp_path: Path, clean_writers: None) -> None:
    data = scenes.write_blender(tmp_path / "pair", train=2, val=0, test=1, size=(16, 16))
    trainer = trainer_for(data, tmp_path, steps=20)
    trainer.train()
    grid = trainer.pipeline.model.grid
    unseen = grid.occs == UNSEEN
    # two cameras whose pictures are as wide as the box where its middle is: they leave out much of the nearer half
    assert 0.05 < unseen.float().mean() < 0.5
    assert not grid.binaries.flatten()[unseen].any()
    assert not unseen.view(32, 32, 32)[16, 16, 16]
    centers = (torch.stack(torch.meshgrid(*[torch.arange(32)] * 3, indexing="ij"), -1) + 0.5) / 32 * 3.0 - 1.5
    within, near = torch.zeros(32, 32, 32, dtype=torch.bool), torch.zeros(32, 32, 32, dtype=torch.bool)
    diagonal, margin = 3.0**1.5 / 32, 2 * MARGIN
    for pose in scenes.orbit(2).astype("float32"):
        local = (centers - torch.from_numpy(pose[:3, 3])) @ torch.from_numpy(pose[:3, :3])
        across, edge = local[..., :2].abs().amax(-1), -local[..., 2] * math.tan(0.5 * scenes.FOV)
        within |= across < edge
        near |= across < (1 + margin) * edge + diagonal
    assert not unseen[within.flatten()].any()
    assert (~near).sum() > 300
    assert unseen[~near.flatten()].all()
    before = unseen.clone()
    grid.update(32**3, lambda positions: torch.full(positions.shape[:1], 1e6))
    assert torch.equal(grid.occs == UNSEEN, before)
    assert not grid.binaries.flatten()[before].any()


# -- one seed, one result


def test_the_same_seed_gives_the_same_bits(scene: Path, tmp_path: Path, clean_writers: None) -> None:
    states = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        trainer = trainer_for(scene, tmp_path / name, seed=seed)
        trainer.train()
        states.append({key: value.clone() for key, value in trainer.pipeline.state_dict().items()})
    first, second, other = states
    assert first.keys() == second.keys()
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert differing == []
    assert any("average" in key for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_rendering_leaves_the_model_as_it_is(trained: InstantHashPipeline) -> None:
    model = trained.model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_before = torch.get_rng_state()
    outputs(model, *rays())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_before)


def test_what_is_rendered_is_the_average(model: InstantHashModel) -> None:
    network = model.field.network
    origins, directions = rays(64)
    before = outputs(model, origins, directions)["rgb"]
    kept = network.color_params.detach().clone()
    with torch.no_grad():
        network.color_params.mul_(-1.0)
        assert torch.equal(outputs(model, origins, directions)["rgb"], before)
        network.color_params.copy_(kept)


def test_kernels_that_are_not_installed_end_in_a_sentence(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, device: torch.device) -> Any:
        raise ImportError("The tcnn kernels need the package tinycudann: install it.")

    monkeypatch.setattr(model_module, "choose_kernels", missing)
    with pytest.raises(SystemExit, match="need the package tinycudann") as ended:
        trainer_for(scene, tmp_path, kernels="tcnn")
    assert ended.value.code not in (0, None)


@pytest.mark.parametrize("by_the_optimiser", [True, False])
def test_the_average_is_debiased_and_follows_each_step(model: InstantHashModel, by_the_optimiser: bool) -> None:
    """Whether the optimiser's step brings it up to date or, with an optimiser that cannot, what comes after."""
    network, decay = copy.deepcopy(model.field.network), 0.75
    network.average_count.zero_()
    network.load_state_dict(network.state_dict())
    param = network.color_params
    optimizer = NgpAdam([param], lr=0.1) if by_the_optimiser else torch.optim.SGD([param], lr=0.1)
    values: list[Tensor] = []
    for _ in range(4):
        network.begin_average(decay)
        param.grad = torch.ones_like(param)
        optimizer.step()
        if by_the_optimiser:
            assert param.due is None
        network.finish_average()
        values.append(param.detach().clone())
        weights = torch.tensor([decay**age for age in reversed(range(len(values)))])
        expected = (torch.stack(values) * (weights / weights.sum())[:, None]).sum(0)
        torch.testing.assert_close(network.average_color, expected)
    assert int(network.average_count) == 4


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda scene, out: trainer_for(scene, out, encoding="octree"), "no encoding 'octree'"),
        (lambda scene, out: trainer_for(scene, out, kernels="cuda"), "no kernel set 'cuda'"),
    ],
)
def test_names_that_are_none(build: Callable[[Path, Path], Any], sentence: str, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(scene, tmp_path)


def test_normals_are_left_out_where_nobody_looks_at_them(trained: InstantHashPipeline) -> None:
    """Colours and depths are the same to the bit; normals are grey, in this thread alone."""
    model = trained.model.eval()
    with torch.no_grad():
        whole = model.get_outputs(bundle(*rays(150)))
        with without_normals():
            plain = model.get_outputs(bundle(*rays(150)))
            elsewhere: list[dict[str, Tensor]] = []
            thread = threading.Thread(target=lambda: elsewhere.append(model.get_outputs(bundle(*rays(150)))))
            thread.start()
            thread.join()
    assert set(plain) == set(whole)
    for name in set(whole) - {"normals"}:
        assert torch.equal(plain[name], whole[name]), name
    assert (plain["normals"] == 0.5).all()
    assert not (whole["normals"] == 0.5).all()
    assert torch.equal(elsewhere[0]["normals"], whole["normals"])
