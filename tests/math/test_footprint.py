import itertools
import random

import pytest

from texpr.math.bounds import Facts
from texpr.math.expr import evaluate
from texpr.math.footprint import footprint, is_injective
from texpr.math.parse import parse_bool, parse_int

OUTER = Facts.nonnegative(["M", "N", "K", "H", "b"])


def facts(*conditions):
    return OUTER.assume(*map(parse_bool, conditions))


@pytest.mark.parametrize(
    ("text", "tile", "conditions", "lo", "extent", "exact"),
    [
        ("8*b + p + r - 1", {"p": (0, 8), "r": (0, 3)}, [], "8*b - 1", 10, True),
        ("2*p + r", {"p": (0, 8), "r": (0, 3)}, [], "0", 17, True),
        ("2*p", {"p": (0, 8)}, [], "0", 15, False),
        ("2*p + 3*r", {"p": (0, 8), "r": (0, 3)}, [], "0", 21, False),
        ("H - 1 - p", {"p": (2, 6)}, [], "H - 6", 4, True),
        ("b*N + p", {"p": (0, 4)}, [], "N*b", 4, True),
        ("K*p + r", {"p": (3, 4), "r": (0, 2)}, [], "3*K", 2, True),
        ("5", {"p": (0, 8)}, [], "5", 1, True),
        ("(16*b + p + 1 - r)//2", {"p": (0, 8), "r": (0, 4)}, [], "8*b - 1", 6, True),
        ("(b + p)//4", {"p": (0, 8)}, [], "b//4", 3, False),
        ("(b + p)//4", {"p": (0, 8)}, ["b % 4 == 0"], "b//4", 2, True),
        ("(b*N + p)//4", {"p": (0, 8)}, ["N % 4 == 0"], "N*b//4", 2, True),
        ("(b*N + p) % 4", {"p": (0, 3)}, ["N % 4 == 0"], "0", 3, True),
        ("(b*N + p)//N", {"p": (0, 4)}, ["N >= 4"], "b", 1, False),
        ("p % 6//2*2 + p % 2", {"p": (0, 8)}, [], "0", 6, True),
        ("max(min(8*b + p - 1, H - 1), 0)", {"p": (0, 10)}, ["H >= 1"], "max(0, min(8*b - 1, H - 1))", 10, False),
        ("K*p", {"p": (0, 4)}, ["K <= 3"], "0", 10, False),
    ],
)
def test_ranges(text, tile, conditions, lo, extent, exact):
    [found] = footprint([parse_int(text)], tile, facts(*conditions))
    assert (found.lo, found.extent, found.exact) == (parse_int(lo), extent, exact)


def test_unbounded_footprints_are_not_guessed():
    assert footprint([parse_int("K*p")], {"p": (0, 4)}, OUTER) is None
    assert footprint([parse_int("p"), parse_int("p % K")], {"p": (0, 4)}, OUTER) is None


def test_an_empty_tile_is_refused():
    with pytest.raises(ValueError, match="tile symbol p has no values"):
        footprint([parse_int("p")], {"p": (4, 4)}, OUTER)


def test_a_box_with_a_shared_symbol_is_exact_only_when_filled():
    tile = {"p": (0, 4), "r": (0, 4)}
    diagonal = footprint([parse_int("p"), parse_int("p + r")], tile, OUTER)
    assert [found.exact for found in diagonal] == [False, False]
    filled = footprint([parse_int("q//8"), parse_int("q % 8")], {"q": (0, 64)}, OUTER)
    assert [(found.extent, found.exact) for found in filled] == [(8, True), (8, True)]


INDICES = [
    "a + 2*p",
    "3*p - r + b",
    "(p + a)//2",
    "(3*p + a + r)//4",
    "(p + a) % 3",
    "p//2 + r % 2",
    "min(p + a, b)",
    "max(b - r, 0) + p",
    "a*p + r",
    "p*r",
    "(a - p)//(b + 1)",
    "(p + a) % (b + 1)",
]


@pytest.mark.parametrize("seed", range(80))
def test_ranges_hold_at_every_point(seed):
    rng = random.Random(seed)
    indices = [parse_int(text) for text in rng.sample(INDICES, 2)]
    tile = {name: (lo := rng.randint(-2, 2), lo + rng.randint(1, 5)) for name in ("p", "r")}
    known = Facts().assume(parse_bool("0 <= a <= 6 and 0 <= b <= 6"))
    found = footprint(indices, tile, known)
    assert found is not None or min(lo for lo, _ in tile.values()) < 0
    if found is None:
        return
    for a, b in itertools.product(range(7), repeat=2):
        points = [{"a": a, "b": b, "p": p, "r": r} for p in range(*tile["p"]) for r in range(*tile["r"])]
        touched = {tuple(evaluate(index, point) for index in indices) for point in points}
        starts = [evaluate(box.lo, {"a": a, "b": b}) for box in found]
        full = set(itertools.product(*(range(lo, lo + box.extent) for lo, box in zip(starts, found, strict=True))))
        assert touched <= full
        if found[0].exact:
            assert touched == full


@pytest.mark.parametrize(
    ("texts", "tile", "expected"),
    [
        (["256*i + 8*j + k"], {"i": (0, 256), "j": (0, 32), "k": (0, 8)}, True),
        (["7*j + k"], {"j": (0, 1000), "k": (0, 8)}, False),
        (["7*j + k + M*N"], {"j": (0, 1000), "k": (0, 7)}, True),
        (["i//8 + 8*(i % 8)"], {"i": (0, 64)}, True),
        (["i//8 + 4*(i % 8)"], {"i": (0, 64)}, False),
        (["i//8", "i % 8"], {"i": (0, 64000)}, True),
        (["i", "i + j"], {"i": (0, 4), "j": (0, 4)}, True),
        (["i"], {"i": (0, 4), "j": (0, 4)}, False),
        (["i"], {"i": (0, 4), "j": (0, 1)}, True),
        (["(i + M)//2"], {"i": (0, 4)}, False),
        (["i + j*N"], {"i": (0, 4), "j": (0, 4)}, False),
    ],
)
def test_injectivity(texts, tile, expected):
    assert is_injective([parse_int(text) for text in texts], tile) is expected


def test_injectivity_may_follow_from_facts():
    tile = {"i": (0, 4), "j": (0, 4)}
    assert is_injective([parse_int("i + j*N")], tile, facts("N >= 4"))
    assert not is_injective([parse_int("i + j*N")], tile, facts("N >= 3"))
