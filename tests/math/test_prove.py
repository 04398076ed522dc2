import random

import pytest

from texpr.math.bounds import Facts
from texpr.math.expr import FALSE, TRUE, Compare, CompareOp, conjunction, evaluate, negation, sym
from texpr.math.model import upper_bound
from texpr.math.parse import parse_bool, parse_int
from texpr.math.prove import Proved, Refuted, Unknown, is_proved, prove, simplify

DIMS = Facts.nonnegative(["M", "N", "K", "H", "S", "R", "B", "G", "b", "i", "j", "k", "p", "r", "sms"])


def facts(*conditions):
    return DIMS.assume(*map(parse_bool, conditions))


@pytest.mark.parametrize(
    ("goal", "conditions"),
    [
        ("N <= 4096", ["N <= 1024"]),
        ("128*b + i < M", ["i < 128", "b < M//128"]),
        ("128*b + i < M", ["i < 128", "b < ceil(M/128)", "M % 128 == 0"]),
        ("2*p + r < H", ["p < H//2", "r < 2"]),
        ("min(p + r, H - 1) < H", []),
        ("max(p - 1, 0) >= 0", []),
        ("M % 8 == 0", ["M % 16 == 0"]),
        ("M*N*2 % 16 == 0", ["N % 8 == 0"]),
        ("M != 5", ["M % 2 == 0"]),
        ("M != N", ["M < N"]),
        ("S*R <= 64", ["S <= 8", "R <= 8"]),
        ("i*N + j < M*N", ["i < M", "j < N"]),
        ("(i*N + j)*K + k < M*N*K", ["i < M", "j < N", "k < K"]),
        ("i//N < M", ["i < M*N"]),
        ("i//(N*K) < M", ["i < M*N*K"]),
        ("i % N < N", []),
        ("(i//N) % K < K", []),
        ("M//N*N <= M", []),
        ("M//N <= M", []),
        ("ceil(M/N)*N >= M", ["N >= 1"]),
        ("M*N >= M", ["N >= 1"]),
        ("M*K >= N*K", ["M >= N"]),
        ("M*M <= M*N", ["M <= N"]),
        ("clamp(4*sms//(B*G), 1, 64) <= 64", []),
        ("M < 3 or M > 2", []),
        ("M == 128 or M == 256", ["M == 256 or M == 128"]),
        ("aligned(x, 16)", ["aligned(x, y, 32)"]),
        ("T in [f16, bf16]", ["T == f16"]),
        ("T != f32", ["T in [f16, bf16]"]),
        ("N > 3 or not present(b)", ["N >= 4 or not present(b)"]),
        ("N == 7", ["M < 0"]),
    ],
)
def test_proved(goal, conditions):
    assert prove(parse_bool(goal), facts(*conditions)) == Proved()


@pytest.mark.parametrize(
    ("goal", "conditions"),
    [
        ("128*b + i < M", ["i < 128", "b < ceil(M/128)"]),
        ("(8*p + r)//2 < H//2", ["8*p + r < H"]),
        ("p + r - 1 >= 0", ["p < H"]),
        ("S*R <= 64", ["S <= 8", "R <= 9"]),
        ("M*N*2 % 16 == 0", ["N % 4 == 0"]),
        ("M*N >= M", []),
        ("M % N == 0", ["N >= 2"]),
        ("aligned(x, 16)", ["aligned(x, 8)"]),
        ("T == f16", ["T in [f16, bf16]"]),
        ("present(b)", []),
        ("M < 3 and N < 3", []),
    ],
)
def test_refuted_with_a_counterexample(goal, conditions):
    known = facts(*conditions)
    proof = prove(parse_bool(goal), known)
    assert isinstance(proof, Refuted)
    atoms = proof.atoms.__getitem__
    assert all(evaluate(fact, proof.counterexample, atoms) for fact in known.assumptions)
    assert not evaluate(parse_bool(goal), proof.counterexample, atoms)


def test_undecided_goals_name_what_they_depend_on():
    proof = prove(parse_bool("M*M*M + N*N*N != K*K*K"), facts("M >= 1", "N >= 1"))
    assert isinstance(proof, Unknown)
    assert "K*K*K" in proof.reason


def test_points_that_divide_by_zero_are_no_counterexamples():
    assert prove(parse_bool("M % N <= M"), DIMS) == Proved()
    refuted = prove(parse_bool("M//N == M"), DIMS)
    assert isinstance(refuted, Refuted)
    assert refuted.counterexample["N"] > 1


def test_a_guard_may_protect_a_division():
    assert prove(parse_bool("N == 0 or M//N <= M"), DIMS) == Proved()
    refuted = prove(parse_bool("N >= 1 and M % N >= 0"), DIMS)
    assert isinstance(refuted, Refuted)
    assert refuted.counterexample["N"] == 0


