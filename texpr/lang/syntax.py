"""The grammar of a signature string, and nothing of its meaning.

    signature ::= params '->' params
    param     ::= name ':' 'hint'? type ('[' dim, ... ']' '?'?)? contract*
    dim       ::= int | int '*' | '(' int, int, ... ')' | '(' int, int, ... ')' '*'
    contract  ::= 'in' ('[' | '(') int ',' int (']' | ')') | 'where' condition | 'alias' '(' name ')'
                | ('offsets' | 'permutation' | 'lists' | 'packed') '(' int ')' | 'sorted' | 'unique' | 'finite'

``int`` is cut out here as text and read by :mod:`texpr.math.parse`, ``condition``, which goes on to the end of the
argument, by :mod:`texpr.domains`. A trailing ``*`` marks a storage dim with a free stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from texpr.contracts import ContractKind, contract_text
from texpr.errors import Location, located
from texpr.lang.errors import NotSupportedYetError, SignatureSyntaxError, caret
from texpr.math.expr import Const, IntExpr
from texpr.math.parse import ExprSyntaxError, parse_int

_LATER_CONTRACTS: Final = ("order",)
_SUPPORTED: Final = (
    "'in [lo, hi)' and 'where ...' after it, 'alias(x)', 'offsets(Z)', 'permutation(N)', 'lists(V)', 'sorted', "
    "'unique', 'finite' and 'packed(d)'"
)
_CONTRACTS: Final = {kind.value: kind for kind in ContractKind}


@dataclass(frozen=True, slots=True)
class RangeSyntax:
    """``low <= value < high``, whatever brackets the user chose."""

    low: IntExpr
    high: IntExpr


@dataclass(frozen=True, slots=True)
class ContractSyntax:
    """What the elements promise; ``limit`` for the kinds that take one."""

    kind: ContractKind
    limit: IntExpr | None

    def __str__(self) -> str:
        return contract_text(self.kind, self.limit)


@dataclass(frozen=True, slots=True)
class ParamSyntax:
    """One argument as written. ``dims`` is None for a scalar; a composite dim has several expressions. ``packed`` is
    the storage dim along which neighbours share a byte. A ``hint`` has no influence on results."""

    name: str
    type_name: str
    dims: tuple[tuple[IntExpr, ...], ...] | None
    strided: tuple[int, ...]
    optional: bool
    bounds: RangeSyntax | None
    domain: str | None
    alias: str | None
    contracts: tuple[ContractSyntax, ...]
    packed: int | None
    output: bool
    hint: bool
    column: int


class _Scanner:
    def __init__(self, text: str, at: Location | None) -> None:
        self.text = "".join(" " if c.isspace() else c for c in text)
        self.at = at
        self.position = 0

    def fail(self, problem: str, column: int | None = None, hint: str | None = None) -> NoReturn:
        shown = self.position if column is None else column
        raise SignatureSyntaxError(problem=problem, at=self.at, excerpt=caret(self.text, shown), hint=hint)

    def later(self, what: str, instead: str, column: int) -> NoReturn:
        raise NotSupportedYetError(what=what, instead=instead, at=self.at, excerpt=caret(self.text, column))

    def skip(self) -> None:
        while self.position < len(self.text) and self.text[self.position] == " ":
            self.position += 1

    def looking_at(self, token: str) -> bool:
        self.skip()
        return self.text.startswith(token, self.position)

    def accept(self, token: str) -> bool:
        if self.looking_at(token):
            self.position += len(token)
            return True
        return False

    def expect(self, token: str, after: str) -> None:
        if not self.accept(token):
            found = self.text[self.position : self.position + 1]
            self.fail(f"expected '{token}' after {after}" + (f", found '{found}'" if found else ""))

    def at_end(self) -> bool:
        self.skip()
        return self.position == len(self.text)

    def word(self) -> str:
        """The identifier here, or an empty string; does not move."""
        self.skip()
        end = self.position
        while end < len(self.text) and (self.text[end].isalnum() or self.text[end] == "_"):
            end += 1
        return self.text[self.position : end]

    def identifier(self, what: str) -> str:
        word = self.word()
        if not word or word[0].isdigit():
            self.fail(f"expected {what}")
        self.position += len(word)
        return word

    def balanced(self, closing: Callable[[str], bool], what: str) -> str:
        """Text up to the first character outside brackets that ``closing`` accepts; does not consume that character."""
        self.skip()
        start, depth = self.position, 0
        while self.position < len(self.text):
            character = self.text[self.position]
            if depth == 0 and closing(character):
                return self.text[start : self.position]
            depth += (character in "([") - (character in ")]")
            if depth < 0:
                break
            self.position += 1
        self.fail(f"{what} is not closed", start)

    def condition(self, column: int) -> str:
        """Text up to the end of the argument: a ',' outside of brackets, '->' or the end."""
        start, depth = self.position, 0
        while self.position < len(self.text):
            character = self.text[self.position]
            if depth == 0 and (character == "," or self.text.startswith("->", self.position)):
                break
            depth += (character in "([") - (character in ")]")
            self.position += 1
        found = self.text[start : self.position].strip()
        if not found:
            self.fail("empty condition after 'where'", column)
        return found

    def integer(self, text: str, column: int, what: str) -> IntExpr:
        if not text.strip():
            self.fail(f"empty {what}", column)
        try:
            with located(self.at):
                return parse_int(text.strip())
        except ExprSyntaxError as error:
            error.hint = error.hint or "integers, names of dims, + - * // % and parentheses"
            raise


def parse_signature(text: str, at: Location | None = None) -> tuple[ParamSyntax, ...]:
    """The arguments of ``text`` in order. Raises :class:`SignatureSyntaxError` with a caret, or
    :class:`NotSupportedYetError`."""
    scanner = _Scanner(text, at)
    params: list[ParamSyntax] = []
    output = False
    while True:
        if params or not scanner.looking_at("->"):
            params.append(_parse_param(scanner, output))
        if scanner.accept(","):
            continue
        if scanner.looking_at("->"):
            if output:
                scanner.fail("a signature has one '->'")
            scanner.accept("->")
            output = True
            continue
        if scanner.at_end():
            break
        scanner.fail("expected ',' or '->' or the end" if not output else "expected ',' or the end")
    if not output:
        scanner.fail("no outputs: '->' is missing")
    return tuple(params)


def _parse_param(scanner: _Scanner, output: bool) -> ParamSyntax:
    scanner.skip()
    column = scanner.position
    name = scanner.identifier("an argument name")
    scanner.expect(":", f"the name '{name}'")
    type_name = scanner.identifier(f"the element type of '{name}'")
    hint = type_name == "hint"
    if hint:
        type_name = scanner.identifier(f"the element type of the hint '{name}'")
    dims: tuple[tuple[IntExpr, ...], ...] | None = None
    strided: tuple[int, ...] = ()
    if scanner.accept("["):
        dims, strided = _parse_dims(scanner, name)
    optional = scanner.accept("?")
    found = _parse_contracts(scanner, name)
    return ParamSyntax(
        name=name,
        type_name=type_name,
        dims=dims,
        strided=strided,
        optional=optional,
        bounds=found.bounds,
        domain=found.domain,
        alias=found.alias,
        contracts=tuple(found.contracts),
        packed=found.packed,
        output=output,
        hint=hint,
        column=column,
    )


def _parse_dims(scanner: _Scanner, name: str) -> tuple[tuple[tuple[IntExpr, ...], ...], tuple[int, ...]]:
    dims: list[tuple[IntExpr, ...]] = []
    strided: list[int] = []
    if scanner.accept("]"):
        return (), ()
    while True:
        scanner.skip()
        column = scanner.position
        text = scanner.balanced(lambda c: c in ",]", f"the shape of '{name}'").rstrip()
        if text.endswith("*"):
            strided.append(len(dims))
            text = text[:-1].rstrip()
        dims.append(_parse_dim(scanner, text, column))
        if scanner.accept("]"):
            return tuple(dims), tuple(strided)
        scanner.expect(",", "a dim")


def _parse_dim(scanner: _Scanner, text: str, column: int) -> tuple[IntExpr, ...]:
    """``(G, R)`` is composite; ``(H + 1)//2`` is not."""
    parts = _composite_parts(text)
    if parts is None:
        return (scanner.integer(text, column, "dim"),)
    return tuple(scanner.integer(part, column + offset, "dim") for offset, part in parts)


