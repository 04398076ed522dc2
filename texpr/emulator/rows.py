"""The shape of the instruction table: a row = opcode pattern + operand signature + semantics.

Patterns are opcodes with holes, part by part:

    add.type:INT            a capture: `INT` is a class of words (see CLASSES), the match is modifiers["type"]
    ftz?                    an optional word; plain words are captured under their own name
    rnd:(rn|rz)?            an optional capture
    words:MEMORY*           a bag: any number of words of the class, in any order

Signatures list operands as `outputs = inputs`.  Each is a PTX type name, the name of a capture that holds one,
or a structural kind (`address`, `vector`, `integer`, `label`, `any`); a trailing `?` makes it optional.

`since` says which targets and PTX versions have the form (see `since.py`), `effects` what it does to memory and
barriers (see `effects.py`), `accuracy.py` how exact the approximations are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from texpr.emulator.effects import NONE, Effects
from texpr.emulator.ptx import Instruction
from texpr.emulator.since import parse_since
from texpr.emulator.types import TYPES, ScalarType

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

Array = NDArray[Any]
Mask = NDArray[Any] | None
"""Which lanes execute: a boolean per lane, or None for all of them."""

Step = Callable[[Mask], None]
"""One bound instruction: executes it for the lanes of the mask."""

ArrayFunction = Callable[..., Any]
"""Arrays of operand values in, the array of results out."""

_MOST_EXPANSIONS = 4000

CLASSES: dict[str, str] = {
    "INT": "u16|s16|u32|s32|u64|s64",
    "INT32": "u32|s32",
    "BITS": "b16|b32|b64",
    "FLOAT": "f32|f64",
    "HALF": "f16x2|f16|bf16x2|bf16",
    "ROUND": "rn|rz|rm|rp",
    "INTEGER_ROUND": "rni|rzi|rmi|rpi",
    "VALUE": "b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f16|f32|f64",
    "COMPARE": "eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan",
    "BOOLEAN": "and|or|xor",
    "MEMORY": (
        "weak|relaxed|acquire|release|acq_rel|volatile|mmio|cta|cluster|gpu|sys|global|shared|shared::cta|shared::cluster|local|const|"
        "param|param::entry|nc|ca|cg|cs|lu|cv|wb|wt|unified|"
        "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate|"
        "L2::evict_normal|L2::evict_first|L2::evict_last|L2::cache_hint|L2::64B|L2::128B|L2::256B"
    ),
}


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What the holes of a row's pattern matched in one opcode."""

    words: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.words[name]

    def __contains__(self, name: str) -> bool:
        return name in self.words

    def get(self, name: str, default: str = "") -> str:
        return self.words.get(name, default)

    def bag(self, name: str) -> tuple[str, ...]:
        """The words that a bag matched, in the order written."""
        return tuple(self.words.get(name, "").split(".")[1:])

    def pick(self, bag: str, choices: tuple[str, ...], default: str) -> str:
        """The word of a bag that is one of `choices` (`shared::cta` counts as `shared`)."""
        found = [word if word in choices else word.split("::")[0] for word in self.bag(bag)]
        return next((word for word in found if word in choices), default)

    def type(self, name: str) -> ScalarType:
        """The PTX type captured as `name` (or named by it)."""
        return TYPES[self.words.get(name, name)]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Lanes do not see each other: `make(modifiers)` gives the function from source arrays to the result."""

    make: Callable[[Modifiers], ArrayFunction]


@dataclass(frozen=True, slots=True)
class Special:
    """Anything that touches memory or other lanes: binds itself to the state of a batch of programs."""

    bind: Callable[[Batch, Instruction, Modifiers], Step]


class ControlKind(Enum):
    """Instructions that end a block; `machine.py` moves the program counters."""

    BRANCH = "branch"
    TABLE_BRANCH = "branch through a table"
    EXIT = "exit"
    BARRIER = "barrier"
    MBARRIER_WAIT = "wait for an mbarrier"
    CLUSTER_WAIT = "wait for the barrier of a cluster"


@dataclass(frozen=True, slots=True)
class Control:
    """An instruction that the scheduler itself carries out."""

    kind: ControlKind


Semantics = Elementwise | Special | Control


@dataclass(frozen=True, slots=True)
class OperandSpec:
    """One operand of a signature."""

    kind: str
    optional: bool

    def scalar(self, modifiers: Modifiers) -> ScalarType | None:
        """The PTX type of this operand, or None if it is structural."""
        return TYPES.get(modifiers.get(self.kind, self.kind))


@dataclass(frozen=True, slots=True)
class Signature:
    """Outputs and inputs of an instruction, in the order they are written."""

    outputs: tuple[OperandSpec, ...]
    inputs: tuple[OperandSpec, ...]

    @property
    def operands(self) -> tuple[OperandSpec, ...]:
        return self.outputs + self.inputs


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction form."""

    pattern: str
    operands: str
    signature: Signature
    semantics: Semantics
    regex: re.Pattern[str]
    since: str
    effects: Effects

    @property
    def heads(self) -> tuple[str, ...]:
        """The first words of the opcodes this row covers."""
        head = self.pattern.split(".", 1)[0].split(":")[-1]
        return tuple(head.strip("()").split("|"))

    def match(self, opcode: str) -> Modifiers | None:
        found = self.regex.fullmatch(opcode)
        if found is None:
            return None
        return Modifiers({name: text for name, text in found.groupdict().items() if text})


