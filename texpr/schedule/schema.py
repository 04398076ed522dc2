"""The shape of a schedule, derived from the records: which keys there are, and which form of value each takes.

``KEYS[Place]`` lists the keys of a record as users spell them; each has a ``Form``, a closed set of kinds of
values. Reading, writing, JSON Schema and the reference text all ``match`` on forms, so a new field in a record needs
no other change.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final, TypeAlias, Union, get_args, get_origin

from texpr.dtypes import DType
from texpr.math.expr import BoolExpr, IntExpr
from texpr.schedule.base import About, Alike, AnyNumber, BufferType, Limits, Map, Names, Only, Record
from texpr.schedule.records import Schedule
from texpr.schedule.words import Position


@dataclass(frozen=True, slots=True)
class Integer:
    limits: Limits


@dataclass(frozen=True, slots=True)
class Name:
    """A name of something; ``what`` says of what."""

    what: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A guard: text that ``parse_bool`` reads."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A launch-time number: an integer, or text that ``parse_int`` reads."""


@dataclass(frozen=True, slots=True)
class Number:
    """Any number: ``int`` if it is written as one, else ``float``, infinities included."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of an enum."""

    words: tuple[Enum, ...]


@dataclass(frozen=True, slots=True)
class ElementType:
    """An element type, by name."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """An element type with a shape, as ``BufferType`` prints it."""


@dataclass(frozen=True, slots=True)
class Level:
    """A position in the loop nest: ``program``, ``tile`` or ``func.axis``."""


@dataclass(frozen=True, slots=True)
class Several:
    """A list; one item alone may be written without brackets."""

    item: Form


@dataclass(frozen=True, slots=True)
class Pair:
    item: Form


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping from names to values; a list of names alone gives each of them ``alike``, if there is such a word."""

    key: Name
    value: Form
    alike: Enum | None = None


@dataclass(frozen=True, slots=True)
class Nested:
    record: type[Record]


Form: TypeAlias = (
    Integer | Number | Name | Condition | Formula | Choice | ElementType | Buffer | Level | Several | Pair | Table
    | Nested
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record: its spelling, the field it fills, and what it takes. ``default`` is meaningless if
    ``required``."""

    name: str
    field: str
    form: Form
    required: bool
    default: object
    about: About


def _key(field: dataclasses.Field[object], annotation: object) -> Key:
    about: About = field.metadata["about"]
    return Key(
        name=about.key or field.name,
        field=field.name,
        form=form_of(annotation),
        required=field.default is dataclasses.MISSING or about.always,
        default=field.default,
        about=about,
    )


def form_of(annotation: object) -> Form:
    """The form of a field's annotation. A new kind of annotation is a TypeError here, not a surprise while reading."""
    if annotation is DType:
        return ElementType()
    if annotation is BufferType:
        return Buffer()
    if annotation in (Position, Position | None):
        return Level()
    if annotation in (IntExpr, IntExpr | None):
        return Formula()
    if annotation == BoolExpr:
        return Condition()
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return Nested(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Choice(tuple(annotation))
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _annotated(annotation)
    if origin is Map:
        key = form_of(arguments[0])
        assert isinstance(key, Name), annotation
        return Table(key, form_of(arguments[1]))
    if origin is tuple and arguments[1] is Ellipsis:
        return Several(form_of(arguments[0]))
    if origin is tuple and len(arguments) == 2:
        return Pair(form_of(arguments[0]))
    if origin in (Union, types.UnionType) and arguments[1:] == (types.NoneType,):
        return form_of(arguments[0])
    raise TypeError(f"no form for the annotation {annotation}")


def _annotated(annotation: object) -> Form:
    note = get_args(annotation)[1]
    match note:
        case Limits():
            return Integer(note)
        case Names(what):
            return Name(what)
        case AnyNumber():
            return Number()
        case Only(words):
            return Choice(words)
        case Alike(word):
            table = form_of(get_args(annotation)[0])
            assert isinstance(table, Table), annotation
            return dataclasses.replace(table, alike=word)
        case _:
            raise TypeError(f"no form for the annotation {annotation}")


def title_of(record: type[Record]) -> str:
    """What messages call a record: ``kernel``, ``split_reduction``."""
    name = record.__name__
    return name[0].lower() + "".join("_" + letter.lower() if letter.isupper() else letter for letter in name[1:])


def _records_in(form: Form) -> tuple[type[Record], ...]:
    match form:
        case Nested(record):
            return (record,)
        case Several(item) | Pair(item) | Table(value=item):
            return _records_in(item)
        case _:
            return ()


def with_article(word: str, shown: str | None = None) -> str:
    """``a kernel``, ``an order``; ``shown`` stands in for the word, as a link does."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {shown or word}"


def named(what: str) -> str:
    """How messages describe a name: ``the name of an axis``."""
    return with_article(what) if what in ("name", "assumption") else f"the name of {with_article(what)}"


def _derive(root: type[Record]) -> dict[type[Record], tuple[Key, ...]]:
    """The keys of every record that occurs in ``root``, outermost first, in the order of its fields."""
    found: dict[type[Record], tuple[Key, ...]] = {}
    pending: list[type[Record]] = [root]
    while pending:
        record = pending.pop(0)
        if record in found:
            continue
        annotations = typing.get_type_hints(record, include_extras=True)
        described = [field for field in dataclasses.fields(record) if "about" in field.metadata]
        found[record] = tuple(_key(field, annotations[field.name]) for field in described)
        pending += [inner for key in found[record] for inner in _records_in(key.form)]
    return found


KEYS: Final = _derive(Schedule)
"""The keys of every record of a schedule, as users spell them; the records are listed outermost first."""


def owner_of(key: str) -> str | None:
    """The kind of record in which a key (or a directive of a later version) belongs, for messages about a misplaced
    one."""
    for record, keys in KEYS.items():
        if key in record.LATER or any(known.name == key for known in keys):
            return title_of(record)
    return None
