"""Settings of a run under nerfbaselines: a preset of ours, and what ``--set`` and presets of nerfbaselines say otherwise.

A setting is named by its dotted path, as in ``configs/``. Only those that count here are known: nerfbaselines itself sees to
data, folders, logging and evaluation, and counts in steps.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from ngp_method.errors import fail
from ngp_method.studio.pipeline import InstantHashPipelineConfig
from ngp_method.tools.train import METHOD, presets

DEFAULT = "instant-hash"
"""The preset of ours that is taken where none is named."""

PARSER = ("aabb_scale", "scale", "near", "orientation_method", "center_method", "auto_scale_poses")
"""Settings of the data parser that count for data in memory."""

DEVICE = "machine.device_type"
"""The one setting that is the machine's, not the run's."""

WORDS = {"true": True, "false": False, "none": None}
"""What a command line may write for Python's names."""


def preset(name: Any) -> Any:
    """The trainer's config of one of our presets of a radiance field.

    Raises:
        UserError: there is none of that name.
    """
    known = {key: value for key, value in presets().items() if isinstance(value.pipeline, InstantHashPipelineConfig)}
    if name not in known:
        fail(f"nerfbaselines: {METHOD}={name} is none of the presets here; give one of {', '.join(known)}.")
    return known[name]


@dataclasses.dataclass
class Place:
    """Where a setting is kept.

    Attributes:
        owner: the config that has it.
        name: of its field.
        kind: its type.
    """

    owner: Any
    name: str
    kind: Any


def places(config: Any) -> dict[str, Place]:
    """All settings that count under nerfbaselines, by dotted path.

    Args:
        config: a trainer's, whose data parser is ours.
    """
    manager = config.pipeline.datamanager
    parts: list[tuple[str, Any, tuple[str, ...] | None]] = [
        ("", config, ("max_num_iterations",)),
        ("machine.", config.machine, ("seed", "device_type")),
        ("pipeline.model.", config.pipeline.model, None),
        ("pipeline.datamanager.", manager, ("train_num_rays_per_batch", "images_on_gpu")),
        ("pipeline.datamanager.dataparser.", manager.dataparser, PARSER),
    ]
    parts += [(f"optimizers.{g}.{of}.", part, None) for g, both in config.optimizers.items() for of, part in both.items()]
    return {prefix + place.name: place for prefix, owner, names in parts if owner for place in _fields(owner, names)}


def _fields(owner: Any, names: tuple[str, ...] | None) -> Iterator[Place]:
    """The named fields of a config, or all that are meant for a user: no target, nothing suppressed, no paths."""
    kinds = get_type_hints(type(owner), include_extras=True)
    for field in dataclasses.fields(owner):
        kind = kinds[field.name]
        hidden = tyro.conf.Suppress in getattr(kind, "__metadata__", ()) or field.name.startswith("_") or Path in get_args(kind)
        if field.name in names if names is not None else not hidden:
            yield Place(owner, field.name, kind)


def values(config: Any) -> dict[str, Any]:
    """What all settings are, as plain values."""
    return {path: getattr(place.owner, place.name) for path, place in places(config).items()}


def put(config: Any, settings: Mapping[str, Any], source: str) -> None:
    """Puts settings into a config.

    Args:
        config: is changed.
        settings: dotted path -> value, or text that says it.
        source: names where they come from in messages.

    Raises:
        UserError: a path that names nothing that counts here, or a value that is none for it.
    """
    known = places(config)
    for path, value in settings.items():
        if path not in known:
            if path == "max_train_seconds":
                fail(f"{source}: nerfbaselines counts steps, not seconds; give max_num_iterations.")
            near = difflib.get_close_matches(path, known, 1)
            mend = f"do you mean {near[0]}?" if near else "those that count are the hparams that a run's nb-info.json lists."
            fail(f"{source}: there is no setting '{path}' under nerfbaselines; {mend}")
        place = known[path]
        setattr(place.owner, place.name, _taken(value, place.kind, f"{source}: {path}={value}"))
    if config.max_num_iterations < 1:
        fail(f"{source}: max_num_iterations={config.max_num_iterations}; give at least 1.")


def _taken(value: Any, kind: Any, what: str) -> Any:
    """A value as its setting has it: as it is, or what its text says."""
    tries = [value]
    if isinstance(value, str):
        try:
            tries.append(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            tries.append(WORDS.get(value.lower(), value))
    for one in tries:
        for plain in _plain_kinds(kind):
            if _is(one, plain):
                return float(one) if plain is float else tuple(one) if plain is tuple else one
    wanted = " or ".join(repr(k) if isinstance(k, str) else "None" if k is None else k.__name__ for k in _plain_kinds(kind))
    return fail(f"{what} is no value for it; give {wanted}.")


def _plain_kinds(kind: Any) -> list[Any]:
    """A type as a list of plain types, texts that it may be, and None."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return [plain for one in get_args(kind) for plain in _plain_kinds(one)]
    if origin is Literal:
        return list(get_args(kind))
    return [None if kind is type(None) else origin or kind]


def _is(value: Any, kind: Any) -> bool:
    if kind is None or isinstance(kind, str):
        return bool(value == kind)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, (list, tuple))
    return type(value) is kind
