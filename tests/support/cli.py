"""Runs the real commands (``ns-train``, ``ns-eval``, ...) in processes of their own: no GPU, no network, one small run.

The fixtures are in ``cli_fixtures.py``; a module of tests asks for them with ``pytest_plugins = ["support.cli_fixtures"]``.
``run`` starts the installed command itself. ``Forks.run`` calls the same entry point, with the same arguments, in a fork
of a process that has imported nerfstudio once: the same code without the 5 to 10 seconds of imports, for the variants of
a command of which one was run for real.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sysconfig.get_path("scripts"))
SERVER = Path(__file__).with_name("cli_forks.py")
TIMEOUT = 300.0
"""Seconds until a command that hangs is ended and its test fails: 10 times what the slowest takes on a busy machine."""

SIZE = 64
"""Pixels a side of the tiny scene's pictures."""

SMALL = (
    "--pipeline.model.n-levels=6",
    "--pipeline.model.log2-hashmap-size=15",
    "--pipeline.model.finest-resolution=128",
    "--pipeline.model.sample-budget=32768",
    "--pipeline.model.grid-resolution=64",
)
"""A field that learns 64x64 pictures in seconds: 31 dB after 400 steps."""

STEPS = 400
"""Steps of the run that the tests share."""


def environment(**changes: str) -> dict[str, str]:
    """The environment of a command: offline, without a GPU, without what a developer's shell may say about LPIPS.

    Nothing is emulated, though the tests' own process does so (conftest.py): a command runs as at a user's, with numba's cache.
    """
    nowhere = "http://127.0.0.1:9"  # nothing listens there: whatever wants the network fails at once
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere)
    plain = {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200", "TERM": "dumb", "OMP_WAIT_POLICY": "passive", "NO_PROXY": ""}
    found = {**os.environ, **proxies, **plain, "TORCH_HOME": "/nonexistent", "MPLBACKEND": "Agg"}
    for name in ("LPIPS_WEIGHTS", "INSTANT_HASH_BFLOAT16"):
        found.pop(name, None)
    return {**found, **changes}


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Done:
    """A command that has ended: exit status, and what it printed (stdout and stderr together)."""

    rc: int
    text: str

    @property
    def words(self) -> str:
        """The text on one line: rich breaks lines where the console ends."""
        return " ".join(self.text.split())

    def check(self) -> Done:
        """Itself, if it ended well; fails with the last lines otherwise."""
        assert self.rc == 0, f"exit status {self.rc}:\n{self.text[-4000:]}"
        return self


def command_line(command: str, *arguments: object) -> list[str]:
    """The installed command and its arguments."""
    return [str(BIN / command), *map(str, arguments)]


def run(command: str, *arguments: object, cwd: Path, **changes: str) -> Done:
    """Runs an installed command to its end; ``changes`` are environment variables."""
    done = subprocess.run(
        command_line(command, *arguments),
        cwd=cwd, env=environment(**changes), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


def _heed_ctrl_c() -> None:
    """A shell that runs the tests in its background lets them ignore SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Background:
    """A command that runs on: its output is in a file, and it is ended with the ``with`` block."""

    def __init__(self, log: Path, command: str, *arguments: object, cwd: Path, **changes: str) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command_line(command, *arguments), cwd=cwd, env=environment(PYTHONUNBUFFERED="1", **changes),
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, preexec_fn=_heed_ctrl_c,
            )  # fmt: skip

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait_for(self, text: str) -> str:
        """Waits until the command has printed ``text``; returns all it has printed."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            printed = self.log.read_text(errors="replace")
            if text in printed:
                return printed
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {text!r}:\n{printed[-4000:]}"
            time.sleep(0.05)
        raise AssertionError(f"no {text!r} in {TIMEOUT:.0f} s:\n{self.log.read_text()[-4000:]}")

    def interrupt(self, number: int) -> Done:
        """Sends a signal and waits for the end."""
        self.process.send_signal(number)
        rc = self.process.wait(timeout=TIMEOUT)
        return Done(rc, self.log.read_text(errors="replace"))


class Forks:
    """Commands as forks of one process; see ``cli_forks.py``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SERVER)],
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, command: str, *arguments: object, cwd: Path, **changes: str) -> Done:
        """Like :func:`run`."""
        self.count += 1
        log = self.folder / f"fork_{self.count}.log"
        job = {
            "argv": [command, *map(str, arguments)], "cwd": str(cwd), "log": str(log),
            "environment": changes, "timeout": TIMEOUT,
        }  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process that forks has ended: {self.process.wait()}"
        return Done(int(answer), log.read_text(errors="replace"))

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=TIMEOUT)


@dataclass(frozen=True)
class Run:
    """A run that ``ns-train`` left behind."""

    config: Path
    done: Done

    @property
    def base(self) -> Path:
        """Its folder."""
        return self.config.parent

    @property
    def models(self) -> Path:
        """Its checkpoints."""
        return self.base / "nerfstudio_models"


def train(
    forks: Forks | None,
    data: object,
    out: Path,
    *flags: object,
    cwd: Path | None = None,
    method: str = "instant-hash",
    **changes: str,
) -> Run:
    """``ns-train METHOD --data DATA`` with ``flags``; the run lies in ``out``. ``forks=None``: the command itself."""
    arguments = [method, "--data", data, "--output-dir", out, "--experiment-name", "x", "--timestamp", "run", *flags]
    if forks is None:
        done = run("ns-train", *arguments, cwd=cwd or out.parent, **changes)
    else:
        done = forks.run("ns-train", *arguments, cwd=cwd or out.parent, **changes)
    return Run(out / "x" / method / "run" / "config.yml", done)
