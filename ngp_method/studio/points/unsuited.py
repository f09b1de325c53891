"""nerfstudio's commands that ask for the photographs and rays of a scene, said before they end in an assertion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import fail

EXPORTS = {
    "picture": "instant-hash-image --load-config RUN/config.yml --output FILE writes the picture",
    "mesh": "instant-hash-mesh --load-config RUN/config.yml --output-dir DIR writes the surface",
}
"""What writes the subject to a file, by its kind."""

NEED_PHOTOGRAPHS = ("dataset", "spiral")
"""Forms of ns-render that render the views of photographs, or start from one."""


def refuse(argv: Sequence[str], subject: str) -> None:
    """Ends a command of nerfstudio's that cannot do anything with a run of this kind.

    Args:
        argv: the command line.
        subject: what the run was trained on: "picture" or "mesh".

    Raises:
        UserError: one sentence with the command that does what is wanted.
    """
    program, form = Path(argv[0]).stem if argv else "", argv[1] if len(argv) > 1 else ""
    if program in ("ns-export", "exporter"):
        fail(f"ns-export {form}: this run has no photographs to export from; {EXPORTS[subject]}.")
    if program not in ("ns-render", "render"):
        return
    if form in NEED_PHOTOGRAPHS:
        instead = "ns-render camera-path renders a path that the viewer has saved"
        if subject == "mesh":
            instead = f"ns-render interpolate and instant-hash-turntable go round it, and {instead}"
        fail(f"ns-render {form}: this run has no photographs whose views could be rendered; {instead}.")
    if form == "interpolate" and subject == "picture":
        fail(
            "ns-render interpolate: a picture has one view, and nothing lies between; ns-render camera-path renders a path "
            "that the viewer has saved."
        )
