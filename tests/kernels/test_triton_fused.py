"""Kernels that encode and multiply in one launch, against the two operations they are made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.triton import encode, fused, mlp, runs
from support import tolerances as tol
from support.kernel_cases import (
    array,
    assert_near,
    assert_no_worse,
    generator,
    kernels_of,
    nan_memory,  # noqa: F401 - a fixture
)

pytestmark = [pytest.mark.usefixtures("nan_memory")]

REFERENCE = kernels_of("reference")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
COLOUR = MLPLayout(32, 3, 64, 2)


def _grid(n_levels: int, features: int) -> HashGridLayout:
    """Dense levels and hashed ones."""
    return HashGridLayout(n_levels, features, 9, 5, 60)


def _encoding(n: int, grid: HashGridLayout, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, MLPLayout]:
    rng, layout = generator(n, grid.n_params), MLPLayout(grid.n_output_dims, 16, width, 1)
    positions = torch.rand(n, 3, generator=rng)
    table = torch.randn(grid.n_params, generator=rng)
    weights = torch.randn(layout.n_params, generator=rng) * 0.2
    return positions, table if dtype == torch.float32 else table.half(), weights, layout


def _apart(
    positions: Tensor, table: Tensor, weights: Tensor, grid: HashGridLayout, layout: MLPLayout, dtype: torch.dtype, rows: int
) -> Tensor:
    return mlp.perceptron([encode.hash_encode(positions, table, None, grid, dtype)], weights, layout, dtype, rows)


def _assert_alike(got: Tensor, apart: Tensor, dtype: torch.dtype) -> None:
    """Sums in another order; where a feature lies between two numbers of low precision, it may become the other one."""
    assert got.dtype == torch.float32
    roundoff = {torch.float32: tol.MLP_32, torch.bfloat16: tol.ROUNDOFF_BF16, torch.float16: 2.0**-11}[dtype]
    size = float(apart.abs().max()) if apart.numel() else 0.0
    assert_near(got, apart, 4 * roundoff * size, "outputs")
    if apart.numel() > 100:
        assert tol.rms(array(got) - array(apart)) <= roundoff * tol.rms(array(apart))


@pytest.mark.parametrize(
    ("levels", "features", "dtype"),
    [*((16, 2, d) for d in DTYPES), *((8, 4, d) for d in DTYPES), (4, 8, DTYPES[1]), (12, 4, DTYPES[1])],
)
def test_encode_mlp(levels: int, features: int, dtype: torch.dtype) -> None:
    grid = _grid(levels, features)
    positions, table, weights, layout = _encoding(130, grid, 64, dtype)
    assert fused.takes_encode(grid, layout, dtype, 16)
    got = fused.encode_mlp(positions, table, weights, grid, layout, dtype, 16)
    _assert_alike(got, _apart(positions, table, weights, grid, layout, dtype, 16), dtype)
    exact = REFERENCE.mlp([REFERENCE.hash_encode(positions.double(), table.double(), grid)], weights.double(), layout)
    if dtype == torch.float32:
        plain = REFERENCE.mlp([REFERENCE.hash_encode(positions, table, grid)], weights, layout)
        limit = tol.SAME_PRECISION * tol.rms(array(plain) - array(exact))
        assert tol.rms(array(got) - array(exact)) <= limit
    else:
        features_of = REFERENCE.hash_encode(positions, table.float(), grid).to(dtype)
        assert_no_worse(got, REFERENCE.mlp([features_of], weights.to(dtype), layout), exact, "outputs")


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize(("n", "rows"), [(0, 16), (1, 1), (31, 16), (1100, 1)])
def test_encode_mlp_of_any_size(n: int, rows: int, dtype: torch.dtype) -> None:
    grid = _grid(8, 4)
    positions, table, weights, layout = _encoding(n, grid, 32, dtype)
    got = fused.encode_mlp(positions, table, weights, grid, layout, dtype, rows)
    assert got.shape == (n, rows)
    _assert_alike(got, _apart(positions, table, weights, grid, layout, dtype, rows), dtype)


def test_encode_mlp_of_positions_in_any_strides() -> None:
    grid = _grid(8, 4)
    positions, table, weights, layout = _encoding(40, grid, 64, torch.bfloat16)
    wanted = fused.encode_mlp(positions, table, weights, grid, layout, torch.bfloat16, 16)
    wide = torch.full((40, 5), float("nan"))
    wide[:, 1:4] = positions
    for view in (wide[:, 1:4], positions.t().contiguous().t()):
        assert torch.equal(fused.encode_mlp(view, table, weights, grid, layout, torch.bfloat16, 16), wanted)


@pytest.mark.parametrize(
    ("grid", "width", "depth"),
    [(_grid(5, 4), 64, 1), (_grid(3, 2), 64, 2), (_grid(8, 4), 160, 1), (_grid(8, 4), 48, 4)],
    ids=("20 features", "6 features", "160 neurons", "4 layers of 48"),
)
def test_encode_mlp_of_other_shapes(grid: HashGridLayout, width: int, depth: int) -> None:
    """What the kernel does not take goes through the two operations; depth and odd widths it takes."""
    positions, table, weights, _ = _encoding(30, grid, width, torch.float32)
    layout = MLPLayout(grid.n_output_dims, 16, width, depth)
    weights = torch.randn(layout.n_params, generator=generator(width)) * 0.2
    assert fused.takes_encode(grid, layout, torch.float32, 16) == (width == 48)
    got = fused.encode_mlp(positions, table, weights, grid, layout, torch.float32, 16)
    _assert_alike(got, _apart(positions, table, weights, grid, layout, torch.float32, 16), torch.float32)


def test_a_table_beyond_the_cache_is_read_level_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = _grid(8, 4)
    positions, table, weights, layout = _encoding(30, grid, 64, torch.bfloat16)
    wanted = fused.encode_mlp(positions, table, weights, grid, layout, torch.bfloat16, 16)
    monkeypatch.setattr(fused, "interpreted", lambda: False)
    monkeypatch.setattr(fused, "_cache", lambda device: 2 * grid.n_params)
    assert fused.encode_pays(table)
    assert not fused.encode_pays(table.float())
    monkeypatch.setattr(fused, "encode_mlp_kernel", None)
    monkeypatch.setattr(fused, "_cache", lambda device: 0)
    _assert_alike(fused.encode_mlp(positions, table, weights, grid, layout, torch.bfloat16, 16), wanted, torch.bfloat16)


def _colour(n: int, rays: int, layout: MLPLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = generator(n, rays)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=rng), dim=-1)
    ray_indices = torch.randint(0, max(rays, 1), (n,), generator=rng).sort().values.to(torch.int32)
    weights = torch.randn(layout.n_params, generator=rng) * 0.2
    return torch.randn(n, layout.n_input_dims - 16, generator=rng), directions, ray_indices, weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "rays"), [(0, 0), (0, 5), (1, 1), (31, 40), (1100, 90)])
def test_sh_mlp(n: int, rays: int, dtype: torch.dtype) -> None:
    raw, directions, ray_indices, weights = _colour(n, rays, COLOUR)
    got = fused.sh_mlp(raw, directions, ray_indices, weights, COLOUR, dtype)
    assert got.shape == (n, 3)
    harmonics = encode.sh_encode(directions, dtype)[ray_indices.long()]
    _assert_alike(got, mlp.perceptron([raw, harmonics], weights, COLOUR, dtype), dtype)
    if n and dtype == torch.float32:
        spread = REFERENCE.sh_encode(directions.double())[ray_indices.long()]
        exact = REFERENCE.mlp([raw.double(), spread], weights.double(), COLOUR)
        assert_near(got, exact, tol.MLP_32 * float(exact.abs().max()), "outputs")


@pytest.mark.parametrize("layout", [MLPLayout(24, 5, 32, 1), MLPLayout(32, 3, 128, 2), MLPLayout(32, 3, 160, 1)], ids=str)
def test_sh_mlp_of_other_shapes(layout: MLPLayout) -> None:
    raw, directions, ray_indices, weights = _colour(50, 7, layout)
    harmonics = encode.sh_encode(directions, torch.float32)[ray_indices.long()]
    apart = mlp.perceptron([raw, harmonics], weights, layout, torch.float32)
    _assert_alike(fused.sh_mlp(raw, directions, ray_indices, weights, layout, torch.float32), apart, torch.float32)


def test_sh_mlp_of_features_and_directions_anywhere() -> None:
    """Rows of samples with anything behind the last one, wider rows, directions as they come."""
    raw, directions, ray_indices, weights = _colour(37, 9, COLOUR)
    wanted = fused.sh_mlp(raw, directions, ray_indices, weights, COLOUR, torch.bfloat16)
    laid = runs.empty_runs(37, 16, torch.float32, raw.device)
    laid.copy_(raw)
    wide = torch.full((37, 20), float("nan"))
    wide[:, 2:18] = raw
    for view, d in ((laid, directions.t().contiguous().t()), (wide[:, 2:18], directions)):
        assert torch.equal(fused.sh_mlp(view, d, ray_indices, weights, COLOUR, torch.bfloat16), wanted)
