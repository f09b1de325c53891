"""The reference kernels against the oracle, in float64 and float32."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.kernels.spherical import direction_gradient
from support import march_cases, oracle, oracle_volume
from support import tolerances as tol
from support.kernel_cases import array, assert_near, generator, kernels_of

KERNELS = kernels_of("reference")
pytestmark = pytest.mark.parametrize("kernel_set", ["reference"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])

WHOLE_SCALES = (3, 10, 5, 20)
"""levels, log2 T, coarsest, finest: scales 4, 9 and 19; resolutions 5 and 10 are dense, 20 is hashed."""


def _dyadic_positions(n: int) -> Tensor:
    """Multiples of 1/64: exact in every precision, many of them on cell borders, the first two the corners of the
    box."""
    x = torch.randint(0, 65, (n, 3), generator=generator(n)).double() / 64
    x[:1], x[1:2] = 0.0, 1.0
    return x


@DTYPES
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_hash_encode_on_whole_scales(kernel_set: str, features: int, dtype: torch.dtype) -> None:
    levels, log2_table, coarsest, finest = WHOLE_SCALES
    layout = HashGridLayout(levels, features, log2_table, coarsest, finest)
    assert [level.dense for level in layout.levels] == [True, True, False]
    _check_hash_encode(layout, _dyadic_positions(40), dtype, tol.LATTICE_EXACT)


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize(("levels", "log2_table", "finest"), [(1, 8, 16), (4, 6, 300), (16, 10, 2048)])
def test_hash_encode_anywhere(kernel_set: str, levels: int, log2_table: int, finest: int, n_dims: int) -> None:
    layout = HashGridLayout(levels, 2, log2_table, min(16, finest), finest, n_dims)
    x = torch.rand(24, n_dims, generator=generator(levels), dtype=torch.float64)
    _check_hash_encode(layout, x, torch.float64, tol.ORACLE_64)


def _check_hash_encode(layout: HashGridLayout, x: Tensor, dtype: torch.dtype, relative: float) -> None:
    rng = generator(layout.n_params)
    table = (2 * torch.rand(layout.n_params, generator=rng) - 1).to(dtype)
    cotangent = torch.randn(x.shape[0], layout.n_output_dims, generator=rng).to(dtype)
    sizes = (layout.n_levels, layout.log2_hashmap_size, layout.base_resolution, layout.finest_resolution, layout.n_dims)
    levels = oracle.grid_levels(*sizes)
    entries = array(table).reshape(-1, layout.n_features_per_level)
    table.requires_grad_()
    positions = x.to(dtype).requires_grad_()
    features = KERNELS.hash_encode(positions, table, layout)
    (features * cotangent).sum().backward()
    assert features.dtype == dtype
    assert table.grad is not None
    assert positions.grad is not None
    if dtype == torch.float64:
        relative = tol.ORACLE_64
    points, c = array(x), array(cotangent)
    truth = oracle.hash_encode_all(points, entries, levels)
    assert_near(features, torch.from_numpy(truth), relative, "features")
    truth = oracle.hash_table_gradient(points, c, entries.shape, levels)
    terms = oracle.hash_table_gradient(points, np.abs(c), entries.shape, levels)
    bound = (relative + tol.GRADIENT_TERMS * (dtype == torch.float32)) * (terms + 1e-300)
    assert_near(table.grad, torch.from_numpy(truth.reshape(-1)), bound.reshape(-1), "table gradient")
    truth = oracle.hash_position_gradient(points, c, entries, levels)
    # Each feature's slope is scale times differences of up to 2; all of them are added up.
    bound = 4 * relative * np.abs(c).sum(-1, keepdims=True) * levels[-1].scale
    assert_near(positions.grad, torch.from_numpy(truth), bound, "position gradient")


def test_hash_encode_of_nothing(kernel_set: str) -> None:
    layout = HashGridLayout(3, 2, 10, 5, 20)
    table = torch.rand(layout.n_params, requires_grad=True)
    features = KERNELS.hash_encode(torch.zeros(0, 3), table, layout)
    features.sum().backward()
    assert features.shape == (0, 6)
    assert table.grad is not None
    assert not table.grad.any()


@DTYPES
def test_spherical_harmonics(kernel_set: str, dtype: torch.dtype) -> None:
    d = torch.randn(200, 3, generator=generator(1), dtype=torch.float64)
    d = torch.cat([torch.eye(3), -torch.eye(3), torch.nn.functional.normalize(d, dim=-1)]).to(dtype)
    truth = np.array([oracle.spherical_harmonics(row) for row in array(d)])
    bound = tol.SH_64 if dtype == torch.float64 else tol.SH_32
    assert_near(KERNELS.sh_encode(d), torch.from_numpy(truth), bound, "spherical harmonics")


def test_spherical_harmonics_change_along_the_sphere_as_their_gradient_says(kernel_set: str) -> None:
    """Along great circles, where the oracle's angles are defined: central differences, off by step^2 and roundoff / step."""
    rng, step = generator(4), 1e-5
    d = torch.nn.functional.normalize(torch.randn(60, 3, generator=rng, dtype=torch.float64), dim=-1)
    across = torch.nn.functional.normalize(torch.linalg.cross(d, torch.randn(60, 3, generator=rng).double()), dim=-1)
    c = torch.randn(60, 16, generator=rng, dtype=torch.float64)
    leaf = d.clone().requires_grad_()
    (KERNELS.sh_encode(leaf) * c).sum().backward()
    ends = [math.cos(step) * d + sign * math.sin(step) * across for sign in (1, -1)]
    ahead, behind = (np.array([oracle.spherical_harmonics(row) for row in array(end)]) for end in ends)
    truth = ((ahead - behind) / (2 * step) * array(c)).sum(-1)
    assert leaf.grad is not None
    assert_near((leaf.grad * across).sum(-1), torch.from_numpy(truth), 1e-8, "derivative along the sphere")


