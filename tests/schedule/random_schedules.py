"""Random schedules for property tests: every field of every record takes every kind of value that its form allows."""

from __future__ import annotations

import random

from texpr.dtypes import DType
from texpr.math.parse import parse_bool, parse_int
from texpr.schedule.base import BufferType, Map, Record
from texpr.schedule.errors import ScheduleError
from texpr.schedule.records import Schedule
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
)
from texpr.schedule.words import NOT_LOWERED, LoopOf, Program, Tile
from texpr.targets import TARGETS

# Words that some YAML readers take for booleans, null or numbers are all fine names.
WORDS = ("i", "j", "k", "n", "y", "no", "on", "off", "yes", "true", "null", "e1", "inf", "acc", "x", "part_2", "O")
PATHS = (*WORDS, "k.part", "acc.part", "y.r1")
CONDITIONS = (
    "true",
    "M >= 128 and N % 8 == 0",
    "aligned(x, y, 16) or not present(b)",
    "T in [f16, bf16] and stride(x, 1) == 1",
    "disjoint(x, y) and (M < 3 or M * N // 4 > sms)",
    "not (M == 1)",
)
FORMULAS = ("1", "37", "2 * sms", "clamp(4 * sms // (B * G), 1, 64)", "ceil(M / 64)", "max(M, N) % 7 + 1")


def random_schedule(seed: int) -> Schedule:
    """A schedule that satisfies every rule of ``texpr.schedule``."""
    result = _record(random.Random(seed), Schedule)
    assert isinstance(result, Schedule)
    return result


def _record(rng: random.Random, record: type[Record]) -> Record:
    """Draws until the rules that join several fields are satisfied."""
    while True:
        keys = [key for key in KEYS[record] if key.required or rng.random() < 0.5]
        drawn = record(**{key.field: _value(rng, key.form) for key in keys})
        try:
            check_record(drawn, "record")
        except ScheduleError:
            continue
        return drawn


def _value(rng: random.Random, form: Form) -> object:
    match form:
        case Integer(limits) if limits.power_of_two:
            return rng.choice([n for n in (1, 2, 4, 8, 16) if limits.low <= n <= limits.high])
        case Integer(limits):
            return rng.randint(limits.low, min(limits.high, limits.low + 9))
        case Name("target"):
            return rng.choice(list(TARGETS))
        case Name("file"):
            return f"mine/{rng.choice(['a', 'b_c'])}.py"
        case Name("source"):
            return f"../mine/{rng.choice(['a', 'b_c'])}.py:{rng.choice(['f', 'g2'])}"
        case Name("assumption"):
            return f"finite({rng.choice(WORDS)})"
        case Name("name" | "type variable"):
            return rng.choice(WORDS)
        case Name():
            return rng.choice(PATHS)
        case Choice(words):
            return rng.choice([word for word in words if word not in NOT_LOWERED])
        case Condition():
            return parse_bool(rng.choice(CONDITIONS))
        case Formula():
            return parse_int(rng.choice(FORMULAS))
        case Number():
            return rng.choice([0, -1, 7, 0.5, -1e-05, float("inf"), float("-inf")])
        case Buffer():
            return BufferType(rng.choice(list(DType)), tuple(parse_int(f) for f in rng.sample(FORMULAS, 2)))
        case ElementType():
            return rng.choice(list(DType))
        case Level():
            return rng.choice([Program(), Tile(), LoopOf(rng.choice(PATHS), rng.choice((*WORDS, "k.part")))])
        case Several(item):
            return tuple(_value(rng, item) for _ in range(rng.randint(1, 3)))
        case Pair(item):
            return (_value(rng, item), _value(rng, item))
        case Table(key, value):
            names = dict.fromkeys(_value(rng, key) for _ in range(rng.randint(0, 3)))
            return Map(tuple((name, _value(rng, value)) for name in names))
        case Nested(record):
            return _record(rng, record)
