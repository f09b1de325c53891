"""A training run's kernels compiled before its first step, many at a time, where this machine has none of them yet.

Triton compiles a kernel when it is first launched: some fifty of them one after the other. Most of that is the compiler's work
and the assembler's, outside of Python's lock, so threads share it. What they make lies in Triton's cache, where a launch finds
it: the same source, types, constants and options have the same name there (seen on an H100 with Triton 3.6).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch

from . import aot, hash_scatter

LAUNCHED = (
    "color_loss_backward/huber/", "color_loss_forward/huber/", "compositing_", "density_head", "enter_box/near/far",
    "fused_encode_mlp/16x2/1/64x1/", "fused_encode_mlp/16x2/16/64x1/", "fused_sh_mlp/64x2/", "hash_encode/16x2/",
    "hash_position/16x2/", "hash_scatter/16x2 run", "marching_", "mlp_backward/64x", "mlp_forward/64x", "occupancy_", "packing_",
    "pick_pixels/", "spherical/", "table_rays",
)  # fmt: skip
"""What the default settings launch, in training and for pictures: how the names of its variants begin."""

VENDORS = ("nvidia", "amd")
PRECISIONS = ("bfloat16", "float16", "float16 trained", "float32")


def launched(precision: torch.dtype, chip: str, vectors: bool) -> list[aot.Variant]:
    """The variants that are launched in a precision.

    Args:
        chip: its name, e.g. ``sm_90``; one that :data:`.aot.CHIPS` does not know is taken for the most alike.
        vectors: whether it adds vectors of float32 atomically (hash_scatter.py).
    """
    kind = str(precision).removeprefix("torch.")
    names = (*LAUNCHED, "adam/alone" if kind == "float32" else "adam/float16 copy")
    found = []
    for variant in aot.all_variants():
        last = variant.name.split("/")[-1]
        scatter = variant.name.startswith("hash_scatter/")
        # Features of float16 are float32 where they are trained (encode.py).
        of_kind = "float32" if scatter and kind == "float16" else kind
        same = last not in PRECISIONS or last.split()[0] == of_kind or variant.name.startswith("adam/")
        scattered = scatter and vectors != (" packed/" in variant.name)
        vendors = last in VENDORS and last != VENDORS[not chip.startswith("sm_")]
        if variant.name.startswith(names) and same and not scattered and not vendors and aot.runs_on(variant, chip):
            found.append(variant)
    return found


def compile_all(precision: torch.dtype) -> int:
    """Compiles for the current device what the default settings launch; how many kernels that is.

    What does not compile is left to its first launch, which says so.
    """
    from triton.runtime import driver

    target = driver.active.get_current_target()
    name = f"sm_{target.arch}" if target.backend == "cuda" else str(target.arch)
    known = name if name in aot.CHIPS else "sm_90" if target.backend == "cuda" else "gfx942"
    chip = aot.Chip(target.backend, target.arch, target.warp_size, aot.CHIPS[known].shared_limit)
    variants = launched(precision, known, hash_scatter.packed())

    def build(variant: aot.Variant) -> None:
        try:
            aot.build(variant, chip)
        except Exception:  # whatever Triton raises: it will be raised again where the kernel is launched
            return

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        list(threads.map(build, variants))
    return len(variants)
