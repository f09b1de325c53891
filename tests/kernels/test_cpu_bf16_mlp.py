"""Perceptrons in bfloat16, by tiles and by dot products, against plain torch in float64, float32 and bfloat16.

What the processor lacks is emulated: tests/conftest.py asks for it, test_cpu_bfloat16.py holds the emulation to the manual, and
compiles for the processor's own instructions without running them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from ngp_method.kernels.cpu import amx, bf16_mlp, bfloat16
from ngp_method.kernels.layout import MLPLayout, round_up
from support.tolerances import LOW_PRECISION_MAX, LOW_PRECISION_RMS

SAME_ROUNDINGS = 1e-3
"""Root mean square error over that of the result, against float64 sums with bfloat16 roundings where the module states: only
sums on the edge of a rounding (or of a ReLU) go the other way, one in thousands, by 2^-8 of a term each. A rounding too many or
too few costs 2e-3."""

ENGINES = ("tiles", "dots")
engines = pytest.mark.parametrize("engine", ENGINES)

DENSITY, COLOUR = MLPLayout(32, 16, 64, 1), MLPLayout(32, 3, 64, 2)
LAYOUTS = [DENSITY, COLOUR, MLPLayout(16, 3, 128, 2), MLPLayout(47, 20, 128, 3), MLPLayout(30, 16, 48, 2), MLPLayout(8, 1, 16)]
SIZES = [0, 1, 31, 1000, 4099]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def names(layout: MLPLayout) -> str:
    """32-64-64-16 and the like."""
    return "-".join(str(v) for v in [layout.padded_input] + [rows for rows, _ in layout.shapes])


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16, in the type it came in."""
    return torch.from_numpy(values).bfloat16().to(torch.from_numpy(values).dtype).numpy()


def pairs(values: np.ndarray) -> np.ndarray:
    """float32 [C, N] -> uint32 [C / 2, N]."""
    bits = (np.ascontiguousarray(bf16(values)).view(np.uint32) >> 16).astype(np.uint32)
    return np.ascontiguousarray(bits[0::2] | (bits[1::2] << 16))


def unpaired(words: np.ndarray) -> np.ndarray:
    """uint32 [C / 2, N] -> float32 [C, N]."""
    both = np.stack([words << 16, words & np.uint32(0xFFFF0000)], 1)
    return both.reshape(-1, words.shape[1]).view(np.float32)


