"""Nodes to records: one function per form, directed by the schema. Every mistake names the key, the line and a
remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import Enum
from typing import Final, NoReturn, TypeVar, assert_never

from texpr.dtypes import DType, dtype_named
from texpr.errors import TExprError
from texpr.math.expr import BoolExpr, IntExpr
from texpr.math.parse import parse_bool, parse_int
from texpr.schedule import errors
from texpr.schedule.base import UNLIMITED, BufferType, Limits, Map, Record, Spelling
from texpr.schedule.nodes import Entry, Fields, Node, Ready, Scalar, Sequence, described
from texpr.schedule.rules import check_record
from texpr.schedule.schema import (
    KEYS,
    Buffer,
    Choice,
    Condition,
    ElementType,
    Form,
    Formula,
    Integer,
    Level,
    Name,
    Nested,
    Number,
    Pair,
    Several,
    Table,
    named,
    owner_of,
    title_of,
    with_article,
)
from texpr.schedule.words import NOT_LOWERED, LoopOf, Position, Program, Tile
from texpr.targets import TARGETS, target_named

R = TypeVar("R", bound=Record)

_INTEGER: Final = re.compile(r"-?(0|[1-9]\d*)")
_MOST_DIGITS: Final = 30
_DECIMAL: Final = re.compile(r"-?(\d+(\.\d*)?([eE][-+]?\d+)?|inf)")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOURCE: Final = re.compile(r"[^:]+\.py:[A-Za-z_]\w*")
_DOTTED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_ASSUMPTION: Final = re.compile(r"finite\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*\)")


def decode(node: Node, record: type[R]) -> R:
    """The record that a node spells.

    Raises the errors of ``texpr.schedule.errors``, and those of ``texpr.math.parse`` for guards and numbers, with their
    place.
    """
    result = _record(node, record, "")
    assert isinstance(result, record)
    return result


def fail(error: type[TExprError], node: Node, *, hint: str | None = None, **fields: object) -> NoReturn:
    raise error(at=node.spot.location, excerpt=node.spot.excerpt, hint=hint, **fields)


def wrong_shape(node: Node, subject: str, expected: str, example: str) -> NoReturn:
    fail(errors.WrongShape, node, subject=subject, expected=expected, found=described(node), example=example)


def closest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'grid'?`` if one of the known words is close, else the list of them."""
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(choices)}"


# ---- values --------------------------------------------------------------------------------------------------------


def _value(node: Node, form: Form, subject: str, example: str) -> object:
    """The value of a node that should have ``form``; ``subject`` is the path of keys that leads to it."""
    match form:
        case Integer(limits):
            return _integer(node, limits, subject, example)
        case Number():
            return _number(node, subject, example)
        case Name(what):
            return _name(node, what, subject, example)
        case Choice(words):
            return _choice(node, words, subject, example)
        case Condition():
            return _condition(node, subject, example)
        case Formula():
            return _formula(node, subject, example)
        case ElementType():
            return _element_type(node, subject, example)
        case Buffer():
            return _buffer(node, subject, example)
        case Level():
            return _level(node, subject, example)
        case Several(item):
            items = node.items if isinstance(node, Sequence) else (node,)
            path = "" if isinstance(item, Nested) else subject
            return tuple(_value(child, item, path, example) for child in items)
        case Pair(item):
            if not isinstance(node, Sequence) or len(node.items) != 2:
                wrong_shape(node, subject, "a list of two names", f"{subject.rpartition('.')[2]}: {example}")
            return tuple(_value(child, item, subject, example) for child in node.items)
        case Table():
            return _table(node, form, subject, example)
        case Nested(record):
            return _record(node, record, subject)
        case _:
            assert_never(form)


def _written(subject: str, example: str) -> str:
    """An example as the user would write it: the last key of the path with a value."""
    key = subject.rpartition(".")[2]
    return f"{key}: {example}" if key else example


def _word(node: Node, subject: str, expected: str, example: str) -> str:
    """The text of a scalar."""
    if not isinstance(node, Scalar) or not node.text:
        wrong_shape(node, subject, expected, _written(subject, example))
    return node.text


