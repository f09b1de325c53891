"""The rooms of the package: every module lies in one, and imports point downwards only.

Imports are read from the source, those inside functions and under ``TYPE_CHECKING`` too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ngp_method"

FLOORS = [
    "errors", "pictures", "kernels", "fields", "volume", "primitives", "data", "studio", "method_configs", "tools",
    "nerfbaselines",
]  # fmt: skip
"""Rooms and the modules beside them from the ground up: each may import what stands before it."""
LEAF = "demo"
"""A room that imports nothing of the package."""
TOP = {"__init__.py", "errors.py", "method_configs.py"}
"""The files that are in no room."""

NO_NERFSTUDIO = ("pictures", "kernels", "fields", "volume", "primitives")
"""Rooms in which training runs where nerfstudio is not installed."""
KERNELS_NEED = {"torch", "numpy", "numba", "llvmlite", "triton", "tinycudann"}
"""Torch and the sets' own compilers; nothing else is imported by kernels,"""
BUT = {"kernels/tcnn_volume.py": {"nerfacc"}}
"""except the sums along rays of tiny-cuda-nn's set, which are nerfacc's extension where that is built."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    """The room a file lies in, or the module's name where it lies beside the rooms."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path, source: str | None = None) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports: modules, and what is taken from packages."""
    package = ("ngp_method", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                yield node.lineno, f"{base}.{name.name}"


def climbs(path: Path, source: str | None = None) -> list[str]:
    """One line for each import of a room above the file's own."""
    here, found = place(path), []
    for line, name in imported(path, source):
        parts = name.split(".")
        if parts[0] != "ngp_method" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        allowed = [LEAF] if here == LEAF else FLOORS[: FLOORS.index(here) + 1]
        if parts[1] not in allowed:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


def needs(path: Path, source: str | None = None) -> set[str]:
    """Packages a file imports, the standard library's and our own left out."""
    names = {name.split(".")[0] for _, name in imported(path, source)}
    return names - set(sys.stdlib_module_names) - {"ngp_method"}


def test_every_module_is_in_a_room() -> None:
    rooms = {*FLOORS, LEAF}
    for path in MODULES:
        where = path.relative_to(PACKAGE)
        assert str(where) in TOP if len(where.parts) == 1 else where.parts[0] in rooms, f"{where} is in no room"
    for room in rooms - {Path(name).stem for name in TOP}:
        assert (ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or "").count(".") >= 2, room


def test_imports_point_downwards() -> None:
    found = [line for path in MODULES if path != PACKAGE / "__init__.py" for line in climbs(path)]
    assert not found, "\n".join(found)


def test_the_package_itself_imports_nothing() -> None:
    assert list(imported(PACKAGE / "__init__.py")) == []
    assert needs(PACKAGE / "errors.py") == set()


def test_the_engine_does_not_know_nerfstudio() -> None:
    for path in MODULES:
        if place(path) in NO_NERFSTUDIO:
            assert "nerfstudio" not in needs(path), path


def test_nothing_but_its_room_knows_nerfbaselines() -> None:
    for path in MODULES:
        if place(path) != "nerfbaselines":
            assert "nerfbaselines" not in needs(path), path


def test_kernels_need_their_compilers_alone() -> None:
    for path in MODULES:
        if place(path) == "kernels":
            more = needs(path) - KERNELS_NEED - BUT.get(str(path.relative_to(PACKAGE)), set())
            assert not more, f"{path.relative_to(PACKAGE)} needs {sorted(more)}"


@pytest.mark.parametrize(
    ("file", "source", "climbing"),
    [
        ("kernels/a.py", "from ..volume.tracing import Tracer", True),
        ("kernels/cpu/a.py", "from ...fields import network", True),
        ("kernels/cpu/a.py", "from ..layout import MLPLayout", False),
        ("kernels/a.py", "from .. import fields", True),
        ("kernels/a.py", "from ..errors import fail", False),
        ("volume/a.py", "def f():\n    import ngp_method.data.rays", True),
        ("fields/a.py", "if TYPE_CHECKING:\n    from ..volume import losses", True),
        ("data/a.py", "from ngp_method import studio", True),
        ("studio/a.py", "from ngp_method.method_configs import instant_hash", True),
        ("tools/a.py", "from ngp_method.method_configs import instant_hash", False),
        ("studio/a.py", "from . import checkpoints", False),
        ("demo/a.py", "from ..errors import fail", True),
        ("method_configs.py", "from .tools import runs", True),
        ("errors.py", "from .kernels import layout", True),
        ("tools/a.py", "from ..nerfbaselines import spec", True),
        ("nerfbaselines/a.py", "from ..tools.train import presets", False),
        ("data/a.py", "from .. import __version__", False),
    ],
)
def test_what_climbs_is_found(file: str, source: str, climbing: bool) -> None:
    assert bool(climbs(PACKAGE / file, source)) == climbing


def test_rooms_below_load_without_nerfstudio() -> None:
    """A process in which nerfstudio cannot be imported: every module of these rooms loads (tinycudann by a stand-in)."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if place(path) in NO_NERFSTUDIO]
    program = (
        "import importlib, sys\nsys.modules['nerfstudio'] = None\n"
        "from support import tcnn_stand_in\nsys.modules['tinycudann'] = tcnn_stand_in\n"
        f"for name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_command_ends_with_the_sentence() -> None:
    program = "from ngp_method.errors import fail\nfail('scene.json is not there; put it there.')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "scene.json is not there; put it there.\n")
