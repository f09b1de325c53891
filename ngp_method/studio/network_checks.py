"""Sizes of a network that somebody asks for, looked at before anything of a run is written."""

from __future__ import annotations

from typing import Any

from ..errors import fail
from ..kernels.layout import HashGridLayout, MLPLayout

USUAL_LOG2, USUAL_FINEST = 19, 2048
"""What stands for sizes that are left open until the data is known."""


def check_network(model: Any) -> None:
    """Looks whether a grid and perceptrons of these sizes can be built; a config that has a ``check`` of its own has that
    called.

    Args:
        model: a model's config.

    Raises:
        UserError: they cannot.
    """
    if hasattr(model, "check"):
        model.check()
        return
    finest = model.finest_resolution or max(USUAL_FINEST, model.base_resolution)
    log2 = USUAL_LOG2 if model.log2_hashmap_size is None else model.log2_hashmap_size
    try:
        HashGridLayout(model.n_levels, model.n_features_per_level, log2, model.base_resolution, finest)
        for name in ("n_hidden_layers", "n_hidden_layers_color"):
            if hasattr(model, name):
                MLPLayout(32, 3, model.n_neurons, getattr(model, name))
    except ValueError as error:
        fail(f"--pipeline.model: {error}")
    if getattr(model, "footprints", False) and model.encoding not in ("hash", "dense"):
        fail(
            f"--pipeline.model.footprints needs an encoding with levels, and --pipeline.model.encoding is {model.encoding}: "
            "train with the encoding hash or dense, or without footprints."
        )
    if model.n_frequencies < 1:
        fail(f"--pipeline.model.n-frequencies {model.n_frequencies}: give at least 1.")
