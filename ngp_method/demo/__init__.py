"""The built-in demo scene: a path-traced still life in Blender layout.

The pictures lie beside this file in ``scene/`` and are package data. What made them is not: the repository's
``scripts/demo_scene``. This room is a leaf: it imports nothing of the package, and nothing heavy.
"""

from importlib.resources import files
from pathlib import Path

__all__ = ["demo_scene_path"]


def demo_scene_path() -> Path:
    """Folder of the shipped demo scene.

    Returns:
        Absolute path of the folder that holds ``transforms_{train,val,test}.json``, their pictures, the test depth and
        ``surface.ply``; fit for ``ns-train ... --data``.

    Raises:
        FileNotFoundError: the folder is not there (a package built without its data).
    """
    path = Path(str(files(__name__).joinpath("scene"))).resolve()
    if not (path / "transforms_train.json").is_file():
        raise FileNotFoundError(
            f"The demo scene is missing from {path}: reinstall the package, or, in a checkout, make it again with "
            f"'python scripts/demo_scene/make_scene.py --out {path}'."
        )
    return path
