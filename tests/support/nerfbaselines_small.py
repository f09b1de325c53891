"""Settings of a run of moments under nerfbaselines."""

from __future__ import annotations

SMALL = {
    "method": "instant-hash-lite",
    "machine.device_type": "cpu",
    "max_num_iterations": 40,
    "pipeline.model.log2_hashmap_size": 12,
    "pipeline.model.sample_budget": 4096,
    "pipeline.model.kernels": "cpu-float32",
}
