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
    """A left-associative binary operation. Comparisons never nest without parentheses."""
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
