"""The relaxation behind proofs: whatever it adds follows from the original conditions (proved with z3)."""

import pytest
import z3

from tests.math.z3_semantics import condition_to_z3, is_valid
from texpr.math.bounds import Facts
from texpr.math.expr import substitute
from texpr.math.model import Model, Unknown, Unsatisfiable, _relax, _without_impossible_cases, find_model
from texpr.math.parse import parse_bool


def conditions(*texts):
    return [parse_bool(text) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        ["a >= 0", "b >= 0", "a*b >= 12"],
        ["a >= 2", "3 <= b <= 9", "a*b >= 12"],
        ["-4 <= a <= 5", "-7 <= b <= -2", "a*b >= 12"],
        ["a >= 1", "a % 4 == 0", "b % 2 == 0", "b >= 0", "a*b <= 40"],
        ["a >= 0", "b >= 0", "c >= 0", "a*c <= b*c"],
        ["a >= 0", "b > a", "c >= 0", "a*c <= b*c"],
        ["a >= 0", "b >= a", "c >= 0", "a*c <= b*c"],
        ["a >= 0", "a >= b", "c >= 0", "a*c <= b*c"],
        ["a >= 0", "b >= 0", "a//b > 3"],
        ["a >= 0", "b >= 5", "a % b > 3"],
        ["b >= 1", "a//b > 3"],
        ["a >= 0", "b >= 0", "b == 0 or a//b > 3"],
        ["b <= -1", "a//b > 3"],
    ],
)
def test_relaxed_conditions_follow(texts):
    original = conditions(*texts)
    relaxed = _relax(original)
    assert relaxed.fresh
    for condition in relaxed.conditions:
        divisors = []
        holds = z3.And([condition_to_z3(c, divisors) for c in original])
        follows = condition_to_z3(substitute(condition, relaxed.fresh), divisors)
        assert is_valid(z3.Implies(holds, follows), divisors), str(condition)


def test_impossible_cases_are_dropped_until_nothing_changes():
    found = _without_impossible_cases(conditions("a >= 5", "a < 3 or b >= 2", "b < 1 or a + b < 0 or c == 1"))
    assert [str(condition) for condition in found] == ["a >= 5", "b >= 2", "c == 1"]


def test_models_include_symbols_that_nothing_decides():
    found = find_model(Facts.nonnegative(["a", "b"]), *conditions("a == 3"))
    assert found == Model({"a": 3, "b": 0}, {})


def test_contradictions_among_unrelated_facts_count():
    contradiction = Facts().assume(*conditions("2*b == c", "c % 2 == 1"))
    assert isinstance(find_model(contradiction, *conditions("a == 3")), Unsatisfiable)


def test_a_search_that_runs_out_of_questions_is_no_proof(monkeypatch):
    hard = conditions("a*b == 391", "a >= 2", "b >= 2", "a < b or c*a == 5", "a > b or c*b == 7")
    monkeypatch.setattr("texpr.math.model._QUESTIONS", 1)
    assert isinstance(find_model(Facts(), *hard), Unknown)