def test_upper_bounds_see_correlations():
    assert upper_bound(parse_int("(b + 7)//4 - b//4"), DIMS) == 2
    assert upper_bound(parse_int("(b + 7)//4 - b//4"), facts("b % 4 == 0")) == 1
    assert upper_bound(sym("M"), DIMS) is None


@pytest.mark.parametrize(
    ("text", "conditions", "expected"),
    [
        ("ceil(M/128)", ["M % 128 == 0"], "M//128"),
        ("(N + i)//8", ["N % 8 == 0", "i < 8"], "N//8"),
        ("(N + i) % 8", ["N % 8 == 0", "i < 8"], "i"),
        ("(N + i)//8", ["N % 8 == 0", "8 <= i < 16"], "N//8 + 1"),
        ("(N + i) % 8", ["N % 8 == 0", "8 <= i < 16"], "i - 8"),
        ("(i*N + j)//N", ["j < N"], "i"),
        ("(i*N + j) % N", ["j < N"], "j"),
        ("min(i, N)*K", ["i < N"], "K*i"),
        ("max(min(p + r, H - 1), 0)", ["H >= 1", "p + r < H"], "p + r"),
        ("N + M", ["N == 8"], "M + 8"),
    ],
)
def test_simplified_integers(text, conditions, expected):
    assert str(simplify(parse_int(text), facts(*conditions))) == expected


@pytest.mark.parametrize(
    ("text", "conditions", "expected"),
    [
        ("i < N and i < M", ["M <= N"], "i < M"),
        ("i < N and N % 8 == 0", ["N % 16 == 0"], "i < N"),
        ("i < 3 or N % 8 == 0", ["N % 16 == 0"], "true"),
        ("i < 0 or N % 8 == 0", ["N % 4 == 0"], "N % 8 == 0"),
        ("i < 3 and i > 5", [], "false"),
        ("i < 3 and i < 3 + N", [], "i < 3"),
        ("aligned(x, 32) and aligned(x, 16)", [], "aligned(x, 32)"),
        ("(i + N)//8 < K", ["N % 8 == 0", "i < 8"], "N//8 < K"),
    ],
)
def test_simplified_conditions(text, conditions, expected):
    assert str(simplify(parse_bool(text), facts(*conditions))) == expected


TERMS = [
    "a",
    "b",
    "c",
    "a + b",
    "2*a - c",
    "a//3",
    "b % 4",
    "(a + 5)//4",
    "min(a, b)",
    "max(b, c - 2)",
    "a*b",
    "b*c",
    "a//(b + 1)",
    "c % (a + 1)",
    "3",
    "7",
]
LIMIT = 7


def random_condition(rng: random.Random, depth: int = 1):
    if depth and rng.random() < 0.3:
        join = rng.choice([conjunction, lambda x, y: negation(conjunction(x, y))])
        return join(random_condition(rng, 0), random_condition(rng, 0))
    left, right = (parse_int(text) for text in rng.sample(TERMS, 2))
    return Compare(rng.choice(list(CompareOp)), left, right)


@pytest.mark.parametrize("seed", range(120))
def test_answers_agree_with_enumeration(seed):
    rng = random.Random(seed)
    box = [parse_bool(f"0 <= {name} <= {LIMIT}") for name in "abc"]
    known = Facts().assume(*box, *(random_condition(rng) for _ in range(rng.randint(0, 2))))
    goal = random_condition(rng)
    values = range(LIMIT + 1)
    points = [{"a": a, "b": b, "c": c} for a in values for b in values for c in values]
    points = [point for point in points if all(evaluate(fact, point) for fact in known.assumptions)]
    truths = [evaluate(goal, point) for point in points]
    match prove(goal, known):
        case Proved():
            assert all(truths)
        case Refuted(counterexample):
            assert counterexample in points
            assert not evaluate(goal, counterexample)
    simple = simplify(goal, known)
    assert [evaluate(simple, point) for point in points] == truths
    e = parse_int(rng.choice(TERMS))
    simple_e = simplify(e, known)
    assert all(evaluate(simple_e, point) == evaluate(e, point) for point in points)


def test_affine_questions_are_always_decided():
    rng = random.Random(7)
    affine_terms = [text for text in TERMS if text not in ("a*b", "b*c", "a//(b + 1)", "c % (a + 1)")]
    for _ in range(60):
        left, right = (parse_int(text) for text in rng.sample(affine_terms, 2))
        goal = Compare(rng.choice(list(CompareOp)), left, right)
        assert not isinstance(prove(goal, Facts.nonnegative("abc")), Unknown), goal


def test_literals():
    assert is_proved(TRUE, DIMS)
    assert not is_proved(FALSE, DIMS)
    assert isinstance(prove(FALSE, DIMS), Refuted)
    assert is_proved(FALSE, DIMS.assume(FALSE))
