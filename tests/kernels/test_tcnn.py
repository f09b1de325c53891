"""The adapter to tiny-cuda-nn: on the real package where it is installed, else on a stand-in with its interface."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ngp_method.kernels import Kernels, load_kernels, tcnn, tcnn_volume
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.samples import PackedSamples, packed_info_from_counts, ray_indices_from_counts
from support import tcnn_stand_in
from support import tolerances as tol
from support.kernel_cases import assert_near, assert_no_worse, generator, kernels_of

pytestmark = pytest.mark.parametrize("kernel_set", ["tcnn"])

REFERENCE = kernels_of("reference")
SIZES = (0, 1, 31, 1000)
MIXED = HashGridLayout(3, 2, 10, 5, 20)
COLOUR = MLPLayout(32, 3, 64, 2)


def _real() -> bool:
    try:
        importlib.import_module("tinycudann")
    except Exception:
        return False
    return True


DEVICE = "cuda" if _real() else "cpu"


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """tinycudann can be imported: the real one, or the stand-in."""
    if DEVICE == "cpu":
        monkeypatch.setitem(sys.modules, "tinycudann", tcnn_stand_in)
    tcnn.forget_modules()
    yield
    tcnn.forget_modules()


def _run(kernels: Kernels, kind: str, layout: HashGridLayout | MLPLayout, inputs: list[Tensor], c: Tensor) -> list[Tensor]:
    """Values and the gradients of vector and inputs; ``half``: as plain torch does it in float16."""
    leaves = [v.clone().requires_grad_() for v in inputs]
    params, *rest = [v.half().float() for v in leaves] if kind == "half" else leaves
    if isinstance(layout, HashGridLayout):
        out = kernels.hash_encode(rest[0], params, layout)
        out = out.half().float() if kind == "half" else out
    elif kind == "half":
        out = kernels.mlp([v.half() for v in rest], params.half(), layout).float()
    else:
        out = kernels.mlp(rest, params, layout)
    out.backward(c.to(out.dtype))
    return [v.detach().cpu() for v in (out, *[leaf.grad for leaf in leaves if leaf.grad is not None])]


def _compare(kernels: Kernels, layout: HashGridLayout | MLPLayout, inputs: list[Tensor], c: Tensor) -> list[Tensor]:
    got = _run(kernels, "tcnn", layout, [v.to(DEVICE) for v in inputs], c.to(DEVICE))
    truth = _run(REFERENCE, "double", layout, [v.double() for v in inputs], c.double())
    plain = _run(REFERENCE, "half", layout, inputs, c)
    assert len(got) == len(truth) == 1 + len(inputs)
    names = ("values", "parameter gradient", "first input's gradient", "second input's gradient")
    for what, mine, rounded, exact in zip(names, got, plain, truth):
        assert mine.dtype == torch.float32
        assert_no_worse(mine, rounded, exact, what)
    return got


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_hash_grid(kernel_set: str, n: int, features: int, n_dims: int) -> None:
    layout, rng = replace(MIXED, n_features_per_level=features, n_dims=n_dims), generator(n, features)
    x = torch.randint(0, 65, (n, n_dims), generator=rng).float() / 64
    table, c = torch.randn(layout.n_params, generator=rng), torch.randn(n, layout.n_output_dims, generator=rng)
    _compare(load_kernels(kernel_set), layout, [table, x], c)


@pytest.mark.parametrize("layout", [COLOUR, MLPLayout(32, 16), MLPLayout(20, 5, 16, 3), MLPLayout(48, 20, 128, 1)])
@pytest.mark.parametrize("n", SIZES)
def test_mlp(kernel_set: str, n: int, layout: MLPLayout) -> None:
    rng = generator(n, layout.n_params)
    parts = [torch.randn(n, width, generator=rng) for width in (12, layout.n_input_dims - 12)]
    weights = torch.randn(layout.n_params, generator=rng) * (2 / layout.n_neurons) ** 0.5
    c = torch.randn(n, layout.n_output_dims, generator=rng)
    gradient = _compare(load_kernels(kernel_set), layout, [weights, *parts], c)[1]
    # tiny-cuda-nn would pad inputs with ones, and so make biases of the columns beyond ours.
    first = gradient[: layout.n_neurons * layout.padded_input].view(layout.n_neurons, -1)
    assert not first[:, layout.n_input_dims :].any()
    assert not gradient[layout.offsets[-1] :].view(layout.padded_output, -1)[layout.n_output_dims :].any()


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_fewer_rows(kernel_set: str, rows: int) -> None:
    kernels, weights, x = load_kernels(kernel_set), torch.randn(COLOUR.n_params), torch.randn(40, 32)
    out = kernels.mlp([x.to(DEVICE)], weights.to(DEVICE), COLOUR, rows=rows)
    whole = kernels.mlp([x.to(DEVICE)], weights.to(DEVICE), COLOUR, rows=16)
    assert out.shape == (40, rows)
    assert torch.equal(out, whole[:, :rows])


def test_harmonics_take_unit_directions(kernel_set: str) -> None:
    kernels = load_kernels(kernel_set)
    for n in SIZES:
        d = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator(n)), dim=-1)
        got = kernels.dense_features(kernels.sh_encode(d.to(DEVICE))).cpu()
        assert_near(got, REFERENCE.sh_encode(d.double()), 2.0**-10, "float16 harmonics, up to 1.1")
        # The gradient is not tiny-cuda-nn's, and of float32's precision.
        leaf, exact = d.to(DEVICE, copy=True).requires_grad_(), d.double().requires_grad_()
        c = torch.randn(n, 16, generator=generator(n, 1))
        kernels.sh_encode(leaf).backward(c.to(DEVICE))
        REFERENCE.sh_encode(exact).backward(c.double())
        assert leaf.grad is not None
        assert exact.grad is not None
        bound = tol.SH_32 * tol.SH_SLOPE * c.abs().sum(-1, keepdim=True).double().numpy()
        assert_near(leaf.grad.cpu(), exact.grad, bound, "gradient of directions")


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6])
def test_gradients_of_any_size(kernel_set: str, size: float) -> None:
    """A mean over 2^18 rays has gradients that float16 does not know: they are what they are for gradients about 1."""
    kernels, layout, rng = load_kernels(kernel_set), MLPLayout(6, 16), generator(5)
    x, table = torch.rand(300, 3, generator=rng), torch.randn(MIXED.n_params, generator=rng)
    weights, c = 0.3 * torch.randn(layout.n_params, generator=rng), torch.randn(300, 16, generator=rng)
    found = []
    for scale in (size, 1.0):
        leaves = [v.clone().to(DEVICE).requires_grad_() for v in (table, weights)]
        kernels.mlp([kernels.hash_encode(x.to(DEVICE), leaves[0], MIXED)], leaves[1], layout).backward(scale * c.to(DEVICE))
        found.append([leaf.grad.cpu() / scale for leaf in leaves if leaf.grad is not None])
    for what, got, exact in zip(("table", "weights"), *found):
        assert float((got - exact).norm() / exact.norm()) < 2.0**-9, f"{what}: more than a rounding of float16"


def test_the_grid_lies_where_tiny_cuda_nn_has_it(kernel_set: str) -> None:
    """Offsets, entries and dense levels, found by its own rule from the JSON that the adapter makes."""
    for levels, features, size, finest in (
        (16, 2, 19, 2048),
        (8, 4, 19, 2048),
        (16, 2, 19, 32768),
        (1, 2, 14, 16),
        (5, 8, 15, 256),
    ):
        layout = HashGridLayout(levels, features, size, 16, finest)
        for ours, theirs in zip(layout.levels, tcnn_stand_in.grid_levels(tcnn.grid_config(layout), 3), strict=True):
            assert (ours.offset, ours.entries, ours.dense) == (theirs.offset, theirs.entries, theirs.dense)
            if ours.dense:  # a hashed level does not use its resolution
                assert ours.resolution == theirs.resolution
            assert abs(ours.scale - theirs.scale) <= 2e-6 * ours.scale


def test_a_module_is_made_once_and_holds_nothing(kernel_set: str) -> None:
    kernels = load_kernels(kernel_set)
    table, x = torch.randn(MIXED.n_params, device=DEVICE), torch.rand(5, 3, device=DEVICE)
    first = kernels.hash_encode(x, table, MIXED)
    assert torch.equal(kernels.hash_encode(x, table, replace(MIXED)), first)
    assert tcnn._grid.cache_info().misses == 1
    assert tcnn._grid(MIXED, table.device).params.numel() == 0


def test_another_order_of_parameters_is_refused(kernel_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcnn, "grid_config", lambda layout: {**_config(layout), "log2_hashmap_size": 9})
    with pytest.raises(RuntimeError, match=r"has 2304 parameters for this hash grid where our layout has 4304"):
        load_kernels(kernel_set).hash_encode(torch.rand(4, 3), torch.rand(MIXED.n_params), MIXED)


_config = tcnn.grid_config


def test_what_it_lacks_is_refused_in_a_sentence(kernel_set: str) -> None:
    kernels, layout = load_kernels(kernel_set), MLPLayout(16, 3, 48, 1)
    with pytest.raises(ValueError, match=r"16, 32, 64 or 128 wide, not 48; use .*triton\.$"):
        kernels.mlp([torch.rand(4, 16)], torch.rand(layout.n_params), layout)
    one = replace(MIXED, n_features_per_level=1)
    with pytest.raises(ValueError, match=r"need 2, 4 or 8 features per level; use .*reference\.$"):
        kernels.hash_encode(torch.rand(4, 3), torch.rand(one.n_params), one)


BROKEN = ["ImportError('undefined symbol')", "EnvironmentError('No GPU.\\nSo there.')", "NameError('_C')", None]


@pytest.mark.parametrize("error", BROKEN)
def test_without_it_one_sentence_says_what_to_install(
    kernel_set: str, error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if error:
        (tmp_path / "tinycudann.py").write_text(f"raise {error}\n")
        monkeypatch.delitem(sys.modules, "tinycudann")
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(ImportError) as raised:
        load_kernels(kernel_set)
    said = str(raised.value)
    assert re.fullmatch(r"The tcnn kernels need .* \(.+\): build it as https://\S+ says .*, or use --\S+ triton\.", said)
    assert "\n" not in said
    if error:
        assert error.split("'")[1].split("\\n")[0] in said


def test_what_it_says_of_itself(kernel_set: str) -> None:
    kernels = load_kernels(kernel_set)
    assert kernels.name == "tcnn"
    assert "tiny-cuda-nn" in kernels.description
    assert "nerfacc" in kernels.description


def _exclusive_sum(inputs: Tensor, packed_info: Tensor) -> Tensor:
    """nerfacc.scan.exclusive_sum, in torch; like the real one it wants int64 and cannot do without rays."""
    assert packed_info.dtype == torch.int64
    assert packed_info.shape[0]
    parts = [inputs[first : first + count] for first, count in packed_info.tolist()]
    sums = torch.cat([part.cumsum(0) - part for part in parts])
    return torch.cat([sums, torch.full_like(inputs[sums.shape[0] :], torch.nan)])  # it leaves what belongs to no ray alone


@pytest.mark.parametrize("n", [0, 1, 31, 500])
def test_sums_by_nerfacc(kernel_set: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compositing and visibility with nerfacc's scan are the reference's; an empty batch never reaches it."""
    monkeypatch.setattr(tcnn_volume, "built", lambda: True)
    monkeypatch.setitem(sys.modules, "nerfacc.scan", SimpleNamespace(exclusive_sum=_exclusive_sum))
    kernels, rng = load_kernels(kernel_set), generator(n)
    counts = torch.bincount(torch.randint(0, n // 9 + 1, (n,), generator=rng) * 2, minlength=n // 4 + 2)
    starts = torch.rand(n, generator=rng)
    samples = PackedSamples(starts, starts + 0.01, ray_indices_from_counts(counts), packed_info_from_counts(counts))
    shapes = ((n,), (n, 3), (samples.n_rays, 5), (n,))
    sigmas, rgbs, c, c_weights = (torch.rand(shape, generator=rng) for shape in shapes)
    sigmas = 100 * sigmas
    found = []
    for kind in (kernels, REFERENCE):
        s, rgb = sigmas.clone().requires_grad_(), rgbs.clone().requires_grad_()
        out = kind.composite(s, rgb, samples)
        loss = (out.rgbs * c[:, :3]).sum() + (out.opacities * c[:, 3]).sum() + (out.depths * c[:, 4]).sum()
        (loss + (out.weights * c_weights).sum()).backward()
        found.append([out.rgbs, out.opacities, out.depths, out.weights, s.grad, rgb.grad])
    for got, exact in zip(*found):
        assert_near(got, exact, 1e-5, "composite")
    counts = REFERENCE.visible_counts(sigmas, samples, 0.1)
    assert torch.equal(kernels.visible_counts(sigmas, samples, 0.1), counts)
    # Padding, intervals of no length on the last ray, counts for nothing.
    last = torch.full((5,), samples.n_rays - 1, dtype=torch.int32)
    zeros, rays = torch.zeros(5), torch.cat([samples.ray_indices, last])
    padded = PackedSamples(torch.cat([starts, zeros]), torch.cat([samples.t_ends, zeros]), rays, samples.packed_info)
    sigmas, rgbs = torch.cat([sigmas, zeros + 3.0]).requires_grad_(), torch.cat([rgbs, torch.ones(5, 3)])
    out = kernels.composite(sigmas, rgbs, padded)
    (d_sigmas,) = torch.autograd.grad(out.rgbs.sum() + out.depths.sum(), sigmas)
    assert_near(out.rgbs, found[1][0], 1e-5, "padded")
    assert not out.weights[n:].any()
    assert not d_sigmas[n:].any()
    assert torch.isfinite(d_sigmas).all()
    assert torch.equal(kernels.visible_counts(sigmas, padded, 0.1), counts)


def test_nerfacc_is_not_compiled_for_it(kernel_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nerfacc's extension was never built, asking for it must not start a compiler."""
    monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", None)  # an import of it would raise
    monkeypatch.setattr("torch.utils.cpp_extension._get_build_directory", lambda name, verbose: "/nowhere")
    assert tcnn_volume.built() is False
