"""Every kernel of the repository on the emulator, with its hand-written schedule and with the default one.

``make test`` runs each kernel for one target, in turn; ``make check-all`` runs ``-m matrix``: every type on one target
of each family, both schedules.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from texpr.check import REPRESENTATIVES, check
from texpr.checking.report import table
from texpr.checking.rows import Effort
from texpr.compile import find_schedule, load_algorithm
from texpr.plan.default import default_schedule
from texpr.targets import TARGETS, target_named

ROOT = Path(__file__).parents[2]


def sources() -> dict[str, str]:
    """``FILE.py:NAME`` of every algorithm under ``kernels/``, by name."""
    found = {}
    for file in sorted((ROOT / "kernels").glob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                found[node.name] = f"{file}:{node.name}"
    return found


SOURCES = sources()
NAMES = sorted(SOURCES)


def offered(name: str) -> list[str]:
    """The representative targets that the hand-written schedule is for, else its first one."""
    definition = load_algorithm(SOURCES[name])
    schedule = find_schedule(SOURCES[name], definition, None, None)
    targets = {target.name for v in schedule.variants for target in map(target_named, v.target) if target is not None}
    return [target for target in REPRESENTATIVES if target in targets] or sorted(targets, key=list(TARGETS).index)[:1]


def skip_by_hand(name: str) -> None:
    """What a schedule names as written by hand is what the compiler does not write."""
    by_hand = find_schedule(SOURCES[name], load_algorithm(SOURCES[name]), None, None)
    if any(kernel.extern is not None for variant in by_hand.variants for kernel in variant.kernels):
        pytest.skip("written by hand")


def test_every_schedule_is_for_a_kernel() -> None:
    assert {file.stem for file in (ROOT / "schedules").glob("*.yaml")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_right_under_its_schedule(name: str) -> None:
    targets = offered(name)
    target = targets[NAMES.index(name) % len(targets)]
    report = check(SOURCES[name], None, [target], effort=Effort(calls=6))
    assert report.ok, table(report)


@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_right_under_the_default_schedule(name: str) -> None:
    targets = offered(name)
    target = targets[(NAMES.index(name) + 1) % len(targets)]
    definition = load_algorithm(SOURCES[name])
    first = definition.bindings()[0]
    skip_by_hand(name)
    report = check(SOURCES[name], default_schedule(definition, [target]), [target], first, effort=Effort(calls=6))
    assert report.ok, table(report)


@pytest.mark.matrix
@pytest.mark.parametrize("schedule", ["hand-written", "default"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_right_for_every_type_and_family(name: str, schedule: str) -> None:
    targets = offered(name)
    if schedule == "default":
        skip_by_hand(name)
    record = default_schedule(load_algorithm(SOURCES[name]), targets) if schedule == "default" else None
    report = check(SOURCES[name], record, targets, effort=Effort(calls=24))
    assert report.ok, table(report)
