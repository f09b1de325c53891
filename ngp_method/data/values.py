"""Numbers out of JSON files: what is none ends in a sentence, what is one written as text is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngp_method.errors import fail

Json = Mapping[str, Any]


def number(source: Json, key: str, where: str, default: float) -> float:
    """A number, or a text that holds one.

    Args:
        source: the object.
        key: its key.
        where: names file and frame in the message.
        default: where the key is not there.

    Raises:
        UserError: something else, or not finite (focal lengths have a sentence of their own for that).
    """
    value = source.get(key, default)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            fail(f"{where}: {key} is {value!r}, not a number; mend it.")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(f"{where}: {key} is {value!r}, not a number; mend it.")
    if key in source and not math.isfinite(value) and not key.startswith("fl_"):
        fail(f"{where}: {key} is {value}; give a finite number.")
    return float(value)


def numbers(value: Any, key: str, where: str) -> NDArray[np.float64]:
    """A list of numbers, nested or not.

    Raises:
        UserError: it has something else in it, or is not finite.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        fail(f"{where}: {key} is not made of numbers; mend it.")
    if not np.isfinite(array).all():
        fail(f"{where}: {key} has NaN or infinity in it; mend it.")
    return array
