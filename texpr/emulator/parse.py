"""PTX text -> `ModuleText`: kernels with typed instructions, resolved names and source lines.

Comments are blanked in place so that offsets keep their line numbers.  Module-level directives are handled
here; the statements of a kernel body in `parse_body.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from texpr.emulator.declarations import parse_params, parse_variable
from texpr.emulator.parse_body import BodyParser
from texpr.emulator.ptx import FunctionText, KernelText, ModuleText, Param, SourceLine, Variable
from texpr.emulator.scanner import Scanner

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', re.M)
_ENTRY = re.compile(r"(?:\.(?:visible|weak)\s+)*\.entry\s+(?P<name>[\w$]+)\s*")
_FUNCTION = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.func\s*(?:\((?P<results>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*"
    r"(?:\((?P<params>[^)]*)\))?"
)
_TUNING = re.compile(r"\.(?P<name>\w+)\s+(?P<values>\d+(?:\s*,\s*\d+)*)")
_EXPLICIT_CLUSTER = re.compile(r"\.explicitcluster\b")
_LINE_DIRECTIVES = (".version", ".target", ".address_size", ".file", ".loc")


def parse_ptx(text: str, name: str, line_map: Mapping[int, SourceLine]) -> ModuleText:
    """Parse a whole PTX file.

    `line_map` (PTX line -> source line) overrides the file's own `.loc` information.
    Raises `PtxError` with the line of the first thing that cannot be read.
    """
    return _ModuleParser(text, name, line_map).parse()


class _ModuleParser:
    def __init__(self, text: str, name: str, line_map: Mapping[int, SourceLine]) -> None:
        lines = tuple(text.split("\n"))
        blanked = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        self.scanner = Scanner(blanked, name, lines)
        self.line_map = line_map
        self.files = {int(match[1]): match[2] for match in _FILE.finditer(blanked)}
        self.target = ""
        self.version = ""
        self.variables: list[Variable] = []
        self.kernels: list[KernelText] = []
        self.functions: list[FunctionText] = []

    def parse(self) -> ModuleText:
        scanner = self.scanner
        while scanner.skip_space():
            self._directive()
        if not self.target:
            raise scanner.error("no .target directive: is this PTX?", 1)
        return ModuleText(
            scanner.module,
            self.target,
            self.version,
            scanner.lines,
            tuple(self.variables),
            tuple(self.kernels),
            tuple(self.functions),
        )

    def _directive(self) -> None:
        scanner = self.scanner
        rest = scanner.text[scanner.position : scanner.position + 64]
        if rest.startswith(".section"):
            scanner.position = scanner.matching_brace(scanner.text.index("{", scanner.position)) + 1
        elif rest.startswith(_LINE_DIRECTIVES):
            words = scanner.take_until("\n").replace(",", " ").split()
            if words[0] == ".target":
                self.target = words[1]
            elif words[0] == ".version":
                self.version = words[1]
        elif match := _ENTRY.match(scanner.text, scanner.position):
            self._entry(match)
        elif match := _FUNCTION.match(scanner.text, scanner.position):
            self._function(match)
        elif rest.startswith("."):
            line = scanner.line()
            self.variables.append(parse_variable(scanner.take_until(";").strip(), scanner, line))
        else:
            raise scanner.error("a directive expected here")

    def _function(self, match: re.Match[str]) -> None:
        """A function with a body is kept for inlining; a mere declaration is passed over."""
        scanner = self.scanner
        line = scanner.line()
        scanner.position = match.end()
        semicolon = scanner.text.find(";", scanner.position)
        brace = scanner.text.find("{", scanner.position)
        if brace < 0 or 0 <= semicolon < brace:
            scanner.take_until(";")
            return
        scanner.take_until("{")
        formals = (*parse_params(match["results"] or "", scanner), *parse_params(match["params"] or "", scanner))
        body = BodyParser(scanner, self.files, self.line_map)
        body.parse()
        self.functions.append(
            FunctionText(
                match["name"],
                tuple(formal.name for formal in formals),
                tuple(body.instructions),
                dict(body.labels),
                dict(body.branch_tables),
                {register.name: register.type for register in body.registers},
                tuple(body.variables),
                line,
            )
        )

    def _entry(self, match: re.Match[str]) -> None:
        scanner = self.scanner
        line = scanner.line()
        scanner.position = match.end()
        params: tuple[Param, ...] = ()
        if scanner.text[scanner.position] == "(":
            scanner.position += 1
            params = parse_params(scanner.take_until(")"), scanner)
        tuning = scanner.take_until("{")
        given = {directive["name"]: _extents(directive["values"]) for directive in _TUNING.finditer(tuning)}
        body = BodyParser(scanner, self.files, self.line_map)
        body.parse()
        self.kernels.append(
            KernelText(
                match["name"],
                params,
                given.get("reqntid"),
                line,
                tuple(body.instructions),
                dict(body.labels),
                dict(body.branch_tables),
                {register.name: register.type for register in body.registers},
                tuple(body.variables),
                given.get("reqnctapercluster"),
                _EXPLICIT_CLUSTER.search(tuning) is not None,
            )
        )


def _extents(values: str) -> tuple[int, int, int]:
    extents = [int(value) for value in values.split(",")] + [1, 1]
    return extents[0], extents[1], extents[2]
