"""One line said once: what was recognised in a scene, and what was decided for it."""

from __future__ import annotations

from nerfstudio.utils.rich_utils import CONSOLE

_said: set[str] = set()


def say_once(line: str, about: str | None = None) -> None:
    """Prints a line, unless this process has printed it before (each split of a scene is parsed on its own).

    Args:
        line: what to print.
        about: what is said once, where lines differ in their example; else the line itself.
    """
    key = line if about is None else about
    if key not in _said:
        _said.add(key)
        CONSOLE.print(line, soft_wrap=True, markup=False, highlight=False)


def forget_said() -> None:
    """Lets every line be said again (tests)."""
    _said.clear()
