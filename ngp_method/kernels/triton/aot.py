"""Every Triton kernel in the shapes it is launched with, so that all can be compiled for any chip without a device.

Only in a process without ``TRITON_INTERPRET``: in the interpreter there is nothing to compile.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from .device import interpreted

KIB = 1024

FUSED = {"enable_fp_fusion": True}
"""Launch option of every kernel but those with EXACT: a product and the sum it goes into are rounded once, as one instruction
does both. Stated at every launch, as Triton's default is not the same in all versions (3.10 turns it off)."""

EXACT = {"enable_fp_fusion": False}
"""Launch option of the kernels that say where a ray's steps begin and end: those bits must be the same from every kernel and
every kernel set. Products and sums are fused only where it says ``fma``."""


@dataclass(frozen=True)
class Variant:
    """One kernel as it is launched.

    Attributes:
        name: in the table of resources, e.g. ``mlp_forward/64x1/bfloat16``.
        function: the ``triton.jit`` function.
        signature: Triton type of every run-time argument by name: ``*fp32``, ``*bf16``, ``i32``, ``fp32``, ...
        constants: value of every ``tl.constexpr`` argument by name.
        num_warps, num_stages: as launched.
        aligned: arguments whose value is a multiple of 16 (all pointers from torch are; sizes if the launcher sees to it).
        options: any other launch option by name, e.g. ``enable_fp_fusion``.
        not_on: how names of chips begin on which it is never launched, e.g. ``sm_75``: its work is done otherwise there.
    """

    name: str
    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 2
    aligned: tuple[str, ...] = field(default=())
    options: Mapping[str, Any] = field(default_factory=dict)
    not_on: tuple[str, ...] = ()

    @property
    def needs_bfloat16(self) -> bool:
        """Whether any operand is bfloat16."""
        words = [self.name, *self.signature.values(), *map(str, self.constants.values())]
        return any("bf16" in word or "bfloat16" in word for word in words)


def variant(
    name: str, function: Any, signature: Mapping[str, str], given: Mapping[str, Any], not_on: tuple[str, ...] = ()
) -> Variant:
    """A kernel as it is launched, with pointers as torch makes them.

    Args:
        given: what the launcher gives by name: the kernel's constants, and launch options.
    """
    constants = {key: value for key, value in given.items() if key in function.arg_names}
    options = {key: value for key, value in given.items() if key not in constants}
    launch = {key: options.pop(key) for key in ("num_warps", "num_stages") if key in options}
    aligned = tuple(key for key, kind in signature.items() if kind.startswith("*"))
    return Variant(name, function, signature, constants, aligned=aligned, options=options, not_on=not_on, **launch)


@dataclass(frozen=True)
class Chip:
    """What is compiled for.

    Attributes:
        backend, arch, warp_size: Triton's ``GPUTarget``.
        shared_limit: most bytes of shared memory (LDS) of one block (CUDA C++ guide, table of compute capabilities).
        since: the first Triton that knows the chip.
        bfloat16: whether its matrix units take bfloat16.
    """

    backend: str
    arch: int | str
    warp_size: int
    shared_limit: int
    since: tuple[int, int] = (3, 0)
    bfloat16: bool = True


CHIPS = {
    "sm_75": Chip("cuda", 75, 32, 64 * KIB, bfloat16=False),
    "sm_80": Chip("cuda", 80, 32, 163 * KIB),
    "sm_86": Chip("cuda", 86, 32, 99 * KIB),
    "sm_89": Chip("cuda", 89, 32, 99 * KIB),
    "sm_90": Chip("cuda", 90, 32, 227 * KIB),
    "sm_100": Chip("cuda", 100, 32, 227 * KIB, since=(3, 3)),
    "sm_120": Chip("cuda", 120, 32, 99 * KIB, since=(3, 3)),
    "gfx90a": Chip("hip", "gfx90a", 64, 64 * KIB),
    "gfx942": Chip("hip", "gfx942", 64, 64 * KIB),
    "gfx1100": Chip("hip", "gfx1100", 32, 64 * KIB),
}
"""Turing to Blackwell, and AMD's MI200, MI300 and RX 7000."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one chip.

    Attributes:
        registers: 32-bit registers of one thread (AMD: vector registers, accumulation registers counted in).
        shared: bytes of shared memory (LDS) of one block.
        spills: NVIDIA: bytes that one thread stores to its stack; AMD: vector registers spilled.
    """

    registers: int
    shared: int
    spills: int


def triton_version() -> tuple[int, int]:
    """Major and minor number of the Triton installed."""
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def known_chips() -> list[str]:
    """Names of the chips that this Triton compiles for."""
    return [name for name in CHIPS if unknown_because(name) is None]


def unknown_because(chip: str) -> str | None:
    """Why this Triton does not compile for a chip of the table, as half a sentence; None where it does."""
    if triton_version() < CHIPS[chip].since:
        return f"Triton {triton_version()[0]}.{triton_version()[1]} does not know it"
    if CHIPS[chip].backend == "hip":
        return _without_linker()
    return None


