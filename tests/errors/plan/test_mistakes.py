"""One tiny schedule per mistake that only the algorithm shows: each names its error's code and line, what the message
says to try, and the node of the loop nest that it marks.

    # expect: TX0303 line 12
    # try: ...
    # marks: tile i:64                     the node, up to its sizes; absent where there is no nest
    # algorithm: linear                    if it is not the schedule's own
    # types: T=f16                         if the first binding will not do
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.errors.plan.algorithms import ALGORITHMS
from texpr.compile import chosen_targets, find_schedule, package_of
from texpr.errors import TExprError
from texpr.plan import errors
from texpr.plan.build import plan_variant
from texpr.plan.mentions import check_schedule
from texpr.plan.usable import resolve_types
from texpr.targets import TARGETS

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
ENTRY = re.compile(r"# (\w+): (.+)\n")


def header(path: Path) -> dict[str, str]:
    """The entries of the comment that a file starts with."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines(keepends=True):
        match = ENTRY.fullmatch(line)
        if match is None:
            return found
        found[match[1]] = match[2]
    return found


def plan_all(path: Path, entries: dict[str, str]) -> None:
    """Everything that looks at a schedule, in the order in which a user meets it."""
    text = path.read_text()
    name = entries.get("algorithm") or re.search(r"^algorithm: (\w+)$", text, re.MULTILINE)[1]
    definition = ALGORITHMS[name]
    binding = dict([entries["types"].split("=")]) if "types" in entries else definition.bindings()[0]
    schedule = find_schedule("nowhere", definition, path, None)
    algorithm = definition.bind(binding)
    check_schedule(definition, algorithm, schedule)
    for variant in schedule.variants:
        for target in variant.target:
            record = dataclasses.replace(variant, when=resolve_types(variant.when, binding))
            plan_variant(algorithm, record, TARGETS[target])
    package_of(definition, schedule, chosen_targets(schedule, None), {}, {}, with_example=False)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_mistake_is_reported_where_it_is(path):
    entries = header(path)
    with pytest.raises(TExprError) as caught:
        plan_all(path, entries)
    error = caught.value
    code, line = re.fullmatch(r"(TX\d{4})(?: line (\d+))?", entries["expect"]).groups()
    assert (error.code, error.hint) == (code, entries["try"])
    assert str(error).endswith(f"\n  try: {entries['try']}")
    if line is None:
        return
    assert (error.at.file, error.at.line) == (str(path), int(line))
    marked = [text.strip("| ") for text in error.excerpt.splitlines() if text.endswith("<---")]
    assert marked == ([f"{entries['marks']}   <---"] if "marks" in entries else [])
    if isinstance(error, errors.PlanError) and error.kernel:
        written = path.read_text().splitlines()[int(line) - 1]
        assert error.excerpt.startswith(f"{line} | {written}\n")


def test_every_kind_of_mistake_has_a_file():
    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    kinds = {kind.code: kind.__name__ for kind in own if kind is not errors.PlanError}
    for path in FILES:
        kinds.pop(header(path)["expect"].split()[0], None)
    assert set(kinds.values()) <= REFUSED_WHILE_READING


REFUSED_WHILE_READING = {"WrittenTwice", "TooManyWarps"}
"""What the reader of schedules refuses before there is a plan; the plan checks it for schedules made otherwise."""