def test_the_gradient_of_spherical_harmonics_written_out(kernel_set: str) -> None:
    """What the kernels' formula is, against torch's own differentiation of the polynomials; off the sphere, too."""
    d = torch.randn(200, 3, generator=generator(5), dtype=torch.float64)
    c = torch.randn(200, 16, generator=generator(6), dtype=torch.float64)
    leaf = d.clone().requires_grad_()
    (KERNELS.sh_encode(leaf) * c).sum().backward()
    assert leaf.grad is not None
    bound = tol.SH_64 * tol.SH_SLOPE * array(c.abs().sum(-1, keepdim=True)) * max(1.0, float(d.abs().max()) ** 2)
    assert_near(direction_gradient(d, c), leaf.grad, bound, "gradient of directions")


@DTYPES
@pytest.mark.parametrize(("n_in", "n_out", "width", "hidden"), [(32, 16, 64, 1), (32, 3, 64, 2), (20, 5, 16, 3), (3, 1, 32, 1)])
@pytest.mark.parametrize("n", [1, 5])
def test_mlp(kernel_set: str, n_in: int, n_out: int, width: int, hidden: int, n: int, dtype: torch.dtype) -> None:
    layout = MLPLayout(n_in, n_out, width, hidden)
    rng = generator(n, n_in, n_out)
    weights = (torch.randn(layout.n_params, generator=rng) * 0.3).to(dtype).requires_grad_()
    split = n_in // 3
    first = torch.randn(n, split, generator=rng).to(dtype).requires_grad_()
    second = torch.randn(n, n_in - split, generator=rng).to(dtype).requires_grad_()
    cotangent = torch.randn(n, n_out, generator=rng).to(dtype)
    got = KERNELS.mlp([first, second], weights, layout)
    (got * cotangent).sum().backward()
    w, x, c = array(weights), np.concatenate([array(first), array(second)], -1), array(cotangent)
    sizes = (n_in, n_out, width, hidden)

    def check(value: Tensor | None, truth: np.ndarray, what: str) -> None:
        assert value is not None
        relative = tol.ORACLE_64 if dtype == torch.float64 else tol.MLP_32
        assert_near(value, torch.from_numpy(truth), relative * max(tol.rms(truth), np.abs(truth).max() / 4), what)

    check(got, oracle.mlp(x, w, *sizes), "outputs")
    check(weights.grad, oracle.complex_step(lambda v: (oracle.mlp(x, v, *sizes) * c).sum(), w), "weight gradient")
    truth = oracle.complex_step(lambda v: (oracle.mlp(v, w, *sizes) * c).sum(), x)
    check(first.grad, truth[:, :split], "gradient of the first part")
    check(second.grad, truth[:, split:], "gradient of the second part")


