"""The parameter layout: check figures of the contract, and the oracle's count of every level."""

from __future__ import annotations

import numpy as np
import pytest

from ngp_method.kernels.layout import HashGridLayout, MLPLayout, round_up
from support import oracle

FIGURES = [
    # levels, features, finest resolution, numbers in the table (log2 T = 19, coarsest 16)
    (16, 2, 2048, 12_196_240),
    (16, 2, 2048 * 4, 13_074_912),
    (16, 2, 2048 * 16, 13_623_184),
    (8, 4, 2048, 11_681_792),
    (8, 4, 2048 * 4, 12_855_296),
    (8, 4, 2048 * 16, 13_041_664),
    (8, 4, 2048 * 128, 13_647_872),
]


@pytest.mark.parametrize(("levels", "features", "finest", "numbers"), FIGURES)
def test_table_has_as_many_numbers_as_tiny_cuda_nn(levels: int, features: int, finest: int, numbers: int) -> None:
    layout = HashGridLayout(levels, features, 19, 16, finest)
    assert layout.n_params == numbers
    assert layout.n_output_dims == 32


def test_perceptrons_have_as_many_numbers_as_tiny_cuda_nn() -> None:
    density, colour = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)
    assert density.n_params == 3_072
    assert colour.n_params == 7_168
    assert density.shapes == ((64, 32), (16, 64))
    assert colour.shapes == ((64, 32), (64, 64), (16, 64))
    assert colour.offsets == (0, 64 * 32, 64 * 32 + 64 * 64)


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("log2_table", [3, 14, 19, 24])
@pytest.mark.parametrize("finest", [16, 17, 2048, 8192, 262144])
@pytest.mark.parametrize("levels", [1, 2, 8, 16])
def test_every_level_as_the_oracle_counts_it(levels: int, finest: int, log2_table: int, n_dims: int) -> None:
    layout = HashGridLayout(levels, 2, log2_table, 16, finest, n_dims)
    # A single level has no growth: it is the coarsest.
    expected = oracle.grid_levels(levels, log2_table, 16, finest, n_dims)
    got = [(float(v.scale), v.resolution, v.entries, v.offset, v.dense) for v in layout.levels]
    assert got == [(v.scale, v.resolution, v.entries, v.offset, v.dense) for v in expected]
    assert layout.n_entries == expected[-1].offset + expected[-1].entries
    assert all(v.scale.dtype == np.float32 for v in layout.levels)


def test_a_plane_has_as_many_numbers_as_tiny_cuda_nn() -> None:
    """Of instant-ngp's image: 16 levels of 2, and as many as fit of 2^24 and of 2^19 (grid.h counts resolution^2)."""
    assert HashGridLayout(1, 2, 19, 16, 16, 2).n_params == 2 * 16 * 16
    levels = HashGridLayout(16, 2, 19, 16, 4096, 2).levels
    assert [level.dense for level in levels] == [level.resolution**2 <= 1 << 19 for level in levels]
    assert levels[-1].entries == 1 << 19


@pytest.mark.parametrize("n_dims", [1, 4])
def test_other_dimensions_are_refused(n_dims: int) -> None:
    with pytest.raises(ValueError, match=f"2 or 3 dimensions, not {n_dims}"):
        HashGridLayout(n_dims=n_dims)


def test_inputs_and_outputs_are_padded_to_sixteen() -> None:
    layout = MLPLayout(20, 3, 32, 3)
    assert (layout.padded_input, layout.padded_output) == (32, 16)
    assert layout.shapes == ((32, 32), (32, 32), (32, 32), (16, 32))
    assert layout.n_params == 3 * 32 * 32 + 16 * 32
    assert [round_up(v, 16) for v in (0, 1, 16, 17)] == [0, 16, 16, 32]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_levels": 0}, "at least one level"),
        ({"n_features_per_level": 3}, "1, 2, 4 or 8 features"),
        ({"log2_hashmap_size": 0}, "from 3 to 28"),
        ({"log2_hashmap_size": 29}, "from 3 to 28"),
        ({"base_resolution": 0}, "base_resolution"),
        ({"base_resolution": 32, "finest_resolution": 16}, "base_resolution"),
    ],
)
def test_impossible_grids_are_refused(arguments: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HashGridLayout(**arguments)


@pytest.mark.parametrize(("neurons", "hidden"), [(64, 0), (24, 1), (0, 1)])
def test_impossible_perceptrons_are_refused(neurons: int, hidden: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        MLPLayout(32, 16, neurons, hidden)
