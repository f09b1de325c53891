"""The order of flags in ``ns-train instant-hash --help``: what one sets for a run first, nerfstudio's frame after it.

Fields that this method has no use for are annotated ``tyro.conf.Suppress`` where they are inherited: the command line does not
know them, so that it refuses them by name, and a config made in Python still has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=type)


def first(*names: str) -> Callable[[T], T]:
    """Decorates a dataclass: these fields come first, in this order, wherever its fields are listed.

    Raises:
        KeyError: the class has no such field.
    """

    def sort(cls: T) -> T:
        fields = cls.__dataclass_fields__  # type: ignore[attr-defined] # what dataclasses.fields lists, in its order
        cls.__dataclass_fields__ = {name: fields[name] for name in (*names, *fields)}  # type: ignore[attr-defined]
        return cls

    return sort
