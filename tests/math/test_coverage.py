import random

import pytest

from texpr.math.bounds import Facts
from texpr.math.coverage import Gap, uncovered, unreachable
from texpr.math.expr import evaluate
from texpr.math.parse import parse_bool

DOMAIN = Facts.nonnegative(["M", "N", "S", "R", "D"]).assume(parse_bool("T in [f16, bf16]"))


def guards(*texts):
    return [parse_bool(text) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        ["M >= 128", "M < 128"],
        ["N <= 1024 and N % 8 == 0 and aligned(x, y, 16)", "true"],
        ["M >= 128 and aligned(x, 16)", "not aligned(x, 16)", "M < 128"],
        ["aligned(x, 16)", "not aligned(x, 32)"],
        ["S*R <= 64", "S*R > 64"],
        ["S*R <= 64", "S >= 9 or R >= 8"],
        ["N >= M >= 5", "N >= M and M < 3", "M*N >= 6 or N < M"],
        ["T == f16", "T == bf16"],
        ["T == f16 and present(b)", "T != f16", "not present(b)"],
        ["M % 2 == 0", "M % 2 == 1"],
        ["D == 64", "D == 128", "D < 64 or D > 128", "64 < D < 128"],
    ],
)
def test_covered(texts):
    assert uncovered(guards(*texts), DOMAIN) is None


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["M >= 128", "M < 127"],
        ["M >= 128 and N >= 256 and aligned(x, w, y, 16)", "M < 128", "N < 256"],
        ["aligned(x, 32)", "not aligned(x, 16)"],
        ["S*R <= 64", "S*R >= 66"],
        ["T == f16"],
        ["N >= 1 and M % N == 0", "N >= 1 and M % N > 0"],
        ["stride(x, 1) == 1"],
    ],
)
def test_a_gap_is_a_call_that_no_guard_takes(texts):
    gap = uncovered(guards(*texts), DOMAIN)
    assert isinstance(gap, Gap)
    atoms = gap.atoms.__getitem__
    assert all(evaluate(fact, gap.example, atoms) for fact in DOMAIN.assumptions)
    assert not any(evaluate(guard, gap.example, atoms) for guard in guards(*texts))


def test_a_gap_names_sizes_and_atoms():
    gap = uncovered(guards("M >= 1 and aligned(x, 16)", "M == 0"), Facts.nonnegative(["M"]))
    assert str(gap) == "M = 1, not aligned(x, 16)"


def test_guards_behind_wider_ones_are_unreachable():
    order = guards("M >= 128 and present(b)", "N < 64", "N < 32", "M >= 256 and present(b)", "true", "M < 3")
    assert unreachable(order, DOMAIN) == [2, 3, 5]


def test_the_domain_limits_what_must_be_covered():
    assert uncovered(guards("N >= 8"), DOMAIN.assume(parse_bool("N % 8 == 0 and N >= 1"))) is None
    assert unreachable(guards("N == 4", "true"), DOMAIN.assume(parse_bool("N % 8 == 0"))) == [0]


@pytest.mark.parametrize("seed", range(60))
def test_answers_agree_with_enumeration(seed):
    rng = random.Random(seed)
    parts = ["M >= 3", "M < 5", "M % 2 == 0", "N < M", "M*N >= 6", "M + N <= 7", "N % 3 != 1", "present(b)", "N == 2"]
    parts += [f"not ({part})" for part in parts]
    chosen = [parse_bool(f" {rng.choice(['and', 'or'])} ".join(rng.sample(parts, 2))) for _ in range(3)]
    domain = Facts().assume(parse_bool("0 <= M <= 6 and 0 <= N <= 6"))
    calls = [({"M": m, "N": n}, b) for m in range(7) for n in range(7) for b in (False, True)]
    taken = [[evaluate(guard, sizes, lambda atom, b=b: b) for guard in chosen] for sizes, b in calls]
    gap = uncovered(chosen, domain)
    assert gap is None or isinstance(gap, Gap)
    assert (gap is None) == all(any(row) for row in taken)
    first = {row.index(True) for row in taken if any(row)}
    assert unreachable(chosen, domain) == [position for position in range(3) if position not in first]