def _integer(node: Node, limits: Limits, subject: str, example: str) -> int | None:
    if isinstance(node, Fields):
        for entry in node.entries:
            if entry.key.text in limits.later:
                directive = f"{entry.key.text}: in {subject}"
                fail(errors.NotLoweredYet, entry.key, directive=directive, remedy=f"leave {entry.key.text} out")
    expected = "a whole number" + (" or auto" if limits.auto else "")
    text = _word(node, subject, expected, example)
    assert isinstance(node, Scalar)
    if limits.auto and text == "auto":
        return None
    if node.quoted or not _INTEGER.fullmatch(text):
        meant = text.lstrip("0")
        if _INTEGER.fullmatch(meant):
            expected, example = f"{expected} without quotes or leading zeros", meant
        wrong_shape(node, subject, expected, _written(subject, example))
    number = int(text[:_MOST_DIGITS])
    if not limits.low <= number <= limits.high:
        remedy = _written(subject, str(limits.low if number < limits.low else limits.high))
        fail(errors.OutOfRange, node, subject=subject, limits=_range(limits), value=number, remedy=remedy)
    if not limits.fits(number):
        below = next(n for n in range(number, 0, -1) if limits.fits(n))
        above = next(n for n in range(number, 2 * number) if limits.fits(n))
        remedy = f"{_written(subject, str(below))} or {above}"
        kind = limits.kind.removesuffix(",")
        fail(errors.NotPowerOfTwo, node, subject=subject, kind=kind, value=number, remedy=remedy)
    return number


def _number(node: Node, subject: str, example: str) -> int | float:
    text = _word(node, subject, "a number", _first_value(example))
    if _INTEGER.fullmatch(text) and len(text) <= _MOST_DIGITS:
        return int(text)
    if not _DECIMAL.fullmatch(text):
        wrong_shape(node, subject, "a number, inf or -inf", _written(subject, _first_value(example)))
    return float(text)


def _range(limits: Limits) -> str:
    if limits.low == limits.high:
        return str(limits.low)
    if limits.high == UNLIMITED:
        return f"at least {limits.low}"
    return f"{limits.kind} from {limits.low} to {limits.high}"


def _name(node: Node, what: str, subject: str, example: str) -> str:
    text = _word(node, subject, named(what), example)
    match what:
        case "target":
            target = target_named(text)
            if target is None:
                known = ", ".join(TARGETS)
                fail(errors.UnknownTarget, node, name=text, known=known, remedy=closest(text, TARGETS))
            return target.name
        case "assumption":
            found = _ASSUMPTION.fullmatch(text)
            if found is None:
                fail(errors.BadAssumption, node, text=text)
            return f"finite({found[1]})"
        case "file":
            if not text.endswith(".py") or ":" in text:
                reason = "a Python file is named file.py"
                fail(errors.BadName, node, text=text, what=named(what), reason=reason, remedy="mine.py")
        case "source":
            if not _SOURCE.fullmatch(text):
                reason = "a function of a Python file is named file.py:function"
                fail(errors.BadName, node, text=text, what=named(what), reason=reason, remedy=f"{text}.py:kernel")
        case "name" | "type variable":
            if not _IDENTIFIER.fullmatch(text):
                _bad_name(node, text, what, "a name is made of letters, digits and _, and starts with no digit")
        case _:
            if not _DOTTED.fullmatch(text):
                reason = "a name is made of letters, digits, _ and inner dots, and starts with no digit"
                _bad_name(node, text, what, reason)
    return text


def _bad_name(node: Node, text: str, what: str, reason: str) -> NoReturn:
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    remedy = plain if _IDENTIFIER.fullmatch(plain) else f"{what[0]}_{plain}".rstrip("_")
    fail(errors.BadName, node, text=text, what=named(what), reason=reason, remedy=remedy)


def _choice(node: Node, words: tuple[Enum, ...], subject: str, example: str) -> Enum:
    if isinstance(node, Ready) and isinstance(node.value, type(words[0])):
        text = str(node.value.value)
    else:
        text = _word(node, subject, "a word", example)
    lowered = [word.value for word in words if word not in NOT_LOWERED]
    for word in words:
        if word.value == text:
            if word in NOT_LOWERED:
                remedy = _written(subject, " or ".join(lowered))
                fail(errors.NotLoweredYet, node, directive=_written(subject, text), remedy=remedy)
            return word
    choices = ", ".join(word.value for word in words)
    close = difflib.get_close_matches(text, lowered, n=1, cutoff=0.6)
    remedy = f"did you mean '{close[0]}'?" if close else _written(subject, " or ".join(lowered))
    fail(errors.UnknownWord, node, subject=subject, words=choices, word=text, remedy=remedy)


def _condition(node: Node, subject: str, example: str) -> BoolExpr:
    if isinstance(node, Ready) and isinstance(node.value, BoolExpr):
        return node.value
    text = _word(node, subject, "a condition", example)
    try:
        return parse_bool(text)
    except TExprError as error:
        raise _placed(error, node, example) from None


