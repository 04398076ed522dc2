"""TExpr's integer semantics in z3: ``//`` and ``%`` floor, and divisors are collected because they must not be zero."""

import z3

from texpr.math.expr import (
    Add,
    And,
    BoolExpr,
    Compare,
    CompareOp,
    Const,
    FloorDiv,
    IntExpr,
    Literal,
    Max,
    Min,
    Mod,
    Mul,
    Or,
    Sym,
    ceildiv,
    maximum,
    minimum,
)


class Floor:
    """A z3 integer with Python's operators; collects the divisors that must not be zero."""

    def __init__(self, term, divisors):
        self.term = term
        self.divisors = divisors

    def wrap(self, term):
        return Floor(term, self.divisors)

    def operand(self, other):
        return other.term if isinstance(other, Floor) else z3.IntVal(other)

    def __add__(self, other):
        return self.wrap(self.term + self.operand(other))

    def __sub__(self, other):
        return self.wrap(self.term - self.operand(other))

    def __mul__(self, other):
        return self.wrap(self.term * self.operand(other))

    def __rmul__(self, other):
        return self.wrap(other * self.term)

    def __rsub__(self, other):
        return self.wrap(other - self.term)

    def __radd__(self, other):
        return self.wrap(other + self.term)

    def __neg__(self):
        return self.wrap(-self.term)

    def __floordiv__(self, other):
        return self.wrap(floor_quotient(self.term, self.operand(other), self.divisors))

    def __mod__(self, other):
        den = self.operand(other)
        return self.wrap(self.term - den * floor_quotient(self.term, den, self.divisors))


def floor_quotient(num, den, divisors):
    if z3.is_int_value(den):
        value = den.as_long()
        return num / den if value > 0 else (-num) / z3.IntVal(-value)
    divisors.append(den)
    return z3.If(den > 0, num / den, (-num) / (-den))


def lowest(*args):
    return extremum(args, minimum, lambda a, b: z3.If(a <= b, a, b))


def highest(*args):
    return extremum(args, maximum, lambda a, b: z3.If(a >= b, a, b))


def extremum(args, build, choose):
    if not any(isinstance(arg, Floor) for arg in args):
        return build(*args)
    first = next(arg for arg in args if isinstance(arg, Floor))
    result = first.operand(args[0])
    for arg in args[1:]:
        result = choose(result, first.operand(arg))
    return first.wrap(result)


def ceiling(num, den):
    return -((-num) // den) if isinstance(num, Floor) else ceildiv(num, den)


def to_z3(e: IntExpr, divisors):
    match e:
        case Const(value):
            return z3.IntVal(value)
        case Sym(name):
            return z3.Int(name)
        case Add(args):
            return z3.Sum([to_z3(arg, divisors) for arg in args])
        case Mul(args):
            return z3.Product([to_z3(arg, divisors) for arg in args])
        case FloorDiv(num, den):
            return floor_quotient(to_z3(num, divisors), to_z3(den, divisors), divisors)
        case Mod(num, den):
            top, bottom = to_z3(num, divisors), to_z3(den, divisors)
            return top - bottom * floor_quotient(top, bottom, divisors)
        case Min(args) | Max(args):
            terms = [Floor(to_z3(arg, divisors), divisors) for arg in args]
            return (lowest if isinstance(e, Min) else highest)(*terms).term


def condition_to_z3(condition: BoolExpr, divisors):
    match condition:
        case Literal(value):
            return z3.BoolVal(value)
        case And(args):
            return z3.And([condition_to_z3(arg, divisors) for arg in args])
        case Or(args):
            return z3.Or([condition_to_z3(arg, divisors) for arg in args])
        case Compare(op, lhs, rhs):
            a, b = to_z3(lhs, divisors), to_z3(rhs, divisors)
            results = {
                CompareOp.LT: a < b,
                CompareOp.LE: a <= b,
                CompareOp.GT: a > b,
                CompareOp.GE: a >= b,
                CompareOp.EQ: a == b,
                CompareOp.NE: a != b,
            }
            return results[op]


def is_valid(formula, divisors):
    """Whether the formula holds for all integers that make no divisor zero; work is limited, time is not."""
    solver = z3.Solver()
    solver.set("rlimit", 40_000_000)
    solver.add([den != 0 for den in divisors])
    solver.add(z3.Not(formula))
    return solver.check() == z3.unsat
