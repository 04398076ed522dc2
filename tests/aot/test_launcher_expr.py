"""Expressions as C: compiled and compared with exact integers, at the edges of int64 and with every sign."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.aot.launcher_build import WARNINGS, run
from tests.aot.launcher_model import Model, Overflow, number
from tests.aot.launcher_packages import linear
from texpr.aot.c_expr import INT64, Interval, Scope, c_condition, c_integer
from texpr.aot.c_support import LIMITS, functions_called_by
from texpr.math.expr import (
    Atom,
    BoolExpr,
    CompareOp,
    IntExpr,
    TypeIn,
    aligned,
    ceildiv,
    compare,
    conjunction,
    const,
    disjunction,
    ge,
    gt,
    le,
    lt,
    maximum,
    minimum,
    negation,
    sym,
)

RANGES = {
    "d": Interval(0, 0x7FFF0000),  # a dim
    "e": Interval(1, 2**20),
    "s": Interval(-(2**31), 2**31 - 1),
    "w": INT64,
    "v": INT64,
}
POINTS = {
    "d": (0, 1, 7, 127, 128, 0x7FFF0000),
    "e": (1, 2, 255, 2**20),
    "s": (-(2**31), -7, -1, 0, 1, 5, 2**31 - 1),
    "w": (-(2**63), -(2**63) + 1, -(2**32), -9, -1, 0, 1, 2, 10, 2**31, 2**62, 2**63 - 1),
    "v": (-(2**63), -5, -1, 0, 1, 3, 2**33, 2**63 - 1),
}
d, e, s, w, v = (sym(name) for name in RANGES)


def no_atoms(atom: Atom) -> str:
    raise AssertionError(atom)


MODEL = Model(linear()[0], linear()[0].entries[0], (), sms=1)
SCOPE = Scope("t", {name: (name, interval) for name, interval in RANGES.items()}, no_atoms)


def grown(rng: random.Random, depth: int) -> IntExpr:
    """A random expression; division by zero and overflow happen."""
    if depth == 0 or rng.random() < 0.15:
        return rng.choice([d, e, s, w, v, const(rng.choice([-8, -1, 1, 2, 3, 127, 2**31, 2**40]))])
    a, b = grown(rng, depth - 1), grown(rng, depth - 1)
    operations: list[Callable[[], IntExpr]] = [
        lambda: a + b,
        lambda: a - b,
        lambda: a * b,
        lambda: a // b,
        lambda: a % b,
        lambda: a // 64,
        lambda: a % -7,
        lambda: ceildiv(a, 16),
        lambda: minimum(a, b),
        lambda: maximum(a, b, 1),
    ]
    try:
        return rng.choice(operations)()
    except ZeroDivisionError:
        return a


def fits(expr: IntExpr) -> bool:
    """Its literals fit 64 bits; others are refused when the text is written."""
    try:
        c_integer(expr, SCOPE)
    except ValueError:
        return False
    return True


def compiled(bodies: list[str], folder: Path) -> ctypes.CDLL:
    """One function ``f<i>(values, &overflow)`` per text, under UBSan."""
    parameters = "const int64_t *at, int *flag"
    names = "".join(f"  const int64_t {name} = at[{i}];\n" for i, name in enumerate(RANGES))
    use = "".join(f"  (void){name};\n" for name in RANGES)
    functions = "\n".join(
        f"int64_t f{i}({parameters});\nint64_t f{i}({parameters}) {{\n"
        f"{names}  int overflow = 0;\n  int64_t result;\n{use}"
        f"  result = {body};\n  *flag = overflow;\n  return result;\n}}"
        for i, body in enumerate(bodies)
    )
    helpers = "\n".join(functions_called_by(functions, "t").values())
    source = folder / "expr.c"
    source.write_text(f"#include <stdint.h>\n{LIMITS}\n{helpers}\n{functions}\n")
    library = folder / "expr.so"
    sanitize = ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC"]
    run(["gcc", "-std=c89", *WARNINGS, *sanitize, source, "-o", library])
    return ctypes.CDLL(str(library))


def evaluated(library: ctypes.CDLL, index: int, point: dict[str, int]) -> int | None:
    """The C value, or None when it flags an overflow."""
    function = library[f"f{index}"]
    function.restype = ctypes.c_int64
    flag = ctypes.c_int(-1)
    value = function((ctypes.c_int64 * len(RANGES))(*point.values()), ctypes.byref(flag))
    return None if flag.value else int(value)


def points(rng: random.Random, count: int) -> list[dict[str, int]]:
    return [{name: rng.choice(values) for name, values in POINTS.items()} for _ in range(count)]


def test_integers_are_exact_or_flagged(tmp_path: Path) -> None:
    rng = random.Random(7)
    named = [
        d * e,
        (d + 127) // 128,
        w // v,
        w % v,
        -w,
        w * v,
        w + v,
        w - v,
        -(w // 3),
        s % 5,
        s // -5,
        (d - 1) * e - s,
    ]
    expressions = named + [expr for expr in (grown(rng, 3) for _ in range(400)) if fits(expr)]
    library = compiled([c_integer(expr, SCOPE).text for expr in expressions], tmp_path)
    flagged = 0
    for index, expr in enumerate(expressions):
        exact = number(expr)
        for point in points(rng, 30):
            got = evaluated(library, index, point)
            try:
                assert got == exact(point), (str(expr), point)
            except Overflow:
                assert got is None, (str(expr), point)
                flagged += 1
    assert flagged > 100


def test_the_stated_range_holds_every_value() -> None:
    rng = random.Random(8)
    for expr in [expr for expr in (grown(rng, 3) for _ in range(300)) if fits(expr)]:
        interval = c_integer(expr, SCOPE).interval
        exact = number(expr)
        for point in points(rng, 30):
            try:
                assert interval.low <= exact(point) <= interval.high, (str(expr), point)
            except Overflow:
                assert c_integer(expr, SCOPE).checked


def test_conditions_are_true_when_they_should_be(tmp_path: Path) -> None:
    rng = random.Random(9)
    comparisons = [compare(rng.choice(list(CompareOp)), grown(rng, 1), grown(rng, 1)) for _ in range(300)]
    conditions: list[BoolExpr] = [
        disjunction(conjunction(a, b), negation(c)) for a, b, c in zip(*[iter(comparisons)] * 3, strict=True)
    ]
    conditions += comparisons
    texts = [c_condition(condition, SCOPE) for condition in conditions]
    library = compiled([f"({text.text}) != 0" for text in texts], tmp_path)
    for index, condition in enumerate(conditions):
        for point in points(rng, 30):
            got = evaluated(library, index, point)
            try:
                assert got == truth(condition, point), (str(condition), point)
            except Overflow:
                assert got is None, (str(condition), point)


def truth(condition: BoolExpr, point: dict[str, int]) -> bool:
    return MODEL.condition(condition, point, {})


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (ceildiv(d, 128) * e, "(d + 127) / 128 * e"),
        (d * e - 5, "d * e - 5"),
        (3 - d, "-d + 3"),
        (s // 4, "t_floor_div(s, 4, &overflow)"),
        (w * 2, "t_mul(2, w, &overflow)"),
        (minimum(d, 4), "t_min(d, 4)"),
        (const(2**31) * d, "2147483648 * d"),
    ],
)
def test_plain_arithmetic_stays_plain(expr: IntExpr, text: str) -> None:
    assert c_integer(expr, SCOPE).text == text


@pytest.mark.parametrize(
    ("condition", "value"),
    [(ge(d, 0), True), (lt(d, 0), False), (le(e, 2**20), True), (gt(d, 5), None), (ge(w * v, 0), None)],
)
def test_what_the_ranges_decide_is_not_tested_at_run_time(condition: BoolExpr, value: bool | None) -> None:
    assert c_condition(condition, SCOPE).value is value


def test_an_operand_that_may_overflow_is_evaluated_before_the_deciding_one() -> None:
    first, last = le(w * v, 5), lt(d, 0)
    text = c_condition(conjunction(first, last), SCOPE)
    assert text.value is None and text.checked and text.text == "(t_mul(v, w, &overflow) <= 5) && (0)"
    assert c_condition(conjunction(last, first), SCOPE).value is False


def test_unknown_symbols_and_open_type_tests_are_refused() -> None:
    with pytest.raises(ValueError, match="does not know the symbol Q"):
        c_integer(sym("Q") + 1, SCOPE)
    with pytest.raises(ValueError, match="still open"):
        c_condition(TypeIn("T", ("f16",)), SCOPE)
    with pytest.raises(ValueError, match="does not fit 64 bits"):
        c_integer(const(2**63), SCOPE)
    with pytest.raises(AssertionError):
        c_condition(aligned("x", to=16), SCOPE)
