"""Triton's interpreter, twice as fast: its language is patched once a module.

The interpreter replaces the functions of ``triton.language`` in a kernel's module at every launch and every call of a device
function, and puts them back after. In a test process no kernel is ever compiled, so they may stay replaced.
"""

from __future__ import annotations

from types import FunctionType

import triton.runtime.interpreter as interpreter

_patch = getattr(interpreter, "_patch_lang", None)
_done: set[FunctionType] = set()


class _Stays:
    """What the interpreter takes for the means to put things back."""

    def restore(self) -> None:
        """Nothing."""


def _once(function: FunctionType) -> _Stays:
    if function not in _done:
        _done.add(function)
        assert _patch is not None
        _patch(function)
    return _Stays()


if _patch is not None:
    interpreter._patch_lang = _once
