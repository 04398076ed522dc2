"""The instruction table as text: what `docs/instructions.md` and `python -m texpr.emulator table` show."""

from __future__ import annotations

from texpr.emulator.accuracy import ACCURACY
from texpr.emulator.isa import NOT_EMULATED, SINCE_EVERYWHERE, TABLE
from texpr.emulator.rows import CLASSES, Row

_HEAD = """\
# Instructions

This page is generated from the emulator's instruction table by `python -m docs.generate`.

A module loads if every instruction matches a row, and its `.target` and `.version` have that form; see
[emulator.md](emulator.md#instructions-and-targets). Every row is checked against an independent reference.

A pattern is an opcode with holes: `type:INT` stands for one of the words of `INT` below, `(rn|rz)` for one of these,
a part with `?` may be left out, one with `*` is any number of its words. Operands are `results = sources`, each a PTX
type, the name of the hole that holds one, or `address`, `integer`, `label`, `any`; `?` marks what may be left out.
Rows without effects compute their result from their operands and do nothing else. *Since* is the least target (and
PTX version, where it is newer than 7.0), for opcodes with the words before the colon if there is one: `sm_90` and
later, `sm_90a` that architecture alone, `sm_100f` its family.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD, "| words | |", "|---|---|"]
    parts += [f"| `{name}` | {_code(words)} |" for name, words in CLASSES.items()]
    parts += ["", "In any instruction: " + _code(SINCE_EVERYWHERE.replace("|", " or ")) + ".", ""]
    parts += ["## Rows", "", "| pattern | operands | effects | since |", "|---|---|---|---|"]
    parts += [_line(row) for row in TABLE]
    parts += ["", "## Errors", "", _ERRORS, "", "| instruction | largest error |", "|---|---|"]
    parts += [f"| `{name}` | {bound} |" for name, bound in ACCURACY.items()]
    parts += ["", "## Not emulated", "", "Known, and refused with the reason:", ""]
    reasons = dict.fromkeys(reason for _, reason in NOT_EMULATED)
    parts += [f"- {reason}" for reason in reasons]
    return "\n".join(parts) + "\n"


_ERRORS = """\
Everything is exact or correctly rounded but these, for which the PTX manual documents an error. Hardware promises it,
and the emulator keeps it; the bits differ. `.ftz` changes nothing about it, and pairs have the error of their elements.
Matrix products are exact while every partial sum fits the accumulator; beyond, the order of additions is the hardware's
own."""


def _line(row: Row) -> str:
    return f"| {_code(_short(row.pattern))} | {_code(row.operands)} | {row.effects} | {_code(row.since)} |"


def _short(pattern: str) -> str:
    """The shapes of wgmma, all 32 of them, as a range."""
    start, found, rest = pattern.partition("shape:(m64n8")
    if not found:
        return pattern
    shapes, _, tail = rest.partition(")")
    depth = shapes.split("|")[0]
    return f"{start}shape:(m64n8{depth} to m64n256{depth}){tail}"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""
