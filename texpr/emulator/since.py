"""Which targets and PTX versions have an instruction form, and what to say about a module that has not.

A row of the table says it in one line:

    sm_90                       always, from compute capability 9.0 on
    sm_90a                      that architecture alone; sm_100f: the family (10.0a, 10.3a, 10.0f, ...)
    sm_90a sm_100f              one of several
    ptx7.8                      a PTX version
    bf16|ftz+f16: sm_90         if the opcode has the word `bf16`, or both others; clauses are joined by commas
    bf16+!f32: sm_90            if it has the one and not the other

The words are those of the opcode, and `4 operands` (with any number) for forms that take one more operand.
The lines were checked against `ptxas` form by form (`tests/emulator/conformance/test_assembler.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

Version = tuple[int, int]

_TARGET = re.compile(r"sm_(\d+)([af]?)$")
_LEAST_VERSION: dict[str, Version] = {
    "80": (7, 0), "86": (7, 1), "87": (7, 4), "89": (7, 8), "90": (7, 8), "90a": (8, 0), "100": (8, 6), "100a": (8, 6),
    "101": (8, 6), "101a": (8, 6), "103": (8, 8), "103a": (8, 8), "110": (9, 0), "110a": (9, 0), "120": (8, 7),
    "120a": (8, 7), "121": (8, 8), "121a": (8, 8),
}  # fmt: skip
"""The first PTX version of a target (PTX manual, "PTX ISA Notes: target architectures")."""


@dataclass(frozen=True, slots=True)
class Clause:
    """`targets` (any of them will do; none: no demand) and `version`, if the opcode has all words of one of `when`."""

    when: tuple[frozenset[str], ...]
    targets: tuple[str, ...]
    version: Version | None

    def applies(self, words: frozenset[str]) -> bool:
        return not self.when or any(
            all((word[1:] not in words) if word[0] == "!" else (word in words) for word in together)
            for together in self.when
        )


@cache
def parse_since(text: str) -> tuple[Clause, ...]:
    """The clauses of a row's line; '' has none."""
    return tuple(_clause(part.strip()) for part in text.split(",") if part.strip())


def _clause(text: str) -> Clause:
    # `::` belongs to words such as shared::cta.
    condition, separator, demand = text.rpartition(": ")
    when = tuple(frozenset(together.split("+")) for together in condition.split("|")) if separator else ()
    targets = tuple(word for word in demand.split() if not word.startswith("ptx"))
    versions = [word.removeprefix("ptx") for word in demand.split() if word.startswith("ptx")]
    if not all(_TARGET.fullmatch(target) for target in targets) or len(versions) > 1 or not (targets or versions):
        raise ValueError(f"cannot read the requirement {text!r}")
    return Clause(when, targets, _version(versions[0]) if versions else None)


def _version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def has_target(target: str, wanted: str) -> bool:
    """Whether a module for `target` may use what `wanted` offers."""
    own, other = _TARGET.fullmatch(target), _TARGET.fullmatch(wanted)
    if own is None or other is None:
        return False
    number, suffix = int(own[1]), own[2]
    match other[2]:
        case "a":
            return target == wanted
        case "f":
            return suffix != "" and number // 10 == int(other[1]) // 10
        case _:
            return number >= int(other[1])


def missing(since: str, everywhere: str, opcode: str, operands: int, target: str, version: str) -> str:
    """Why a module has not got an instruction form: '', or a demand such as `needs .target sm_90 or later`."""
    words = frozenset({*opcode.split("."), f"{operands} operands"})
    for clause in (*parse_since(since), *parse_since(everywhere)):
        if not clause.applies(words):
            continue
        if clause.targets and not any(has_target(target, wanted) for wanted in clause.targets):
            return f"needs .target {_listed(clause.targets)}; this file is for {target}"
        if clause.version is not None and _version(version) < clause.version:
            wanted = ".".join(str(part) for part in clause.version)
            return f"needs .version {wanted} or later; this file has {version}"
    return ""


def _listed(targets: tuple[str, ...]) -> str:
    texts = [target if target[-1] in "af" else f"{target} or later" for target in targets]
    return " or ".join(texts)


def version_problem(target: str, version: str) -> str:
    """Why a PTX version cannot be that of a module for the target ('' if it can, or if either is not known)."""
    least = _LEAST_VERSION.get(target.removeprefix("sm_"))
    if least is None or not version or _version(version) >= least:
        return ""
    return f".target {target} needs .version {least[0]}.{least[1]} or later, not {version}"
