"""The schedule reference, ``docs/schedule.md``: every record and key, from the records themselves."""

from __future__ import annotations

import inspect
from typing import Final, assert_never

from texpr.schedule.base import UNLIMITED, Limits, Record, Spelling
from texpr.schedule.schema import (
    KEYS,
    Buffer,
    Choice,
    Condition,
    ElementType,
    Form,
    Formula,
    Integer,
    Key,
    Level,
    Name,
    Nested,
    Number,
    Pair,
    Several,
    Table,
    named,
    title_of,
    with_article,
)
from texpr.schedule.words import NOT_LOWERED

EXAMPLE: Final = """\
texpr: 1
algorithm: linear_gelu
variants:
- name: wide
  target: [sm_80, sm_90a]
  when: M >= 128 and N % 8 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: linear_gelu
    writes: [y]
    grid: {i: 128, j: 128}
    order: {group: i, by: 8}
    warps: 4
    place:
      acc: {at: tile, loop: {k: 32}, mma: {op: mma, rows: i, cols: j}}
    stage:
      x: {at: acc.k, in: shared, copy: async, depth: 4}
      w: {at: acc.k, in: shared, copy: async, depth: 4}
- name: any
  target: [sm_80, sm_90a]
  kernels:
  - name: linear_gelu
    writes: [y]
    grid: {i: 64, j: 64}
    place:
      acc: {at: tile, loop: {k: 32}}
"""

_INTRODUCTION: Final = """\
# Schedule reference

A schedule says how an algorithm is computed; it never changes the result. It is a YAML file, or the same records in
Python (`from texpr.schedule import schedule, variant, kernel, place, stage, mma`). This page is generated from the
records in `texpr/schedule/records.py`.

- Everything is keyed by name: axes, funcs and tensors of the algorithm.
- Every key that is left out has a default, which the resolved schedule prints in the same notation.
- Names are names: an axis may be called `n`, `y`, `no` or `on`. Only `true` and `false` as the value of a switch are
  not text. Anchors, aliases and tags are refused, and so is a key given twice.
- In Python, keys that are Python words take an underscore: `in_`, `with_`.
- Directives marked *not lowered yet* are part of the language; using one is an error, never ignored.
"""


def reference_markdown() -> str:
    """The text of ``docs/schedule.md``."""
    sections = [_INTRODUCTION, f"```yaml\n{EXAMPLE}```\n", *(_section(record) for record in KEYS)]
    return "\n".join(sections)


def _section(record: type[Record]) -> str:
    lines = [f"## {title_of(record)}", "", inspect.cleandoc(record.__doc__ or "").replace("``", "`"), ""]
    if record.SPELLING is Spelling.TAGGED:
        lines += _tagged(record)
    else:
        lines += [line for key in KEYS[record] for line in _key(key)]
    if record.LATER:
        lines += ["Not lowered yet:", ""]
        lines += [f"- `{name}`: {purpose}" for name, purpose in record.LATER.items()]
        lines += [""]
    return "\n".join(lines)


def _key(key: Key) -> list[str]:
    needed = " (required)" if key.required else ""
    return [
        f"### `{key.name}`{needed}",
        "",
        f"{key.about.text}",
        "",
        f"Takes {_takes(key.form)}. Example: `{key.name}: {key.about.example}`",
        "",
    ]


def _tagged(record: type[Record]) -> list[str]:
    """Keys of a record whose first key is a word of an enum."""
    kind, name, *rest = KEYS[record]
    assert isinstance(kind.form, Choice)
    words = " or ".join(f"`{word.value}`" for word in kind.form.words)
    lines = [f"### {words} (one of them)", "", kind.about.text, "", f"Takes {_takes(name.form)}. {name.about.text}", ""]
    return lines + [line for key in rest for line in _key(key)]


def _takes(form: Form) -> str:
    match form:
        case Integer(limits):
            return _number(limits)
        case Name(what):
            return named(what)
        case Condition():
            return "a condition"
        case Formula():
            return "a whole number or an expression"
        case Choice(words):
            return " or ".join(
                f"`{word.value}`" + (" (not lowered yet)" if word in NOT_LOWERED else "") for word in words
            )
        case Number():
            return "a number"
        case ElementType():
            return "an element type"
        case Buffer():
            return "an element type with a shape, `u32[N, 2]`"
        case Level():
            return "`program`, `tile` or `func.axis`"
        case Several(item):
            return f"{_takes(item)}, or a list of them"
        case Pair(item):
            return f"a list of two: {_takes(item)}"
        case Table(key, value, alike):
            table = f"a mapping from {_takes(key)} to {_takes(value)}"
            return table if alike is None else f"{table}; a list of names gives each `{alike.value}`"
        case Nested(record):
            title = title_of(record)
            short = {Spelling.SHORT: f", or {_takes(KEYS[record][0].form)}", Spelling.SWITCH: ", or `true`"}
            return f"{with_article(title, f'[{title}](#{title})')} mapping{short.get(record.SPELLING, '')}"
        case _:
            assert_never(form)


def _number(limits: Limits) -> str:
    if limits.low == limits.high:
        return f"the number {limits.low}"
    top = " on" if limits.high == UNLIMITED else f" to {limits.high}"
    return f"{limits.kind} from {limits.low}{top}" + (", or `auto`" if limits.auto else "")
