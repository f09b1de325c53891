"""Kernel sets by name, what is said about the choice, what may be imported, and the guard over these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import kernel_guard
import numpy as np
import pytest
import torch
from kernel_cases import SETS, host_modules, nan_memory  # noqa: F401 - a fixture

from ngp_method.kernels import KERNEL_SETS, choose_kernels, load_kernels
from ngp_method.kernels.interface import Kernels

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = [name for name in vars(Kernels) if not name.startswith("_")]


def test_unknown_names_raise_with_the_list() -> None:
    with pytest.raises(ValueError, match="no kernel set 'cuda'") as raised:
        load_kernels("cuda")
    assert all(name in str(raised.value) for name in KERNEL_SETS)


@pytest.mark.parametrize("name", KERNEL_SETS)
def test_every_set_has_every_operation_and_says_what_it_is(name: str) -> None:
    kernels = load_kernels(name)
    assert {"hash_encode", "mlp", "march", "composite", "adam_step"} <= set(OPERATIONS)
    for operation in OPERATIONS:
        assert callable(getattr(kernels, operation)), operation
    assert kernels.name
    assert kernels.description
    assert "\n" not in kernels.description


def test_auto_on_a_processor_is_cpu_and_says_why() -> None:
    for device in ("cpu", torch.device("cpu")):
        kernels, why = choose_kernels("auto", device)
        assert kernels.name == "cpu"
        assert "auto" in why
        assert "processor" in why
        assert kernels.description in why
        assert "\n" not in why


@pytest.mark.parametrize("name", KERNEL_SETS)
def test_a_name_is_taken_at_its_word(name: str) -> None:
    kernels, why = choose_kernels(name, "cpu")
    assert type(kernels) is type(load_kernels(name))
    assert kernels.description == load_kernels(name).description
    assert "asked for" in why


def test_float32_is_float32() -> None:
    assert "float32" in load_kernels("cpu-float32").description
    assert not load_kernels("cpu-float32").low_precision  # type: ignore[attr-defined]


def test_kernels_need_neither_nerfstudio_nor_nerfacc() -> None:
    """A process in which those cannot be imported loads every set and runs an operation."""
    program = """
import sys
for name in ("nerfstudio", "nerfacc", "tyro", "torchvision", "viser"):
    sys.modules[name] = None
import torch
from ngp_method.kernels import KERNEL_SETS, load_kernels
for name in KERNEL_SETS:
    print(name, tuple(load_kernels(name).sh_encode(torch.eye(3)).shape))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(KERNEL_SETS)


@pytest.mark.usefixtures("nan_memory")
def test_fresh_memory_is_nan_in_these_tests() -> None:
    """The fixture that the kernel tests rest on reaches the modules that allocate."""
    assert torch.empty(3, 2).isnan().all()
    assert torch.empty_like(torch.zeros(4)).isnan().all()
    assert torch.empty(2, dtype=torch.int32).view(torch.bfloat16).isnan().any()
    modules = host_modules_now()
    assert "volume" in {module.__name__.rsplit(".", 1)[1] for module in modules}
    for module in modules:
        assert np.isnan(module.np.empty(3, np.float32)).all()


def host_modules_now() -> list:  # type: ignore[type-arg]
    """The modules whose numpy was exchanged."""
    return [module for module in host_modules() if module.np is not np]


def test_the_guard_is_red_without_kernel_tests() -> None:
    sets = ["reference", "cpu"]
    files = kernel_guard.KERNEL_FILES
    full = Counter({(file, "cpu"): 3 for file in files})
    full[kernel_guard.REFERENCE_FILE, "reference"] = 1
    assert kernel_guard.missing(full, sets) == []
    assert len(kernel_guard.missing(Counter(), sets)) == len(files) + 1
    lacking = full.copy()
    del lacking["test_kernels_mlp", "cpu"]
    assert kernel_guard.missing(lacking, sets) == ["kernel set 'cpu': no test passed in test_kernels_mlp.py"]
    for file in (*files, kernel_guard.REFERENCE_FILE):
        assert (ROOT / "tests" / f"{file}.py").is_file(), f"the guard waits for {file}.py"


def test_the_guard_at_work(tmp_path: Path) -> None:
    """The run of a folder in which one kernel file is green and the others are missing is red."""
    (tmp_path / "test_kernels_mlp.py").write_text(
        f"import pytest\n\n\n@pytest.mark.parametrize('kernel_set', {SETS!r})\ndef test_a(kernel_set):\n    pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "kernel_guard",
        "-q",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT / 'tests'}{os.pathsep}{ROOT}", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{len(SETS)} passed" in done.stdout
    assert "no test passed in test_kernels_encode.py" in done.stdout
    assert "no test passed in test_kernels_mlp.py" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "options", "narrowed"),
    [
        (["tests"], {}, False),
        (["tests/test_scene.py"], {}, True),
        (["tests/test_scene.py::test_boxes"], {}, True),
        (["tests"], {"keyword": "mesh"}, True),
        (["tests"], {"collectonly": True}, True),
        (["tests"], {"lf": True}, True),
    ],
)
def test_the_guard_sleeps_when_a_person_narrows_the_run(
    arguments: list[str], options: dict[str, object], narrowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    option = SimpleNamespace(**{"keyword": "", "collectonly": False, "lf": False, **options})
    assert kernel_guard.narrowed(SimpleNamespace(args=arguments, option=option)) == narrowed  # type: ignore[arg-type]
