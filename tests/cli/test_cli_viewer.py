"""``ns-viewer`` on a trained run: it serves its page, and Ctrl-C ends it. What the page shows: test_viewer.py."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

from support.cli import Background, Run, free_port

pytest_plugins = ["support.cli_fixtures"]


def test_the_viewer_serves_and_ends(trained: Run, workspace: Path) -> None:
    port = free_port()
    with Background(
        workspace / "viewer.log", "ns-viewer", "--load-config", trained.config, "--viewer.websocket-port", port, cwd=workspace
    ) as viewer:  # fmt: skip
        viewer.wait_for(f":{port}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            assert answer.status == 200
            page = answer.read().decode()
        assert "<title>" in page
        assert "viser" in page.lower()
        viewer.wait_for(f"{port}")
        assert viewer.process.poll() is None
        done = viewer.interrupt(signal.SIGINT)
    assert done.rc != 0
    assert "Error" not in done.text.replace("KeyboardInterrupt", "")
