"""What a run has settled at its start, from its data or its machine, and keeps: in its config.yml and in its checkpoints.

Commands that load a run read its config.yml; ``ns-train --load-dir`` has a config of its own and reads the checkpoint.
"""

from __future__ import annotations

from typing import Any

LEVELS = ("n_levels", "finest_resolution")
"""Of the model's config: settled where the levels were to fit the images."""


def settled_in(config: Any) -> dict[str, Any]:
    """Of a pipeline's config, once the pipeline is built: plain numbers, for a checkpoint."""
    found = {"placement": getattr(config.datamanager, "placement", None)}
    levels = LEVELS if getattr(config.model, "levels_fit_images", False) else ()
    for name in ("step_scale", *levels, *getattr(config.model, "LEFT_OPEN", ())):
        found[name] = getattr(config.model, name, None)
    return found


def settle(config: Any, found: dict[str, Any]) -> None:
    """Has a pipeline's config, before the pipeline is built, say what a checkpoint has settled.

    Settings that were given by name stay: what does not fit the checkpoint then is refused when it is loaded.
    """
    if not found:
        return
    placement, manager, model = found.get("placement"), config.datamanager, config.model
    if placement is not None and hasattr(manager, "placement"):
        manager.placement = tuple(placement)
    for name in ("step_scale", *getattr(model, "LEFT_OPEN", ())):
        if getattr(model, name, 1.0) is None:
            setattr(model, name, found.get(name))
    if getattr(model, "levels_fit_images", False) and model.finest_resolution is None and LEVELS[0] in found:
        for name in LEVELS:
            setattr(model, name, found[name])
