"""Settings of an experiment in a YAML file, and the command that trains with them.

    instant-hash-train configs/blender.yml --data DIR [any flag of ns-train]

A file says which preset it builds on (``method: instant-hash-paper``; see :mod:`ngp_method.method_configs`) and maps dotted
config paths to values. The command turns them into flags of ``ns-train``, prints the command it amounts to and runs it; flags
given by hand come last and win.
"""

from __future__ import annotations

import copy
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from ngp_method.errors import UserError, fail


def read(path: Path) -> dict[str, Any]:
    """The settings of a file: dotted path -> number, text, truth value or list of them.

    Raises:
        UserError: one sentence that names the file and the mend.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except OSError:
        raise UserError(f"{path}: no such file; the project's own are in configs/.") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise UserError(f"{path}: not YAML (line {line}); write one 'path.to.setting: value' a line.") from None
    if not isinstance(found, dict) or not found:
        fail(f"{path}: holds no settings; write one 'path.to.setting: value' a line.")
    for name, value in found.items():
        if not isinstance(name, str) or isinstance(value, dict) or value is None:
            fail(f"{path}: '{name}' is not a dotted path with one value, as in 'pipeline.model.n_levels: 8'.")
    return found


METHOD = "method"
"""The key that names the preset."""


def presets() -> dict[str, Any]:
    """The registered methods' configs by name."""
    from nerfstudio.plugins.types import MethodSpecification

    from ngp_method import method_configs

    found = {name: spec for name, spec in vars(method_configs).items() if isinstance(spec, MethodSpecification)}
    return {name.replace("_", "-"): spec.config for name, spec in found.items()}


def split(settings: dict[str, Any], source: Path | str = "settings") -> tuple[str, Any, dict[str, Any]]:
    """The preset's name, its config, and the settings without it.

    Raises:
        UserError: the file names no preset, or one that there is not.
    """
    known = presets()
    name = settings.get(METHOD)
    if name not in known:
        what = "names no method" if name is None else f"'{METHOD}: {name}' is none of the methods here"
        fail(f"{source}: {what}; begin the file with '{METHOD}: ' and one of {', '.join(known)}.")
    return name, known[name], {key: value for key, value in settings.items() if key != METHOD}


def apply(config: Any, settings: dict[str, Any], source: Path | str = "settings") -> Any:
    """A copy of a trainer config with the settings in place.

    Raises:
        UserError: a path that names nothing, or a value of another type than the one it replaces.
    """
    config = copy.deepcopy(config)
    for path, value in settings.items():
        *parents, name = path.split(".")
        owner: Any = config
        for parent in parents:
            owner = owner.get(parent) if isinstance(owner, dict) else getattr(owner, parent, None)
        if owner is None or isinstance(owner, dict) or not hasattr(owner, name):
            fail(f"{source}: there is no setting '{path}'; `ns-train {config.method_name} --help` lists them.")
        current = getattr(owner, name)
        if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(current, tuple) and isinstance(value, list):
            value = tuple(value)
        if current is not None and type(current) is not type(value):
            kind = type(current).__name__
            fail(f"{source}: '{path}' takes a value of type {kind}, not {value!r}.")
        setattr(owner, name, value)
    return config


def flags(settings: dict[str, Any]) -> list[str]:
    """The settings as ns-train has them: ``--pipeline.model.n-levels 8``."""
    words: list[str] = []
    for path, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += ["--" + path.replace("_", "-"), *(str(one) for one in values)]
    return words


def main() -> None:
    """The command ``instant-hash-train``."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        raise SystemExit(0 if len(sys.argv) > 1 else 2)
    path = Path(sys.argv[1])
    settings = read(path)
    method, config, settings = split(settings, path)
    apply(config, settings, path)
    given = {word.split("=")[0] for word in sys.argv[2:] if word.startswith("--")}
    kept = {name: value for name, value in settings.items() if "--" + name.replace("_", "-") not in given}
    sys.argv = ["ns-train", method, *flags(kept), *sys.argv[2:]]
    print(shlex.join(sys.argv), flush=True)
    from nerfstudio.scripts.train import entrypoint

    entrypoint()


if __name__ == "__main__":
    main()
