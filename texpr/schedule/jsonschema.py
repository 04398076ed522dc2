"""The JSON Schema of schedule files, for editors: completion, documentation on hover, and most mistakes while typing.

It follows from the records. What it cannot say (names given twice, contradictions between keys) is left to reading.
"""

from __future__ import annotations

from typing import Final, TypeAlias, assert_never

from texpr.dtypes import DType
from texpr.schedule.base import Limits, Record, Spelling
from texpr.schedule.records import Schedule
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
    title_of,
)
from texpr.schedule.words import NOT_LOWERED
from texpr.targets import TARGETS

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | bool"

_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
_DOTTED: Final = rf"{_IDENTIFIER}(\.{_IDENTIFIER})*"


def json_schema() -> dict[str, Json]:
    """The schema of a schedule file (draft 2020-12), as plain data for ``json.dumps``."""
    definitions: dict[str, Json] = {title_of(record): _definition(record) for record in KEYS if record is not Schedule}
    root = _definition(Schedule)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _definition(record: type[Record]) -> dict[str, Json]:
    first, *rest = KEYS[record]
    description = _description(record)
    match record.SPELLING:
        case Spelling.KEYED:
            return {**description, **_object(record, KEYS[record])}
        case Spelling.SHORT:
            return {**description, "anyOf": [_schema(first.form), _object(record, KEYS[record])]}
        case Spelling.SWITCH:
            return {**description, "anyOf": [{"type": "boolean"}, _object(record, KEYS[record])]}
        case Spelling.TAGGED:
            return {**description, "anyOf": [_tagged(record, word, rest) for word in _lowered(first)]}
        case _:
            assert_never(record.SPELLING)


def _description(record: type[Record]) -> dict[str, Json]:
    return {"description": " ".join((record.__doc__ or "").replace("``", "`").split())}


def _lowered(key: Key) -> list[str]:
    assert isinstance(key.form, Choice)
    return [str(word.value) for word in key.form.words if word not in NOT_LOWERED]


def _object(record: type[Record], keys: tuple[Key, ...]) -> dict[str, Json]:
    properties: dict[str, Json] = {key.name: {**_schema(key.form), "description": _about(key)} for key in keys}
    later: dict[str, Json] = {
        name: {"not": {}, "description": f"Not lowered yet: {purpose}."} for name, purpose in record.LATER.items()
    }
    required: list[Json] = [key.name for key in keys if key.required]
    return {
        "type": "object",
        "properties": {**properties, **later},
        "required": required,
        "additionalProperties": False,
    }


def _tagged(record: type[Record], word: str, rest: list[Key]) -> dict[str, Json]:
    """The mapping whose first key is ``word``, with the name as its value."""
    name, *others = rest
    schema = _object(record, tuple(others))
    properties = schema["properties"]
    assert isinstance(properties, dict)
    tag: Json = {**_schema(name.form), "description": _about(name)}
    return {**schema, "properties": {word: tag, **properties}, "required": [word]}


def _about(key: Key) -> str:
    return f"{key.about.text} Example: {key.name}: {key.about.example}"


def _schema(form: Form) -> dict[str, Json]:
    match form:
        case Integer(limits):
            return _integer(limits)
        case Name(what):
            return _name(what)
        case Condition():
            return {"anyOf": [{"type": "string"}, {"const": True}]}
        case Formula():
            return {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}
        case Number():
            return {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf"]}]}
        case Buffer():
            return {"type": "string", "pattern": r"^[a-z][a-z0-9]*\[.+\]$"}
        case Choice(words):
            return {"enum": [str(word.value) for word in words if word not in NOT_LOWERED]}
        case ElementType():
            return {"enum": [dtype.value for dtype in DType]}
        case Level():
            return {"type": "string", "pattern": rf"^(program|tile|{_IDENTIFIER}\.{_DOTTED})$"}
        case Several(item):
            return {"anyOf": [{"type": "array", "items": _schema(item)}, _schema(item)]}
        case Pair(item):
            return {"type": "array", "items": _schema(item), "minItems": 2, "maxItems": 2}
        case Table(key, value, alike):
            table: Json = {"type": "object", "propertyNames": _name(key.what), "additionalProperties": _schema(value)}
            assert isinstance(table, dict)
            return table if alike is None else {"anyOf": [table, {"type": "array", "items": _name(key.what)}]}
        case Nested(record):
            return {"$ref": f"#/$defs/{title_of(record)}"}
        case _:
            assert_never(form)


def _integer(limits: Limits) -> dict[str, Json]:
    if limits.power_of_two:
        powers = [1 << bit for bit in range(limits.high.bit_length())]
        sums = [small + large for large in powers for small in powers if small < large]
        taken: list[Json] = [n for n in sorted([*powers, *sums]) if limits.low <= n <= limits.high and limits.fits(n)]
        return {"enum": [*taken, "auto"] if limits.auto else taken}
    return {"type": "integer", "minimum": limits.low, "maximum": limits.high}


def _name(what: str) -> dict[str, Json]:
    match what:
        case "target":
            short: list[Json] = [name.removesuffix("a") for name in TARGETS if name.endswith("a")]
            return {"enum": [*TARGETS, *short]}
        case "assumption":
            return {"type": "string", "pattern": rf"^finite\( *{_IDENTIFIER} *\)$"}
        case "file":
            return {"type": "string", "pattern": r"^[^:]+\.py$"}
        case "source":
            return {"type": "string", "pattern": rf"^[^:]+\.py:{_IDENTIFIER}$"}
        case "name" | "type variable":
            return {"type": "string", "pattern": f"^{_IDENTIFIER}$"}
        case _:
            return {"type": "string", "pattern": f"^{_DOTTED}$"}
