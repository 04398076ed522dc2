"""What of the instruction table the cases reach: every row, and every word that a part of its pattern may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tests.emulator.conformance.case import Case
from texpr.emulator.isa import find_row
from texpr.emulator.rows import CLASSES, Row

WITHOUT_CASE: dict[str, str] = {
    "st.async": "to another program of a cluster; tests/emulator/test_clusters.py",
    "trap": "ends the program; tests/emulator/test_faults.py",
    "brkpt": "ends the program like trap",
    "tensormap.replace": "tensor maps that a kernel builds: the layout of their bytes is the driver's own; "
    "tests/emulator/test_hopper_kernels.py",
    "tensormap.cp_fenceproxy": "see tensormap.replace",
    "setmaxnreg": "changes no value; needs a register count that the assembler is told; "
    "tests/emulator/test_hopper_kernels.py",
    "createpolicy.range": "changes no value",
    "createpolicy.cvt": "changes no value; takes a policy made on the host",
}
"""Rows that have no case, by how their pattern begins, and why."""

WORDS_WITHOUT_CASE: dict[str, str] = {
    "st.async": "to another program of a cluster; tests/emulator/test_clusters.py",
    "multicast::cluster": "needs a cluster; tests/emulator/test_clusters.py",
    "shared::cluster": "means shared::cta in a program without a cluster",
    "L2::cache_hint": "a hint, tried where copies begin",
    "param": "parameters are read by every case",
    "local": "prefetches change no value",
    "const": "prefetches change no value",
    "shared": "an older name of shared::cta",
    "shared::cta": "a newer name of shared",
    "tile": "the mode without which the same is meant",
    "f16": "loads and stores of .b16 under another name, which ptxas refuses",
    "rna": "the order of .relu and .satfinite is free; .rna has neither",
    "acq_rel": "one order of proxy fences is tried",
    "acquire": "see acq_rel",
    "sc": "see acq_rel",
    "release": "a wait that releases does not exist",
    "relaxed": "see the waits without order: what they lose is a race",
    "expect_tx": "in every case of a bulk copy, beside the case's own opcodes",
    **dict.fromkeys(
        (
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "lo",
            "ls",
            "hi",
            "hs",
            "equ",
            "neu",
            "ltu",
            "leu",
            "gtu",
            "geu",
            "num",
            "nan",
        ),
        "does not exist for all types; setp has every comparison",
    ),
    "ftz": "set with a predicate: its comparison is that of setp",
}
"""Words that a row may lack a case for, and why."""

SAMPLED = re.compile(r"m64n\d+k\d+$")
"""Shapes of wgmma: all of them for one type, a few for the others."""


def parts_of(pattern: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The parts of a pattern with more than one choice: the hole's name, and its words ('' where it may be absent)."""
    for part in re.split(r"\.(?![^(]*\))", pattern):
        if "MEMORY" in part:
            # Any number of any words: which of them go together, the assembler knows.
            part = part.replace("MEMORY|", "").replace("words:MEMORY*", "words:()*")
        body = re.sub(r"^\w+:(?!:)", "", part.rstrip("?*"))
        words = {word for choice in body.strip("()").split("|") for word in CLASSES.get(choice, choice).split("|")}
        if part[-1] in "?*":
            words.add("")
        if len(words) > 1:
            yield part, frozenset(words)


def opcodes_by_row(cases: Iterable[Case]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for case in cases:
        for opcode in case.opcodes:
            row = find_row(opcode)
            assert row is not None, opcode
            found.setdefault(row[0].pattern, set()).add(opcode)
    return found


def excused(row: Row) -> bool:
    return row.pattern.startswith(tuple(WITHOUT_CASE))


def unreached_words(row: Row, opcodes: set[str]) -> set[str]:
    """Words of a row's pattern that no case's opcode has."""
    used = {word for opcode in opcodes for word in opcode.split(".")}
    if "name:(atom" in row.pattern or row.pattern.startswith(("name:atom", "name:red")):
        used |= {"v2", "v4", "v8", "b16", "cas", "exch"}
    return (
        {word for _, words in parts_of(row.pattern) for word in words if word and not SAMPLED.match(word)}
        - used
        - set(WORDS_WITHOUT_CASE)
    )