def test_mlp_rows_are_the_first_outputs(kernel_set: str) -> None:
    layout = MLPLayout(32, 16)
    weights, x = torch.randn(layout.n_params), torch.randn(7, 32)
    assert torch.equal(KERNELS.mlp([x], weights, layout, rows=3), KERNELS.mlp([x], weights, layout)[:, :3])


@DTYPES
@pytest.mark.parametrize(("scale", "forced"), [(1, False), (1, True), (2, False), (2, True), (8, False), (128, False)])
def test_march(kernel_set: str, scale: int, forced: bool, dtype: torch.dtype) -> None:
    kind = march_cases.ForcedCone if forced else SceneGeometry
    geometry = kind((0.25, -0.5, 0.0), 2.0, scale)
    case = march_cases.make(geometry, 0.05, count=8)
    if dtype == torch.float64:
        case = case.double()
    limit = 1 << 16
    samples, resume = case.march(KERNELS, limit)
    assert samples.n_samples > 100
    share = march_cases.compare(case, samples, resume, limit)
    assert dtype == torch.float32 or share == 0.0


def _ray_batch(counts: list[int], dtype: torch.dtype) -> tuple[PackedSamples, Tensor, Tensor]:
    """Samples with gaps between them, densities from thin to opaque (some exactly zero), colours."""
    rng = generator(*counts)
    n = sum(counts)
    number = torch.tensor(counts)
    starts = torch.rand(n, generator=rng, dtype=torch.float64).cumsum(0) * 0.3
    ends = starts + 0.2 * torch.rand(n, generator=rng, dtype=torch.float64)
    sigmas = torch.exp(6 * torch.randn(n, generator=rng, dtype=torch.float64)).clamp(max=80)
    sigmas[torch.rand(n, generator=rng) < 0.1] = 0.0
    samples = PackedSamples(starts.to(dtype), ends.to(dtype), ray_indices_from_counts(number), packed_info_from_counts(number))
    return samples, sigmas.to(dtype), torch.rand(n, 3, generator=rng).to(dtype)


@DTYPES
def test_composite(kernel_set: str, dtype: torch.dtype) -> None:
    samples, sigmas, rgbs = _ray_batch([3, 0, 1, 12, 25, 0], dtype)
    rng = generator(7)
    c = torch.randn(samples.n_rays, 5, generator=rng).to(dtype)
    c_weights = torch.randn(samples.n_samples, generator=rng).to(dtype)
    sigmas.requires_grad_()
    rgbs.requires_grad_()
    got = KERNELS.composite(sigmas, rgbs, samples)
    sums = torch.cat([got.rgbs, got.opacities[:, None], got.depths[:, None]], -1)
    ((sums * c).sum() + (got.weights * c_weights).sum()).backward()
    assert sigmas.grad is not None
    assert rgbs.grad is not None
    exact = dtype == torch.float64
    s, rgb, begin, end = (array(v) for v in (sigmas, rgbs, samples.t_starts, samples.t_ends))
    for ray, (first, count) in enumerate(samples.packed_info.tolist()):
        part = slice(first, first + count)
        args = (s[part], rgb[part], begin[part], end[part])
        largest = 1.0 + np.abs(end).max()
        bound = tol.ORACLE_64 if exact else tol.COMPOSITE_32 * largest
        assert_near(sums[ray], torch.tensor(oracle_volume.composite(*args)), bound, f"sums of ray {ray}")
        truth = np.array(oracle_volume.weights(args[0], args[3] - args[2])).reshape(-1)
        assert_near(got.weights[part], torch.from_numpy(truth), bound, f"weights of ray {ray}")

        def loss(sigma: np.ndarray, rgb: np.ndarray, ray: int = ray, args: tuple = args, part: slice = part) -> complex:
            found = sum(k * v for k, v in zip(array(c)[ray], oracle_volume.composite(sigma, rgb, *args[2:])))
            own = oracle_volume.weights(sigma, args[3] - args[2])
            return found + sum(k * v for k, v in zip(array(c_weights)[part], own))

        bound = tol.ORACLE_64 if exact else tol.COMPOSITE_GRADIENT_32 * largest
        truth = oracle.complex_step(lambda v, a=args: loss(v, a[1]), args[0])
        assert_near(sigmas.grad[part], torch.from_numpy(truth), bound, f"density gradient of ray {ray}")
        truth = oracle.complex_step(lambda v, a=args: loss(a[0], v), args[1])
        assert_near(rgbs.grad[part], torch.from_numpy(truth), bound, f"colour gradient of ray {ray}")


