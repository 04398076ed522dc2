"""The typed form of a PTX file: frozen records, every one of which remembers its line.

`parse.py` makes these from text; nothing here knows what an instruction does (see `isa.py`).
Names are resolved: a register or label declared inside a `{ }` scope (inline assembly) gets a unique name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from texpr.emulator.types import ScalarType


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in the source the PTX was compiled from (`.loc`, or the caller's own line map)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Register:
    """A declared virtual register; `name` is unique in its kernel."""

    name: str
    type: ScalarType


@dataclass(frozen=True, slots=True)
class Special:
    """A read-only special register such as `%tid.x`."""

    name: str


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer constant."""

    value: int


@dataclass(frozen=True, slots=True)
class FloatBits:
    """A `0f...` (32 bit) or `0d...` (64 bit) constant, as its bit pattern."""

    bits: int
    width: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable or parameter, or a label, plus a byte offset."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """A memory operand `[base + offset]`; `[base, extra...]` for the forms that take coordinates."""

    base: Register | Symbol | Integer
    offset: int
    extra: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Vector:
    """A brace list `{a, b, ...}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two destinations `p|q`."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Negated:
    """A predicate source written `!p`."""

    register: Register


@dataclass(frozen=True, slots=True)
class Sink:
    """The bit bucket `_`."""


Operand = Register | Special | Integer | FloatBits | Symbol | Address | Vector | Pair | Negated | Sink


@dataclass(frozen=True, slots=True)
class Guard:
    """The predicate in front of an instruction: `@p` or `@!p`."""

    register: Register
    negated: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """One PTX instruction."""

    opcode: str
    operands: tuple[Operand, ...]
    guard: Guard | None
    line: int
    source: SourceLine | None
    text: str

    @property
    def where(self) -> str:
        """The line of PTX, and the source line behind it where that is known, for messages."""
        return f"line {self.line}" if self.source is None else f"line {self.line} ({self.source})"


@dataclass(frozen=True, slots=True)
class Param:
    """A kernel parameter: `size` bytes at `offset` of the parameter block."""

    name: str
    size: int
    align: int
    offset: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in shared, local, global or constant memory; `data` is its initial content."""

    name: str
    space: str
    size: int
    align: int
    data: bytes = b""
    line: int = 0


@dataclass(frozen=True, slots=True)
class KernelText:
    """A parsed `.entry`: `labels` map to instruction indices (the end of the code is a valid target)."""

    name: str
    params: tuple[Param, ...]
    reqntid: tuple[int, int, int] | None
    line: int
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    branch_tables: Mapping[str, tuple[str, ...]]
    registers: Mapping[str, ScalarType]
    variables: tuple[Variable, ...]
    cluster: tuple[int, int, int] | None = None
    explicit_cluster: bool = False


@dataclass(frozen=True, slots=True)
class FunctionText:
    """A parsed `.func` with a body; `formals` are its result and parameter names, in the order of a call."""

    name: str
    formals: tuple[str, ...]
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    branch_tables: Mapping[str, tuple[str, ...]]
    registers: Mapping[str, ScalarType]
    variables: tuple[Variable, ...]
    line: int


@dataclass(frozen=True, slots=True)
class ModuleText:
    """A parsed PTX file: kernels, functions and module-level variables."""

    name: str
    target: str
    version: str
    lines: tuple[str, ...]
    variables: tuple[Variable, ...]
    kernels: tuple[KernelText, ...]
    functions: tuple[FunctionText, ...]
