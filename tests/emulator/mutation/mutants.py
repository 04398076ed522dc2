"""Mutants: kernels that differ from a compiled one in one place, and the edits that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.emulator.mutation.statements import Ptx, Statement


@dataclass(frozen=True, slots=True)
class Mutant:
    """`ptx` is the mutated text; `line` and `statement` say where it differs, `description` how. `witness` is the
    kernel with a trap where the mutant would act differently, if that can be said in PTX. `noise` are kernels that do
    not make the access that the mutant adds, but give its target other values instead."""

    kind: str
    line: int
    statement: str
    description: str
    ptx: str
    witness: str | None
    noise: tuple[str, ...]


Replacements = tuple[tuple[Statement, str], ...]
"""Statements, and the text that stands in the place of each."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a mutation does to one place: `replacements` are statements and the text that they become. `difference` is
    text that sets the predicate `%differs` where the first statement, changed, does something else than before. Each of
    `noise` are replacements, too: accesses as they were, but with other values where they are masked."""

    replacements: Replacements
    description: str
    difference: str = ""
    noise: tuple[Replacements, ...] = ()


Mutation = Callable[[Ptx], Iterator[Edit]]
"""Finds every place that it applies to."""


def removed(statement: Statement) -> Edit:
    """Without the statement."""
    return Edit(((statement, ""),), "removed", executed(statement))


def executed(statement: Statement) -> str:
    """Text that sets `%differs` wherever the statement is executed."""
    predicate = statement.guard.lstrip("@!")
    if not predicate:
        return "setp.eq.u32 %differs, 0, 0;"
    return f"{'not' if '!' in statement.guard else 'mov'}.pred %differs, {predicate};"


def changed(
    statement: Statement, text: str, description: str, difference: str = "", noise: tuple[Replacements, ...] = ()
) -> Edit:
    """With another statement in its place. `text` may be several statements; they are put on one line."""
    return Edit(((statement, text),), description, difference, noise)


def rebuilt(
    statement: Statement,
    *,
    guard: str | None = None,
    opcode: str | None = None,
    operands: Sequence[str] | None = None,
) -> str:
    """The statement with some of its parts replaced."""
    guard = statement.guard if guard is None else guard
    opcode = statement.opcode if opcode is None else opcode
    operands = statement.operands if operands is None else operands
    return f"{guard + ' ' if guard else ''}{opcode} {', '.join(operands)};"


def mutants_of(ptx: Ptx, kind: str, mutation: Mutation) -> Iterator[Mutant]:
    """Every mutant of one kind."""
    for edit in mutation(ptx):
        statement = edit.replacements[0][0]
        trap = f"{{ .reg .pred %differs; {edit.difference} @%differs trap; }} {rebuilt(statement)}"
        witness = apply(ptx, changed(statement, trap, "")) if edit.difference else None
        noise = tuple(apply(ptx, Edit(replacements, "")) for replacements in edit.noise)
        yield Mutant(kind, statement.line, statement.text, edit.description, apply(ptx, edit), witness, noise)


def apply(ptx: Ptx, edit: Edit) -> str:
    """The text with the replacements made; every other statement stays on its line."""
    text = ptx.text
    for statement, replacement in sorted(edit.replacements, key=lambda item: -item[0].start):
        gap = "\n" * text.count("\n", statement.start, statement.end)
        text = text[: statement.start] + replacement + gap + text[statement.end :]
    return text


def spread(items: Sequence[Mutant], limit: int) -> list[Mutant]:
    """At most `limit` (two or more) of the items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(position * (len(items) - 1) / (limit - 1))] for position in range(limit)]


def every(ptx: Ptx, *prefixes: str) -> Iterable[Statement]:
    """The statements whose opcode starts with one of the prefixes (whole parts of it)."""
    return (s for s in ptx.statements if any(s.opcode == p or s.opcode.startswith(p + ".") for p in prefixes))