@pytest.mark.parametrize("threshold", [1e-4, 0.01, 0.5])
def test_visible_counts(kernel_set: str, threshold: float) -> None:
    samples, sigmas, _ = _ray_batch([5, 0, 40, 1, 30], torch.float64)
    got = KERNELS.visible_counts(sigmas, samples, threshold)
    assert got.dtype == torch.int32
    s, lengths = array(sigmas), array(samples.t_ends - samples.t_starts)
    for ray, (first, count) in enumerate(samples.packed_info.tolist()):
        part = slice(first, first + count)
        assert got[ray] == oracle_volume.visible(s[part], lengths[part], threshold)


def test_keep_first_and_spread(kernel_set: str) -> None:
    samples, sigmas, rgbs = _ray_batch([3, 0, 1, 4], torch.float64)
    kept, (some, more) = KERNELS.keep_first(samples, torch.tensor([2, 0, 1, 0]).int(), [sigmas[:, None], rgbs])
    assert kept.packed_info.tolist() == [[0, 2], [2, 0], [2, 1], [3, 0]]
    assert kept.ray_indices.tolist() == [0, 0, 2]
    for got, whole in (
        (kept.t_starts, samples.t_starts),
        (kept.t_ends, samples.t_ends),
        (some, sigmas[:, None]),
        (more, rgbs),
    ):
        assert torch.equal(got, whole[[0, 1, 3]])
    per_ray = torch.arange(8.0).view(4, 2)
    assert KERNELS.spread(per_ray, samples).tolist() == [[0, 1]] * 3 + [[4, 5]] + [[6, 7]] * 4


@DTYPES
def test_sums_of_runs_and_their_gradients(kernel_set: str, dtype: torch.dtype) -> None:
    """Against sums written out; the gradient of each of the two is the other, by the complex step."""
    counts = [3, 0, 1, 12, 25, 0]
    samples, _, values = _ray_batch(counts, dtype)
    c = torch.randn(len(counts), 3, generator=generator(3)).to(dtype)
    leaf = values.clone().requires_grad_()
    got = KERNELS.sum_runs(leaf, samples)
    (got * c).sum().backward()
    bound = tol.ORACLE_64 if dtype == torch.float64 else 25 * tol.GRADIENT_TERMS
    assert got.dtype == dtype
    assert_near(got, torch.from_numpy(oracle_volume.run_sums(array(values), counts)), bound, "sums")
    truth = oracle.complex_step(lambda v: (oracle_volume.run_sums(v, counts) * array(c)).sum(), array(values))
    assert leaf.grad is not None
    assert_near(leaf.grad, torch.from_numpy(truth), tol.ORACLE_64, "gradient of the sums")
    per_ray = c.clone().requires_grad_()
    KERNELS.spread(per_ray, samples).backward(values)
    assert per_ray.grad is not None
    assert torch.equal(per_ray.grad, got)


def test_average(kernel_set: str) -> None:
    average, value = torch.tensor([1.0, -2.0]).double(), torch.tensor([3.0, 2.0]).double()
    KERNELS.average(average, value, 0.25)
    assert average.tolist() == [1.5, -1.0]


