"""The statements of PTX text, each with its place, so that a mutation can replace exactly one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_BODY = re.compile(r"^\{", re.M)
_LABEL = re.compile(r"[$%\w]+:(?!:)")
_STATEMENT = re.compile(r"(?P<guard>@!?\s*[$%\w]+\s+)?(?P<opcode>[a-z][\w.:]*)\s*(?P<operands>[^;]*);", re.S)
_UNTIL_SEMICOLON = (".reg", ".shared", ".local", ".pragma", ".branchtargets", ".param", ".alias")


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction: `text[start:end]`, semicolon included. `guard` is `@%p1`, `@!%p1` or empty; `line` is 1-based;
    `in_loop` says that some later branch goes back to before it."""

    start: int
    end: int
    line: int
    guard: str
    opcode: str
    operands: tuple[str, ...]
    in_loop: bool

    @property
    def text(self) -> str:
        """The statement in one line, as messages show it."""
        guard = f"{self.guard} " if self.guard else ""
        return f"{guard}{self.opcode} {', '.join(self.operands)}".rstrip() + ";"


@dataclass(frozen=True, slots=True)
class Ptx:
    """PTX text and its statements in order."""

    text: str
    statements: tuple[Statement, ...]


def parse(text: str) -> Ptx:
    """The statements of all kernels and functions of a module."""
    code = _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)
    found: list[Statement] = []
    end = 0
    for body in _BODY.finditer(code):
        if body.start() >= end:
            end = _closing(code, body.start())
            found += _statements(code, body.start() + 1, end)
    return Ptx(text, tuple(found))


def _closing(code: str, start: int) -> int:
    """The position of the brace that closes the one at `start`."""
    depth = 0
    for place in re.finditer(r"[{}]", code[start:]):
        depth += 1 if place[0] == "{" else -1
        if depth == 0:
            return start + place.start()
    raise ValueError("unbalanced braces")


def _statements(code: str, start: int, end: int) -> list[Statement]:
    labels: dict[str, int] = {}
    places: list[re.Match[str]] = []
    position = start
    while position < end:
        if code[position].isspace() or code[position] in "{}":
            position += 1
        elif code[position] == ".":
            closing = ";" if code.startswith(_UNTIL_SEMICOLON, position) else "\n"
            position = code.index(closing, position) + 1
        elif label := _LABEL.match(code, position):
            labels[label[0][:-1]] = position
            position = label.end()
        else:
            place = _STATEMENT.match(code, position)
            if place is None:
                raise ValueError(f"line {code.count(chr(10), 0, position) + 1}: no statement")
            places.append(place)
            position = place.end()
    loops = list(_loops(places, labels))
    return [_statement(code, place, any(a <= place.start() < b for a, b in loops)) for place in places]


def _loops(places: list[re.Match[str]], labels: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Ranges of text from a label to a branch back to it."""
    for place in places:
        target = labels.get(place["operands"].strip())
        if place["opcode"].startswith("bra") and target is not None and target < place.start():
            yield target, place.end()


def _statement(code: str, place: re.Match[str], in_loop: bool) -> Statement:
    guard = re.sub(r"\s", "", place["guard"] or "")
    line = code.count("\n", 0, place.start()) + 1
    operands = _split(place["operands"])
    return Statement(place.start(), place.end(), line, guard, place["opcode"], operands, in_loop)


def _split(operands: str) -> tuple[str, ...]:
    """Operands, split at the commas outside of braces and brackets."""
    parts, depth, current = [], 0, ""
    for character in operands:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return tuple(" ".join(part.split()) for part in [*parts, current] if part.strip())
