"""Schedule files: YAML text to records and back, loss-free."""

from __future__ import annotations

import os
import re
from typing import Final

from texpr.errors import Location
from texpr.schedule.decode import decode
from texpr.schedule.encode import Plain, to_plain
from texpr.schedule.errors import CannotRead, ScheduleError
from texpr.schedule.nodes import Spot, from_yaml, lines_of
from texpr.schedule.records import Schedule

_WIDTH: Final = 118
_BLOCKS: Final = frozenset({"variants", "kernels", "place", "stage"})
"""Keys whose entries get a line each even if they would fit on one: they are what people read and compare."""

_PLAIN: Final = re.compile(r"[A-Za-z_0-9(][\x21-\x7e ]*")
_NOT_PLAIN: Final = re.compile(r": |:$| #| $")
_OTHER_TYPES: Final = re.compile(r"(?i:true|false|null)|[-+.0-9][-+.0-9a-fA-Fx_]*")


def load_schedule(source: str | os.PathLike[str], filename: str | None = None) -> Schedule:
    """The schedule in a file, or in a text.

    ``source`` is a path, unless it is a string of several lines or ``filename`` is given: then it is YAML text, and
    ``filename`` is the name that errors show. Raises a ``ScheduleError`` with file, line and excerpt; expressions in
    guards raise the errors of ``texpr.math.parse``.
    """
    if isinstance(source, str) and ("\n" in source or filename is not None):
        return _parse(source, filename or "<schedule>")
    path = os.fspath(source)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as error:
        raise CannotRead(at=Location(path), file=path, problem=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise CannotRead(at=Location(path), file=path, problem="it is not UTF-8 text") from None
    return _parse(text, path)


def _parse(text: str, file: str) -> Schedule:
    try:
        return decode(from_yaml(text, file), Schedule)
    except ScheduleError as error:
        if not error.excerpt and error.at is not None and error.at.line:
            error.excerpt = Spot(error.at, lines_of(text)[error.at.line - 1]).excerpt
        raise


def dump_schedule(schedule: Schedule) -> str:
    """Canonical YAML of a schedule: keys in the order of the reference, defaults left out, one line for what fits on
    one.

    ``load_schedule(dump_schedule(s)) == s`` for every schedule whose values are within their limits.
    """
    plain = to_plain(schedule)
    assert isinstance(plain, dict)
    return "\n".join(line for key, value in plain.items() for line in _entry(key, value, "")) + "\n"


def _entry(key: str, value: Plain, indent: str) -> list[str]:
    """The lines of ``key: value``: on one line if it fits, else one line per item."""
    head = f"{indent}{_scalar(key, flow=False)}:"
    if not isinstance(value, dict | list):
        return [f"{head} {_scalar(value, flow=False)}"]
    one_line = f"{head} {_flow(value)}"
    if (key not in _BLOCKS and len(one_line) <= _WIDTH) or not value:
        return [one_line]
    if isinstance(value, dict):
        return [head, *(line for name, item in value.items() for line in _entry(name, item, indent + "  "))]
    return [head, *(line for item in value for line in _item(item, indent))]


def _item(value: Plain, indent: str) -> list[str]:
    """The lines of ``- value``; the keys of a mapping stand below each other."""
    if not isinstance(value, dict):
        return [f"{indent}- {_flow(value)}"]
    lines = [line for key, item in value.items() for line in _entry(key, item, indent + "  ")]
    return [f"{indent}- {lines[0].lstrip()}", *lines[1:]]


def _flow(value: Plain) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_scalar(key, flow=True)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(item) for item in value) + "]"
        case _:
            return _scalar(value, flow=True)


def _scalar(value: str | int | float | bool, *, flow: bool) -> str:
    """Plain where YAML and its other readers would read the same text, else in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    clash = _NOT_PLAIN.search(value) or _OTHER_TYPES.fullmatch(value) or (flow and re.search(r"[,\[\]{}]", value))
    if _PLAIN.fullmatch(value) and not clash:
        return value
    assert value.isprintable(), value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
