"""Kernels compiled before they are needed: those that training and pictures launch, in the shapes they are launched with."""

from __future__ import annotations

import pytest
import torch

from measure import gpu_counts
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.network import RadianceNetwork
from ngp_method.fields.shading import Shading
from ngp_method.kernels.batch import intersect_box
from ngp_method.kernels.scene import SceneGeometry
from ngp_method.kernels.triton import TritonKernels, aot, warm
from ngp_method.volume.occupancy import OccupancyGrid
from ngp_method.volume.parts.background import PlainBackground
from ngp_method.volume.parts.part import Parts
from ngp_method.volume.rays import Rays
from ngp_method.volume.rendering import render_rays
from ngp_method.volume.step import Step, StepSettings
from support.kernel_cases import kernels_of

GEOMETRY = SceneGeometry(step_scale=24.0)


@pytest.mark.parametrize(
    ("precision", "chip", "vectors"),
    [
        (torch.bfloat16, "sm_90", True),
        (torch.float16, "sm_75", False),
        (torch.float32, "sm_86", False),
        (torch.bfloat16, "gfx942", False),
    ],
)
def test_what_is_compiled_is_of_the_precision_and_the_chip(precision: torch.dtype, chip: str, vectors: bool) -> None:
    names = [variant.name for variant in warm.launched(precision, chip, vectors)]
    kind = str(precision).removeprefix("torch.")
    for beginning in warm.LAUNCHED:
        if chip == "sm_75" and beginning.startswith(("fused_", "mlp_")):
            continue  # torch multiplies there
        assert any(name.startswith(beginning) for name in names), beginning
    for name in names:
        last = name.split("/")[-1]
        if not name.startswith(("adam/", "hash_scatter/")):  # gradients of float16 are float32
            assert last.split()[0] == kind or last not in warm.PRECISIONS, name
    assert not any("amd" in name if chip.startswith("sm_") else "nvidia" in name for name in names)
    assert any(" packed" in name for name in names) == vectors
    assert 30 < len(names) < 60
    assert not set(names) - {variant.name for variant in aot.all_variants()}


def test_whatever_a_step_and_a_picture_launch_is_among_them() -> None:
    """By the kernels' names; a step with batch, optimisers and an update of the grid is counted by test_gpu_counts.py."""
    kernels = kernels_of("triton")
    torch.manual_seed(3)
    network = RadianceNetwork(build_encoding("hash", EncodingSettings(4, 2, 9, 4, 32)), kernels)
    grid = OccupancyGrid(GEOMETRY, kernels, 16)
    field = Shading(network, GEOMETRY)
    step = Step(field, grid, Parts([PlainBackground()]), StepSettings(sample_budget=1000))
    o = torch.rand(32, 3) - 0.5
    o[:, 0] = -2.0
    d = torch.tensor([[1.0, 0.0, 0.0]]).repeat(32, 1)
    rays = Rays(o, d, *intersect_box(o, d, GEOMETRY.aabb, 0.0))
    with gpu_counts.counting() as counts:
        step.compared(rays, torch.rand(32, 3)).backward()
        step.tracer.fixed(rays, step_slots(step))
        network.eval()
        render_rays(field, kernels, grid, rays, with_normals=True)
        grid.update(1000, field.density_in_unit)
    known = {variant.function.fn.__name__ for variant in warm.launched(torch.bfloat16, "sm_90", True)}
    assert len(counts.triton) > 15
    assert set(counts.triton) <= known, set(counts.triton) - known


def step_slots(step: Step):  # type: ignore[no-untyped-def]
    """Room for what the last step had."""
    from ngp_method.volume.tracing import Slots

    return Slots(step.counts["marched"] + 16, step.counts["kept"] + 16)


def test_nothing_is_compiled_in_the_interpreter() -> None:
    assert list(TritonKernels().warm_up()) == []
