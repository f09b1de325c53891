"""The last words of ``make demo``: what the held-out views say, and where to look.

``python -m ngp_method.tools.report RUN_FOLDER``
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from ngp_method.errors import UserError, fail


def report(run: Path) -> str:
    """The demo's closing lines for the folder of a run that was evaluated and rendered.

    Raises:
        UserError: with one sentence, where it was not.
    """
    try:
        results = json.loads((run / "eval.json").read_text(encoding="utf8"))["results"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{run / 'eval.json'} is missing or broken: run ns-eval on the run first.") from None
    names = {"psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.4f}", "lpips": "LPIPS {:.4f}"}
    figures = ", ".join(text.format(results[name]) for name, text in names.items() if name in results)
    config, mesh = (shlex.quote(str(run / name)) for name in ("config.yml", "mesh"))
    lines = [
        f"Held-out views:  {figures}",
        "",
        "Look at",
        f"  {run / 'turntable' / 'turntable.png'}  eight views of the turntable",
        f"  {run / 'turntable' / 'turntable.mp4'}  all of it",
        f"  {run / 'eval'}  the held-out views, as they are and as they are rendered",
        "",
        "Go on with",
        f"  .venv/bin/ns-viewer --load-config {config}",
        f"  .venv/bin/instant-hash-mesh --load-config {config} --output-dir {mesh}",
        "  .venv/bin/ns-train instant-hash --data YOUR_SCENE",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the report of the run named on the command line."""
    if len(sys.argv) != 2:
        fail("usage: python -m ngp_method.tools.report RUN_FOLDER")
    print(report(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
