"""Instructions that users add to the table: rows given for a while, and those that installed packages offer.

An entry point of the group ``texpr.instructions`` names a row, or a sequence of rows, as :mod:`texpr.emulator.rows`
makes them. What the table has cannot be replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from texpr.emulator.rows import Modifiers, Row, expansions
from texpr.plugins import INSTRUCTIONS, PluginConflict, broken, distribution_of, everything

_given: list[tuple[Row, ...]] = []


@contextmanager
def instructions(*rows: Row) -> Iterator[None]:
    """Modules loaded meanwhile, by any thread of this process, may have these instructions. Raises PluginConflict for
    one that the table has, or that is given already."""
    for row in rows:
        _check(row, "instructions(...)")
    _given.append(rows)
    try:
        yield
    finally:
        _given.remove(rows)


def find_user_row(opcode: str) -> tuple[Row, Modifiers] | None:
    """The row of a user's that matches the whole opcode. Raises PluginConflict where two do, and PluginBroken for a
    package that offers something else than rows."""
    found: tuple[Row, Modifiers, str] | None = None
    given = [(row, "instructions(...)") for rows in _given for row in rows]
    for row, owner in (*given, *_installed(tuple(sys.path))):
        modifiers = row.match(opcode)
        if modifiers is None or (found is not None and found[0] is row):
            continue
        if found is not None:
            raise PluginConflict(what=f"instruction {opcode}", first=found[2], second=owner)
        found = (row, modifiers, owner)
    return None if found is None else (found[0], found[1])


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...]) -> tuple[tuple[Row, str], ...]:
    """The rows of installed packages, with the package of each. ``path`` is where they are looked for."""
    found: list[tuple[Row, str]] = []
    for entry, offered in everything(INSTRUCTIONS):
        rows = tuple(offered) if isinstance(offered, tuple | list) else (offered,)
        for row in rows:
            if not isinstance(row, Row):
                why = f"it is no row, nor a sequence of rows, but holds {row!r}"
                raise broken(INSTRUCTIONS, entry, why)
            _check(row, distribution_of(entry))
            found.append((row, distribution_of(entry)))
    return tuple(found)


def _check(row: Row, owner: str) -> None:
    from texpr.emulator.isa import find_built_in  # which looks here for what it does not find

    for opcode in expansions(row.pattern):
        if find_built_in(opcode) is not None:
            raise PluginConflict(what=f"instruction {opcode}", first="the emulator", second=owner)
