"""Errors that a user of TExpr can cause.

One class per kind of mistake, each with a stable code (``TX0107``), a message template and a default "try:" line. The
layers define their own classes next to the check that raises them; ``docs/errors.md`` is generated from all of them.
An error always names a place: the user's Python line for an algorithm, the file and line for a schedule, and, once a
plan exists, an excerpt of the loop nest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a user's file. ``line`` is 1-based; 0 means the file as a whole. ``context`` adds e.g. ``variant
    wide, sm_90a``."""

    file: str
    line: int = 0
    context: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  ({self.context})" if self.context else place


class TExprError(Exception):
    """Base of every user error. Subclasses set ``code``, ``title``, ``template`` (a ``str.format`` template) and
    ``hint``.

    Keyword arguments fill the template; ``at`` is the location, ``excerpt`` preformatted lines that show the mistake
    in context, and ``hint`` overrides the class's "try:" line (which is a template over the same fields).
    """

    code: ClassVar[str] = "TX0000"
    title: ClassVar[str] = "error"
    template: ClassVar[str] = "{message}"
    default_hint: ClassVar[str] = ""

    def __init__(
        self, *, at: Location | None = None, excerpt: str = "", hint: str | None = None, **fields: object
    ) -> None:
        self.fields = fields
        self.at = at
        self.excerpt = excerpt
        self.message = self.template.format(**fields)
        self.hint = self.default_hint.format(**fields) if hint is None else hint
        super().__init__(self.message)

    def __str__(self) -> str:
        place = f"  {self.at}" if self.at else ""
        lines = [f"{self.code} {self.message}{place}"]
        if self.excerpt:
            lines += ["  " + line for line in self.excerpt.splitlines()]
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)


@contextmanager
def located(at: Location | None) -> Iterator[None]:
    """Stamp ``at`` on any :class:`TExprError` raised inside that has no location of its own."""
    try:
        yield
    except TExprError as error:
        if error.at is None:
            error.at = at
        raise


def all_error_classes() -> list[type[TExprError]]:
    """Every concrete error class that has been imported, sorted by code."""
    found: list[type[TExprError]] = []
    pending = list(TExprError.__subclasses__())
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if cls.code != TExprError.code:
            found.append(cls)
    return sorted(found, key=lambda cls: cls.code)
