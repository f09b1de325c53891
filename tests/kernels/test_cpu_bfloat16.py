"""Instructions for bfloat16, the processor's or emulated, against Intel's manual; and the processor's own, compiled unseen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngp_method.kernels.cpu import bfloat16, tile_emulation, tiles
from ngp_method.kernels.cpu.bf16_dots import dot_block
from ngp_method.kernels.cpu.bf16_pairs import address, load_floats, pair_bf16, store_at

HARDWARE_SUMS = 2.0**-20
"""Real tiles against the manual's order of sums, relative to the sum of magnitudes: a processor may add in another order, 32
products of 2^-24 each. (The emulation has no such freedom: the same bits.)"""

SOURCES = {"emulation": tile_emulation, **({"processor": tiles} if bfloat16.TILES else {})}


def bf16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers that are bfloat16 already."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint32)


def some(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random bfloat16 numbers as float32, of many magnitudes, some zero, some denormal."""
    values = (rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 8, shape)).astype(np.float32)
    values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    values[rng.random(shape) < 0.05] = 0.0
    values[rng.random(shape) < 0.05] = np.uint32(0x00410000).view(np.float32)  # denormal: counts as zero
    return values


def by_the_manual(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """TDPBF16PS (Intel's instruction set reference): c [16, 16], a [16, 32], b [32, 16], all float32."""
    flushed = [np.where(np.abs(v) < np.float32(2.0**-126), np.float32(0), v) for v in (c, a, b)]
    start, left, right = flushed
    even, odd = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    for k in range(16):
        even = even + left[:, 2 * k, None] * right[2 * k]
        odd = odd + left[:, 2 * k + 1, None] * right[2 * k + 1]
    return start + (even + odd)


def product_of(source: Any, c: int, a: int, b: int) -> Callable[..., None]:
    """A compiled function: tiles of those numbers from memory, one product, and back."""
    jit, configure, release = tile_emulation.jit, source.configure, source.release
    load, store, dot = source.tile_load, source.tile_store, source.tile_dot

    @jit
    def product(sums, left, right, stride, out):  # type: ignore[no-untyped-def]
        configure()
        load(c, address(sums), stride)
        load(a, address(left), 64)
        load(b, address(right), 64)
        dot(c, a, b)
        store(c, address(out), stride)
        release()

    return product  # type: ignore[no-any-return]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("numbers", [(0, 4, 6), (3, 5, 7), (1, 2, 0)])
def test_a_product_of_tiles(source: str, numbers: tuple[int, int, int]) -> None:
    product = product_of(SOURCES[source], *numbers)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        c, a, b = rng.standard_normal((16, 16)).astype(np.float32), some(rng, 16, 32), some(rng, 32, 16)
        left = np.ascontiguousarray(bf16(a[:, 0::2]) | (bf16(a[:, 1::2]) << 16))
        right = np.ascontiguousarray(bf16(b[0::2]) | (bf16(b[1::2]) << 16))
        for width in (16, 48):  # rows side by side, and rows with others between them
            sums, out = np.full((16, width), np.nan, np.float32), np.full((16, width), -7.0, np.float32)
            sums[:, :16] = c
            product(sums, left, right, 4 * width, out)
            expected = by_the_manual(c, a, b)
            if source == "emulation":
                np.testing.assert_array_equal(out[:, :16], expected)
            else:
                size = np.abs(c) + np.abs(a) @ np.abs(b)
                assert (np.abs(out[:, :16] - expected) <= HARDWARE_SUMS * size).all()
            assert (out[:, 16:] == -7.0).all(), "what lies between the rows is left alone"


@pytest.mark.parametrize("source", SOURCES)
def test_every_thread_has_its_own_tiles(source: str) -> None:
    """Four threads fill the same tile with different numbers, wait for each other, and read it back."""
    load, store, configure, zero = (
        getattr(SOURCES[source], name) for name in ("tile_load", "tile_store", "configure", "tile_zero")
    )

    @tile_emulation.jit
    def fill(values):  # type: ignore[no-untyped-def]
        configure()
        load(2, address(values), 64)
        zero(3)

    @tile_emulation.jit
    def read(second, third):  # type: ignore[no-untyped-def]
        store(2, address(second), 64)
        store(3, address(third), 64)

    everyone, found = threading.Barrier(4), {}

    def work(number: int) -> None:
        second, third = np.zeros(256, np.float32), np.ones(256, np.float32)
        fill(np.full(256, number, np.float32))
        everyone.wait()
        read(second, third)
        found[number] = (second, third)

    fill(np.zeros(256, np.float32))  # compiled before the threads start
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert (found[number][0] == number).all()
        assert not found[number][1].any()


def test_rounding_to_pairs() -> None:
    """The processor's instruction, or what stands for it: nearest even, denormals to zero, not-a-number stays so."""

    @tiles.jit
    def rounded(even, odd, out):  # type: ignore[no-untyped-def]
        store_at(address(out), pair_bf16(load_floats(address(even)), load_floats(address(odd))))

    def pairs(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
        out = np.zeros(16, np.uint32)
        rounded(even, odd, out)
        return out

    halfway = [0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000]
    large_and_small = [0x7F7FFFFF, 0x7F800000, 0xFF800000, 0, 0x80000000, 0x00800000, 0x00010000, 0x807FFFFF]
    words = np.array([*halfway, *large_and_small, 0x7FC00000, 0xFFFFFFFF], np.uint32)
    nearest = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xBF82, 0x7F80, 0x7F80, 0xFF80, 0, 0x8000, 0x0080, 0, 0x8000]
    other = np.full(16, 2.0, np.float32)
    for out, shift in ((pairs(words.view(np.float32), other), 0), (pairs(other, words.view(np.float32)), 16)):
        assert [int(v) for v in (out >> shift)[:14] & 0xFFFF] == nearest
        assert np.isnan((((out >> shift) & 0xFFFF) << 16).astype(np.uint32).view(np.float32)[14:]).all()
        assert ((out >> (16 - shift)) & 0xFFFF == 0x4000).all()


@pytest.mark.parametrize(("rows", "columns", "begin"), [(8, 2, 0), (8, 2, 1), (4, 2, 0), (1, 2, 0), (8, 1, 1)])
def test_a_block_of_dot_products(rows: int, columns: int, begin: int) -> None:
    """Sums of three tiles' products, from zero or from what is there, against float64; no more is written."""

    @tiles.jit
    def block(sums, left, right):  # type: ignore[no-untyped-def]
        dot_block(rows, columns, address(sums), 1024, address(left), 1024, address(right), 2048, 1024, 3, begin)

    rng = np.random.default_rng(rows * 10 + columns)
    a, b = some(rng, 3, 16, 32), some(rng, 3, 2, 32, 16)
    left = np.ascontiguousarray(bf16(a[..., 0::2]) | (bf16(a[..., 1::2]) << 16))
    right = np.ascontiguousarray(bf16(b[:, :, 0::2]) | (bf16(b[:, :, 1::2]) << 16))
    before = rng.standard_normal((2, 16, 16)).astype(np.float32)
    sums = before.copy()
    block(sums, left, right)
    # Denormal operands are zero by the instruction and next to zero (2^-126 times 2^8) by what stands for it.
    products = np.einsum("srk,sckl->crl", a.astype(np.float64), b.astype(np.float64))
    size = np.einsum("srk,sckl->crl", np.abs(a).astype(np.float64), np.abs(b).astype(np.float64)) + np.abs(before)
    expected = before * (1.0 if begin else 0.0) + products
    done = np.s_[:columns, :rows]
    assert (np.abs(sums - expected)[done] <= 96 * 2.0**-24 * size[done]).all(), "96 products in float32, in any order"
    rest = np.ones_like(before, bool)
    rest[done] = False
    np.testing.assert_array_equal(sums[rest], before[rest])


COMPILED = """
import llvmlite.binding
class Everything:
    def get(self, name, default=None):
        return True
llvmlite.binding.get_host_cpu_features = Everything  # what counts here is what numba compiles for
from numba import types
from ngp_method.kernels.cpu import bfloat16, bf16_mlp, bf16_mlp_dots, bf16_mlp_tiles, tiles
assert tiles.COMPILED and not bfloat16.EMULATED
words, floats, numbers, i = types.uint32[::1], types.float32[::1], types.int64[::1], types.int64
bf16_mlp._forward.compile((words, words, numbers, floats, i, i, types.boolean, i, i, words, types.boolean))
bf16_mlp._backward.compile(
    (words, words, words, numbers, types.int32[::1], floats, i, floats, types.boolean, floats, i, i, i, words, types.boolean)
)
for kernel in (bf16_mlp._forward, bf16_mlp._backward):
    (text,) = kernel.inspect_asm().values()
    print(*[sum(line.split()[:1] == [name] for line in text.splitlines()) for name in NAMES])
"""

INSTRUCTIONS = (
    "ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease", "vdpbf16ps", "vcvtne2ps2bf16", "vpternlogd", "prefetchw"
)  # fmt: skip


def test_the_processors_own_instructions_compile_on_any_machine(tmp_path: Path) -> None:
    """The perceptrons as a Sapphire Rapids runs them, compiled and not run: no call is left where an instruction should be."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        pytest.skip("numba compiles for x86-64 only on x86-64")
    program = COMPILED.replace("NAMES", repr(INSTRUCTIONS))
    environment = {
        "NUMBA_CPU_NAME": "sapphirerapids",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512bf16,+amx-tile,+amx-bf16,+prfchw",
        "NUMBA_CACHE_DIR": str(tmp_path),
        bfloat16.SWITCH: "off",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    forward, backward = (dict(zip(INSTRUCTIONS, map(int, line.split()))) for line in done.stdout.splitlines())
    assert all(backward.values()), backward
    assert all(forward.values()), forward


def test_by_name_without_bfloat16_a_sentence_says_what_is_missing() -> None:
    """Neither the processor's nor emulated: the set raises, ``auto`` takes the next and says why."""
    program = """
from ngp_method.kernels import choose_kernels, load_kernels
kernels, line = choose_kernels("auto", "cpu")
print(kernels.low_precision, line)
try:
    load_kernels("cpu-bfloat16")
except ImportError as error:
    print(error)
"""
    changed = {**os.environ, bfloat16.SWITCH: "off"}
    done = subprocess.run([sys.executable, "-c", program], env=changed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("False kernels: cpu (auto")
    assert first.endswith("float32, the hash table read as float16 (INSTANT_HASH_BFLOAT16 is off)")
    assert second == (
        "The kernels cpu-bfloat16 do not run here, as INSTANT_HASH_BFLOAT16 is off: use --pipeline.model.kernels cpu-float32."
    )


def test_auto_never_takes_an_emulation() -> None:
    """It is slow: for who asks by name."""
    from ngp_method.kernels import choose_kernels, load_kernels

    automatic, _ = choose_kernels("auto", "cpu")
    assert automatic.low_precision == (bfloat16.TILES or bfloat16.DOTS)  # type: ignore[attr-defined]
    named = load_kernels("cpu-bfloat16")
    assert named.low_precision  # type: ignore[attr-defined]
    assert ("emulated" in named.description) == (not (bfloat16.TILES or bfloat16.DOTS))
