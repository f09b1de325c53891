"""What a compiled kernel was made of, as a few digits: a record of it is out of date when they have changed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from types import ModuleType
from typing import Any


def fingerprint(variant: Any) -> str:
    """12 hexadecimal digits of a variant's launch and of the source of its kernel and of all that this calls or names.

    Where in a file a function stands is no part of it, as it is of Triton's own cache key: a line added to a docstring above
    does not make a table of machine code out of date.
    """
    found: dict[str, str] = {}
    _collect(variant.function, found)
    launch = [sorted(variant.signature.items()), sorted((k, str(v)) for k, v in variant.constants.items())]
    launch += [variant.num_warps, variant.num_stages, sorted(variant.aligned), sorted(variant.options.items())]
    return hashlib.sha256(repr([launch, sorted(found.items())]).encode()).hexdigest()[:12]


def _collect(kernel: Any, found: dict[str, str]) -> None:
    """The source of a ``triton.jit`` function, and the functions and numbers of ours that it names, by name."""
    function = kernel.fn
    name = f"{function.__module__}.{function.__qualname__}"
    if name in found:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found[name] = ast.unparse(_without_docstring(tree))
    for node in ast.walk(tree):
        value = None
        if isinstance(node, ast.Name):
            value = function.__globals__.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = function.__globals__.get(node.value.id)
            value = getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
        if hasattr(value, "fn") and getattr(value.fn, "__module__", "").startswith("ngp_method"):
            _collect(value, found)
        elif type(value).__name__ in ("int", "float", "bool", "str", "constexpr"):
            found[ast.unparse(node)] = str(value)


def _without_docstring(tree: ast.Module) -> ast.Module:
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    if ast.get_docstring(body) is not None:
        body.body = body.body[1:] or [ast.Pass()]
    return tree