@lru_cache(maxsize=1)
def _without_linker() -> str | None:
    """What Triton 3.2 says where ROCm's linker is missing; later ones bring their own."""
    from triton.backends.amd.compiler import HIPBackend

    try:
        getattr(HIPBackend, "path_to_rocm_lld", lambda: None)()
    except Exception as error:  # a bare Exception is what it raises
        return f"this Triton wants a linker beside it ({error})"
    return None


def runs_on(variant: Variant, chip: str) -> bool:
    """Whether the variant is launched on that chip at all: bfloat16 is not where the matrix units lack it."""
    return (CHIPS[chip].bfloat16 or not variant.needs_bfloat16) and not chip.startswith(variant.not_on or "never")


def all_variants() -> list[Variant]:
    """The variants of every module of this package, by name.

    Raises:
        ValueError: two variants of one name.
    """
    package = importlib.import_module(__package__)
    found: dict[str, Variant] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        for variant in getattr(importlib.import_module(f"{__package__}.{module}"), "variants", list)():
            if variant.name in found:
                raise ValueError(f"Two kernel variants are called '{variant.name}'.")
            found[variant.name] = variant
    return [found[name] for name in sorted(found)]


def _source(variant: Variant, chip: Chip) -> Any:
    """Triton's source object; what it is called with has changed between 3.2 and 3.3."""
    from triton.compiler import ASTSource

    names = list(variant.function.arg_names)
    unknown = {*variant.signature, *variant.constants} ^ set(names)
    if unknown:
        raise ValueError(f"{variant.name}: signature and constants do not match the kernel's arguments: {sorted(unknown)}.")
    if triton_version() < (3, 3):
        from triton.backends.compiler import AttrsDescriptor

        hints = {names.index(name): 16 for name in variant.aligned}
        signature = {name: variant.signature[name] for name in names if name in variant.signature}
        return ASTSource(variant.function, signature, dict(variant.constants), AttrsDescriptor.from_hints(hints))
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for name in variant.aligned:
        attributes[(names.index(name),)] = [["tt.divisibility", 16]]
        if chip.backend == "hip" and variant.signature[name].startswith("*"):
            # What Triton's launcher says of tensors under 2 GiB: they are read by buffer instructions.
            attributes[(names.index(name),)].append(["tt.pointer_range", 32])
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    return ASTSource(variant.function, signature, dict(variant.constants), attributes)


def build(variant: Variant, chip: Chip) -> Any:
    """Compile to machine code: Triton's ``CompiledKernel``, which is in its cache from then on.

    Raises:
        Exception: whatever Triton raises where it does not compile.
    """
    if interpreted():
        raise RuntimeError("Kernels cannot be compiled in Triton's interpreter: unset TRITON_INTERPRET before the import.")
    import triton
    from triton.backends.compiler import GPUTarget

    return triton.compile(
        _source(variant, chip),
        target=GPUTarget(chip.backend, chip.arch, chip.warp_size),
        options={"num_warps": variant.num_warps, "num_stages": variant.num_stages, **variant.options},
    )


def compile_variant(variant: Variant, chip: str) -> Resources:
    """Compile to machine code and read what it takes.

    Raises:
        RuntimeError: it compiles, but needs more shared memory than the chip has.
        Exception: whatever Triton raises where it does not compile.
    """
    target = CHIPS[chip]
    compiled = build(variant, target)
    shared = int(compiled.metadata.shared)
    if shared > target.shared_limit:
        raise RuntimeError(f"needs {shared} bytes of shared memory, {chip} has {target.shared_limit}")
    if target.backend == "cuda":
        registers, spills = _read_cubin(compiled.asm["cubin"])
    else:
        registers, spills = (_read_amd(compiled.asm["amdgcn"], key) for key in ("vgpr_count", "vgpr_spill_count"))
    return Resources(registers, shared, spills)


def _read_cubin(cubin: bytes) -> tuple[int, int]:
    """Registers of one thread, and the bytes it spills: the width of all stores to its stack (what ptxas -v counts)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernel.cubin")
        Path(path).write_bytes(cubin)
        said = _tool("cuobjdump", "-res-usage", path)
        found = re.search(r"REG:(\d+) STACK:(\d+)", said)
        if not found:
            raise RuntimeError(f"cuobjdump says nothing of registers: {said.strip()[-200:]}")
        if not int(found[2]):  # without a stack there are no spills; one may be there for other reasons
            return int(found[1]), 0
        stores = re.findall(r"\bSTL(?:\.\w+)*?(?:\.(64|128))?(?:\.\w+)*\s", _tool("nvdisasm", "-c", path))
    return int(found[1]), sum(int(width or 32) // 8 for width in stores)


def _tool(name: str, *arguments: str) -> str:
    """What one of the programs says that come with Triton."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([str(path), *arguments], capture_output=True, text=True, check=True).stdout


def _read_amd(assembly: str, key: str) -> int:
    found = re.search(rf"^\s*(?:- )?\.{key}:\s*(\d+)", assembly, re.MULTILINE)
    if not found:
        raise RuntimeError(f"the assembly's metadata lack .{key}")
    return int(found[1])
