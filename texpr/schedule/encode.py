"""Records to dicts, lists, strings and numbers: the shortest spelling that reads back as the same record."""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeAlias, assert_never

from texpr.dtypes import DType
from texpr.math.expr import Const
from texpr.schedule.base import Map, Record, Spelling
from texpr.schedule.schema import (
    KEYS,
    Buffer,
    Choice,
    Condition,
    ElementType,
    Form,
    Formula,
    Integer,
    Key,
    Level,
    Name,
    Nested,
    Number,
    Pair,
    Several,
    Table,
)

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool"


def to_plain(record: Record) -> Plain:
    """The plain value of a record. Keys that have their default are left out."""
    kind = type(record)
    first, *rest = KEYS[kind]
    match kind.SPELLING:
        case Spelling.KEYED:
            return _keyed(record, KEYS[kind])
        case Spelling.SHORT:
            others = _keyed(record, tuple(rest))
            return _keyed(record, KEYS[kind]) if others else _plain(getattr(record, first.field), first)
        case Spelling.SWITCH:
            return _keyed(record, KEYS[kind]) or True
        case Spelling.TAGGED:
            word = getattr(record, first.field)
            name = _plain(getattr(record, rest[0].field), rest[0])
            return {word.value: name, **_keyed(record, tuple(rest[1:]))}
        case _:
            assert_never(kind.SPELLING)


def _keyed(record: Record, keys: tuple[Key, ...]) -> dict[str, Plain]:
    values = ((key, getattr(record, key.field)) for key in keys)
    return {key.name: _plain(value, key) for key, value in values if key.required or value != key.default}


def _plain(value: object, key: Key) -> Plain:
    plain = _plain_of(value, key.form)
    if key.about.bare and isinstance(plain, list) and len(plain) == 1:
        return plain[0]
    return plain


def _plain_of(value: object, form: Form) -> Plain:
    match form:
        case Integer():
            assert isinstance(value, int)
            return value
        case Number():
            assert isinstance(value, int | float)
            return value if math.isfinite(value) else str(value)  # JSON has no word for infinity
        case Name() | Level() | Condition() | Buffer():
            return str(value)
        case Formula():
            return value.value if isinstance(value, Const) else str(value)
        case Choice() | ElementType():
            assert isinstance(value, Enum | DType)
            return str(value.value)
        case Several(item) | Pair(item):
            assert isinstance(value, tuple)
            return [_plain_of(child, item) for child in value]
        case Table(_, item, alike):
            assert isinstance(value, Map)
            if alike is not None and all(child is alike for child in value.values()):
                return list(value)
            return {name: _plain_of(child, item) for name, child in value.items()}
        case Nested():
            assert isinstance(value, Record)
            return to_plain(value)
        case _:
            assert_never(form)
