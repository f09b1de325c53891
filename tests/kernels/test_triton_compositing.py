"""What is special to compositing and packing on Triton: the round of rendering as one kernel, padding, the block sizes of a
GPU, and features in any layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.gathering import nothing_gathered
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.kernels.triton import compositing, marching, packing, packing_kernels, ray_sums, runs
from ngp_method.kernels.triton import compositing_kernels as kernels
from support import tolerances as tol
from support.kernel_cases import (
    assert_near,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
)

pytestmark = pytest.mark.usefixtures("nan_memory")

REFERENCE = kernels_of("reference")
CPU = torch.device("cpu")


@pytest.fixture
def gpu_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rays and sixteen samples a tile: several programs, several tiles a ray."""
    for module in (kernels, packing_kernels, ray_sums):
        monkeypatch.setattr(module, "interpreted", lambda: False)


def _batch(counts: list[int], seed: int = 0, opaque: float = 80.0) -> tuple[PackedSamples, Tensor, Tensor]:
    """Samples, densities (a tenth of them zero) and colours of rays with that many samples."""
    rng = generator(sum(counts), len(counts), seed)
    n, runs = sum(counts), torch.tensor(counts)
    info, rays = packed_info_from_counts(runs), ray_indices_from_counts(runs)
    lengths = torch.rand(n, generator=rng) * 0.05 + 1e-3
    starts = (lengths + 0.1 * torch.rand(n, generator=rng)).cumsum(0) - lengths
    if n:
        starts = starts - starts[info[:, 0].long().clamp(max=n - 1)][rays.long()] + 0.1
    sigmas = torch.exp(3 * torch.randn(n, generator=rng)).clamp(max=opaque)
    sigmas[torch.rand(n, generator=rng) < 0.1] = 0.0
    return PackedSamples(starts, starts + lengths, rays, info), sigmas, torch.rand(n, 3, generator=rng)


def _double(samples: PackedSamples) -> PackedSamples:
    return PackedSamples(samples.t_starts.double(), samples.t_ends.double(), samples.ray_indices, samples.packed_info)


def _with_gradients(kernels, sigmas, rgbs, samples, c, c_weights=None):  # type: ignore[no-untyped-def]
    s, rgb = sigmas.clone().requires_grad_(), rgbs.clone().requires_grad_()
    out = kernels.composite(s, rgb, samples)
    loss = (out.rgbs * c[:, :3]).sum() + (out.opacities * c[:, 3]).sum() + (out.depths * c[:, 4]).sum()
    (loss if c_weights is None else loss + (out.weights * c_weights).sum()).backward()
    return [*(v.detach() for v in (out.rgbs, out.opacities, out.depths, out.weights)), s.grad, rgb.grad]


@pytest.mark.usefixtures("gpu_sizes")
@pytest.mark.parametrize("with_weights", [False, True])
def test_runs_around_the_size_of_a_tile(with_weights: bool) -> None:
    samples, sigmas, rgbs = _batch([15, 16, 17, 0, 1, 33, 0, 0, 64, 2], opaque=10.0)
    c = torch.randn(samples.n_rays, 5, generator=generator(1))
    d = torch.randn(samples.n_samples, generator=generator(2)) if with_weights else None
    got = _with_gradients(compositing, sigmas, rgbs, samples, c, d)
    doubles = (sigmas.double(), rgbs.double(), _double(samples), c.double(), None if d is None else d.double())
    truth = _with_gradients(REFERENCE, *doubles)
    reach = 1.0 + float(samples.t_ends.max())
    for number, (value, exact) in enumerate(zip(got, truth)):
        value_of = float(c.abs().sum(-1).max()) + (0.0 if d is None else float(d.abs().max()))
        largest = reach * value_of if number > 3 else reach
        assert_near(value, exact, tol.COMPOSITE_GRADIENT_32 * largest, str(number))
    for threshold in (1e-4, 0.3):
        counts = compositing.visible_counts(sigmas, samples, threshold)
        assert torch.equal(counts, REFERENCE.visible_counts(sigmas.double(), _double(samples), threshold))


def test_thin_samples_keep_their_precision() -> None:
    """Weights of 1e-9 are right to float32's precision, not to that of 1 - exp(-x)."""
    samples, _, rgbs = _batch([60], opaque=1.0)
    for size in (1e-8, 1e-4, 1e-2, 1.0, 10.0):
        sigmas = torch.full((60,), size)
        got = compositing.composite(sigmas, rgbs, samples).weights.double()
        exact = REFERENCE.composite(sigmas.double(), rgbs.double(), _double(samples)).weights
        visible = exact > 1e-7 * exact.max()
        assert ((got - exact).abs() <= tol.COMPOSITE_32 * exact)[visible].all()


# -- padding


