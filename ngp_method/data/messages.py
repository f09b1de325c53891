"""How the data modules speak: one sentence and the end, or one line said once."""

from __future__ import annotations

from typing import NoReturn

from nerfstudio.utils.rich_utils import CONSOLE

_said: set[str] = set()


class DataError(SystemExit):
    """Input that cannot be used.

    A SystemExit, so that every nerfstudio command ends with the sentence on stderr, exit code 1 and no traceback.

    Args:
        sentence: names the file and how to mend it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)

    def __str__(self) -> str:
        return str(self.code)


def fail(sentence: str) -> NoReturn:
    """Ends the command with one sentence.

    Raises:
        DataError: always.
    """
    raise DataError(sentence)


def say_once(line: str) -> None:
    """Prints a line, unless this process has printed it before (each split of a scene is parsed on its own)."""
    if line not in _said:
        _said.add(line)
        CONSOLE.print(line, soft_wrap=True, markup=False, highlight=False)


def forget_said() -> None:
    """Lets every line be said again (tests)."""
    _said.clear()
