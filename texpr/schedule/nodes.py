"""What users write, before it has a meaning: a small tree of scalars, lists and mappings in which every node knows
its place.

Both spellings become this tree, so that one reader (``decode.py``) serves YAML and Python with the same rules and
messages.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

import yaml

from texpr.errors import Location
from texpr.schedule.base import Record
from texpr.schedule.errors import DuplicateKey, ScheduleSyntax

_EXCERPT_WIDTH: Final = 140


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in YAML text, with the line itself and the column (from 0); or the line of a Python call."""

    location: Location
    line_text: str = ""
    column: int | None = None

    @property
    def excerpt(self) -> str:
        """The line as written, numbered, with a caret under the column."""
        line_text = self.line_text or linecache.getline(self.location.file, self.location.line).rstrip("\n")
        if not line_text.strip():
            return ""
        head = f"{self.location.line} | "
        column = self.column or 0
        # A long line is cut to a window that holds the column.
        start = max(0, column - _EXCERPT_WIDTH // 2) if len(line_text) > _EXCERPT_WIDTH else 0
        shown = head + line_text[start : start + _EXCERPT_WIDTH]
        shown = "".join(letter if letter.isprintable() else " " for letter in shown)
        return shown if self.column is None else f"{shown}\n{' ' * (len(head) + column - start)}^"


@dataclass(frozen=True, slots=True)
class Scalar:
    """``quoted`` is set for quoted YAML and for Python strings: then the text is never read as a number or a switch."""

    text: str
    quoted: bool
    spot: Spot


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    spot: Spot


@dataclass(frozen=True, slots=True)
class Entry:
    key: Scalar
    value: Node


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping; the keys are distinct."""

    entries: tuple[Entry, ...]
    spot: Spot


@dataclass(frozen=True, slots=True)
class Ready:
    """A Python value that means itself: a record, a word of an enum, a position, an expression, a dtype."""

    value: object
    spot: Spot


Node: TypeAlias = Scalar | Sequence | Fields | Ready


def described(node: Node) -> str:
    """What a node is, for messages."""
    match node:
        case Scalar("", False, _):
            return "empty"
        case Scalar(text, quoted, _):
            return f'the string "{text}"' if quoted else text
        case Sequence():
            return f"a list of {len(node.items)}"
        case Fields():
            return "a mapping"
        case Ready(value, _):
            return f"a {type(value).__name__}"


# ---- YAML ----------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    """The lines of a YAML text, counted as YAML counts them."""
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


class _Reader:
    """Turns PyYAML's node graph into nodes. ``file`` and the text give the places."""

    def __init__(self, text: str, file: str) -> None:
        self.lines = lines_of(text)
        self.file = file
        self.seen: set[int] = set()

    def spot(self, line: int, column: int | None) -> Spot:
        """``line`` from 0."""
        line_text = self.lines[line] if line < len(self.lines) else ""
        return Spot(Location(self.file, line + 1), line_text, column)

    def fail(self, spot: Spot, problem: str, remedy: str = "") -> ScheduleSyntax:
        return ScheduleSyntax(at=spot.location, excerpt=spot.excerpt, problem=problem, remedy=remedy)

    def node(self, node: yaml.Node) -> Node:
        spot = self.spot(node.start_mark.line, node.start_mark.column)
        if id(node) in self.seen:
            raise self.fail(spot, "anchors and aliases are not read", "write the value out, or use the Python spelling")
        self.seen.add(id(node))
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag[18:] not in ("str", "seq", "map"):
            raise self.fail(spot, f"tags are not read ({node.tag})", "leave the tag out")
        match node:
            case yaml.ScalarNode():
                return Scalar(node.value, bool(node.style), spot)
            case yaml.SequenceNode():
                return Sequence(tuple(self.node(item) for item in node.value), spot)
            case yaml.MappingNode():
                return Fields(self.entries(node), spot)
            case _:
                raise AssertionError(node)

    def entries(self, node: yaml.MappingNode) -> tuple[Entry, ...]:
        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            key = self.node(key_node)
            if not isinstance(key, Scalar):
                raise self.fail(key.spot, f"a key must be a word, and this is {described(key)}", "key: value")
            if key.text in entries:
                first = entries[key.text].key.spot.location.line
                raise DuplicateKey(at=key.spot.location, excerpt=key.spot.excerpt, key=key.text, first=first)
            entries[key.text] = Entry(key, self.node(value_node))
        return tuple(entries.values())

    def syntax_error(self, error: yaml.YAMLError) -> ScheduleSyntax:
        if not isinstance(error, yaml.MarkedYAMLError):
            where = getattr(error, "position", 0)
            before = "\n".join(self.lines)[:where] if isinstance(where, int) else ""
            spot = self.spot(before.count("\n"), None)
            return self.fail(spot, getattr(error, "reason", str(error)), "remove the control character")
        mark = error.problem_mark or error.context_mark
        opened = error.context_mark
        if opened and mark and opened.line < mark.line and re.search("flow|quoted", error.context or ""):
            # What is not closed is where the mistake is, not the line on which the parser gave up.
            mark = opened
        spot = self.spot(mark.line, mark.column) if mark else Spot(Location(self.file))
        problem = error.problem or str(error)
        context = f"{error.context}, " if error.context else ""
        return self.fail(spot, context + problem, _remedy(problem))


def _remedy(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces"
    if "single document" in problem or "another document" in problem:
        return "one schedule per file"
    if "end of stream" in problem:
        return "close the quotation mark"
    if "expected ','" in problem and "got '['" in problem:
        return "quote text that has brackets in it, or close the bracket before it"
    if "expected ','" in problem:
        return "close the bracket, or add the missing comma"
    if "alias" in problem:
        return "anchors and aliases are not read: write the value out"
    if "mapping values" in problem:
        return "indent the keys of one mapping alike, and quote text that contains ': '"
    return "check brackets, quotes and indentation of this line and the one before"


def from_yaml(text: str, file: str) -> Node:
    """The tree of a YAML text. Everything plain is text: an axis may be called ``n``, ``y``, ``no`` or ``on``.

    Raises :class:`ScheduleSyntax` for anything that is not one YAML document without tags, anchors and aliases, and
    :class:`DuplicateKey`.
    """
    reader = _Reader(text, file)
    try:
        root = _compose(text)
        if root is None:
            raise reader.fail(Spot(Location(file)), "the schedule is empty", "texpr: 1")
        return reader.node(root)
    except yaml.YAMLError as error:
        raise reader.syntax_error(error) from None
    except UnicodeError:
        raise reader.fail(Spot(Location(file)), "it is not Unicode text", "save the file as UTF-8") from None
    except RecursionError:
        raise reader.fail(Spot(Location(file)), "nested too deeply", "close the brackets") from None


def _compose(text: str) -> yaml.Node | None:
    """PyYAML's node graph without implicit types. libyaml is ten times as fast; the Python parser has the better
    messages."""
    fast = getattr(yaml, "CBaseLoader", None)
    if fast is not None and _is_shallow(text):
        try:
            return yaml.compose(text, Loader=fast)
        except yaml.YAMLError:
            pass
    return yaml.compose(text, Loader=yaml.BaseLoader)


def _is_shallow(text: str) -> bool:
    """Whether the text cannot nest so deeply that libyaml, which recurses without a limit, overflows the C stack.

    Nesting takes an opening bracket or a deeper column, so both are bounded. The Python parser raises RecursionError.
    """
    return text.count("[") + text.count("{") < 1500 and max(map(len, lines_of(text))) < 1000


# ---- Python --------------------------------------------------------------------------------------------------------


def from_python(value: object, location: Location) -> Node:
    """The tree of a Python value: dicts, lists, tuples, strings, numbers, and anything that is a schedule's value
    already.

    Keys lose one trailing underscore (``in_``, ``with_``); keys whose value is None are left out.
    """
    spot = Spot(location)
    match value:
        case bool():
            return Scalar("true" if value else "false", False, spot)
        case int() | float():
            return Scalar(str(value), False, spot)
        case Enum():
            return Ready(value, spot)
        case str():
            return Scalar(value, True, spot)
        case Mapping():
            return Fields(_python_entries(value, location, spot), spot)
        case Record():
            return Ready(value, spot)
        case list() | tuple():
            return Sequence(tuple(from_python(item, location) for item in value), spot)
        case _:
            return Ready(value, spot)


def _python_entries(value: Mapping[object, object], location: Location, spot: Spot) -> tuple[Entry, ...]:
    return tuple(
        Entry(Scalar(str(key).removesuffix("_"), True, spot), from_python(item, location))
        for key, item in value.items()
        if item is not None
    )
