"""How a command ends where its input cannot be used: with one sentence. Anyone may import this; it imports nothing."""

from __future__ import annotations

from typing import NoReturn


class UserError(SystemExit):
    """Input or settings that cannot be used.

    A SystemExit, so that every nerfstudio command ends with the sentence on stderr, exit code 1 and no traceback.

    Args:
        sentence: names the file or the flag, and how to mend it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)

    def __str__(self) -> str:
        return str(self.code)


def fail(sentence: str) -> NoReturn:
    """Ends the command with one sentence.

    Raises:
        UserError: always.
    """
    raise UserError(sentence)