def _formula(node: Node, subject: str, example: str) -> IntExpr:
    if isinstance(node, Ready) and isinstance(node.value, IntExpr):
        return node.value
    text = _word(node, subject, "a number or an expression", example)
    try:
        return parse_int(text)
    except TExprError as error:
        raise _placed(error, node, example) from None


def _placed(error: TExprError, node: Node, example: str) -> TExprError:
    """An error of the expression parser, with the place of the text; its own excerpt marks the column."""
    error.at = node.spot.location
    error.hint = error.hint or example
    return error


def _element_type(node: Node, subject: str, example: str) -> DType:
    if isinstance(node, Ready) and isinstance(node.value, DType):
        return node.value
    text = _word(node, subject, "an element type", "f16")
    dtype = dtype_named(text)
    if dtype is None:
        known = [known.value for known in DType]
        fail(errors.UnknownType, node, name=text, known=", ".join(known), remedy=closest(text, known))
    return dtype


def _buffer(node: Node, subject: str, example: str) -> BufferType:
    if isinstance(node, Ready) and isinstance(node.value, BufferType):
        return node.value
    expected = "an element type with a shape"
    text = _word(node, subject, expected, example)
    head, bracket, tail = text.partition("[")
    if not bracket or not tail.rstrip().endswith("]"):
        wrong_shape(node, subject, expected, _written(subject, example))
    dtype = _element_type(Scalar(head.strip(), False, node.spot), subject, "u32")
    dims = [Scalar(dim.strip(), False, node.spot) for dim in _dims_of(tail.rstrip()[:-1])]
    return BufferType(dtype, tuple(_formula(dim, subject, example) for dim in dims))


def _dims_of(text: str) -> list[str]:
    """The dims of a shape: cut at commas outside of parentheses."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def _level(node: Node, subject: str, example: str) -> Position:
    if isinstance(node, Ready) and isinstance(node.value, Program | Tile | LoopOf):
        return node.value
    text = _word(node, subject, "program, tile or func.axis", example)
    if text == "program":
        return Program()
    if text == "tile":
        return Tile()
    parts = text.split(".")
    # ``part`` is reserved, so a last ``part`` belongs to the axis: acc.k.part is func acc, axis k.part.
    axis_parts = 2 if parts[-1] == "part" else 1
    func, axis = ".".join(parts[:-axis_parts]), ".".join(parts[-axis_parts:])
    if not _DOTTED.fullmatch(text) or not func:
        close = difflib.get_close_matches(text, ["program", "tile"], n=1)
        remedy = f"did you mean '{close[0]}'?" if close else "program, tile, or func.axis such as acc.k"
        fail(errors.BadPosition, node, text=text, remedy=remedy)
    return LoopOf(func, axis)


# ---- tables and records --------------------------------------------------------------------------------------------


def _table(node: Node, form: Table, subject: str, example: str) -> Map[str, object]:
    what = form.key.what
    if form.alike is not None and isinstance(node, Sequence):
        names = [_name(item, what, subject, "i") for item in node.items]
        for name, item in zip(names, node.items, strict=True):
            if names.count(name) > 1:
                fail(errors.DuplicateName, item, subject=subject, name=name, remedy=f"name each {what} once")
        return Map(tuple((name, form.alike) for name in names), location=node.spot.location)
    if not isinstance(node, Fields):
        expected = f"a mapping by {what}" + (f", or a list by {what}" if form.alike is not None else "")
        wrong_shape(node, subject, expected, _written(subject, example))
    pairs = []
    for entry in node.entries:
        name = _name(entry.key, what, subject, "i")
        pairs.append((name, _value(entry.value, form.value, f"{subject}.{name}", _first_value(example))))
    return Map(tuple(pairs), location=node.spot.location, key_lines=_key_lines(node.entries))


def _first_value(example: str) -> str:
    """``128`` of ``{i: 128, j: 64}``: the example of one entry of a table."""
    return example.strip("{}").partition(": ")[2].partition(", ")[0] if example.startswith("{") else example


def _key_lines(entries: tuple[Entry, ...]) -> tuple[tuple[str, int], ...]:
    """The line of each key; a Python call has one line for all, which the record's location gives."""
    return tuple(
        (entry.key.text, entry.key.spot.location.line) for entry in entries if entry.key.spot.column is not None
    )