def _composite_parts(text: str) -> list[tuple[int, str]] | None:
    """The parts of ``(G, R)`` with their offsets, or None if ``text`` is not one bracket around a comma."""
    if not (text.startswith("(") and text.endswith(")")):
        return None
    parts: list[tuple[int, str]] = []
    start, depth = 1, 0
    for position in range(1, len(text) - 1):
        character = text[position]
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return None
        if character == "," and depth == 0:
            parts.append((start, text[start:position]))
            start = position + 1
    parts.append((start, text[start:-1]))
    return parts if len(parts) > 1 else None


@dataclass(slots=True)
class _Contracts:
    """The contracts of one argument as far as they are read."""

    bounds: RangeSyntax | None = None
    domain: str | None = None
    alias: str | None = None
    contracts: list[ContractSyntax] = field(default_factory=list)
    packed: int | None = None


def _parse_contracts(scanner: _Scanner, name: str) -> _Contracts:
    found = _Contracts()
    while word := scanner.word():
        column = scanner.position
        scanner.position += len(word)
        if word == "in":
            if found.bounds is not None:
                scanner.fail(f"'{name}' has two ranges", column)
            found.bounds = _parse_range(scanner, name)
        elif word == "where":
            found.domain = scanner.condition(column)
        elif word == "alias":
            scanner.expect("(", "alias")
            found.alias = scanner.identifier("the aliased input")
            scanner.expect(")", "the aliased input")
        elif word == "packed":
            found.packed = _parse_packed(scanner, name)
        elif word in _CONTRACTS:
            kind = _CONTRACTS[word]
            if any(contract.kind is kind for contract in found.contracts):
                scanner.fail(f"'{name}' is {word} twice", column)
            found.contracts.append(ContractSyntax(kind, _parse_limit(scanner, word) if kind.has_limit else None))
        elif word in _LATER_CONTRACTS:
            scanner.later(f"the contract '{word}'", f"leave it out; supported contracts are {_SUPPORTED}", column)
        else:
            scanner.fail(f"unknown contract '{word}'", column, _SUPPORTED)
    return found


