from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.check.algorithms import SCALED, clipped, picked, scaled, schedule
from texpr.checking.calls import Candidate, Case, chosen, is_legal, symbols_of
from texpr.checking.cases import Problem, choose_cases, work_of
from texpr.compile import domain_facts
from texpr.lang.algorithm import AlgorithmDef
from texpr.math.parse import parse_bool

PICKED = """
texpr: 1
algorithm: picked
variants:
- name: any
  target: sm_80
  kernels:
  - {name: picked, writes: [y], grid: {i: 4, j: 16}}
"""
CLIPPED = """
texpr: 1
algorithm: clipped
variants:
- name: any
  target: sm_80
  when: stride(x, 0) % 4 == 0
  kernels:
  - {name: clipped, writes: [y], grid: {i: 4, j: 16}}
"""


def problem(definition: AlgorithmDef, text: str, name: str, guards: dict[str, str], work: int = 100_000) -> Problem:
    """The variant ``name`` of a schedule among variants with these guards."""
    algorithm = definition.bind(definition.bindings()[0])
    record = next(variant for variant in schedule(text).variants if variant.name == name)
    candidates = [Candidate(n, key, parse_bool(guard)) for n, (key, guard) in enumerate(guards.items())]
    wanted = next(candidate for candidate in candidates if candidate.name == name)
    return Problem(algorithm, record, wanted, candidates, domain_facts(algorithm), 2, work)


GUARDS = {"wide": "M >= 8 and aligned(x, y, 16)", "any": "true"}


def cases_of(name: str, count: int = 20, seed: int = 0, **options: Any) -> tuple[Problem, list[Case]]:
    asked = problem(scaled, SCALED, name, GUARDS, **options)
    return asked, choose_cases(asked, count, seed)


@pytest.mark.parametrize("name", ["wide", "any"])
def test_every_call_is_legal_and_reaches_its_variant(name: str) -> None:
    asked, cases = cases_of(name)
    assert len(cases) == 20
    for case in cases:
        symbols = symbols_of(asked.algorithm, case, 2)
        assert symbols is not None
        assert is_legal(asked.algorithm, case, symbols)
        assert chosen(asked.candidates, case, symbols) == asked.wanted


def test_calls_are_the_same_every_time_and_differ_between_seeds() -> None:
    assert cases_of("any")[1] == cases_of("any")[1]
    assert cases_of("any")[1] != cases_of("any", seed=1)[1]


def test_calls_meet_the_edges_of_tiles_and_all_pairs_of_choices() -> None:
    _, cases = cases_of("any", count=60)
    rows, columns = {case.dims["M"] for case in cases}, {case.dims["N"] for case in cases}
    assert {0, 1, 3, 4, 5, 12} <= rows
    assert {0, 12, 16, 20, 48} <= columns
    seen = {(case.dims["M"], case.dims["N"], bool(case.absent)) for case in cases}
    for m, n in itertools.product((1, 4, 5), (12, 16, 20)):
        assert any((m, n) == key[:2] for key in seen)


def test_pointers_have_no_more_alignment_than_the_guard_asks_for() -> None:
    _, cases = cases_of("wide")
    assert {case.offsets["x"] for case in cases} == {0, 16}
    assert {case.offsets["b"] for case in cases} == {0, 2}  # the guard says nothing of b
    _, cases = cases_of("any")
    assert 2 in {case.offsets["x"] for case in cases}


def test_optional_tensors_are_given_and_left_out() -> None:
    _, cases = cases_of("any")
    assert {case.absent for case in cases} == {frozenset(), frozenset(["b"])}


def costs(asked: Problem, cases: list[Case]) -> list[int]:
    symbols = [symbols_of(asked.algorithm, case, 2) for case in cases]
    return [work_of(asked.algorithm, asked.record, one) for one in symbols if one is not None]


def test_no_call_costs_more_than_allowed() -> None:
    asked, cases = cases_of("any", work=1000)
    assert len(costs(asked, cases)) == 20 and max(costs(asked, cases)) <= 1000


def test_a_few_calls_compute_a_tile_even_if_one_is_more_than_allowed() -> None:
    asked, cases = cases_of("any", work=50)
    assert [cost for cost in costs(asked, cases) if cost] == [2 * 4 * 16] * 3


def test_most_calls_compute_something() -> None:
    for name in ("wide", "any"):
        _, cases = cases_of(name, count=12)
        assert sum(0 in case.dims.values() for case in cases) in (1, 2, 3, 4)


def test_work_counts_whole_tiles() -> None:
    asked, _ = cases_of("any", count=1)
    assert work_of(asked.algorithm, asked.record, {"M": 5, "N": 20}) == 8 * 32


def test_a_value_range_that_is_empty_leaves_no_values_to_pass() -> None:
    asked = problem(picked, PICKED, "any", {"any": "true"})
    cases = choose_cases(asked, 40, 0)
    assert all(case.dims["P"] > 0 or case.dims["M"] == 0 for case in cases)
    assert any(case.dims["P"] == 0 for case in cases)


def test_strides_scalars_and_aliases_vary() -> None:
    asked = problem(clipped, CLIPPED, "any", {"any": "x_stride_0 % 4 == 0"})
    cases = choose_cases(asked, 40, 0)
    assert all(case.strides["x_stride_0"] % 4 == 0 for case in cases)
    assert any(case.strides["x_stride_0"] > case.dims["N"] for case in cases)
    assert all(1 <= case.integers["n"] < case.dims["N"] for case in cases)
    assert {case.aliased for case in cases} == {frozenset(), frozenset(["y"])}


def test_where_a_guard_wants_much_other_sizes_are_made_smaller() -> None:
    asked = problem(scaled, SCALED, "wide", {"wide": "M >= 400 and N >= 40", "any": "true"}, work=400 * 64)
    cases = choose_cases(asked, 10, 0)
    assert len(cases) == 10
    assert len({case.dims["N"] for case in cases}) > 2


def test_a_variant_that_nothing_reaches_gets_no_calls() -> None:
    asked = problem(scaled, SCALED, "any", {"wide": "true", "any": "true"})
    assert choose_cases(asked, 5, 0) == []


def test_rare_sizes_are_found_by_solving_the_guard() -> None:
    asked = problem(scaled, SCALED, "wide", {"wide": "M == 523 and N == 1004", "any": "true"}, work=1_000_000)
    (case, *_) = choose_cases(asked, 3, 0)
    assert dict(case.dims) == {"M": 523, "N": 1004}


def test_a_call_reads_like_a_sentence() -> None:
    asked, _ = cases_of("any", count=1)
    text = " | ".join(case.text() for case in choose_cases(asked, 20, 0))
    assert "without b" in text and "x at 2 mod 256" in text and "special values" in text
