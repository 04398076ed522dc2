"""The statements of a kernel body: declarations, labels, scopes, `.loc`, instructions.

Inline assembly opens scopes with `{ }` in which registers and labels may reuse names; every such name gets a
suffix that makes it unique in the kernel, so that nothing later has to know about scopes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from texpr.emulator.declarations import parse_variable
from texpr.emulator.operands import OperandSyntaxError, parse_operand, split_list
from texpr.emulator.ptx import Guard, Instruction, Operand, Register, SourceLine, Symbol, Variable
from texpr.emulator.scanner import Scanner
from texpr.emulator.types import TYPES

_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_SCOPED_LABEL = re.compile(r"(?:^|[;{}\n])\s*([A-Za-z_$%][\w$]*)\s*:(?!:)")
_GUARD = re.compile(r"@(!?)\s*([%\w$]+)\s+")
_FAMILY = re.compile(r"(.*)<(\d+)>$")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:.*?inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?")
_BRANCH_TARGETS = re.compile(r"\.branchtargets\s+(.*)$", re.S)


@dataclass(slots=True)
class _Scope:
    """Names declared between one pair of braces -> the register or label they stand for."""

    suffix: str
    names: dict[str, Register | str] = field(default_factory=dict)


class BodyParser:
    """Parses from behind a kernel's opening brace to behind its closing one."""

    def __init__(
        self,
        scanner: Scanner,
        files: Mapping[int, str],
        line_map: Mapping[int, SourceLine],
    ) -> None:
        self.scanner = scanner
        self.files = files
        self.line_map = line_map
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.branch_tables: dict[str, tuple[str, ...]] = {}
        self.registers: list[Register] = []
        self.variables: list[Variable] = []
        self._scopes: list[_Scope] = [_Scope("")]
        self._scope_count = 0
        self._source: SourceLine | None = None
        self._last_label = ""

    def parse(self) -> None:
        scanner = self.scanner
        while self._scopes:
            if not scanner.skip_space():
                raise scanner.error("the kernel's body is not closed")
            character = scanner.text[scanner.position]
            if character == "{":
                self._open_scope()
            elif character == "}":
                self._scopes.pop()
                scanner.position += 1
            elif match := _LABEL.match(scanner.text, scanner.position):
                self._label(match)
            elif scanner.text.startswith(".loc", scanner.position) and scanner.text[scanner.position + 4].isspace():
                self._location(scanner.take_until("\n"))
            elif scanner.text.startswith(".file", scanner.position):
                scanner.take_until("\n")
            else:
                self._statement()
        for table in self.branch_tables.values():
            for target in table:
                self._require_label(target, scanner.line())

    def _open_scope(self) -> None:
        scanner = self.scanner
        self._scope_count += 1
        scope = _Scope(f"@{self._scope_count}")
        # Labels are declared ahead of their scope's statements, so that forward branches find them.
        end = scanner.matching_brace(scanner.position)
        for match in _SCOPED_LABEL.finditer(scanner.text[scanner.position : end]):
            scope.names[match[1]] = match[1] + scope.suffix
        self._scopes.append(scope)
        scanner.position += 1

    def _label(self, match: re.Match[str]) -> None:
        name = self._resolve(match[1])
        if isinstance(name, Register) or name in self.labels:
            raise self.scanner.error(f"label {match[1]!r} is declared twice")
        self.labels[name] = len(self.instructions)
        self._last_label = name
        self.scanner.position = match.end()

    def _location(self, text: str) -> None:
        """Keep the line of the code itself, or of the call into another file (a library) that it was inlined from."""
        match = _LOC.match(text)
        if match is None:
            raise self.scanner.error("cannot read this .loc directive")
        file, line = int(match[1]), int(match[2])
        if match[4] is not None and int(match[4]) != file:
            file, line = int(match[4]), int(match[5])
        self._source = SourceLine(self.files.get(file, f"file {file}"), line)

    def _statement(self) -> None:
        scanner = self.scanner
        line = scanner.line()
        statement = " ".join(scanner.take_until(";").split())
        if not statement:
            return
        if statement.startswith(".reg"):
            self._declare_registers(statement, line)
        elif match := _BRANCH_TARGETS.match(statement):
            targets = (self._resolve(name) for name in split_list(match[1]))
            self.branch_tables[self._last_label] = tuple(name for name in targets if isinstance(name, str))
        elif statement.startswith((".pragma", ".callprototype", ".calltargets")):
            return
        elif statement.startswith("."):
            self._declare_variable(parse_variable(statement, scanner, line))
        else:
            self.instructions.append(self._instruction(statement, line))

    def _declare_registers(self, statement: str, line: int) -> None:
        words = statement.split(None, 2)
        if len(words) != 3 or words[1][1:] not in TYPES:
            raise self.scanner.error("cannot read this register declaration", line)
        kind = TYPES[words[1][1:]]
        scope = self._scopes[-1]
        for declared in words[2].split(","):
            family = _FAMILY.match(declared.strip())
            names = [f"{family[1]}{i}" for i in range(int(family[2]))] if family else [declared.strip()]
            for name in names:
                register = Register(name + scope.suffix, kind)
                scope.names[name] = register
                self.registers.append(register)

    def _declare_variable(self, variable: Variable) -> None:
        scope = self._scopes[-1]
        scope.names[variable.name] = variable.name + scope.suffix
        self.variables.append(replace(variable, name=variable.name + scope.suffix))

    def _resolve(self, name: str) -> Register | str:
        for scope in reversed(self._scopes):
            if name in scope.names:
                return scope.names[name]
        return name

    def _instruction(self, statement: str, line: int) -> Instruction:
        guard = None
        body = statement
        if match := _GUARD.match(statement):
            predicate = self._resolve(match[2])
            if not isinstance(predicate, Register):
                raise self.scanner.error(f"predicate {match[2]!r} is not declared", line)
            guard = Guard(predicate, bool(match[1]))
            body = statement[match.end() :]
        opcode, _, arguments = body.partition(" ")
        operands: list[Operand] = []
        try:
            operands = [parse_operand(argument, self._resolve) for argument in split_list(arguments)]
        except OperandSyntaxError as error:
            raise self.scanner.error(str(error), line) from None
        source = self.line_map.get(line, self._source)
        return Instruction(opcode, tuple(operands), guard, line, source, statement)

    def _require_label(self, name: str, line: int) -> None:
        if name not in self.labels:
            raise self.scanner.error(f"branch target {Symbol(name).name!r} is not a label of this kernel", line)