def test_points(kernel_set: str) -> None:
    samples, _, _ = _ray_batch([4, 0, 3], torch.float64)
    geometry = SceneGeometry((0.5, -1.0, 2.0), 1.5, 2)
    o = torch.randn(3, 3, generator=generator(2), dtype=torch.float64)
    d = torch.nn.functional.normalize(torch.randn(3, 3, generator=generator(3), dtype=torch.float64), dim=-1)
    got = KERNELS.points(o.requires_grad_(), d.requires_grad_(), samples, geometry)
    c = torch.randn(got.shape, generator=generator(4), dtype=torch.float64)
    (got * c).sum().backward()
    d_o, d_d = np.zeros((3, 3)), np.zeros((3, 3))
    for i, ray in enumerate(samples.ray_indices.tolist()):
        for axis in range(3):
            t = (samples.t_starts[i].item() + samples.t_ends[i].item()) / 2
            world = o[ray, axis].item() + t * d[ray, axis].item()
            unit = (world - geometry.center[axis]) / (1.5 * 2) + 0.5
            assert got[i, axis].item() == pytest.approx(min(max(unit, 0.0), 1.0), abs=1e-14)
            if 0.0 < unit < 1.0:
                d_o[ray, axis] += c[i, axis].item() / 3.0
                d_d[ray, axis] += c[i, axis].item() / 3.0 * t
    assert 0 < int(((got > 0) & (got < 1)).sum()) < got.numel(), "some are clamped, some are not"
    for what, value, truth in (("origins", o.grad, d_o), ("directions", d.grad, d_d)):
        assert value is not None
        assert_near(value, torch.from_numpy(truth), tol.ORACLE_64, what)


@DTYPES
@pytest.mark.parametrize("l2", [0.0, 1e-2])
def test_adam(kernel_set: str, l2: float, dtype: torch.dtype) -> None:
    rng = generator(5)
    start = torch.randn(64, generator=rng).to(dtype)
    gradients = [(torch.randn(64, generator=rng) * (torch.rand(64, generator=rng) < 0.4)).to(dtype) for _ in range(12)]
    settings = AdamSettings(learning_rate=1e-2, l2_reg=l2)
    truth = oracle.adam(array(start), [array(g) for g in gradients], l2=l2, **_without_l2(settings))
    param, state = start.clone(), AdamState(torch.zeros_like(start), torch.zeros_like(start), torch.zeros(64).short())
    for gradient in gradients:
        KERNELS.adam_step(param, gradient, state, settings)
        assert not gradient.any(), "the gradient is cleared"
    for what, got, wanted in zip(
        ("values", "first moments", "second moments", "steps"),
        (param, state.exp_avg, state.exp_avg_sq, state.steps),
        truth,
    ):
        bound = (tol.ORACLE_64 if dtype == torch.float64 else tol.ADAM_32) * np.abs(wanted).max()
        assert_near(got, torch.from_numpy(wanted), 0.0 if what == "steps" else bound, what)


def _without_l2(settings: AdamSettings) -> dict[str, float]:
    values = dataclasses.asdict(settings)
    return {"rate": values["learning_rate"], **{k: values[k] for k in ("beta1", "beta2", "epsilon")}}


def test_spherical_harmonics_are_orthonormal(kernel_set: str) -> None:
    """Monte Carlo: 4 pi times the mean of Y_i Y_j is the identity within STANDARD_ERRORS of its standard error."""
    d = torch.nn.functional.normalize(torch.randn(100_000, 3, generator=generator(9), dtype=torch.float64), dim=-1)
    values = KERNELS.sh_encode(d)
    products = 4 * math.pi * values[:, :, None] * values[:, None, :]
    error = (products.mean(0) - torch.eye(16)).abs()
    allowed = tol.STANDARD_ERRORS * products.std(0) / math.sqrt(d.shape[0])
    assert (error <= allowed + 1e-12).all(), f"worst: {(error - allowed).max().item():.3g} beyond"
    assert allowed.max() < 0.05
