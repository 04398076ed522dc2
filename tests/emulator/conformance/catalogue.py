"""All cases, made once."""

from __future__ import annotations

from functools import cache

from tests.emulator.conformance import control, conversions, floats, hopper, integers, memory, products, warps
from tests.emulator.conformance.case import Case


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case; names are unique."""
    modules = (integers, floats, conversions, memory, warps, products, control, hopper)
    return tuple({case.name: case for module in modules for case in module.cases()}.values())


@cache
def groups(size: int = 40) -> tuple[tuple[Case, ...], ...]:
    """The cases in slices, so that a test runner has something to distribute."""
    cases = all_cases()
    return tuple(cases[start : start + size] for start in range(0, len(cases), size))