def _record(node: Node, record: type[Record], subject: str) -> Record | None:
    if isinstance(node, Ready) and isinstance(node.value, record):
        return node.value
    owner = _owner(record, subject)
    keys = KEYS[record]
    switch = _switch(node) if record.SPELLING is Spelling.SWITCH else None
    if switch is False:
        return None
    if switch is True:
        values: dict[str, object] = {}
    elif isinstance(node, Fields):
        values = _tagged(node, record, owner) if record.SPELLING is Spelling.TAGGED else _fields(node, record, subject)
    elif record.SPELLING is Spelling.SHORT and isinstance(node, Scalar | Ready):
        values = {keys[0].field: _value(node, keys[0].form, subject, keys[0].about.example)}
    else:
        if record.SPELLING is Spelling.SWITCH:
            wrong_shape(node, owner, "true or a mapping", _written(subject, "true"))
        wrong_shape(node, owner, "a mapping", _pattern(record))
    lines = _key_lines(node.entries) if isinstance(node, Fields) else ()
    result = record(location=node.spot.location, key_lines=lines, **values)
    check_record(result, owner)
    return result


def _switch(node: Node) -> bool | None:
    match node:
        case Scalar("true", False):
            return True
        case Scalar("false", False):
            return False
        case _:
            return None


def _pattern(record: type[Record]) -> str:
    """A minimal mapping for messages: the required keys, or else the first."""
    keys = [key for key in KEYS[record] if key.required] or list(KEYS[record][:1])
    if record.SPELLING is Spelling.TAGGED:
        return f"{{{keys[0].about.example}: {keys[1].about.example}}}"
    shown = ((key, "[...]" if key.about.example.startswith("[{") else key.about.example) for key in keys)
    return "{" + ", ".join(f"{key.name}: {example}" for key, example in shown) + "}"


def _fields(node: Fields, record: type[Record], subject: str) -> dict[str, object]:
    values = decode_keys(node, record, subject)
    for key in KEYS[record]:
        if key.required and key.field not in values:
            fail(errors.MissingKey, node, owner=_owner(record, subject), key=key.name, example=key.about.example)
    return values


def decode_keys(node: Fields, record: type[Record], subject: str = "") -> dict[str, object]:
    """The values of the fields of a keyed record that a node gives, whether or not they are all there."""
    known = {key.name: key for key in KEYS[record]}
    values: dict[str, object] = {}
    for entry in node.entries:
        key = known.get(entry.key.text)
        if key is None:
            _unknown_key(entry, record, _owner(record, subject), known)
        path = f"{subject}.{key.name}" if subject else key.name
        values[key.field] = _value(entry.value, key.form, path, key.about.example)
    return values


def _owner(record: type[Record], subject: str) -> str:
    """What messages call a record: its path, or its kind where it stands alone."""
    return subject or with_article(title_of(record))


def _tagged(node: Fields, record: type[Record], owner: str) -> dict[str, object]:
    """``{group: i, by: 8}``: the word of the enum is the key of the name."""
    kind, name, *rest = KEYS[record]
    assert isinstance(kind.form, Choice)
    words = {str(word.value): word for word in kind.form.words}
    tags = [entry for entry in node.entries if entry.key.text in words]
    known = {**dict.fromkeys(words, name), **{key.name: key for key in rest}}
    values: dict[str, object] = {}
    for entry in node.entries:
        key = known.get(entry.key.text)
        if key is None:
            _unknown_key(entry, record, owner, known)
        values[key.field] = _value(entry.value, key.form, f"{owner}.{entry.key.text}", key.about.example)
    if len(tags) != 1:
        expected = f"exactly one of the keys {', '.join(words)}"
        found = f"a mapping with {len(tags)} of them"
        fail(errors.WrongShape, node, subject=owner, expected=expected, found=found, example=_pattern(record))
    return {**values, kind.field: words[tags[0].key.text]}


def _unknown_key(entry: Entry, record: type[Record], owner: str, known: Iterable[str]) -> NoReturn:
    name = entry.key.text
    if name in record.LATER:
        directive = f"{name} ({record.LATER[name]})"
        fail(errors.NotLoweredYet, entry.key, directive=directive, remedy=f"leave {name} out")
    remedy = closest(name, known)
    elsewhere = owner_of(name)
    if elsewhere is not None and not remedy.startswith("did you mean"):
        remedy = f"{name} is a key of {with_article(elsewhere)}; here: {', '.join(known)}"
    fail(errors.UnknownKey, entry.key, owner=owner, key=name, remedy=remedy)
