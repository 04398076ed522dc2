"""Counters for people, as aligned tables, and for programs, as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from texpr.emulator.counters import (
    Channel,
    Counters,
    Executed,
    InstructionCounters,
    Level,
    Traffic,
    conflicts,
    excess_sectors,
)

_WORST = 5
"""Lines listed where memory accesses are at their worst."""


def tables(counters: Counters) -> str:
    """Every kernel's tables, one after the other."""
    return "\n\n".join(_kernel(counters.of(kernel), kernel) for kernel in counters.launched)


def as_json(counters: Counters) -> dict[str, Any]:
    """The same and more as plain data: totals of every kernel, and every instruction that was executed."""
    return {"kernels": [_kernel_json(counters.of(kernel), kernel) for kernel in counters.launched]}


def save(counters: Counters, path: Path) -> None:
    """Write the plain data as a JSON file. Raises OSError."""
    path.write_text(json.dumps(as_json(counters), indent=2) + "\n", encoding="utf-8")


# Tables -----------------------------------------------------------------------------------------------------


def _kernel(counters: Counters, name: str) -> str:
    launched = counters.launched[name]
    parts = [
        f"{name}: {_plural(launched.launches, 'launch', 'launches')}, {_plural(launched.programs, 'program')}, "
        f"{_plural(launched.warps, 'warp')}, {_plural(launched.threads, 'thread')}",
        _instructions(counters),
        _memory(counters),
        _named("tensor core", counters.tensor(), with_flops=True),
        _named("barriers and fences", counters.barriers(), with_flops=False),
        _divergence(counters),
        _worst_sectors(counters),
        _worst_conflicts(counters),
    ]
    return "\n\n".join(part for part in parts if part)


def _instructions(counters: Counters) -> str:
    found = [(belongs.value, executed) for belongs, executed in counters.by_class().items()]
    rows = [
        (name, f"{executed.warps}", f"{executed.threads}") for name, executed in [*found, ("all", counters.executed)]
    ]
    return _table(("instructions", "warps", "threads"), rows)


def _memory(counters: Counters) -> str:
    rows = []
    for channel, traffic in counters.memory().items():
        of_global = channel.level is Level.GLOBAL
        has_banks = traffic.wavefronts > 0
        rows.append(
            (
                f"{channel.level.value} {channel.way.value}",
                f"{channel.width}" if channel.width else "-",
                f"{traffic.requests}",
                f"{traffic.bytes}",
                f"{traffic.sectors}" if of_global else "",
                f"{traffic.sectors_per_request:.1f}" if of_global else "",
                _percent(traffic.efficiency) if of_global else "",
                f"{traffic.wavefronts}" if has_banks else "",
                f"{traffic.conflicts}" if has_banks else "",
            )
        )
    header = ("memory", "width", "requests", "bytes", "sectors", "/request", "used", "wavefronts", "conflicts")
    says_something = [any(row[column] for row in rows) for column in range(len(header))]
    shown = [tuple(cell for cell, says in zip(row, says_something, strict=True) if says) for row in (header, *rows)]
    return _table(shown[0], shown[1:]) if rows else ""


def _named(title: str, found: dict[str, Executed], *, with_flops: bool) -> str:
    if not found:
        return ""
    rows = [(name, f"{e.warps}", *([f"{e.flops}"] if with_flops else [])) for name, e in found.items()]
    return _table((title, "warps", *(["flops"] if with_flops else [])), rows)


def _divergence(counters: Counters) -> str:
    found = counters.divergence()
    return (
        f"divergence: {found.partial} of {found.warps} instructions by part of a warp, {found.active:.1f} of 32 "
        f"threads active on average, {found.splits} of {found.branches} branches split a warp"
    )


def _worst_sectors(counters: Counters) -> str:
    rows = [
        (_place(entry), f"{traffic.sectors_per_request:.1f}", _percent(traffic.efficiency), entry.site.text)
        for entry in counters.worst(excess_sectors, _WORST)
        for traffic in (entry.traffic(Level.GLOBAL),)
    ]
    return _table(("most sectors too many", "/request", "used", ""), rows, text_column=3) if rows else ""


def _worst_conflicts(counters: Counters) -> str:
    rows = [
        (_place(entry), f"{traffic.conflicts}", f"{traffic.wavefronts / traffic.requests:.1f}", entry.site.text)
        for entry in counters.worst(conflicts, _WORST)
        for traffic in (entry.traffic(Level.SHARED),)
    ]
    return _table(("most bank conflicts", "conflicts", "/request", ""), rows, text_column=3) if rows else ""


def _place(entry: InstructionCounters) -> str:
    source = entry.site.source
    return f"line {entry.site.line}" + ("" if source is None else f" ({source.file.rsplit('/', 1)[-1]}:{source.line})")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], text_column: int | None = None) -> str:
    """Columns of numbers are aligned right, the first column and the one with text left."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, text_column) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


# Plain data -------------------------------------------------------------------------------------------------


def _kernel_json(counters: Counters, name: str) -> dict[str, Any]:
    return {
        "kernel": name,
        **asdict(counters.launched[name]),
        "executed": asdict(counters.executed),
        "classes": {belongs.value: asdict(executed) for belongs, executed in counters.by_class().items()},
        "memory": [_traffic_json(channel, traffic) for channel, traffic in counters.memory().items()],
        "tensor": {opcode: asdict(executed) for opcode, executed in counters.tensor().items()},
        "barriers": {opcode: asdict(executed) for opcode, executed in counters.barriers().items()},
        "divergence": asdict(counters.divergence()),
        "instructions": [_instruction_json(entry) for entry in counters.instructions if entry.executed.warps],
    }


def _traffic_json(channel: Channel, traffic: Traffic) -> dict[str, Any]:
    return {"level": channel.level.value, "way": channel.way.value, "width": channel.width, **asdict(traffic)}


def _instruction_json(entry: InstructionCounters) -> dict[str, Any]:
    site = entry.site
    return {
        "module": site.module,
        "line": site.line,
        "text": site.text,
        "class": site.belongs.value,
        "source": None if site.source is None else {"file": site.source.file, "line": site.source.line},
        "executed": asdict(entry.executed),
        "memory": [_traffic_json(channel, traffic) for channel, traffic in entry.memory.items()],
    }
