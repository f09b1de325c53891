"""The demo's closing lines: commands that can be pasted as they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from ngp_method.tools.report import report


def test_printed_commands_can_be_pasted(tmp_path: Path) -> None:
    run = tmp_path / "my run's folder"
    run.mkdir()
    (run / "eval.json").write_text(json.dumps({"results": {"psnr": 30.0}}))
    commands = [shlex.split(line) for line in report(run).splitlines() if "--load-config" in line]
    assert [words[words.index("--load-config") + 1] for words in commands] == [str(run / "config.yml")] * 2
