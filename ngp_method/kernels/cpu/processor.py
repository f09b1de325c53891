"""What the processor can do, as far as kernels are written for it."""

from __future__ import annotations

from functools import lru_cache

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

_PROBES = {
    "avx2": ("<8 x i32>", "add <8 x i32> %x, %x", "vpaddd\t%ymm"),
    "fma": ("float", "call float @llvm.fma.f32(float %x, float %x, float %x)", "vfmadd"),
    "f16c": ("<8 x half>", "fadd <8 x half> %x, %x", "vcvtph2ps"),
    "avx512f": ("<16 x float>", "fadd <16 x float> %x, %x", "%zmm"),
}
"""Type and operation of a small function, and what stands in its assembly where the compiler may use the feature."""


@lru_cache(maxsize=1)
def _target() -> frozenset[str]:
    """LLVM's names of what numba compiles for: the processor's, or those of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.

    A name of a processor without a list of features means the features of that processor, and LLVM does not list them: the ones
    that kernels of ours ask for are found by compiling what needs them.
    """
    triple, name, words = cpu_target.target_context.codegen().magic_tuple()[:3]
    if words:
        return frozenset(word[1:] for word in words.split(",") if word.startswith("+"))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, features="", opt=3)
    return frozenset(feature for feature in _PROBES if _compiles_to(machine, *_PROBES[feature]))


def _compiles_to(machine: llvm.TargetMachine, kind: str, operation: str, wanted: str) -> bool:
    function = f"define {kind} @f({kind} %x) {{\n%y = {operation}\nret {kind} %y\n}}"
    source = f"declare float @llvm.fma.f32(float, float, float)\n{function}"
    return wanted in machine.emit_assembly(llvm.parse_assembly(source))


@lru_cache(maxsize=1)
def _features() -> frozenset[str]:
    """What the processor has and numba compiles for."""
    host = llvm.get_host_cpu_features()
    return frozenset(name for name in _target() if host.get(name, False))


def has(*names: str) -> bool:
    """Whether the processor has all of these (LLVM's names, e.g. ``avx512bf16``) and numba may use them."""
    return _features().issuperset(names)
