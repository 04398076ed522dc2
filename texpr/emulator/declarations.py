"""Declarations of kernel parameters and of variables in memory."""

from __future__ import annotations

import re

from texpr.emulator.operands import parse_integer, split_list
from texpr.emulator.ptx import Param, Variable
from texpr.emulator.scanner import Scanner
from texpr.emulator.types import TYPES

_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.(?P<space>shared|global|const|local|param)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
    r"\.(?P<type>\w+)\s+(?P<name>[\w$]+)\s*(?:\[(?P<count>\d*)\])?\s*(?:=\s*(?P<data>.*))?$",
    re.S,
)
_PARAM = re.compile(
    r"\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)"
    r"(?:\s+\.ptr(?:\s+\.(?:global|shared|local|const))?(?:\s+\.align\s+\d+)?)?\s+(?P<name>[\w$]+)"
    r"(?:\[(?P<count>\d+)\])?$"
)


def parse_params(text: str, scanner: Scanner) -> tuple[Param, ...]:
    params: list[Param] = []
    offset = 0
    for part in split_list(" ".join(text.split())):
        match = _PARAM.match(part)
        if match is None or match["type"] not in TYPES:
            raise scanner.error(f"cannot read the parameter {part!r}")
        element = TYPES[match["type"]].bytes
        size = element * int(match["count"] or 1)
        align = int(match["align"] or element)
        offset = -(-offset // align) * align
        params.append(Param(match["name"], size, align, offset))
        offset += size
    return tuple(params)


def parse_variable(statement: str, scanner: Scanner, line: int) -> Variable:
    """A `.shared`, `.global`, `.const` or `.local` variable declaration, without its semicolon."""
    match = _VARIABLE.match(statement)
    if match is None or match["type"] not in TYPES:
        raise scanner.error(f"cannot read the declaration {' '.join(statement.split())[:60]!r}", line)
    element = TYPES[match["type"]]
    data = _initial_bytes(match["data"], element.bytes, scanner, line) if match["data"] else b""
    count = int(match["count"]) if match["count"] else (1 if match["count"] is None else 0)
    size = max(element.bytes * count, len(data))
    return Variable(match["name"], match["space"], size, int(match["align"] or element.bytes), data, line)


def _initial_bytes(text: str, element: int, scanner: Scanner, line: int) -> bytes:
    values = split_list(text.strip().removeprefix("{").removesuffix("}"))
    data = bytearray()
    for value in values:
        try:
            number = int(value[2:], 16) if value[:2].lower() in ("0f", "0d") else parse_integer(value)
        except ValueError:
            raise scanner.error(f"initial value {value!r} is not a number", line) from None
        data += (number % (1 << (8 * element))).to_bytes(element, "little")
    return bytes(data)
