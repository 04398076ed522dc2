"""Code fragments with their binding strength, so that a printer adds only the parentheses Python needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

_NAME = re.compile(r"[A-Za-z_]\w*")


class Level(IntEnum):
    """How strongly a fragment's outermost operator binds, weakest first."""

    COMPARE = 1
    OR = 2
    XOR = 3
    AND = 4
    SHIFT = 5
    SUM = 6
    PRODUCT = 7
    UNARY = 8
    ATOM = 9


@dataclass(frozen=True, slots=True)
class Text:
    """``static``: a Python number known while the function is traced, not a Gluon value (it has no ``.to``)."""

    code: str
    level: Level = Level.ATOM
    static: bool = False

    def within(self, least: Level) -> str:
        """The code, in parentheses unless it binds at least as strongly as ``least``."""
        return self.code if self.level >= least else f"({self.code})"

    @property
    def is_name(self) -> bool:
        return _NAME.fullmatch(self.code) is not None


def infix(left: Text, operator: str, level: Level, right: Text) -> Text:
    """A left-associative binary operation. Comparisons never nest without parentheses. A negative constant is
    subtracted rather than added."""
    if operator == "+" and right.static and right.level is Level.UNARY:
        operator, right = "-", Text(right.code[1:], static=True)
    stronger = Level(level + 1)
    least_left = stronger if level is Level.COMPARE else level
    code = f"{left.within(least_left)} {operator} {right.within(stronger)}"
    return Text(code, level, left.static and right.static)


def call(function: str, *arguments: Text | str) -> Text:
    parts = [argument.code if isinstance(argument, Text) else argument for argument in arguments]
    return Text(f"{function}({', '.join(parts)})")


def method(value: Text, call_text: str) -> Text:
    """``value.call_text``, e.g. ``method(x, "to(gl.float32)")``."""
    base = Text(f"gl.to_tensor({value.code})") if value.static else value
    return Text(f"{base.within(Level.ATOM)}.{call_text}")


def constant(code: str) -> Text:
    """A number as Python, or a typed one made with ``gl.full``."""
    level = Level.UNARY if code.startswith("-") else Level.ATOM
    return Text(code, level, static=not code.startswith("gl."))


def wrapped(code: str, width: int) -> str:
    """A line broken inside its last bracket if it is longer than ``width``: one item per line, as Black would."""
    if len(code) <= width or "\n" in code:
        return code
    opening = _last_bracket(code)
    if opening is None:
        return code
    indent = code[: len(code) - len(code.lstrip())]
    items = _split_items(code[opening + 1 : -1])
    # A comma after the only item of plain parentheses would make a tuple of it.
    grouping = len(items) == 1 and code[opening] == "(" and not re.match(r"[\w\])]", code[opening - 1])
    comma = "" if grouping else ","
    inner = [wrapped(f"{indent}    {item}", width - 1) + comma for item in items]
    return "\n".join([code[: opening + 1], *inner, indent + code[-1]])


def _last_bracket(code: str) -> int | None:
    """Where the bracket opens that closes at the end of ``code``."""
    if code[-1] not in ")]":
        return None
    depth = 0
    for position in reversed(range(len(code))):
        if code[position] in ")]":
            depth += 1
        elif code[position] in "([":
            depth -= 1
            if depth == 0:
                return position
    return None


def _split_items(code: str) -> list[str]:
    """The items of a bracket, split at its own commas."""
    items, depth, start = [], 0, 0
    quoted = False
    for position, char in enumerate(code):
        if char == '"' and code[position - 1 : position] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "," and depth == 0:
            items.append(code[start:position].strip())
            start = position + 1
    return [*items, code[start:].strip()]