def _padded(samples: PackedSamples, more: int) -> PackedSamples:
    """With slots that hold no sample, as a capacity leaves them."""
    n = samples.n_samples
    padded = packing.empty_samples(samples.packed_info, n + more)
    padded.t_starts[:n], padded.t_ends[:n], padded.ray_indices[:n] = samples.t_starts, samples.t_ends, samples.ray_indices
    packing.pad(padded)
    return padded


@pytest.mark.usefixtures("gpu_sizes")
@pytest.mark.parametrize("more", [1, 700])
@pytest.mark.parametrize("counts", [[3, 0, 20, 7], [0, 5, 0], [0, 0]])
def test_padding_changes_nothing(counts: list[int], more: int) -> None:
    """Whatever the field makes of padding: no weight, no gradient, and the rays are as without it."""
    samples, sigmas, rgbs = _batch(counts)
    n = samples.n_samples
    padded = _padded(samples, more)
    more_sigmas = torch.cat([sigmas, torch.full((more,), 5.0)])
    more_rgbs = torch.cat([rgbs, torch.rand(more, 3, generator=generator(more))])
    c = torch.randn(len(counts), 5, generator=generator(2))
    d = torch.randn(n + more, generator=generator(3))  # of padding, too: its weight is zero whatever its density
    plain = _with_gradients(compositing, sigmas, rgbs, samples, c, d[:n])
    got = _with_gradients(compositing, more_sigmas, more_rgbs, padded, c, d)
    for value, wanted in zip(got, plain):
        if value.shape == wanted.shape:
            assert torch.equal(value, wanted)
        else:
            assert torch.equal(value[:n], wanted)
            assert (value[n:] == 0).all()
    assert torch.equal(compositing.visible_counts(more_sigmas, padded, 0.5), compositing.visible_counts(sigmas, samples, 0.5))
    # So do kernels that know nothing of padding.
    again = _with_gradients(REFERENCE, more_sigmas, more_rgbs, padded, c, d)
    for value, wanted in zip(again, _with_gradients(REFERENCE, sigmas, rgbs, samples, c, d[:n])):
        assert torch.allclose(value[: wanted.shape[0]], wanted)
        assert (value[wanted.shape[0] :] == 0).all()


@pytest.mark.parametrize("more", [0, 1, 700])
@pytest.mark.parametrize("counts", [[15, 16, 17, 0, 1, 33, 0, 0, 64, 2], [0, 5, 0], [0, 0]], ids=str)
@pytest.mark.parametrize("kernel_set", ["triton", "reference"])
def test_sums_of_runs_do_not_read_padding(kernel_set: str, counts: list[int], more: int, gpu_sizes: None) -> None:
    """What lies there, NaN too, has no part in sums and gets no gradient; nor does what flows back from it to a ray."""
    samples, _, _ = _batch(counts)
    n, sets, padded = samples.n_samples, kernels_of(kernel_set), _padded(samples, more)
    values, per_ray = torch.randn(n, 5, generator=generator(n)), torch.randn(len(counts), 5, generator=generator(n, 1))
    filled = torch.cat([values, torch.full((more, 5), float("nan"))])
    plain, leaf = values.clone().requires_grad_(), filled.clone().requires_grad_()
    wanted, got = sets.sum_runs(plain, samples), sets.sum_runs(leaf, padded)
    assert torch.equal(got, wanted)
    (got * per_ray).sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad[:n], per_ray[samples.ray_indices.long()])
    assert (leaf.grad[n:] == 0).all()
    features = per_ray.clone().requires_grad_()
    sets.spread(features, padded).backward(filled)
    assert features.grad is not None
    assert torch.equal(features.grad, wanted)


@pytest.mark.parametrize("more", [1, 700])
def test_gradients_of_points_do_not_read_padding(more: int, gpu_sizes: None) -> None:
    samples, _, _ = _batch([15, 16, 17, 0, 1, 33, 0, 0, 64, 2])
    o = 0.1 * torch.randn(samples.n_rays, 3, generator=generator(1))
    d = torch.nn.functional.normalize(torch.randn(samples.n_rays, 3, generator=generator(2)), dim=-1)
    c, found = torch.randn(samples.n_samples, 3, generator=generator(3)), []
    for kernels_used, chosen, upstream in (
        (marching, samples, c),
        (marching, _padded(samples, more), torch.cat([c, torch.full((more, 3), float("nan"))])),
        (REFERENCE, samples, c),
        (REFERENCE, _padded(samples, more), torch.cat([c, torch.ones(more, 3)])),
    ):
        leaves = [o.clone().requires_grad_(), d.clone().requires_grad_()]
        kernels_used.points(*leaves, chosen, SceneGeometry(aabb_scale=4)).backward(upstream)
        found.append([leaf.grad for leaf in leaves])
    for one, padded in (found[:2], found[2:]):
        for got, wanted in zip(padded, one):
            assert torch.equal(got, wanted)
    for got, wanted in zip(found[0], found[2]):
        torch.testing.assert_close(got, wanted)


