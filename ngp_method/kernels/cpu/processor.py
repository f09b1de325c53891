"""What the processor can do, as far as kernels are written for it, and as far as numba compiles for it.

numba compiles for NUMBA_CPU_NAME and NUMBA_CPU_FEATURES where they are set. A name of a processor stands for features that
nobody lists, so what a name may mean is asked of LLVM: by compiling a line, and looking at what became of it.
"""

from __future__ import annotations

from functools import lru_cache

import llvmlite.binding as llvm
from numba.core.registry import cpu_target


@lru_cache(maxsize=16)
def line_becomes(result: str, arguments: str, line: str) -> str:
    """The assembly that one line of LLVM becomes for what numba compiles for, as a function of ``arguments`` (%x, ...)."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, features=features, opt=2)
    body = f"define {result} @probe({arguments}) {{\n  %z = {line}\n  ret {result} %z\n}}\n"
    return str(machine.emit_assembly(llvm.parse_assembly(f'target triple = "{triple}"\n{body}')))


@lru_cache(maxsize=1)
def _features() -> frozenset[str]:
    """LLVM's names of what the processor has and numba was told to compile for."""
    target = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    host = llvm.get_host_cpu_features()
    return frozenset(word[1:] for word in target if word.startswith("+") and host.get(word[1:], False))


def has(*names: str) -> bool:
    """Whether the processor has all of these (LLVM's names, e.g. ``avx512bf16``) and numba may use them.

    Where only a processor's name was given nothing is known: no.
    """
    return _features().issuperset(names)


def wide_registers() -> bool:
    """Whether sixteen float32 are one register (AVX-512), of which there are 32 then."""
    return "zmm" in line_becomes("<16 x float>", "<16 x float> %x, <16 x float> %y", "fadd <16 x float> %x, %y")


def half_conversion() -> bool:
    """Whether there are instructions between float16 and float32 (F16C, NEON): no helper functions called."""
    there = line_becomes("<16 x float>", "<16 x half> %x", "fpext <16 x half> %x to <16 x float>")
    back = line_becomes("<16 x half>", "<16 x float> %x", "fptrunc <16 x float> %x to <16 x half>")
    return not any(helper in text for text in (there, back) for helper in ("hfsf2", "sfhf2", "h2f", "f2h"))
