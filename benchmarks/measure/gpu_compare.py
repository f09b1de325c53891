"""How one result of a kernel is judged against the reference: the rules of the kernel tests, on any device."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support import tolerances as tol  # every tolerance with its reason: one definition, the tests' and this


@dataclass
class Row:
    """One line of the table: an operation's result over all sizes tried.

    Attributes:
        operation, what: e.g. ``hash_encode 16x2`` and ``table gradient``.
        error, bound: of the worst case (that with the greatest error / bound).
        kind: ``absolute``, or ``rms of plain torch`` (and ``max``): in multiples of what plain torch has in the same precision.
        failure: what went wrong instead, if anything did.
    """

    operation: str
    what: str
    error: float = 0.0
    bound: float = 0.0
    kind: str = "absolute"
    failure: str = ""

    @property
    def ok(self) -> bool:
        """Within the bound."""
        return not self.failure and self.error <= self.bound  # NaN is not


@dataclass
class Table:
    """The worst case of every operation and result."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keeps it if it is the worst so far."""
        known = self.rows.get((row.operation, row.what))
        if known is None or _badness(row) > _badness(known):
            self.rows[row.operation, row.what] = row

    def passed(self, operation: str) -> bool:
        """Whether everything of an operation (the first word of a row's) is right, and anything was tried."""
        found = [row.ok for row in self.rows.values() if row.operation.split()[0] == operation]
        return bool(found) and all(found)


def _badness(row: Row) -> float:
    if row.failure or not math.isfinite(row.error):
        return math.inf
    return row.error / row.bound if row.bound else row.error * 1e30


def near(operation: str, what: str, got: Tensor, truth: Tensor, bound: Tensor | float) -> Row:
    """|got - truth| <= bound everywhere."""
    if got.shape != truth.shape:
        return Row(operation, what, failure=f"shape {list(got.shape)}, not {list(truth.shape)}")
    if not got.numel():
        return Row(operation, what)
    error = (got.double() - truth.double()).abs()
    if not bool(error.isfinite().all()):
        return Row(operation, what, failure=f"{int((~error.isfinite()).sum())} of {error.numel()} are not finite")
    bounds = torch.as_tensor(bound, dtype=torch.float64, device=error.device).expand_as(error)
    worst = torch.where(bounds > 0, error / bounds, error * 1e30).argmax()
    return Row(operation, what, float(error.reshape(-1)[worst]), float(bounds.reshape(-1)[worst]))


def equal(operation: str, what: str, got: Tensor, truth: Tensor) -> Row:
    """The same to the last bit."""
    if got.shape != truth.shape:
        return Row(operation, what, failure=f"shape {list(got.shape)}, not {list(truth.shape)}")
    return Row(operation, what, float((got != truth).sum()), 0.0, "numbers that differ")


FEW, LUCK = 4096, 3.0
"""Of so few numbers plain torch may hit the mark by luck: so many times more is allowed there."""


def no_worse(operation: str, what: str, got: Tensor, plain: Tensor, truth: Tensor, multiple: float = 0.0) -> list[Row]:
    """Error against that of plain torch in the same precision.

    Args:
        multiple: of its root mean square; 0 for the rule of low precision, which bounds the largest error too.
    """
    if got.shape != truth.shape:
        return [Row(operation, what, failure=f"shape {list(got.shape)}, not {list(truth.shape)}")]
    if not got.numel():
        return []
    mine, theirs = got.double() - truth.double(), plain.double() - truth.double()
    if not bool(mine.isfinite().all()):
        return [Row(operation, what, failure=f"{int((~mine.isfinite()).sum())} of {mine.numel()} are not finite")]
    largest, luck = float(truth.abs().max()), LUCK if got.numel() < FEW else 1.0
    floor = largest * (8 * tol.ROUNDOFF32 if multiple else tol.LOW_PRECISION_FLOOR)
    rules = [("rms", luck * (multiple or tol.LOW_PRECISION_RMS), _rms)]
    if not multiple:
        rules.append(("max", luck * tol.LOW_PRECISION_MAX, lambda e: float(e.abs().max())))
    # Said in multiples of plain torch's error; where that is nothing, of the floor.
    found = []
    for name, times, size in rules:
        unit = size(theirs) + floor / times
        found.append(Row(operation, f"{what}, {name}", size(mine) / unit if unit else size(mine), times, "plain torch's"))
    return found


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def lines(rows: Iterable[Row]) -> list[str]:
    """The table in Markdown."""
    out = ["| operation | result | error | allowed | measured in | |", "|---|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{row.failure} | " if row.failure else f"{row.error:.3g} | {row.bound:.3g}"
        out.append(f"| {row.operation} | {row.what} | {numbers} | {row.kind} | {'ok' if row.ok else '**WRONG**'} |")
    return out
