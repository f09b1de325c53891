"""What numba compiles for: asked of LLVM, by compiling a line and looking at what became of it.

The names of a processor and of its features (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, where set, instead of this machine's) do
not tell: a processor's name stands for features that are not listed.
"""

from __future__ import annotations

from functools import lru_cache

import llvmlite.binding
from numba.core.registry import cpu_target


@lru_cache(maxsize=8)
def _assembly(result: str, arguments: str, line: str) -> str:
    """What one line of LLVM becomes, as a function."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvmlite.binding.Target.from_triple(triple).create_target_machine(cpu=name, features=features, opt=2)
    body = f"define {result} @probe({arguments}) {{\n  %z = {line}\n  ret {result} %z\n}}\n"
    module = llvmlite.binding.parse_assembly(f'target triple = "{triple}"\n{body}')
    return str(machine.emit_assembly(module))


def wide_registers() -> bool:
    """Whether sixteen float32 are one register (AVX-512), of which there are 32 then."""
    return "zmm" in _assembly("<16 x float>", "<16 x float> %x, <16 x float> %y", "fadd <16 x float> %x, %y")


def half_conversion() -> bool:
    """Whether there are instructions between float16 and float32 (F16C, NEON): no helper functions called."""
    there = _assembly("<16 x float>", "<16 x half> %x", "fpext <16 x half> %x to <16 x float>")
    back = _assembly("<16 x half>", "<16 x float> %x", "fptrunc <16 x float> %x to <16 x half>")
    return not any(helper in text for text in (there, back) for helper in ("hfsf2", "sfhf2", "h2f", "f2h"))
