"""Fused float32 perceptrons of the cpu kernels: every register tile, remainder, part and chunk, against float64.

Both register tiles run on every machine: LLVM makes their vectors of whatever registers there are.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ngp_method.kernels.cpu import mlp, mlp_fused, pool
from ngp_method.kernels.cpu.mlp_fused_tiles import NARROW, WIDE, Tile, best_tile
from ngp_method.kernels.layout import MLPLayout
from support import tolerances as tol
from support.kernel_cases import SIZES, nan_memory  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("nan_memory")

TILES = {"wide": WIDE, "narrow": NARROW}
DENSITY, COLOUR = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)
LAYOUTS = [DENSITY, COLOUR, MLPLayout(16, 3, 128, 2), MLPLayout(47, 20, 128, 3), MLPLayout(30, 16, 48, 2), MLPLayout(8, 1, 16)]
Arrays = list[np.ndarray]


def names(layout: MLPLayout) -> str:
    """32-64-64-16 and the like."""
    return "-".join(str(v) for v in [layout.padded_input] + [rows for rows, _ in layout.shapes])


class Case:
    """Random weights, inputs in parts, and cotangents of the first ``rows`` outputs (zero of samples near a ReLU's kink)."""

    def __init__(self, layout: MLPLayout, n: int, parts: tuple[int, ...], rows: int) -> None:
        rng = np.random.default_rng([n, layout.n_params, rows, len(parts)])
        self.layout, self.rows = layout, rows
        spread = np.concatenate([np.full(r * c, np.sqrt(2 / c)) for r, c in layout.shapes])
        self.weights = (rng.standard_normal(layout.n_params) * spread).astype(np.float32)
        self.parts = [rng.standard_normal((n, width)).astype(np.float32) for width in parts]
        self.c = rng.standard_normal((n, rows)).astype(np.float32)
        self.c *= self.safe()[:, None]

    def matrices(self) -> Arrays:
        """The weights in float64."""
        shapes = zip(self.layout.offsets, self.layout.shapes)
        return [self.weights[o : o + r * c].reshape(r, c).astype(np.float64) for o, (r, c) in shapes]

    def hidden(self) -> Arrays:
        """Inputs [padded_input, N] and each hidden layer before its ReLU, float64."""
        joined = np.concatenate(self.parts, 1).T.astype(np.float64)
        found = [np.pad(joined, ((0, self.layout.padded_input - joined.shape[0]), (0, 0)))]
        for index, matrix in enumerate(self.matrices()[:-1]):
            found.append(matrix @ (np.maximum(found[-1], 0) if index else found[-1]))
        return found

    def safe(self) -> np.ndarray:
        """Samples of which no neuron is so near zero that float32's rounding could switch it (its gradient would jump)."""
        return np.all([(np.abs(h) > 1e-5).all(0) for h in self.hidden()[1:]], 0)

    def truth(self) -> Arrays:
        """Outputs, the weights' gradient and those of the parts, float64, by the chain rule as it is written."""
        before, matrices = self.hidden(), self.matrices()
        after = [before[0], *[np.maximum(h, 0) for h in before[1:]]]
        g = np.pad(self.c.T.astype(np.float64), ((0, matrices[-1].shape[0] - self.rows), (0, 0)))
        gradients: Arrays = []
        for index in reversed(range(len(matrices))):
            gradients.insert(0, (g @ after[index].T).reshape(-1))
            g = matrices[index].T @ g * (before[index] > 0 if index else 1)
        ends = np.cumsum([part.shape[1] for part in self.parts])
        d_parts = [g[end - part.shape[1] : end].T for part, end in zip(self.parts, ends)]
        return [(matrices[-1] @ after[-1])[: self.rows].T, np.concatenate(gradients), *d_parts]

    def run(self, tile: Tile | None) -> Arrays:
        """The same by the kernels."""
        leaves = [torch.from_numpy(v).requires_grad_() for v in (self.weights, *self.parts)]
        out = mlp.perceptron(leaves[1:], leaves[0], self.layout, self.rows, tile)
        out.backward(torch.from_numpy(self.c))
        return [out.detach().numpy(), *[leaf.grad.numpy() for leaf in leaves if leaf.grad is not None]]

    def check(self, tile: Tile | None) -> None:
        """All of it within tolerances.MLP_32 of the results' size (see there)."""
        got, exact = self.run(tile), self.truth()
        assert len(got) == len(exact)
        for number, (mine, wanted) in enumerate(zip(got, exact)):
            assert mine.shape == wanted.shape
            if wanted.size:
                size = max(tol.rms(wanted), float(np.abs(wanted).max()) / 4)
                assert np.abs(mine - wanted).max() <= tol.MLP_32 * size, f"result {number}"


each_tile = pytest.mark.parametrize("tile", TILES.values(), ids=list(TILES))


@each_tile
@pytest.mark.parametrize("layout", LAYOUTS, ids=names)
@pytest.mark.parametrize("n", SIZES)
def test_values_and_gradients(tile: Tile, layout: MLPLayout, n: int) -> None:
    Case(layout, n, (layout.n_input_dims,), layout.n_output_dims).check(tile)


@each_tile
@pytest.mark.parametrize("rows", range(1, 17))
def test_any_number_of_rows(tile: Tile, rows: int) -> None:
    """What the tiles leave over is computed by tiles of four, two and one rows."""
    Case(DENSITY, 77, (32,), rows).check(tile)


@each_tile
@pytest.mark.parametrize("parts", [(16, 16), (1, 31), (31, 1), (5, 6, 7), (0, 20), (3,)])
def test_parts_of_any_width(tile: Tile, parts: tuple[int, ...]) -> None:
    """Also fewer inputs than there are columns: the others count as zero."""
    Case(COLOUR, 100, parts, 3).check(tile)


@each_tile
def test_missing_inputs_have_no_gradient(tile: Tile) -> None:
    gradient = Case(DENSITY, 100, (10, 10), 3).run(tile)[1]
    first, last = gradient[: 64 * 32].reshape(64, 32), gradient[64 * 32 :].reshape(16, 64)
    assert first[:, :20].any()
    assert not first[:, 20:].any()
    assert last[:3].any()
    assert not last[3:].any()


@each_tile
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (True, False, True), (False, False, False)])
def test_only_parts_that_are_asked_for_get_a_gradient(tile: Tile, wanted: tuple[bool, ...]) -> None:
    case = Case(MLPLayout(32, 3, 64, 2), 70, (7, 16, 9), 3)
    complete = case.run(tile)
    weights = torch.from_numpy(case.weights).requires_grad_()
    parts = [torch.from_numpy(part).requires_grad_(asked) for part, asked in zip(case.parts, wanted)]
    mlp.perceptron(parts, weights, case.layout, 3, tile).backward(torch.from_numpy(case.c))
    assert np.array_equal(weights.grad.numpy(), complete[1])
    for part, asked, whole in zip(parts, wanted, complete[2:]):
        if asked:
            assert part.grad is not None
            assert np.array_equal(part.grad.numpy(), whole)
        else:
            assert part.grad is None


