"""The perceptron kernels, alone and fused with what feeds them, in the shapes they are launched with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..footprints import wide_output_dims
from ..layout import HashGridLayout, MLPLayout
from . import aot
from .fused import encode_blocks, shape_constants
from .fused_kernels import encode_mlp_kernel, sh_mlp_kernel
from .hash_cells import SHAPES
from .mlp_kernels import backward_kernel, forward_kernel
from .mlp_launch import MOST_PARTS, Blocks, blocks_of, constants, rounds, takes

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}

COMMON = {"weights": "*fp32", "out": "*fp32", "n": "i32"}
"""Arguments that both fused kernels have."""

WIDE_INPUTS = wide_output_dims(HashGridLayout())
"""Features of samples with footprints, of 16 levels of 2."""

Parts = Sequence[tuple[int, str]]
"""(Features, type) of each part."""


def _variant(
    name: str, function: Any, signature: Mapping[str, str], fixed: Mapping[str, Any], blocks: Blocks, nowhere: tuple[str, ...]
) -> aot.Variant:
    return aot.variant(name, function, signature, {**fixed, "BLOCK": blocks.samples, **blocks.options()}, nowhere)


def _inputs(parts: Parts) -> tuple[dict[str, str], dict[str, Any]]:
    """Arguments and constants that say where the parts lie: rows of samples, as the other kernels write them."""
    filled = [*parts, *[parts[0]] * (MOST_PARTS - len(parts))]
    signature = {f"x{i}": kind for i, (_, kind) in enumerate(filled)}
    signature.update({f"x{i}_{axis}": "i32" for i in range(MOST_PARTS) for axis in "nc"})
    return {**signature, "weights": "*fp32", "n": "i32"}, {f"RUNS{i}": i < len(parts) for i in range(MOST_PARTS)}


def _forward(
    name: str, parts: Parts, layout: MLPLayout, dtype: torch.dtype, rows: int, nowhere: tuple[str, ...]
) -> aot.Variant:
    signature, runs = _inputs(parts)
    fixed = {**constants(layout, dtype, tuple(count for count, _ in parts), rows), **runs}
    return _variant(name, forward_kernel, {**signature, "out": "*fp32"}, fixed, blocks_of(layout, dtype, False), nowhere)


def _backward(
    name: str, parts: Parts, layout: MLPLayout, dtype: torch.dtype, rows: int, runs_up: bool, nowhere: tuple[str, ...]
) -> list[aot.Variant]:
    """Every launch of one gradient; the first part alone wants one, as in training."""
    signature, runs = _inputs(parts)
    # The gradient of the first part is the first part's type; unused pointers are the outputs' gradient (see mlp_launch.py).
    signature.update(up="*fp32", up_n="i32", up_c="i32", d0=parts[0][1], d1="*fp32", d2="*fp32", d_weights="*fp32")
    shared = {**constants(layout, dtype, tuple(count for count, _ in parts), rows), **runs, "RUNS_UP": runs_up}
    nowhere = (*nowhere, "gfx" if layout.n_neurons > 64 else "gfx1")
    found = []
    for number, (ends, ka, kb) in enumerate(rounds(layout)):
        fixed = {**shared, "D0": not number, "D1": False, "D2": False, "ENDS": ends, "KA": ka, "KB": kb}
        launch = f"{name}/{number}" if len(rounds(layout)) > 1 else name
        own = signature if not number else {**signature, "d0": "*fp32"}
        found.append(_variant(launch, backward_kernel, own, fixed, blocks_of(layout, dtype, True), nowhere))
    return found


def _encoded(
    shape: tuple[str, int, int, bool], layout: MLPLayout, dtype: torch.dtype, rows: int, nowhere: tuple[str, ...]
) -> aot.Variant:
    """Encoding and perceptron in one kernel, of 32 features."""
    name, features, dims, weighted = shape
    table = "*fp32" if dtype == torch.float32 else "*fp16"
    signature = {"x": "*fp32", "x_n": "i32", "x_c": "i32", "footprints": "*fp32", "table": table, "levels": "*i64", **COMMON}
    fixed = {"WEIGHTED": weighted, "L": 32 // features, "F": features, "DIMS": dims, **shape_constants(layout, dtype, rows)}
    name = f"fused_encode_mlp/{name}/{rows}/{layout.n_neurons}x{layout.n_hidden_layers}/{str(dtype).removeprefix('torch.')}"
    return _variant(name, encode_mlp_kernel, signature, fixed, encode_blocks(layout, dtype), nowhere)


def _fused(kind: str, layouts: tuple[MLPLayout, MLPLayout], dtype: torch.dtype, nowhere: tuple[str, ...]) -> list[aot.Variant]:
    density, color = layouts
    found = []
    for shape in SHAPES:
        if shape[2] == 3:
            layout = replace(density, n_input_dims=WIDE_INPUTS) if shape[3] else density
            found += [_encoded(shape, layout, dtype, rows, nowhere) for rows in (1, 16)]
    signature = {"raw": "*fp32", "raw_n": "i32", "raw_c": "i32", "d": "*fp32", "d_n": "i32", "d_c": "i32", **COMMON}
    signature["ray_indices"] = "*i32"
    fixed = {"C": 16, "P": 16, "RUNS": True, **shape_constants(color, dtype, 3)}
    name = f"fused_sh_mlp/{color.n_neurons}x2/{kind}"
    found.append(_variant(name, sh_mlp_kernel, signature, fixed, blocks_of(color, dtype, False), nowhere))
    return found


def _footprints(kind: str, dtype: torch.dtype, given: str, features: str, nowhere: tuple[str, ...]) -> list[aot.Variant]:
    """The density network of samples with footprints: more inputs."""
    layout, found = MLPLayout(WIDE_INPUTS, 16, 64, 1), []
    for rows, kind_of in ((1, given), (16, features)):
        name = f"mlp_forward/footprints 64x1/{rows}/{kind}"
        found.append(_forward(name, [(WIDE_INPUTS, kind_of)], layout, dtype, rows, nowhere))
    name = f"mlp_backward/footprints 64x1/{kind}"
    return found + _backward(name, [(WIDE_INPUTS, features)], layout, dtype, 16, True, nowhere)


def _function(kind: str, dtype: torch.dtype, features: str, nowhere: tuple[str, ...]) -> list[aot.Variant]:
    """Networks of functions, a picture's in two dimensions and a distance's in three: two hidden layers on the encoding, as
    instant-ngp has them (``configs/image/base.json``, ``configs/sdf/base.json``)."""
    found = []
    for shape in SHAPES:
        if shape[1] == 2 and not shape[3]:
            rows = 3 if shape[2] == 2 else 1
            layout = MLPLayout(32, rows, 64, 2)
            found.append(_encoded(shape, layout, dtype, rows, nowhere))
            for given in dict.fromkeys((TYPES[dtype], features)):
                name = f"function_forward/{rows} from {given[1:]}/{kind}"
                found.append(_forward(name, [(32, given)], layout, dtype, rows, nowhere))
            found += _backward(f"function_backward/{rows}/{kind}", [(32, features)], layout, dtype, rows, False, nowhere)
    return found


def variants() -> list[aot.Variant]:
    """Density and colour networks of 64 and 128 neurons, and functions of 64, in every dtype."""
    found: list[aot.Variant] = []
    for dtype, kind in ((torch.bfloat16, "bfloat16"), (torch.float16, "float16"), (torch.float32, "float32")):
        # Turing's matrix units are cuBLAS's alone (see mlp_composed.py).
        turing = () if dtype == torch.float32 else ("sm_75",)
        # In float16 what a gradient goes back to is float32 (see encode.py).
        features = TYPES[torch.float32 if dtype == torch.float16 else dtype]
        for width in (64, 128):
            density, color = MLPLayout(32, 16, width, 1), MLPLayout(32, 3, width, 2)
            if not takes(density, dtype, [32], 16):
                continue
            nowhere = (*turing, "gfx1") if width > 64 else turing
            parts = [(16, "*fp32"), (16, TYPES[dtype])]
            for rows, given in ((1, TYPES[dtype]), (16, features)):
                name = f"mlp_forward/{width}x1/{rows}/{kind}"
                found.append(_forward(name, [(32, given)], density, dtype, rows, nowhere))
            if width == 64:
                found += _footprints(kind, dtype, TYPES[dtype], features, nowhere)
            found.append(_forward(f"mlp_forward/{width}x2/3/{kind}", parts, color, dtype, 3, nowhere))
            found += _backward(f"mlp_backward/{width}x1/{kind}", [(32, features)], density, dtype, 16, True, nowhere)
            found += _backward(f"mlp_backward/{width}x2/{kind}", parts, color, dtype, 3, False, nowhere)
            found += _fused(kind, (density, color), dtype, nowhere)
        found += _function(kind, dtype, features, turing)
    return found
