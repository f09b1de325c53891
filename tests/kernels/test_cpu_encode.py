"""What is special in the cpu kernels' hash encoding: float16 copies of tables in float32 computation, and look-ups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit

from ngp_method.kernels.cpu import CpuKernels, encode, processor
from ngp_method.kernels.cpu.kernels import best_precision
from ngp_method.kernels.cpu.simd_memory import gather, gather_at_once, gather_one_by_one, load, store
from ngp_method.kernels.layout import HashGridLayout
from support import tolerances as tol
from support.kernel_cases import array, assert_near, generator, kernels_of, nan_memory  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("nan_memory")

ROOT = Path(__file__).resolve().parents[1]


def _layout(features: int) -> HashGridLayout:
    return HashGridLayout(3, features, 10, 5, 20)


def _positions(n: int) -> torch.Tensor:
    """Multiples of 1/64: their lattice positions are exact at scales 4, 9 and 19."""
    return torch.randint(0, 65, (n, 3), generator=generator(n)).float() / 64


@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("n", [0, 1, 31, 1000])
def test_float32_features_of_a_float16_table(n: int, features: int) -> None:
    """Values are those of the rounded table in float32; gradients know nothing of the rounding."""
    assert processor.half_conversion(), "every processor that tests run on converts float16"
    layout = _layout(features)
    x, rng = _positions(n), generator(features)
    table = torch.randn(layout.n_params, generator=rng)
    c = torch.randn(n, layout.n_output_dims, generator=rng)

    def run(source: torch.Tensor, half: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        parameters = source.clone().requires_grad_()
        found = encode.HashEncode.apply(x, parameters, half, False, layout, None, None)
        found.backward(c)
        assert parameters.grad is not None
        return found.detach(), parameters.grad

    got, gradient = run(table, table.half())
    exact, plain = run(table.half().float(), None)
    assert got.dtype == torch.float32
    assert_near(got, exact, tol.LATTICE_EXACT * float(table.abs().max()), "features")
    assert torch.equal(gradient, plain)


def test_which_set_reads_which_table() -> None:
    """The set that is exact float32 reads float32; the other one says what it reads, and reads that."""
    layout = _layout(2)
    x, table = _positions(200), torch.randn(layout.n_params, generator=generator(5))
    truth = kernels_of("reference").hash_encode(x, table, layout)
    rounded = kernels_of("reference").hash_encode(x, table.half().float(), layout)
    bound = tol.LATTICE_EXACT * float(table.abs().max())
    exact = kernels_of("cpu-float32")
    assert_near(exact.hash_encode(x, table, layout), truth, bound, "float32")
    assert "float16" not in exact.description
    mixed = kernels_of("cpu-mixed")
    assert_near(mixed.hash_encode(x, table, layout), rounded, bound, "float16 table")
    assert mixed.description.endswith("float32, the hash table read as float16")
    assert np.abs(array(rounded) - array(truth)).max() > 10 * bound, "the test can tell them apart"


def test_a_target_without_float16_reads_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "half_conversion", lambda: False)
    for engine in ("TILES", "DOTS"):
        monkeypatch.setattr(f"ngp_method.kernels.cpu.bfloat16.{engine}", False)
    kernels = CpuKernels()
    assert not kernels.reads_half
    assert ", float32 (" in kernels.description
    with pytest.raises(ImportError, match="cpu-mixed do not run here, as this processor"):
        CpuKernels("mixed")


def test_auto_takes_the_fastest_that_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "ngp_method.kernels.cpu."
    for tiles, dots, half, expected in (
        (True, True, True, "bfloat16"),
        (False, True, True, "bfloat16"),
        (False, False, True, "mixed"),
        (False, False, False, "float32"),
    ):
        monkeypatch.setattr(where + "bfloat16.TILES", tiles)
        monkeypatch.setattr(where + "bfloat16.DOTS", dots)
        monkeypatch.setattr(processor, "half_conversion", lambda half=half: half)
        assert best_precision() == expected


PLAIN_TARGET = """
import torch
from ngp_method.kernels import load_kernels
from ngp_method.kernels.cpu import processor
from ngp_method.kernels.layout import HashGridLayout

half, kernels, layout = processor.half_conversion(), load_kernels("cpu"), HashGridLayout(3, 2, 10, 5, 20)
assert kernels.reads_half == half
assert not processor.wide_registers()
table = torch.randn(layout.n_params, requires_grad=True)
x = torch.rand(100, 3)
got, truth = (k.hash_encode(x, table, layout) for k in (kernels, load_kernels("reference")))
torch.testing.assert_close(got, truth, atol=4e-3 if half else 1e-5, rtol=0)  # roundings of a float16, and of a position
got.sum().backward()
print("done")
"""


def test_a_processor_of_which_nothing_is_known(tmp_path: Path) -> None:
    """The whole encoding compiled for the plainest processor of this kind."""
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", PLAIN_TARGET], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


@njit
def _looked_up(table, index, out):  # type: ignore[no-untyped-def]
    """The same look-up in each of three ways."""
    where = load(index, 0)
    store(out[0], 0, gather(table, where))
    store(out[1], 0, gather_at_once(table, where))
    store(out[2], 0, gather_one_by_one(table, where))


def test_every_way_to_look_up_finds_the_same() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2**32, 5000, dtype=np.uint32)
    for _ in range(20):
        index, out = rng.integers(0, table.size, 16, dtype=np.uint32), np.zeros((3, 16), np.uint32)
        _looked_up(table, index, out)
        assert np.array_equal(out, np.broadcast_to(table[index], (3, 16)))