@each_tile
@pytest.mark.parametrize("chunk", [32, 96, 256])
def test_samples_do_not_depend_on_the_chunk(tile: Tile, chunk: int) -> None:
    """Outputs and gradients of the inputs, to the last bit; what lies outside the chunk is left alone."""
    n_pad, rng = 256, np.random.default_rng(1)
    weights = rng.standard_normal(COLOUR.n_params, dtype=np.float32)
    x, d_out = rng.standard_normal((20, n_pad), dtype=np.float32), rng.standard_normal((3, n_pad), dtype=np.float32)
    plan, inputs = mlp_fused.prepare(weights, COLOUR, [20], 3, [True], tile), mlp_fused.addresses([x])

    def run(size: int, last: int) -> Arrays:
        out, dx = np.full((3, n_pad), np.nan, np.float32), np.full((20, n_pad), np.nan, np.float32)
        for begin in range(0, last, size):
            end, totals = min(begin + size, last), np.zeros(COLOUR.n_params, np.float32)
            mlp_fused.forward(inputs, plan, out, begin, end)
            mlp_fused.backward(inputs, plan, d_out, mlp_fused.addresses([dx]), totals, begin, end)
        return [out, dx]

    for whole, part, less in zip(run(n_pad, n_pad), run(chunk, n_pad), run(chunk, 160)):
        assert np.isfinite(whole).all()
        assert np.array_equal(part, whole)
        assert np.array_equal(less[:, :160], whole[:, :160])
        assert np.isnan(less[:, 160:]).all()


@each_tile
@pytest.mark.parametrize("n", [4099, 20_000])
def test_one_and_two_threads_agree_to_the_last_bit(tile: Tile, n: int) -> None:
    before, case = pool.use_threads(), Case(COLOUR, n, (16, 16), 3)
    try:
        found = []
        for threads in (1, 2, 2):
            assert pool.use_threads(threads) == threads
            found.append(case.run(tile))
    finally:
        pool.use_threads(before)
    for one, two, again in zip(*found):
        assert np.array_equal(one, two)
        assert np.array_equal(one, again)


def test_both_tiles_sum_in_the_same_order() -> None:
    """Tiles differ in which sums are made side by side, not in how one is made."""
    case = Case(COLOUR, 500, (16, 16), 3)
    for wide, narrow in zip(case.run(WIDE), case.run(NARROW)):
        assert np.array_equal(wide, narrow)


def test_not_a_number_is_not_hidden() -> None:
    """A ReLU hands it on, as torch's does: training that has gone wrong must show."""
    x = torch.zeros(40, 32)
    x[7, 3] = float("nan")
    out = mlp.perceptron([x], torch.randn(DENSITY.n_params), DENSITY, 16)
    assert out[7].isnan().all()
    assert not out[:7].isnan().any()
    assert not out[8:].isnan().any()


@pytest.mark.parametrize(("parts", "rows"), [([33], 3), ([16, 17], 3), ([0], 3), ([32], 17), ([32], 0)])
def test_what_does_not_fit_is_refused(parts: list[int], rows: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        mlp_fused.prepare(np.zeros(COLOUR.n_params, np.float32), COLOUR, parts, rows)


def test_weights_of_another_type_are_refused() -> None:
    for weights in (np.zeros(COLOUR.n_params), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match="weights must be float32"):
            mlp_fused.prepare(weights, COLOUR, [32], 3)


PLAIN_TARGET = """
import numpy as np
from ngp_method.kernels.cpu import mlp_fused_kernels, mlp_fused_tiles
from test_cpu_mlp_fused import COLOUR, Case

assert mlp_fused_tiles.best_tile() is mlp_fused_tiles.NARROW
Case(COLOUR, 100, (16, 16), 3).check(None)
for compiled in (mlp_fused_kernels.forward, mlp_fused_kernels.backward):
    for text in compiled.inspect_asm().values():
        assert "%ymm" not in text and "%zmm" not in text and "vfmadd" not in text
print("done")
"""


def test_a_processor_of_which_nothing_is_known(tmp_path: object) -> None:
    """The same kernels compiled for the plainest processor of this kind: without AVX, FMA and their like."""
    here = os.path.dirname(__file__)
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run([sys.executable, "-c", PLAIN_TARGET], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_the_tile_is_one_of_both() -> None:
    assert best_tile() in TILES.values()
