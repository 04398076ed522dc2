"""Names, literals, comments and element types as C text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

from texpr.dtypes import DType

# Keywords of C89 to C23 and C++98 to C++23, alternative operator spellings, macros that common headers or compilers
# define, and the names that the argument struct has already.
_RESERVED: Final = frozenset(
    {
        "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch",
        "char", "char8_t", "char16_t", "char32_t", "class", "compl", "concept", "const", "const_cast", "consteval",
        "constexpr", "constinit", "continue", "co_await", "co_return", "co_yield", "decltype", "default", "delete",
        "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for",
        "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq",
        "nullptr", "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast",
        "requires", "restrict", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast",
        "struct", "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef", "typeid",
        "typename", "typeof", "typeof_unqual", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t",
        "while", "xor", "xor_eq", "NULL", "EOF", "I", "complex", "imaginary", "errno", "linux", "unix", "i386",
        "assert", "stdin", "stdout", "stderr", "struct_size", "abi_version", "sms",
    }
)  # fmt: skip

C_TYPES: Final[dict[DType, str]] = {
    DType.F8E4M3: "uint8_t",
    DType.F8E5M2: "uint8_t",
    DType.F16: "uint16_t",
    DType.BF16: "uint16_t",
    DType.TF32: "float",
    DType.F32: "float",
    DType.F64: "double",
    DType.I8: "int8_t",
    DType.I16: "int16_t",
    DType.I32: "int32_t",
    DType.I64: "int64_t",
    DType.U8: "uint8_t",
    DType.U16: "uint16_t",
    DType.U32: "uint32_t",
    DType.U64: "uint64_t",
    DType.BOOL: "uint8_t",
}
"""How a scalar of each type is passed by value; floats narrower than f32 travel as their bits."""

TRITON_TYPES: Final[dict[DType, frozenset[str]]] = {
    DType.F8E4M3: frozenset(["fp8e4nv"]),
    DType.F8E5M2: frozenset(["fp8e5"]),
    DType.F16: frozenset(["fp16"]),
    DType.BF16: frozenset(["bf16"]),
    DType.TF32: frozenset(["fp32"]),
    DType.F32: frozenset(["fp32"]),
    DType.F64: frozenset(["fp64"]),
    DType.I8: frozenset(["i8"]),
    DType.I16: frozenset(["i16"]),
    DType.I32: frozenset(["i32"]),
    DType.I64: frozenset(["i64"]),
    DType.U8: frozenset(["u8", "i8"]),
    DType.U16: frozenset(["u16", "i16"]),
    DType.U32: frozenset(["u32", "i32"]),
    DType.U64: frozenset(["u64", "i64"]),
    DType.BOOL: frozenset(["i1", "u1", "i8", "u8"]),
}
"""The types, in a Triton signature, of kernel parameters that read a scalar of each type as the launcher passes it."""


def element_bytes(dtype: DType) -> int:
    """Required alignment of a pointer to this type: its size, 1 for the packed four-bit types."""
    return 1 if dtype.bits < 8 else dtype.bytes


def c_name(name: str) -> str:
    """``name`` as a C identifier: reserved words get a trailing ``_``, letters outside ASCII become ``uXXXX``, and the
    dots of names that a schedule makes (``y.part``) become ``_``."""
    ascii_name = "".join(char if char.isascii() else f"u{ord(char):04x}" for char in name.replace(".", "_"))
    return ascii_name + "_" if ascii_name.rstrip("_") in _RESERVED else ascii_name


def c_names(names: Iterable[str], what: str) -> tuple[str, ...]:
    """The C names of ``names``; ValueError if two of them coincide. ``what`` says where, for the message."""
    result = tuple(c_name(name) for name in names)
    for position, name in enumerate(result):
        if name in result[:position]:
            raise ValueError(f"{what}: two of the names have the same C name {name}")
    return result


def comment(text: str) -> str:
    """``text`` on one line, safe between ``/*`` and ``*/`` in every language mode."""
    flat = " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").replace("\\", "/")
    return "".join(char if char.isascii() else f"U+{ord(char):04X}" for char in flat)


def comment_block(text: str, indent: str = "", width: int = 114) -> list[str]:
    """``text`` as a comment of one or more lines; its own line breaks separate paragraphs."""
    lines = [
        piece
        for paragraph in text.split("\n")
        for piece in textwrap.wrap(comment(paragraph), width - len(indent), break_long_words=False) or [""]
    ]
    if len(lines) == 1:
        return [f"{indent}/* {lines[0]} */"]
    rest = [f"{indent} * {line}".rstrip() for line in lines[1:]]
    return [f"{indent}/* {lines[0]}", *rest[:-1], f"{rest[-1]} */"]


def string_literal(text: str) -> str:
    """A C string literal for ASCII ``text``; quotes, backslashes and question marks are escaped."""
    pieces: list[str] = []
    for char in text:
        if char in '"\\?':
            pieces.append("\\" + char)
        elif " " <= char <= "~":
            pieces.append(char)
        else:
            pieces.extend(f"\\{byte:03o}" for byte in char.encode())
    return '"' + "".join(pieces) + '"'


def integer_literal(value: int) -> str:
    """``value`` as a C integer constant; ValueError if it does not fit 64 bits. Large ones have type long on the
    64-bit hosts CUDA has.
    """
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"the constant {value} does not fit 64 bits")
    if value == -(2**63):
        return "(-9223372036854775807 - 1)"
    return str(value)


def byte_rows(data: bytes, width: int = 110) -> list[str]:
    """The elements of an ``unsigned char`` array in lines of at most ``width`` characters; no trailing comma."""
    rows: list[str] = []
    row = ""
    for position, byte in enumerate(data):
        piece = f"{byte}" if position == len(data) - 1 else f"{byte},"
        if len(row) + len(piece) > width:
            rows.append(row)
            row = ""
        row += piece
    rows.append(row)
    return rows


def wrapped(line: str, width: int = 118) -> list[str]:
    """``line`` broken after commas and logical operators, outside string literals, with continuation lines indented by
    four.
    """
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines: list[str] = []
    rest = line
    while len(rest) > width:
        cut = _break_position(rest, width, first=len(indent))
        if cut is None:
            break
        lines.append(rest[:cut].rstrip())
        rest = indent + rest[cut:].lstrip()
    return [*lines, rest]


def _break_position(line: str, width: int, first: int) -> int | None:
    """After the last comma, ``&&`` or ``||`` that lies in ``[first, width]`` and outside a string literal; else after
    a space there.
    """
    in_string = False
    best: int | None = None
    space: int | None = None
    for position, char in enumerate(line[:width]):
        if char == '"' and line[position - 1 : position] != "\\":
            in_string = not in_string
        if in_string or position <= first or char != " ":
            continue
        space = position
        if line[:position].endswith((",", "&&", "||", "?", "*/")):
            best = position
    return best if best is not None and best > width // 2 else space
