"""The GPU benchmark's times without a GPU: floors by hand, every timed operation runs, a table by a clock that stands."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch

from measure import gpu_baseline, gpu_ceilings, gpu_compare, gpu_ops, gpu_parts, gpu_report, gpu_time, gpu_work
from measure.gpu_ceilings import Ceilings
from ngp_method.kernels import load_kernels
from ngp_method.kernels.layout import HashGridLayout, MLPLayout
from ngp_method.kernels.reference import ReferenceKernels

CHECKS = gpu_parts.CHECKS


def test_floors() -> None:
    """One example by hand: 2^18 samples, 16 levels of two float16."""
    n, layout = 1 << 18, HashGridLayout()
    ceilings = Ceilings(copy=2e12, matmul={"bfloat16": 1e14})
    for mib in (2, 8, 32, 64):
        for size in (4, 8):
            ceilings.gather[size, mib] = 1e11 / mib
        for width in (1, 2, 4):
            ceilings.scatter[width, mib] = 1e10 * width / mib
    forward = gpu_work.hash_forward(n, layout, 2)
    assert forward.gathers == 16 * 4 * n * (
        1 + 4 / 32
    )  # of eight entries of 4 bytes, pairs that begin at a sector's end are in two
    assert forward.bytes == n * (12 + 64)
    # 2^19 entries of 4 bytes are 2 MiB: the ceiling is that of such a table.
    assert forward.floor_ms(ceilings, "bfloat16") == pytest.approx(1e3 * 72 * n / (1e11 / 2))
    scatter = gpu_work.hash_table_gradient(n, layout, 2)
    # Two float32 for each of 5 sectors a level, where there are 8 corners; a level has 4 MiB of them.
    assert scatter.floor_ms(ceilings, "bfloat16") == pytest.approx(1e3 * 160 * n / (2e10 / 8))
    network = gpu_work.mlp_forward(n, MLPLayout(32, 16), 2)
    assert network.flops == 2 * n * (32 * 64 + 64 * 16)
    assert network.floor_ms(ceilings, "bfloat16") == pytest.approx(1e3 * n * (64 + 64) / 2e12)
    assert "TFLOP/s" in network.rates(1.0)
    assert "G sectors/s" in forward.rates(1.0)


@pytest.mark.parametrize("kernel", ["reference", "cpu-float32"])
def test_every_operation_that_is_timed_runs(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, as timing does, on small tables; each has a floor and is of an operation that is examined."""
    small = {"16x2": HashGridLayout(4, 2, 8, 4, 32), "8x4": HashGridLayout(2, 4, 8, 4, 32)}
    monkeypatch.setattr(gpu_ops, "LAYOUTS", small)
    monkeypatch.setattr(gpu_ops, "DENSITY", MLPLayout(8, 16))
    monkeypatch.setattr(gpu_ops, "SETS", 2)
    inputs, names = gpu_ops.Inputs(load_kernels(kernel), torch.device("cpu"), 64), []
    ceilings = Ceilings(1e12, {"bfloat16": 1e14}, {(b, 2): 1e11 for b in (4, 8)}, {(w, 2): 1e10 for w in (1, 2, 4)})
    for operation in gpu_ops.operations(inputs):
        for number in (0, 1, 0):
            if operation.prepare:
                operation.prepare(number)
            operation.run(number)
        assert operation.check in CHECKS
        assert 0 < operation.work.floor_ms(ceilings, "bfloat16") < 1
        assert operation.work.rates(1.0)
        names.append(operation.name)
    assert len(set(names)) == len(names) >= 20
    assert set(gpu_report.SHOWN) <= set(names)


def test_times_are_tabled_and_what_is_wrong_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Part b with a clock that always says 0.5 ms."""
    run, real = [], gpu_ops.Inputs
    rates = Ceilings(1e12, {"float32": 1e14}, {(b, 2): 1e11 for b in (4, 8)}, {(w, 2): 1e10 for w in (1, 2, 4)})
    monkeypatch.setattr(gpu_ops, "LAYOUTS", {"16x2": HashGridLayout(4, 2, 8, 4, 32)})
    monkeypatch.setattr(gpu_ops, "DENSITY", MLPLayout(8, 16))
    monkeypatch.setattr(gpu_ops, "Inputs", lambda kernels, device, budget: real(kernels, torch.device("cpu"), 64))
    monkeypatch.setattr(gpu_ceilings, "measure", lambda device, low: rates)
    monkeypatch.setattr(gpu_baseline, "measure", lambda *args: [("adam_step table", 2.0), ("march", "no time left")])
    for clock in ("device_ms", "wall_ms"):
        monkeypatch.setattr(gpu_time, clock, lambda *args: run.append(args) or 0.5)
    table = gpu_compare.Table()
    for name in set(CHECKS) - {"mlp"}:
        table.add(gpu_compare.Row(name, "it", 1.0, 2.0))
    table.add(gpu_compare.Row("mlp", "it", 3.0, 2.0))
    args = Namespace(quick=False, compile_seconds=1.0)
    found = gpu_parts.times(ReferenceKernels(), args, torch.device("cuda"), table)
    timed = {row["operation"]: row["ms"] for row in found["rows"]}
    assert {ms for name, ms in timed.items() if name.startswith("mlp")} == {None}
    assert {ms for name, ms in timed.items() if not name.startswith("mlp")} == {0.5}
    assert len(run) == sum(ms is not None for ms in timed.values())
    assert found["compiled"] == [
        {"operation": "adam_step table", "ms": 2.0, "ours_ms": 0.5},
        {"operation": "march", "ms": "no time left", "ours_ms": 0.5},
    ]
    said = capsys.readouterr().out
    assert "| mlp density forward | wrong, so not timed |" in said
    assert "| adam_step table | 2.000 | 0.500 | 4.0 |" in said
    record = {"kernels": {"triton": {"times": found}}}
    assert len(gpu_report.summary(record)) == len(gpu_report.SHOWN)
