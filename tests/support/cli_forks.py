"""Imports nerfstudio once; then each line on stdin is a command, run in a fork. See ``cli.py``.

A line is JSON: ``argv`` (the console script's name first), ``cwd``, ``log`` (a file for its output), ``environment``,
``timeout`` in seconds. The answer is a line with its exit status.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import sys
from typing import Any, NoReturn


def main() -> None:
    """Answers until stdin ends."""
    scripts = {entry.name: entry for entry in importlib.metadata.entry_points(group="console_scripts")}
    for name in ("ns-train", "ns-eval", "ns-render", "ns-export"):
        scripts[name].load()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            call(scripts[job["argv"][0]], job)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def call(script: importlib.metadata.EntryPoint, job: dict[str, Any]) -> NoReturn:
    """What the console script does, in this process; ends it."""
    with open(job["log"], "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    signal.alarm(int(job["timeout"]))
    sys.argv = job["argv"]
    sys.exit(script.load()())


if __name__ == "__main__":
    main()
