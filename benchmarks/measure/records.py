"""Runs as files, one JSON each, with machine, date and command beside the figures; and the figures of other processes' runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import machine

RUNS = Path(__file__).resolve().parents[1] / "results" / "runs"
"""Where they lie."""


def about(script: str, held_to: str | None = None) -> dict[str, str]:
    """What stands first in a record: machine, versions, date, the instructions it was held to if that can be, the command."""
    held = {} if held_to is None else {"held_to": held_to}
    return {**machine.describe(), **held, "command": shlex.join(["python", f"benchmarks/{script}.py", *sys.argv[1:]])}


def label(text: str) -> str:
    """A text as part of a file's name."""
    return "".join(character if character.isalnum() else "_" for character in text)


def keep(record: Mapping[str, Any], name: str) -> Path:
    """Writes a record by a name and its date; returns the file."""
    RUNS.mkdir(parents=True, exist_ok=True)
    path = RUNS / f"{name}-{str(record['date']).replace(':', '')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def of_command(command: Sequence[str], name: str) -> dict[str, Any]:
    """The JSON line that a benchmark prints last, run in a process of its own (its own thread settings and loggers).

    Raises:
        SystemExit: it ended otherwise than well.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} ended with exit code {done.returncode}; what it said stands above.")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
