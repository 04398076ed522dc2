"""Every canonicalisation rule is proved with z3, and random expressions keep their values.

A case is a function of its symbols. It runs once on TExpr symbols, which canonicalise, and once on z3 integers with
floor semantics; z3 then looks for values where the two differ. Divisors are assumed not to be zero.
"""

import random

import pytest
import z3

from tests.math.z3_semantics import Floor, ceiling, highest, is_valid, lowest, to_z3
from texpr.math.expr import Const, evaluate, maximum, minimum, sym

NAMES = ("x", "y", "z", "n")


# One line per rule: what is written, and how the canonical form prints.
RULES = {
    "sums are flattened and merged": (lambda x, y: (x + 2 * y) + (3 * x - y) - 4 * x, "y"),
    "products distribute over sums": (lambda x, y: (x + 1) * (y - 2), "x*y + y - 2*x - 2"),
    "equal factors are kept": (lambda x: (x + 1) * (x - 1), "x*x - 1"),
    "division by one": (lambda x: x // 1 + x % 1, "x"),
    "division by minus one": (lambda x: x // -1, "-x"),
    "negative divisor": (lambda x: x // -4, "-((x + 3)//4)"),
    "negative divisor of a remainder": (lambda x: x % -4, "-(-x % 4)"),
    "whole parts leave a quotient": (lambda x, y: (8 * x + y + 13) // 4, "(y + 1)//4 + 2*x + 3"),
    "whole parts leave a quotient, negative": (lambda x, y: (y - 9 * x) // 4, "(y - x)//4 - 2*x"),
    "whole parts vanish from a remainder": (lambda x, y: (8 * x + y + 13) % 4, "(y + 1) % 4"),
    "whole parts vanish from a remainder, negative": (lambda x, y: (y - 9 * x - 5) % 4, "(y - x + 3) % 4"),
    "common factor of a quotient": (lambda x: (6 * x + 4) // 8, "(3*x + 2)//4"),
    "common factor of a quotient, constant rounds down": (lambda x: (6 * x + 5) // 8, "(3*x + 2)//4"),
    "common factor of a remainder": (lambda x: (6 * x + 5) % 8, "2*((3*x + 2) % 4) + 1"),
    "quotients of quotients": (lambda x: x // 4 // 8, "x//32"),
    "a sum with one quotient, divided": (lambda x, y: (x // 4 + y + 3) // 8, "(x + 4*y + 12)//32"),
    "ceilings of ceilings": (lambda x: ceiling(ceiling(x, 16), 8), "(x + 127)//128"),
    "a negated quotient is a ceiling": (lambda x: -((-x) // 128), "(x + 127)//128"),
    "negative coefficients are turned round": (lambda x, y: (5 - x - 2 * y) // 8, "-((x + 2*y + 2)//8)"),
    "remainder divided by its divisor": (lambda x: x % 8 // 8, "0"),
    "remainder divided by more": (lambda x: x % 8 // 9, "0"),
    "remainder divided by less": (lambda x: x % 9 // 8, "x % 9//8"),
    "remainder divided by a part": (lambda x: x % 32 // 8, "x//8 % 4"),
    "remainder of a remainder, larger": (lambda x: x % 8 % 12, "x % 8"),
    "remainder of a remainder, divisor": (lambda x: x % 12 % 4, "x % 4"),
    "remainder inside a sum": (lambda x, y: (x % 8 + y) % 4, "(x + y) % 4"),
    "scaled remainder inside a sum": (lambda x, y: (3 * (x % 8) + y) % 12, "(3*x + y) % 12"),
    "quotient and remainder join": (lambda x: 32 * (x // 32) + x % 32, "x"),
    "scaled quotient and remainder join": (lambda x, n: n * (x // 32) * 32 + x % 32 * n, "n*x"),
    "mixed radix joins": (lambda x: 128 * (x // 128) + 32 * (x // 32 % 4) + x % 32, "x"),
    "remainder written out": (lambda x: x - 32 * (x // 32), "x % 32"),
    "remainder written out with a rest": (lambda x, y: y + 3 * x - 12 * (x // 4), "3*(x % 4) + y"),
    "padding of a ceiling": (lambda x: 4 * ceiling(x, 4) - x, "3 - (x + 3) % 4"),
    "symbolic whole parts": (lambda x, y, n: (x * n + y) // n, "x + y//n"),
    "symbolic whole parts of a remainder": (lambda x, y, n: (x * n + y) % n, "y % n"),
    "symbolic common factor": (lambda x, y, n: (x * n) // (y * n), "x//y"),
    "symbolic common factor of a remainder": (lambda x, y, n: (x * n) % (y * n), "n*(x % y)"),
    "symbolic quotient and remainder join": (lambda x, n: x // n * n + x % n, "x"),
    "a value divided by itself": (lambda x, y: (x + y) // (x + y) + (x + y) % (x + y), "1"),
    "zero divided": (lambda n: (n - n) // n + (n - n) % n, "0"),
    "negative symbolic divisor": (lambda x, n: x // (-n) + x % (-n), "-x//n - -x % n"),
    "minimum flattens": (lambda x, y, z: lowest(lowest(x, y), lowest(y, z)), "min(x, y, z)"),
    "minimum drops the larger": (lambda x, y: lowest(x + 3, y, x), "min(x, y)"),
    "maximum drops the smaller": (lambda x, y: highest(x, y, x + 3), "max(x + 3, y)"),
    "minimum absorbs a maximum": (lambda x, y: lowest(x, highest(x, y)), "x"),
    "maximum absorbs a minimum": (lambda x, y, z: highest(lowest(x, y), z, x), "max(x, z)"),
    "constants fold in minima": (lambda x: lowest(x, 5, 3), "min(x, 3)"),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_holds_for_all_integers(name):
    rule, printed = RULES[name]
    names = rule.__code__.co_varnames[: rule.__code__.co_argcount]
    canonical = rule(*map(sym, names))
    assert str(canonical) == printed
    divisors = []
    written = rule(*(Floor(z3.Int(n), divisors) for n in names)).term
    built = to_z3(canonical, divisors)
    assert is_valid(written == built, divisors)


def random_expression(rng: random.Random, depth: int, combine):
    """``combine`` maps an operator's name and its operands to a value; leaves are names and ints."""
    if depth == 0 or rng.random() < 0.15:
        return combine("leaf", rng.choice([*NAMES, *NAMES, rng.randint(-9, 9)]))
    operator = rng.choice(["+", "-", "*", "//", "//", "%", "%", "scale", "min", "max"])
    left = random_expression(rng, depth - 1, combine)
    if operator in ("//", "%") and rng.random() < 0.8:
        return combine(operator, left, combine("leaf", rng.choice([-6, -4, -1, 1, 2, 3, 4, 6, 8, 12, 32])))
    if operator == "scale":
        return combine("*", left, combine("leaf", rng.choice([-4, -3, -1, 2, 3, 4, 8])))
    return combine(operator, left, random_expression(rng, depth - 1, combine))


def symbolic(operator, *args):
    if operator == "leaf":
        return sym(args[0]) if isinstance(args[0], str) else Const(args[0])
    return apply(operator, *args, minimum, maximum)


def apply(operator, a, b, least, most):
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return a // b
        case "%":
            return a % b
        case "min":
            return least(a, b)
        case _:
            return most(a, b)


@pytest.mark.parametrize("seed", range(300))
def test_random_expressions_keep_their_value(seed):
    try:
        e = random_expression(random.Random(seed), 4, symbolic)
    except ZeroDivisionError:
        return
    rng = random.Random(-seed)
    for _ in range(30):
        values = {name: rng.randint(-20, 40) for name in NAMES}

        def number(operator, *args, values=values):
            if operator == "leaf":
                return values[args[0]] if isinstance(args[0], str) else args[0]
            return apply(operator, *args, min, max)

        try:
            expected = random_expression(random.Random(seed), 4, number)
        except ZeroDivisionError:
            continue
        assert evaluate(e, values) == expected, (str(e), values)


def test_sums_do_not_depend_on_the_order_of_writing():
    x, y, n = sym("x"), sym("y"), sym("n")
    assert x * n + y // 4 + 3 is 3 + y // 4 + n * x
    assert (x + y) * n is n * y + x * n
