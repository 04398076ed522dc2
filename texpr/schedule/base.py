"""What schedule records are made of: the base record with its places, the frozen map, and the notes that a field
carries.

A record's fields are the single description of a directive: the annotation says which values it takes (``Limits``,
``Names``), and ``about(...)`` in the field's metadata says what it means. Reader, writer, JSON Schema and reference
text are derived from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, ClassVar, Final, TypeVar

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.math.expr import IntExpr

K = TypeVar("K", bound=str)
V = TypeVar("V")


class Spelling(Enum):
    """How users write a record.

    ``KEYED``: a mapping of its keys. ``TAGGED``: a mapping whose first key is the word of the field ``kind`` and
    whose value is the next field, ``{group: i, by: 8}``. ``SHORT``: keyed, or the value of its first field alone,
    ``mma: fma``. ``SWITCH``: keyed, or ``true`` for the record with nothing set, and ``false`` for no record.
    """

    KEYED = "keyed"
    TAGGED = "tagged"
    SHORT = "short"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where a record was written: the file and line of its YAML node or Python call, and the line of each of its
    keys.

    ``LATER`` names directives of the language that belong here and are not lowered yet, with what they are for.
    """

    SPELLING: ClassVar[Spelling] = Spelling.KEYED
    LATER: ClassVar[Mapping[str, str]] = {}

    location: Location | None = field(default=None, compare=False, repr=False)
    key_lines: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)

    def location_of(self, key: str) -> Location | None:
        """The place of one key (as users spell it) of this record, or of the record itself where the key's line is
        not known."""
        if self.location is None:
            return None
        line = dict(self.key_lines).get(key, self.location.line)
        return dataclasses.replace(self.location, line=line)


@dataclass(frozen=True, slots=True)
class Map(Record, Mapping[K, V]):
    """An ordered, hashable mapping from names. Two maps are equal if they have the same pairs in the same order:
    order has meaning (the order of the axes of ``grid`` is the order of the loops)."""

    pairs: tuple[tuple[K, V], ...] = ()

    @staticmethod
    def of(entries: Mapping[K, V]) -> Map[K, V]:
        """A map without a place, for schedules that the compiler makes."""
        return Map(tuple(entries.items()))

    def __getitem__(self, key: K) -> V:
        for name, value in self.pairs:
            if name == key:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


UNLIMITED: Final = 2**31 - 1
"""The largest count: what the launcher's 32-bit integers hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which integers a field takes: ``low <= n <= high``, and only powers of two if asked, or sums of two of them that
    are ``least_part`` at least.
    ``auto`` allows the word ``auto`` for None, the compiler's choice; ``later`` names the keys of a longer spelling
    (a mapping in place of the number) that is not lowered yet."""

    low: int
    high: int = UNLIMITED
    power_of_two: bool = False
    least_part: int | None = None
    auto: bool = False
    later: tuple[str, ...] = ()

    def fits(self, number: int) -> bool:
        """Whether a number is a power of two, or such a sum, if it must be."""
        rest, least = number & (number - 1), number & -number
        if not self.power_of_two or not rest:
            return True
        return self.least_part is not None and not rest & (rest - 1) and least >= self.least_part

    @property
    def kind(self) -> str:
        """In words: ``a power of two``."""
        if not self.power_of_two:
            return "a whole number"
        sums = "" if self.least_part is None else f", or the sum of two that are {self.least_part} or more,"
        return f"a power of two{sums}"


@dataclass(frozen=True, slots=True)
class BufferType:
    """What a buffer holds: elements of ``dtype``, dense and row-major over ``shape``; printed as ``u32[N, 2]``."""

    dtype: DType
    shape: tuple[IntExpr, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Names:
    """What a string names: ``Names("axis")``. The plan checks it against the algorithm; here it serves messages and
    documentation."""

    what: str


@dataclass(frozen=True, slots=True)
class AnyNumber:
    """The field takes any number, whole or not, and the two infinities."""


@dataclass(frozen=True, slots=True)
class Only:
    """The words of an enum that a field takes, where it does not take all of them."""

    words: tuple[Enum, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """A mapping may be written as the list of its keys: each then has this word of the enum."""

    word: Enum


@dataclass(frozen=True, slots=True)
class About:
    """The documentation of a field, and how its key is spelled.

    ``text`` is one paragraph, ``example`` the YAML value. ``key`` is the spelling where the field's name will not do
    (``in``, ``with``). ``bare`` says that a list of one is written without brackets; reading accepts both everywhere.
    """

    text: str
    example: str
    key: str | None = None
    bare: bool = False
    always: bool = False


def about(
    text: str, example: str, *, key: str | None = None, bare: bool = False, always: bool = False
) -> dict[str, About]:
    """The metadata of a record's field."""
    return {"about": About(" ".join(text.split()), example, key, bare, always)}


AxisName = Annotated[str, Names("axis")]
FuncName = Annotated[str, Names("func")]
TensorName = Annotated[str, Names("tensor")]
TypeName = Annotated[str, Names("type variable")]
Constant = Annotated[int | float, AnyNumber()]
PlainName = Annotated[str, Names("name")]
NodeName = Annotated[str, Names("node")]
FileName = Annotated[str, Names("file")]
SourceName = Annotated[str, Names("source")]
TargetName = Annotated[str, Names("target")]
Assumption = Annotated[str, Names("assumption")]
# A tile has at most 2**20 elements: Triton's limit for one tensor.
TileSize = Annotated[int, Limits(1, 2**20, power_of_two=True)]
GridTile = Annotated[int, Limits(1, 2**20, power_of_two=True, least_part=32)]
LoopStep = Annotated[int, Limits(1, 2**20, power_of_two=True)]
LaneCount = Annotated[int, Limits(1, 32, power_of_two=True)]
ClusterSize = Annotated[int, Limits(2, 8, power_of_two=True)]
WarpCount = Annotated[int, Limits(1, 32, power_of_two=True)]
Count = Annotated[int, Limits(1)]
