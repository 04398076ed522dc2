"""What a run prints: a line per case, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_Record = Mapping[str, Any]


def case_line(record: _Record) -> str:
    """``softmax_f16/long/sm_80/0  ok  0.41 of the bound, bits 4096/4096`` and one line per failure."""
    lines = [f"{record['case']}  {verdict(record)}  {_details(record)}".rstrip()]
    for failure in record["failures"]:
        first, *rest = failure["text"].splitlines() or [""]
        lines += [f"  {failure['trouble']}: {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def verdict(record: _Record) -> str:
    """``ok``, or the kinds of its failures."""
    if record["failures"]:
        return "+".join(dict.fromkeys(failure["trouble"] for failure in record["failures"]))
    return "skipped" if (record["timing"] or {}).get("skipped") and not record["compared"] else "ok"


def _details(record: _Record) -> str:
    parts = []
    if record["compared"]:
        worst = float(record["worst"])
        parts.append("exact" if worst == 0 else f"{worst:.3g} of the bound")
    if record["bits"]:
        equal, size = (sum(pair[n] for pair in record["bits"].values()) for n in (0, 1))
        parts += [f"bits {equal}/{size}"] if size else []
    timing = record["timing"] or {}
    if "median" in timing:
        parts.append(f"{timing['median']:.1f} us")
        peer = timing.get("peer", {})
        if "median" in peer:
            parts.append(f"torch {peer['median']:.1f} us")
    if "skipped" in timing:
        parts.append(timing["skipped"])
    return ", ".join(parts)


def summary_table(records: Iterable[_Record]) -> str:
    """Per variant: cases, failures, the worst error, and times."""
    groups: dict[str, list[_Record]] = {}
    for record in records:
        groups.setdefault(record["case"].rpartition("/")[0], []).append(record)
    rows: list[tuple[str, ...]] = [("variant", "cases", "failed", "error/bound", "us", "torch us", "torch/own")]
    rows += [_row(name, group) for name, group in groups.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failed = sum(bool(record["failures"]) for group in groups.values() for record in group)
    total = sum(len(group) for group in groups.values())
    lines += ["", f"FAIL: {failed} of {total} cases" if failed else f"PASS: {total} cases"]
    return "\n".join(lines)


def _row(name: str, group: list[_Record]) -> tuple[str, ...]:
    worst = max(float(record["worst"]) for record in group)
    timings = [record["timing"] for record in group if "median" in (record["timing"] or {})]
    peers = [timing.get("peer", {}) for timing in timings]
    return (
        name,
        str(len(group)),
        str(sum(bool(record["failures"]) for record in group)),
        "exact" if worst == 0 else f"{worst:.3g}",
        " ".join(f"{timing['median']:.1f}" for timing in timings) or "-",
        " ".join(f"{peer['median']:.1f}" for peer in peers if "median" in peer) or "-",
        " ".join(f"{peer['ratio']:.2f}" for peer in peers if "ratio" in peer) or "-",
    )
