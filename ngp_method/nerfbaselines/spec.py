"""Registers the method with nerfbaselines when nerfbaselines imports this, by the entry point group ``nerfbaselines.specs``.

It runs where nerfbaselines itself is installed: there are no containers, so that ``--backend python`` is the one backend.
"""

from __future__ import annotations

from typing import Any

from nerfbaselines import register

SPEC: dict[str, Any] = {
    "id": "instant-hash",
    "method_class": "ngp_method.nerfbaselines.method:InstantHash",
    "backends_order": ["python"],
    "metadata": {
        "name": "instant-hash",
        "description": (
            "Instant-NGP on any machine: a multiresolution hash grid, two small perceptrons and an occupancy grid, with "
            "kernels in Triton for GPUs and in numba for processors."
        ),
        "paper_title": "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding",
        "paper_authors": ["Thomas Müller", "Alex Evans", "Christoph Schied", "Alexander Keller"],
        "paper_link": "https://arxiv.org/abs/2201.05989",
        "licenses": [{"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
    },
    "presets": {
        # Without one of the next three the settings are those of paper where torch sees a GPU, else those of lite.
        "paper": {
            "@description": "The paper and instant-ngp to the letter: 2^19 entries a level, 2^18 samples a step, 30,000 steps.",
            "method": "instant-hash-paper",
        },
        "lite": {
            "@description": "Minutes on a processor: 2^17 entries a level, 2^16 samples a step, 8,000 steps.",
            "method": "instant-hash-lite",
        },
        "big": {
            "@description": "The paper's with 2^21 entries a level, for large scenes and a GPU with memory.",
            "method": "instant-hash-big",
        },
        "blender": {
            # One unit cube. Trained over random colours, so that alpha counts; compared over white, as NeRF has it.
            "@apply": [{"dataset": "blender"}],
            "pipeline.datamanager.dataparser.aabb_scale": 1,
            "pipeline.model.background_color": "random",
            "pipeline.model.eval_background_color": "white",
        },
        "unbounded": {
            # What nerfbaselines gives instant-ngp for these; by itself the box here would be at most 16 unit cubes wide.
            "@apply": [{"dataset": "mipnerf360"}, {"dataset": "tanksandtemples"}, {"dataset": "zipnerf"}],
            "pipeline.datamanager.dataparser.aabb_scale": 32,
        },
    },
    "implementation_status": {"blender": "working"},
}
"""What nerfbaselines knows of the method before it loads it."""

register(SPEC)