def elementwise(pattern: str, signature: str, function: ArrayFunction, *, since: str = "") -> Row:
    """A row whose semantics do not depend on the modifiers."""
    return _row(pattern, signature, Elementwise(lambda modifiers: function), since, NONE)


def family(pattern: str, signature: str, make: Callable[[Modifiers], ArrayFunction], *, since: str = "") -> Row:
    """A row whose lane function is chosen by the modifiers."""
    return _row(pattern, signature, Elementwise(make), since, NONE)


def special(
    pattern: str,
    signature: str,
    bind: Callable[[Batch, Instruction, Modifiers], Step],
    *,
    effects: Effects = NONE,
    since: str = "",
) -> Row:
    """A row that binds itself to the machine's state."""
    return _row(pattern, signature, Special(bind), since, effects)


def control(pattern: str, signature: str, kind: ControlKind, *, effects: Effects = NONE, since: str = "") -> Row:
    """A row that ends a block."""
    return _row(pattern, signature, Control(kind), since, effects)


def _row(pattern: str, signature: str, semantics: Semantics, since: str, effects: Effects) -> Row:
    parse_since(since)
    return Row(pattern, signature, _signature(signature), semantics, _compile(pattern), since, effects)


def _signature(text: str) -> Signature:
    outputs, _, inputs = text.rpartition("=")
    return Signature(_specs(outputs), _specs(inputs))


def _specs(text: str) -> tuple[OperandSpec, ...]:
    return tuple(OperandSpec(word.removesuffix("?"), word.endswith("?")) for word in text.split())


_PART = re.compile(r"(?:(?P<name>\w+):(?!:))?(?:\((?P<choices>[^)]*)\)|(?P<word>[\w:]+))(?P<repeat>[?*]?)$")


def expansions(pattern: str) -> list[str]:
    """Opcodes that a pattern stands for: each part's choices, optional parts with and without; the first thousands."""
    parts: list[list[str]] = []
    for part in re.split(r"\.(?![^(]*\))", pattern):
        body = re.sub(r"^\w+:(?!:)", "", part.rstrip("?*"))
        words = [w for choice in body.strip("()").split("|") for w in CLASSES.get(choice, choice).split("|")]
        parts.append(["", *words] if part[-1] in "?*" else words)
    chosen = islice(product(*(part[:40] for part in parts)), _MOST_EXPANSIONS)
    return [".".join(word for word in words if word) for words in chosen]


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\.(?![^(]*\))", pattern)
    text = "".join(_compile_part(part, pattern) for part in parts).replace(r"\.", "", 1)
    try:
        return re.compile(text)
    except re.error as error:
        hint = "parts that repeat a word need names: vadd4.d:u32.a:u32"
        raise ValueError(f"instruction pattern {pattern!r}: {error.msg}; {hint}") from None


def _compile_part(part: str, pattern: str) -> str:
    match = _PART.match(part)
    if match is None:
        raise ValueError(f"instruction pattern {pattern!r}: cannot read {part!r}")
    choices = match["choices"] or match["word"]
    words = "|".join(re.escape(w) for choice in choices.split("|") for w in CLASSES.get(choice, choice).split("|"))
    name = match["name"]
    if name is None and match["word"] and choices.isidentifier():
        name = choices
    if match["repeat"] == "*":
        return rf"(?P<{name}>(?:\.(?:{words}))*)"
    body = rf"\.(?P<{name}>{words})" if name else rf"\.(?:{words})"
    return f"(?:{body})?" if match["repeat"] == "?" else body
