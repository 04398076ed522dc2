import random

import pytest

from texpr.math.bounds import Bounds, Facts, bounds, divisor
from texpr.math.expr import FALSE, TRUE, evaluate, ge, sym
from texpr.math.parse import parse_bool, parse_int

DIMS = Facts.nonnegative(["M", "N", "K", "i", "j"])


def facts(*conditions):
    return DIMS.assume(*map(parse_bool, conditions))


@pytest.mark.parametrize(
    ("text", "conditions", "lo", "hi"),
    [
        ("M", [], 0, None),
        ("128*i + j", ["i < 4", "j < 128"], 0, 511),
        ("j - i", ["i <= j", "j < N", "N <= 1024"], 0, 1023),
        ("i", ["i <= j", "j < N", "N <= 1024"], 0, 1023),
        ("M", ["M != 0"], 1, None),
        ("N", ["N == 256"], 256, 256),
        ("N", ["N % 8 == 0", "1 <= N < 1024"], 8, 1016),
        ("N", ["N % 8 == 3"], 3, None),
        ("M*N", ["M <= 3", "N <= 5"], 0, 15),
        ("-M", ["M <= 3"], -3, 0),
        ("ceil(M/128)*128", ["1 <= M <= 1000"], 128, 1024),
        ("M//N", ["M <= 100", "N >= 3"], 0, 33),
        ("M % N", ["N <= 30"], 0, 29),
        ("M % N", ["M <= 5"], 0, 5),
        ("M % N", ["M <= 5", "N <= 30"], 0, 5),
        ("M % 8", ["8 <= M < 12"], 0, 3),
        ("min(M, N)", ["N <= 7"], 0, 7),
        ("max(M, N)", ["N >= 7"], 7, None),
        ("i", ["i < min(M, N)", "N <= 20"], 0, 19),
        ("M", ["max(M, N) <= 20"], 0, 20),
        ("2*M + 3*N", ["2*M + 3*N <= 10"], 0, 10),
        ("6*N + 4*M + 1", ["2*M + 3*N <= 10"], 1, 21),
    ],
)
def test_ranges(text, conditions, lo, hi):
    assert bounds(parse_int(text), facts(*conditions)) == Bounds(lo, hi)


@pytest.mark.parametrize(
    ("text", "conditions", "expected"),
    [
        ("N", ["N % 8 == 0"], 8),
        ("N", ["N % 8 == 0", "N % 12 == 0"], 24),
        ("N", ["2*N % 16 == 0"], 8),
        ("M*N", ["N % 8 == 0", "M % 4 == 0"], 32),
        ("M*N", ["M*N % 16 == 0"], 16),
        ("M*N*2 + 4*K", ["N % 8 == 0"], 4),
        ("N + 1", ["N % 8 == 3"], 4),
        ("N//8", ["N % 16 == 0"], 2),
        ("N % 12", ["N % 8 == 0"], 4),
        ("M", ["M == 4*K"], 4),
        ("N", ["N == 256"], 256),
        ("M", ["3*M % 8 == 6"], 2),
        ("min(M, N)", ["M % 8 == 0", "N % 12 == 0"], 4),
        ("M - M", [], 0),
        ("M", [], 1),
    ],
)
def test_divisors(text, conditions, expected):
    assert divisor(parse_int(text), facts(*conditions)) == expected


def test_contradictory_facts_leave_no_value():
    assert bounds(sym("M"), facts("M < 0")).empty
    assert bounds(sym("K"), facts("M < N", "N < M")).empty
    assert bounds(sym("K"), DIMS.assume(FALSE)).empty


def test_facts_are_taken_apart_and_compare_by_content():
    together = DIMS.assume(parse_bool("M <= 3 and N <= 4"))
    assert together == DIMS.assume(parse_bool("M <= 3"), parse_bool("N <= 4"), TRUE)
    assert hash(together) == hash(facts("M <= 3", "N <= 4"))
    assert Facts().assume() == Facts()
    assert Facts.nonnegative(["M"]) == Facts((ge(sym("M"), 0),))


EXPRESSIONS = [
    "a + 2*b - c",
    "a*b - c",
    "(a + 3*b)//4 - c",
    "(a*b + c) % 6",
    "min(a, b + 1)*max(c, 2)",
    "a//(b + 1)",
    "(a - b) % (c + 1)",
    "4*(a//4) + b % 4",
    "a % 8 - a % 4",
    "-(a*c)//3",
]
CONDITIONS = [
    "a >= 1",
    "a % 3 == 0",
    "a + b <= 9",
    "b < c",
    "2*a - 3*c >= -4",
    "a != 0",
    "b == 2*c",
    "a*b <= 12",
    "min(a, c) >= b - 3",
    "3*c % 4 == 2",
    "a <= 7",
    "b <= 6",
    "c <= 6",
    "a//2 == b",
    "(a + b) % 4 == 1",
]


@pytest.mark.parametrize("seed", range(60))
def test_ranges_and_divisors_hold_at_every_point(seed):
    rng = random.Random(seed)
    conditions = [parse_bool(text) for text in rng.sample(CONDITIONS, 4)]
    known = Facts.nonnegative("abc").assume(*conditions)
    points = [{"a": a, "b": b, "c": c} for a in range(11) for b in range(11) for c in range(11)]
    points = [point for point in points if all(evaluate(condition, point) for condition in conditions)]
    for text in EXPRESSIONS:
        e = parse_int(text)
        found, factor = bounds(e, known), divisor(e, known)
        for point in points:
            value = evaluate(e, point)
            assert found.lo is None or found.lo <= value, (text, point)
            assert found.hi is None or found.hi >= value, (text, point)
            assert value % factor == 0 if factor else value == 0, (text, point)