class Case:
    """Random weights, inputs and cotangents; arrays longer than the samples, with NaN in what lies beyond them."""

    def __init__(self, layout: MLPLayout, n: int, seed: int = 0, rows: int | None = None) -> None:
        rng = np.random.default_rng([seed, n, layout.n_params])
        self.layout, self.n, self.n_pad = layout, n, round_up(n, 32) + 32
        self.rows = layout.padded_output if rows is None else rows
        spread = [np.full(r * c, np.sqrt(2 / c)) for r, c in layout.shapes]
        self.weights = (rng.standard_normal(layout.n_params) * np.concatenate(spread)).astype(np.float32)
        self.x = bf16(rng.standard_normal((layout.padded_input, n), dtype=np.float32))
        self.d_out = rng.standard_normal((self.rows, n), dtype=np.float32)

    def padded(self, values: np.ndarray) -> np.ndarray:
        """[C, n] -> [C, n_pad], NaN (as a bit pattern: also in each half of it) beyond n."""
        filler = np.full((values.shape[0], self.n_pad), 0xFFFFFFFF, np.uint32).view(values.dtype)
        filler[:, : self.n] = values
        return filler

    def run(self, engine: str, chunk: int | None = None, paired: bool = False) -> Arrays:
        """out, dx, dw of the kernels, in chunks of so many samples; checks what lies beyond the samples."""
        mlp, width = bf16_mlp.prepare(self.weights, self.layout, engine), self.layout.padded_input
        x, d_out = self.padded(pairs(self.x)), self.padded(self.d_out)
        kind, scale = (np.uint32, 2) if paired else (np.float32, 1)
        out = self.padded(np.zeros((self.rows // scale, self.n), kind))
        dx = self.padded(np.zeros((width // scale, self.n), kind))
        out[:, : self.n], dx[:, : self.n] = 0x7FC17FC1, np.uint32(0x7FC17FC1).view(np.float32) if not paired else 0x7FC17FC1
        dw = np.full(self.layout.n_params, 7.0, np.float32)
        size = chunk or max(self.n, 1)
        for begin in range(0, self.n, size):
            end = min(begin + size, self.n)
            bf16_mlp.forward(x, mlp, out, begin, end)
            bf16_mlp.backward(x, mlp, d_out, dx, dw, begin, end)
        filled = round_up(self.n, 32)
        for array in (out, dx):
            assert not array[:, self.n : filled].any(), "columns up to the next multiple of 32 are zero"
            assert (array[:, filled:].view(np.uint32) == 0xFFFFFFFF).all(), "columns beyond are left alone"
        if paired:
            out, dx = unpaired(out), unpaired(dx)
        return out[:, : self.n], dx[:, : self.n], dw - np.float32(7.0)

    def torch(self, dtype: torch.dtype) -> Arrays:
        """The same by plain torch, every operation in that type."""
        x = torch.from_numpy(self.x).to(dtype).requires_grad_()
        weights = torch.from_numpy(self.weights).to(dtype).requires_grad_()
        h = x
        for i, (offset, (rows, columns)) in enumerate(zip(self.layout.offsets, self.layout.shapes, strict=True)):
            h = weights[offset : offset + rows * columns].view(rows, columns) @ h
            h = h.relu() if i + 1 < len(self.layout.shapes) else h
        out = h[: self.rows]
        out.backward(torch.from_numpy(self.d_out).to(dtype))
        assert x.grad is not None
        assert weights.grad is not None
        return tuple(t.detach().double().numpy() for t in (out, x.grad, weights.grad))  # type: ignore[return-value]

    def rounded(self) -> Arrays:
        """Sums in float64, rounded to bfloat16 exactly where the module says."""
        w = bf16(self.weights).astype(np.float64)
        parts = zip(self.layout.offsets, self.layout.shapes, strict=True)
        matrices = [w[o : o + r * c].reshape(r, c) for o, (r, c) in parts]
        entered = [self.x.astype(np.float64)]
        for matrix in matrices[:-1]:
            entered.append(bf16(np.maximum(matrix @ entered[-1], 0)))
        out = matrices[-1] @ entered[-1]
        gradient = np.zeros_like(out)
        gradient[: self.rows] = bf16(self.d_out)
        d_weights = []
        for matrix, h in zip(matrices[::-1], entered[::-1], strict=True):
            d_weights.append(gradient @ h.T)
            gradient = matrix.T @ gradient
            if len(d_weights) < len(matrices):
                gradient = bf16(np.where(h > 0, gradient, 0))
        return out[: self.rows], gradient, np.concatenate([d.reshape(-1) for d in d_weights[::-1]])


def rms(values: np.ndarray) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2))) if values.size else 0.0


def largest(values: np.ndarray) -> float:
    """Largest magnitude; 0 of nothing."""
    return float(np.abs(values).max(initial=0.0))


@engines
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=names)
def test_as_exact_as_torch(engine: str, layout: MLPLayout, n: int) -> None:
    """Against float64: root mean square and largest error at most a small multiple of those of plain torch in bfloat16."""
    case = Case(layout, n)
    found, exact, single, low = (
        case.run(engine),
        case.torch(torch.float64),
        case.torch(torch.float32),
        case.torch(torch.bfloat16),
    )
    for name, ours, reference, close, coarse in zip(("out", "dx", "dw"), found, exact, single, low, strict=True):
        assert np.isfinite(ours).all(), name
        assert rms(ours - reference) <= LOW_PRECISION_RMS * rms(coarse - reference), name
        assert rms(ours - close) <= LOW_PRECISION_RMS * rms(coarse - close), name
        # The largest of few values says little: one sample's rounding may be lucky in torch.
        if n >= 1000:
            assert largest(ours - reference) <= LOW_PRECISION_MAX * largest(coarse - reference), name


@engines
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=names)
def test_rounds_where_it_says(engine: str, layout: MLPLayout, n: int) -> None:
    """Against float64 sums with the stated roundings: a wrong layout, mask or rounding anywhere shows."""
    case = Case(layout, n, seed=1)
    for name, ours, reference in zip(("out", "dx", "dw"), case.run(engine), case.rounded(), strict=True):
        assert rms(ours - reference) <= SAME_ROUNDINGS * rms(reference), name


@engines
@pytest.mark.parametrize("layout", [DENSITY, COLOUR], ids=names)
def test_chunks_change_nothing(engine: str, layout: MLPLayout) -> None:
    """Two runs give the same bits; other chunks the same bits of out and dx, and the same dw but for float32 sums."""
    case = Case(layout, 4099, seed=2)
    first, again = case.run(engine), case.run(engine)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    for chunk in (32, 1056):
        out, dx, dw = case.run(engine, chunk)
        assert np.array_equal(out, first[0])
        assert np.array_equal(dx, first[1])
        assert rms(dw - first[2]) <= 1e-5 * rms(first[2])


@engines
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_fewer_rows(engine: str, rows: int) -> None:
    """out and d_out may have only the first rows: the same numbers as all of them with zeros beyond."""
    case, whole = Case(COLOUR, 1000, seed=3, rows=rows), Case(COLOUR, 1000, seed=3)
    whole.d_out = np.zeros_like(whole.d_out)
    whole.d_out[:rows] = case.d_out
    whole.x, whole.weights = case.x, case.weights
    (out, dx, dw), (full, full_dx, full_dw) = case.run(engine), whole.run(engine)
    assert np.array_equal(out, full[:rows])
    assert np.array_equal(dx, full_dx)
    assert np.array_equal(dw, full_dw)


@engines
@pytest.mark.parametrize("layout", LAYOUTS, ids=names)
def test_pairs_are_the_rows_rounded(engine: str, layout: MLPLayout) -> None:
    """out and dx in pairs of bfloat16 are the float32 results, rounded."""
    case = Case(layout, 1000, seed=4)
    (out, dx, dw), (out_pairs, dx_pairs, dw_pairs) = case.run(engine), case.run(engine, paired=True)
    assert np.array_equal(out_pairs, bf16(np.ascontiguousarray(out)))
    assert np.array_equal(dx_pairs, bf16(np.ascontiguousarray(dx)))
    assert np.array_equal(dw_pairs, dw)


@engines
def test_threads(engine: str) -> None:
    """Chunks in several threads at once, some of which started after the permission: the same bits."""
    case = Case(COLOUR, 4099, seed=5)
    mlp, x, d_out = bf16_mlp.prepare(case.weights, COLOUR, engine), case.padded(pairs(case.x)), case.padded(case.d_out)
    out, dx = np.zeros((16, case.n_pad), np.float32), np.zeros((32, case.n_pad), np.float32)
    begins = range(0, case.n, 1024)
    partial = np.zeros((len(begins), COLOUR.n_params), np.float32)

    def work(number: int, begin: int) -> None:
        end = min(begin + 1024, case.n)
        for _ in range(20):
            partial[number] = 0
            bf16_mlp.forward(x, mlp, out, begin, end)
            bf16_mlp.backward(x, mlp, d_out, dx, partial[number], begin, end)

    threads = [threading.Thread(target=work, args=arguments) for arguments in enumerate(begins)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = case.run(engine, 1024)
    assert np.array_equal(out[:, : case.n], expected[0])
    assert np.array_equal(dx[:, : case.n], expected[1])
    assert rms(partial.sum(0) - expected[2]) <= 1e-5 * rms(expected[2])


@engines
def test_without_input_gradient(engine: str) -> None:
    """dx=None: dw is the same."""
    case = Case(DENSITY, 1000, seed=6)
    dw = np.zeros(DENSITY.n_params, np.float32)
    mlp = bf16_mlp.prepare(case.weights, DENSITY, engine)
    bf16_mlp.backward(case.padded(pairs(case.x)), mlp, case.padded(case.d_out), None, dw, 0, case.n)
    assert rms(dw - case.run(engine)[2]) <= 1e-6 * rms(dw)


@engines
def test_bad_arrays_are_refused(engine: str) -> None:
    """One sentence that names the array."""
    mlp = bf16_mlp.prepare(np.zeros(DENSITY.n_params, np.float32), DENSITY, engine)
    x, out, dw = np.zeros((16, 64), np.uint32), np.zeros((16, 64), np.float32), np.zeros(DENSITY.n_params, np.float32)
    with pytest.raises(ValueError, match="weights must be contiguous float32"):
        bf16_mlp.prepare(np.zeros(5, np.float32), DENSITY)
    with pytest.raises(ValueError, match="x must be contiguous uint32"):
        bf16_mlp.forward(x[:8], mlp, out, 0, 64)
    with pytest.raises(ValueError, match="out must be contiguous float32"):
        bf16_mlp.forward(x, mlp, out.astype(np.float64), 0, 64)
    with pytest.raises(ValueError, match="d_out must be contiguous"):
        bf16_mlp.backward(x, mlp, out[:, ::2], None, dw, 0, 64)
    with pytest.raises(ValueError, match="dx must be contiguous"):
        bf16_mlp.backward(x, mlp, out, out, dw, 0, 64)
    with pytest.raises(ValueError, match="dw must be contiguous"):
        bf16_mlp.backward(x, mlp, out, None, dw[1:], 0, 64)
    for begin, end in ((16, 64), (0, 65), (64, 32), (-32, 0)):
        with pytest.raises(ValueError, match="multiples of 32"):
            bf16_mlp.forward(x, mlp, out, begin, end)


CHECKS_WITHOUT = """
import llvmlite.binding
{before}
from ngp_method.kernels.cpu import bfloat16, bf16_mlp, bf16_mlp_blocks, bf16_mlp_dots, bf16_mlp_weights
from ngp_method.kernels.layout import MLPLayout
import numpy as np
assert bfloat16.engines() == []
layout = MLPLayout(32, 16)
try:
    bf16_mlp.prepare(np.zeros(layout.n_params, np.float32), layout)
except RuntimeError as error:
    print(error)
else:
    raise SystemExit("prepare() worked")
modules = (bf16_mlp, bf16_mlp_blocks, bf16_mlp_dots, bf16_mlp_weights)
assert not any(getattr(v, "signatures", None) for m in modules for v in vars(m).values())
"""


@pytest.mark.parametrize(
    ("before", "environment", "why"),
    [
        ("", {bfloat16.SWITCH: "off"}, "INSTANT_HASH_BFLOAT16 is off"),
        (
            "llvmlite.binding.get_host_cpu_features = llvmlite.binding.FeatureMap",
            {},
            "this processor multiplies bfloat16 neither",
        ),
        ("", {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, "this processor multiplies bfloat16 neither"),
    ],
    ids=["switched off", "no such feature", "numba compiles for another"],
)
def test_without_bfloat16(before: str, environment: dict[str, str], why: str) -> None:
    """No engine is there, the modules import, prepare() refuses with a sentence, and nothing has been compiled."""
    command = [sys.executable, "-c", CHECKS_WITHOUT.format(before=before)]
    changed = {**os.environ, bfloat16.SWITCH: "", **environment}
    result = subprocess.run(command, env=changed, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"No bfloat16 here: {why}")


def test_an_engine_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name it works or raises; the other does not stand in."""
    monkeypatch.setattr(bfloat16, "engines", lambda: ["dots"])
    with pytest.raises(RuntimeError, match="No tiles here"):
        bf16_mlp.prepare(np.zeros(DENSITY.n_params, np.float32), DENSITY, "tiles")
    assert not bf16_mlp.prepare(np.zeros(DENSITY.n_params, np.float32), DENSITY).tiled


def test_refused_permission_means_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not hand out tile registers: no AMX, whatever the processor has."""
    monkeypatch.setattr(amx, "_permitted", lambda: False)
    assert not amx.usable.__wrapped__()


def test_availability_is_the_systems() -> None:
    """Linux lists in /proc/cpuinfo exactly what the processor and the system have."""
    flags: set[str] = set()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            flags = {word for line in file if line.startswith("flags") for word in line.split()}
    word = os.environ.get(bfloat16.SWITCH, "")
    assert ({"amx_tile", "amx_bf16", "avx512_bf16", "avx512bw"} <= flags and word not in ("off", "dots")) == bfloat16.TILES
    assert ({"avx512_bf16", "avx512bw", "avx512f"} <= flags and word != "off") == bfloat16.DOTS
    assert (word == "emulate") == bfloat16.EMULATED


def test_the_fastest_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles before dot products, the processor's own before an emulation."""
    for tiles, dots, emulated, expected in (
        (True, True, False, ["tiles", "dots"]),
        (False, True, True, ["dots", "tiles"]),
        (False, True, False, ["dots"]),
        (False, False, True, ["dots", "tiles"]),
        (False, False, False, []),
    ):
        monkeypatch.setattr(bfloat16, "TILES", tiles)
        monkeypatch.setattr(bfloat16, "DOTS", dots)
        monkeypatch.setattr(bfloat16, "EMULATED", emulated)
        assert bfloat16.engines() == expected


def test_another_word_is_refused() -> None:
    """A misspelt switch must not pass for one that is not set."""
    command = [sys.executable, "-c", "import ngp_method.kernels.cpu.bfloat16"]
    changed = {**os.environ, bfloat16.SWITCH: "0ff"}
    result = subprocess.run(command, env=changed, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"{bfloat16.SWITCH} is '0ff'; it may be one of off, dots, emulate, or unset" in result.stderr


def test_on_a_processor_with_neither_everything_is_emulated() -> None:
    """The same tests where numba compiles for AVX2: both engines and the named instructions, all from ordinary operations."""
    changed = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "", bfloat16.SWITCH: "emulate"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    chosen = "(as_exact or rounds_where or pairs_are) and (1000 or pairs_are) and (32-64-16 or 32-64-64-16 or 48-128)"
    result = subprocess.run(
        [*command, "-k", chosen], cwd=os.path.dirname(__file__), env=changed, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert "without AVX-512, AVX512-BF16, AMX" in result.stdout
