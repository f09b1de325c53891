"""Kernel sets by name, what is said about the choice, what may be imported, and the guard over these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ngp_method.kernels import KERNEL_SETS, choose_kernels, load_kernels
from ngp_method.kernels.interface import Kernels
from ngp_method.kernels.triton import device as triton_device
from ngp_method.kernels.triton import warm as triton_warm
from support import kernel_guard, tcnn_stand_in
from support.kernel_cases import SETS, host_modules, nan_memory  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def what_others_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in where a set needs what no test machine has (see tests/test_tcnn.py)."""
    monkeypatch.setitem(sys.modules, "tinycudann", tcnn_stand_in)


OPERATIONS = [name for name in dir(Kernels) if not name.startswith("_")]


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


def test_auto_on_other_devices_is_the_reference_and_says_why() -> None:
    kernels, why = choose_kernels("auto", "mps")
    assert kernels.name == "reference"
    assert "no kernels of our own for device 'mps'" in why


def _gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str, hip: str | None = None) -> None:
    """torch says that there is a GPU, and Triton would compile."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
    monkeypatch.setattr(torch.version, "hip", hip)
    properties = SimpleNamespace(gcnArchName="gfx942:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)


@pytest.mark.parametrize(
    ("capability", "name", "hip", "precision"),
    [
        ((9, 0), "NVIDIA H100", None, "bfloat16"),
        ((8, 0), "NVIDIA A100", None, "bfloat16"),
        ((7, 5), "Tesla T4", None, "float16"),
        ((9, 4), "AMD Instinct MI300X", "6.3", "bfloat16"),
    ],
)
def test_auto_on_a_gpu_is_triton_and_says_why(
    capability: tuple[int, int], name: str, hip: str | None, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And, where Triton's cache has none for this chip, its kernels are compiled before the first step, and said to be."""
    _gpu(monkeypatch, capability, name, hip)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton_warm, "compile_all", lambda dtype: 3 if dtype == getattr(torch, precision) else 0)
    for device in ("cuda", torch.device("cuda:0")):
        kernels, why = choose_kernels("auto", device)
        assert kernels.name == "triton"
        assert why == f"kernels: triton (auto, Triton compiles for this GPU): Triton on {name}, {precision}"
    said = ["compiles its kernels for this GPU, once on this machine ...", "has compiled 3 kernels"]
    chip = "gfx942" if hip else 10 * capability[0] + capability[1]
    for number, entry in enumerate(("", "no json", '{"target": {}}', '{"target": {"arch": 61}}')):
        assert [line.split(" in ")[0] for line in kernels.warm_up()] == said
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "walk.json").write_text(entry)
    assert [line.split(" in ")[0] for line in kernels.warm_up()] == said
    (tmp_path / "0" / "walk.json").write_text(json.dumps({"target": {"arch": chip}}))
    assert list(kernels.warm_up()) == []


def test_auto_on_a_gpu_that_triton_refuses_stops_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu(monkeypatch, (6, 1), "GeForce GTX 1080")
    sentence = (
        "The triton kernels need compute capability 7.5, and GeForce GTX 1080 has 6.1; use --pipeline.model.kernels reference."
    )
    for name in ("auto", "triton"):
        with pytest.raises(ImportError) as raised:
            choose_kernels(name, "cuda")
        assert str(raised.value) == sentence
    assert choose_kernels("reference", "cuda")[0].name == "reference"


@pytest.mark.parametrize("name", ["auto", "triton"])
@pytest.mark.parametrize(
    ("compiler", "header", "said"),
    [(False, True, "no C compiler:"), (True, False, "Python.h:"), (False, False, "no C compiler and no "), (True, True, None)],
)
def test_a_gpu_without_what_triton_builds_with_is_told_in_a_sentence(
    name: str, compiler: bool, header: bool, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No gcc, no clang, no CC, or no Python.h, as on a bare Debian: not a traceback at the first kernel."""
    _gpu(monkeypatch, (9, 0), "NVIDIA H100")
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "bin").mkdir()
    if compiler:
        (tmp_path / "bin" / "gcc").touch(0o755)
    if header:
        (tmp_path / "Python.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(triton_device.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    if said is None:
        assert choose_kernels(name, "cuda")[0].name == "triton"
        return
    with pytest.raises(ImportError) as raised:
        choose_kernels(name, "cuda")
    sentence = str(raised.value)
    assert said in sentence
    assert sentence.endswith("sudo apt-get install gcc python3-dev, or set CC to a C compiler.")
    monkeypatch.setattr(triton_device, "_driver_starts", lambda: True)  # what it builds lies in its cache
    assert choose_kernels(name, "cuda")[0].name == "triton"


def test_auto_looks_at_the_device_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second GPU may be older than the first."""
    _gpu(monkeypatch, (9, 0), "NVIDIA H100")
    old = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (6, 1) if device == old else (9, 0))
    assert choose_kernels("auto", "cuda:0")[0].name == "triton"
    with pytest.raises(ImportError, match=r"has 6\.1"):
        choose_kernels("auto", old)


@pytest.mark.parametrize("name", ["triton", "triton-float32", "tcnn"])
def test_without_the_package_triton_a_sentence_says_so(name: str) -> None:
    """A process in which triton cannot be imported: the other sets load, these say what to install."""
    program = f"""
import sys
sys.modules["triton"] = None
from ngp_method.kernels import choose_kernels, load_kernels
print(load_kernels("reference").name, load_kernels("cpu-float32").name)
for choose in (lambda: load_kernels({name!r}), lambda: choose_kernels("auto", "cuda")):
    try:
        choose()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *sentences = done.stdout.splitlines()
    assert first == "reference cpu-float32"
    assert len(sentences) == 2
    for sentence in sentences:
        assert "need the package triton" in sentence
        assert sentence.endswith("pip install triton, or use --pipeline.model.kernels reference.")


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
sys.path.insert(0, "tests")
from support import tcnn_stand_in
sys.modules["tinycudann"] = tcnn_stand_in
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
    assert kernel_guard.missing(Counter(), ["tcnn"]) == ["kernel set 'tcnn': no test passed in test_tcnn.py"]
    for file in (*files, kernel_guard.REFERENCE_FILE, *kernel_guard.ELSEWHERE.values()):
        assert (ROOT / "tests" / "kernels" / f"{file}.py").is_file(), f"the guard waits for {file}.py"


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
        "support.kernel_guard",
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
        (["tests/kernels/test_scene.py"], {}, True),
        (["tests/kernels/test_scene.py::test_boxes"], {}, True),
        (["tests/kernels"], {}, True),
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