# -- features


def _layouts(n: int, n_features: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same numbers side by side, in rows, and as a part of something wider."""
    values = torch.randn(n, n_features, generator=generator(n, n_features)).to(dtype)
    wide = torch.full((n, 2 * n_features), float("nan"), dtype=dtype)
    wide[:, ::2] = values
    return {"rows": values.t().contiguous().t(), "side by side": values, "every other": wide[:, ::2]}


@pytest.mark.usefixtures("gpu_sizes")
@pytest.mark.parametrize("n_features", [1, 3, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_features_of_any_layout(n_features: int, dtype: torch.dtype) -> None:
    samples, _, _ = _batch([5, 0, 130, 9, 1])
    counts = torch.tensor([2, 0, 128, 9, 0], dtype=torch.int32)
    index = torch.cat([torch.arange(2), torch.arange(5, 133), torch.arange(135, 144)])
    for layout, features in _layouts(samples.n_samples, n_features, dtype).items():
        _, (kept,) = packing.keep_first(samples, counts, [features])
        assert kept.dtype == dtype
        assert runs.in_runs(kept), layout
        assert torch.equal(kept, features[index]), layout
    for layout, features in _layouts(samples.n_rays, n_features, dtype).items():
        spread = packing.RUNS.spread(features, samples)
        assert spread.dtype == dtype
        assert runs.in_runs(spread), layout
        assert torch.equal(spread, features[samples.ray_indices.long()]), layout


@pytest.mark.parametrize("counts", [[5, 0, 130, 9, 1], [1], [0, 15, 2], [16, 16]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whatever_goes_by_samples_lies_in_runs(counts: list[int], dtype: torch.dtype) -> None:
    """Also where N is no multiple of 16: who reads it then takes whole vectors, and is compiled for nothing else."""
    samples, sigmas, rgbs = _batch(counts)
    n, halves = samples.n_samples, (samples.packed_info[:, 1] + 1) // 2
    features = torch.randn(n, 5, generator=generator(n)).to(dtype)
    of_rays = torch.randn(samples.n_rays, 16, generator=generator(n, 1)).to(dtype)
    padded = {"capacity": n + 3}
    leaf = rgbs.clone().requires_grad_()
    (d_rgbs,) = torch.autograd.grad(compositing.composite(sigmas, leaf, samples).rgbs.sum(), leaf)
    directions = torch.nn.functional.normalize(torch.randn(samples.n_rays, 3, generator=generator(n, 2)), dim=-1)
    found = {
        "first": packing.keep_first(samples, halves, [features, rgbs])[1],
        "first, padded": packing.keep_first(samples, halves, [features, rgbs], **padded)[1],
        "spread": [packing.RUNS.spread(of_rays, samples)],
        "positions": [marching.points(torch.zeros(samples.n_rays, 3), directions, samples, SceneGeometry())],
        "gradient of colours": [d_rgbs],
    }
    for what, tensors in found.items():
        for tensor in tensors:
            assert runs.in_runs(tensor), what
            assert torch.isfinite(tensor).all(), what


@pytest.mark.parametrize("room", [0, 1, 300])
@pytest.mark.parametrize("already", [0, 50])
def test_keeping_with_a_capacity(room: int, already: int) -> None:
    """As without one, and then padding; also of samples that are padded themselves."""
    samples, _, _ = _batch([5, 0, 40, 9, 1])
    counts = torch.tensor([2, 0, 40, 3, 1], dtype=torch.int32)
    features = torch.randn(samples.n_samples + already, 3, generator=generator(3))
    halves = features.to(torch.bfloat16)
    wanted, (exact,) = packing.keep_first(samples, counts, [features[: samples.n_samples]])
    m = int(counts.sum())
    kept, (got, got_halves) = packing.keep_first(_padded(samples, already), counts, [features, halves], capacity=m + room)
    assert kept.n_samples == got.shape[0] == m + room
    assert torch.equal(kept.packed_info, wanted.packed_info)
    for name in ("t_starts", "t_ends", "ray_indices"):
        assert torch.equal(getattr(kept, name)[:m], getattr(wanted, name)), name
        assert (getattr(kept, name)[m:] == (samples.n_rays - 1 if name == "ray_indices" else 0)).all(), name
    assert torch.equal(got[:m], exact)
    assert torch.equal(got_halves[:m], exact.to(torch.bfloat16))
    assert (got[m:] == 0).all()
    assert (got_halves[m:] == 0).all()


# -- rounds of rendering


@pytest.mark.parametrize("index_type", [torch.int64, torch.int32])
@pytest.mark.parametrize("sizes", ["interpreter", "gpu"])
def test_accumulate_is_a_round_of_rendering(sizes: str, index_type: torch.dtype, request: pytest.FixtureRequest) -> None:
    """Three rounds, over fewer and fewer rays, against the reference's."""
    if sizes == "gpu":
        request.getfixturevalue("gpu_sizes")
    n_rays, least = 23, 1e-2
    rng = generator(7)
    mine, truth = nothing_gathered(n_rays, CPU), nothing_gathered(n_rays, CPU)
    t, t_max = torch.zeros(n_rays), torch.full((n_rays,), 10.0)
    alive, halfway = torch.arange(n_rays), 0
    for turn in range(3):
        counts = torch.randint(0, 30, alive.shape, generator=rng).tolist()
        samples, sigmas, rgbs = _batch(counts, seed=turn, opaque=20.0)
        resume = torch.where(torch.rand(alive.shape, generator=rng) < 0.2, t_max[alive] + 0.1, float(turn))
        before, there = truth.opacities[alive].clone(), torch.zeros(n_rays)
        plain, plain_on = REFERENCE.accumulate(truth, alive, sigmas, rgbs, samples, resume, there, t_max, least, 0.5)
        weights, goes_on = compositing.accumulate(
            mine, alive.to(index_type), sigmas, rgbs, samples, resume, t, t_max, least, 0.5
        )
        alone = REFERENCE.composite(sigmas, rgbs, samples).weights * (1 - before)[samples.ray_indices.long()]
        for name, found in (("weights", weights), ("the reference's", plain)):
            assert_near(found, alone, tol.COMPOSITE_32, name)
        assert torch.equal(t[alive], resume)
        assert torch.equal(there[alive], resume)
        assert torch.equal(goes_on, (resume < t_max[alive]) & (1 - truth.opacities[alive] > least))
        assert torch.equal(goes_on, plain_on)
        halfway += int(((truth.opacities[alive] >= 0.5) & (before < 0.5)).sum())
        alive = alive[goes_on]
    assert 0 < alive.numel() < n_rays
    assert halfway > 5, "some rays become half opaque, in this round or that"
    reach = 1.0 + float(truth.depths.max())
    assert_near(mine.rgbs, truth.rgbs, 3 * tol.COMPOSITE_32, "colours")
    assert_near(mine.opacities, truth.opacities, 3 * tol.COMPOSITE_32, "opacities")
    assert_near(mine.depths, truth.depths, 3 * tol.COMPOSITE_32 * reach, "depths")
    assert_near(mine.median_depths, truth.median_depths, tol.COMPOSITE_32 * reach, "median depths")
    assert torch.equal(mine.n_samples, truth.n_samples)


def test_accumulate_where_there_is_nothing() -> None:
    """A round without samples ends the rays that have none left, one without rays does nothing."""
    gathered = nothing_gathered(4, CPU)
    samples, sigmas, rgbs = _batch([0, 0])
    t, t_max = torch.zeros(4), torch.ones(4)
    rays, resume = torch.tensor([3, 1]), torch.tensor([0.5, 1.5])
    weights, alive = compositing.accumulate(gathered, rays, sigmas, rgbs, samples, resume, t, t_max, 1e-4, 0.5)
    assert weights.shape == (0,)
    assert alive.tolist() == [True, False]
    assert t.tolist() == [0.0, 1.5, 0.0, 0.5]
    assert all(float(v.abs().sum()) == 0 for v in (gathered.rgbs, gathered.opacities, gathered.depths, gathered.median_depths))
    samples, sigmas, rgbs = _batch([])
    weights, alive = compositing.accumulate(gathered, rays[:0], sigmas, rgbs, samples, resume[:0], t, t_max, 1e-4, 0.5)
    assert weights.shape == alive.shape == (0,)


def test_the_median_where_rounding_disagrees() -> None:
    """One sample that makes the ray half opaque to the last bit: it is the median."""
    samples = PackedSamples(
        torch.tensor([1.0]), torch.tensor([2.0]), torch.zeros(1, dtype=torch.int32), torch.tensor([[0, 1]]).int()
    )
    for sigma in (0.6931471, 0.6931472, 0.6931473):
        gathered = nothing_gathered(1, CPU)
        compositing.accumulate(
            gathered, torch.zeros(1, dtype=torch.int64), torch.tensor([sigma]), torch.ones(1, 3), samples,
            torch.ones(1), torch.zeros(1), torch.ones(1), 1e-4, 0.5,
        )  # fmt: skip
        assert float(gathered.median_depths) == (1.5 if float(gathered.opacities) >= 0.5 else 0.0)
