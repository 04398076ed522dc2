"""What a check found: one row per variant, binding and target, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from texpr.checking.calls import Case
from texpr.emulator.counters import Counters
from texpr.emulator.counters_report import as_json as counters_json
from texpr.emulator.counters_report import tables


class Trouble(Enum):
    """Why a row fails."""

    WRONG = "WRONG"  # a result beyond its bound
    FAULT = "FAULT"  # the emulator caught the kernel at something forbidden
    ORDER = "ORDER"  # the result depends on the schedule
    UNWRITTEN = "UNWRITTEN"  # an output left as it was, or written beside it
    REFUSED = "REFUSED"  # the launcher refused a legal call
    DISPATCH = "DISPATCH"  # the launcher chose another variant than the guards say
    UNREACHED = "UNREACHED"  # no call was found that this variant takes


@dataclass(frozen=True, slots=True)
class Failure:
    """One call that went wrong, and how; ``text`` may have several lines."""

    trouble: Trouble
    call: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A variant of an entry on a target. ``worst`` is in units of the error bound; ``undecided`` counts elements of
    ``elements`` that the bound says nothing about; ``sizes`` maps each dim to the sizes it was given; ``counters`` are
    those of ``counted_call``, if they were asked for."""

    entry: str
    binding: str
    variant: str
    target: str
    kernels: tuple[str, ...]
    calls: int = 0
    elements: int = 0
    undecided: int = 0
    worst: float = 0.0
    worst_call: str = ""
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    counters: Counters | None = None
    counted_call: str = ""

    @property
    def verdict(self) -> str:
        """``ok`` or the first trouble."""
        return self.failures[0].trouble.value if self.failures else "ok"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All rows of a check of ``algorithm``."""

    algorithm: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was run is right, and something was."""
        return bool(self.rows) and not any(row.failures for row in self.rows)


def size_range(cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
    """Per dim, every size that some case gives it, ascending."""
    names = list(cases[0].dims) if cases else []
    return {name: tuple(sorted({case.dims[name] for case in cases})) for name in names}


_COLUMNS = ("variant", "binding", "target", "calls", "sizes", "error/bound", "verdict")


def table(report: CheckReport) -> str:
    """The rows as aligned columns, then the failures."""
    rows = [_COLUMNS, *(_cells(row) for row in report.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for row in report.rows:
        for failure in row.failures:
            lines += [
                "",
                f"{failure.trouble.value}: {row.entry}, variant {row.variant}, {row.target}, with {failure.call}",
            ]
            lines += [f"  {line}" for line in failure.text.splitlines()]
    for row in report.rows:
        if row.counters is not None:
            lines += ["", f"counters of {row.entry}, variant {row.variant}, {row.target}, with {row.counted_call}", ""]
            lines += tables(row.counters).splitlines()
    calls = sum(row.calls for row in report.rows)
    failed = sum(bool(row.failures) for row in report.rows)
    verdict = (
        f"FAIL ({failed} of {len(report.rows)} rows)" if failed else "PASS" if report.ok else "nothing was checked"
    )
    lines += ["", f"{report.algorithm}: {verdict}, {calls} calls"]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    sizes = " ".join(f"{name} {found[0]}..{found[-1]}" for name, found in row.sizes.items() if found)
    return (row.variant, row.binding, row.target, str(row.calls), sizes, _error(row), row.verdict)


def _error(row: Row) -> str:
    if row.calls == 0:
        return "-"
    share = f" ({100 * row.undecided // max(row.elements, 1)}% undecided)" if 100 * row.undecided > row.elements else ""
    return ("exact" if row.worst == 0 else f"{row.worst:.3g}") + share


def as_json(report: CheckReport) -> dict[str, Any]:
    """The report as plain data; an infinite error is the string ``inf``."""
    return {"algorithm": report.algorithm, "ok": report.ok, "rows": [_row_json(row) for row in report.rows]}


def counters_as_json(report: CheckReport) -> dict[str, Any]:
    """The counters of every row that has some, as plain data."""
    rows = [
        {
            "entry": row.entry,
            "binding": row.binding,
            "variant": row.variant,
            "target": row.target,
            "call": row.counted_call,
            **counters_json(row.counters),
        }
        for row in report.rows
        if row.counters is not None
    ]
    return {"algorithm": report.algorithm, "rows": rows}


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "entry": row.entry,
        "binding": row.binding,
        "variant": row.variant,
        "target": row.target,
        "kernels": list(row.kernels),
        "calls": row.calls,
        "elements": row.elements,
        "undecided": row.undecided,
        "worst": row.worst if math.isfinite(row.worst) else "inf",
        "worst_call": row.worst_call,
        "sizes": {name: list(sizes) for name, sizes in row.sizes.items()},
        "verdict": row.verdict,
        "failures": [{"trouble": f.trouble.value, "call": f.call, "text": f.text} for f in row.failures],
    }