def _parse_packed(scanner: _Scanner, name: str) -> int:
    scanner.expect("(", "packed")
    column = scanner.position
    dim = scanner.integer(scanner.balanced(lambda c: c == ")", f"packed of '{name}'"), column, "dim")
    scanner.expect(")", "the dim")
    if not isinstance(dim, Const):
        scanner.fail("packed takes the number of a dim, from 0", column, "packed(0)")
    return dim.value


def _parse_limit(scanner: _Scanner, word: str) -> IntExpr:
    scanner.expect("(", word)
    scanner.skip()
    column = scanner.position
    text = scanner.balanced(lambda c: c == ")", f"{word}(")
    scanner.expect(")", f"the size in {word}")
    return scanner.integer(text, column, f"size in {word}")


def _parse_range(scanner: _Scanner, name: str) -> RangeSyntax:
    scanner.skip()
    open_low = scanner.looking_at("(")
    if not (scanner.accept("[") or scanner.accept("(")):
        scanner.fail("expected '[lo, hi)' or '[lo, hi]' after 'in'")
    low_column = scanner.position
    low = scanner.integer(scanner.balanced(lambda c: c == ",", f"the range of '{name}'"), low_column, "bound")
    scanner.expect(",", "the lower bound")
    high_column = scanner.position
    high = scanner.integer(scanner.balanced(lambda c: c in ")]", f"the range of '{name}'"), high_column, "bound")
    closed_high = scanner.looking_at("]")
    scanner.position += 1
    return RangeSyntax(low + 1 if open_low else low, high + 1 if closed_high else high)
