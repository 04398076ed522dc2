"""Operand syntax: the text of one PTX operand -> a typed operand record."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from texpr.emulator.ptx import (
    Address,
    FloatBits,
    Integer,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
)

_FLOAT32 = re.compile(r"0[fF]([0-9a-fA-F]{8})$")
_FLOAT64 = re.compile(r"0[dD]([0-9a-fA-F]{16})$")
_DECIMAL = re.compile(r"[+-]?\d+\.\d*(?:[eE][+-]?\d+)?$")
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_NAME = re.compile(r"[%A-Za-z_$][\w$.%]*$")
_SUM = re.compile(r"(?P<base>[^\s+-][^\s+]*)\s*(?:(?P<sign>[+-])\s*(?P<offset>-?\w+))?$")

_WARP_SIZE = 32

Resolve = Callable[[str], Register | str]
"""Looks a name up in the scopes: a register if it was declared as one, else the (possibly renamed) symbol."""


class OperandSyntaxError(ValueError):
    """The text is not a PTX operand."""


def split_list(text: str) -> list[str]:
    """Split at the commas that are not inside brackets of any kind."""
    parts: list[str] = []
    depth = 0
    start = 0
    for position, character in enumerate(text):
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    tail = text[start:].strip()
    if tail:
        parts.append(tail)
    return parts


def parse_integer(text: str) -> int:
    """The value of a PTX integer constant (decimal, 0x, 0b or 0-led octal; an U suffix is allowed)."""
    digits = text.rstrip("U")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def parse_operand(text: str, resolve: Resolve) -> Operand:
    """One operand; raises `OperandSyntaxError` if it has no known form."""
    text = text.strip()
    if text == "_":
        return Sink()
    if text[:1] + text[-1:] in ("{}", "()"):
        return Vector(tuple(parse_operand(item, resolve) for item in split_list(text[1:-1])))
    if text.startswith("[") and text.endswith("]"):
        return _parse_address(text[1:-1], resolve)
    if "|" in text:
        first, second = text.split("|", 1)
        return Pair(parse_operand(first, resolve), parse_operand(second, resolve))
    if text.startswith("!"):
        named = resolve(text[1:].strip())
        if isinstance(named, Register):
            return Negated(named)
        raise OperandSyntaxError(f"{text!r} does not negate a declared predicate")
    return _parse_scalar(text, resolve)


def _parse_address(text: str, resolve: Resolve) -> Operand:
    parts = split_list(text)
    if not parts:
        raise OperandSyntaxError("an empty address")
    match = _SUM.match(parts[0])
    if match is None:
        raise OperandSyntaxError(f"cannot read the address [{text}]")
    base = _parse_scalar(match["base"], resolve)
    offset = parse_integer(match["offset"]) if match["offset"] else 0
    if match["sign"] == "-":
        offset = -offset
    if isinstance(base, Symbol | Register | Integer):
        return Address(base, offset, tuple(parse_operand(part, resolve) for part in parts[1:]))
    raise OperandSyntaxError(f"[{text}] is not an address")


def _parse_scalar(text: str, resolve: Resolve) -> Operand:
    if match := _FLOAT32.match(text):
        return FloatBits(int(match[1], 16), 32)
    if match := _FLOAT64.match(text):
        return FloatBits(int(match[1], 16), 64)
    if _DECIMAL.match(text):
        return FloatBits(int.from_bytes(struct.pack("<d", float(text)), "little"), 64)
    if _INTEGER.match(text):
        return Integer(parse_integer(text))
    if text == "WARP_SZ":
        return Integer(_WARP_SIZE)
    name, plus, offset = text.partition("+")
    name = name.strip()
    if not _NAME.match(name):
        raise OperandSyntaxError(f"cannot read the operand {text!r}")
    named = resolve(name)
    if isinstance(named, Register):
        return named
    if name.startswith("%"):
        return Special(name)
    return Symbol(named, parse_integer(offset.strip()) if plus else 0)
