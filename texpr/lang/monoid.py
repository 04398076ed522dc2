"""User-defined reduction operators: ``te.monoid(lambda p, q: ..., identity=...)``.

Associativity cannot be proved for an arbitrary function. It is tested when the monoid is made, on random rationals in
exact arithmetic (integers in their own wrapping type), with a small tolerance where the function uses exp, log and
the like: checked, not proved.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from texpr.dtypes import DType, Kind
from texpr.lang.errors import NotAssociativeError, ReductionError, user_location
from texpr.lang.ir import Cast, Const, Expr, Monoid, Op, OpName, Select, Var, walk
from texpr.lang.symmetry import is_symmetric
from texpr.lang.value import Number, Value, coerce, literal, retype

Exact = Fraction | int | float | bool
_TRIALS: Final = 60
_TOLERANCE: Final = 1e-9


class UserMonoid:
    """An operator on numbers or tuples of numbers; :meth:`typed` gives it element types."""

    def __init__(
        self, combine: Callable[..., Any], identity: tuple[Number, ...], scalar: bool, commutative: bool, name: str
    ) -> None:
        self.combine = combine
        self.identity = identity
        self.scalar = scalar
        self.commutative = commutative
        self.name = name
        self.known: dict[tuple[DType, ...], Monoid] = {}

    def typed(self, dtypes: tuple[DType, ...]) -> Monoid:
        """The IR operator on components of these types. Raises ReductionError or NotAssociativeError."""
        if dtypes not in self.known:
            monoid = self.trace(dtypes)
            _check_laws(monoid, self.commutative)
            self.known[dtypes] = monoid
        return self.known[dtypes]

    def trace(self, dtypes: tuple[DType, ...]) -> Monoid:
        if len(dtypes) != len(self.identity):
            raise ReductionError(
                op=self.name,
                problem=f"it reduces {len(self.identity)} values, got {len(dtypes)}",
                hint=f"te.reduce(monoid, a tuple of {len(self.identity)} values, over=k)",
                at=user_location(),
            )
        left = tuple(Var(f"p{k}", dtype) for k, dtype in enumerate(dtypes))
        right = tuple(Var(f"q{k}", dtype) for k, dtype in enumerate(dtypes))
        p, q = tuple(map(Value, left)), tuple(map(Value, right))
        result = self.combine(p[0], q[0]) if self.scalar else self.combine(p, q)
        parts = result if isinstance(result, tuple) else (result,)
        if len(parts) != len(dtypes):
            raise ReductionError(
                op=self.name,
                problem=f"combine gives {len(parts)} values, the identity has {len(dtypes)}",
                hint="combine=lambda p, q: (...), one value for each of the identity",
                at=user_location(),
            )
        combine = tuple(self.component(part, dtype) for part, dtype in zip(parts, dtypes, strict=True))
        identity = tuple(literal(value, dtype) for value, dtype in zip(self.identity, dtypes, strict=True))
        either = self.commutative and is_symmetric(left, right, combine)
        return Monoid(self.name, left, right, combine, identity, either)

    def component(self, part: object, dtype: DType) -> Expr:
        value = coerce(part, self.name)
        value = retype(value, dtype) if value.weak else value
        if value.dtype is not dtype:
            raise ReductionError(
                op=self.name,
                problem=f"combine gives {value.dtype} for a component of type {dtype}",
                hint=f".to('{dtype}')",
                at=user_location(),
            )
        for node in walk(value.expr):
            if not isinstance(node, Const | Var | Op | Select | Cast):
                raise ReductionError(
                    op=self.name,
                    problem="combine uses something other than its two arguments and numbers",
                    hint="pass it as one more component",
                    at=user_location(),
                )
        return value.expr


def monoid(
    combine: Callable[..., Any],
    *,
    identity: Number | tuple[Number, ...],
    commutative: bool = False,
    name: str = "monoid",
) -> UserMonoid:
    """An associative operator for ``te.reduce``.

    ``combine(p, q)`` takes and gives numbers, or tuples if ``identity`` is a tuple. Associativity, the identity and,
    where claimed, commutativity are tested on random values. Raises NotAssociativeError.
    """
    scalar = not isinstance(identity, tuple)
    values: tuple[Number, ...] = identity if isinstance(identity, tuple) else (identity,)
    for value in values:
        if not isinstance(value, (int, float)):
            raise ReductionError(
                op="te.monoid",
                problem=f"the identity must be numbers, got {value!r}",
                hint="identity=(1.0, 0.0)",
                at=user_location(),
            )
    result = UserMonoid(combine, values, scalar, commutative, name)
    result.typed(
        tuple(DType.BOOL if isinstance(v, bool) else DType.I32 if isinstance(v, int) else DType.F32 for v in values)
    )
    return result


def _check_laws(monoid: Monoid, commutative: bool) -> None:
    generator = random.Random(20)
    identity = tuple(_exact(const) for const in monoid.identity)
    decided = 0
    for _ in range(_TRIALS):
        x, y, z = (tuple(_draw(generator, var.dtype) for var in monoid.left) for _ in range(3))
        try:
            decided += 1
            _require(
                "associative",
                monoid,
                (x, y, z),
                _combine(monoid, _combine(monoid, x, y), z),
                _combine(monoid, x, _combine(monoid, y, z)),
            )
            _require("neutral with its identity on the left", monoid, (x,), _combine(monoid, identity, x), x)
            _require("neutral with its identity on the right", monoid, (x,), _combine(monoid, x, identity), x)
            if commutative:
                _require("commutative", monoid, (x, y), _combine(monoid, x, y), _combine(monoid, y, x))
        except (ZeroDivisionError, ValueError, OverflowError):
            decided -= 1
    if not decided:
        raise ReductionError(
            op=monoid.name,
            problem="combine failed on every random input (division by zero, logarithm of a negative)",
            hint="make it total: te.where(n == 0, 0, x / n)",
            at=user_location(),
        )


def _require(
    law: str, monoid: Monoid, inputs: tuple[tuple[Exact, ...], ...], a: tuple[Exact, ...], b: tuple[Exact, ...]
) -> None:
    if all(_close(left, right) for left, right in zip(a, b, strict=True)):
        return
    shown = ", ".join(_show(value) for value in inputs)
    raise NotAssociativeError(
        hint="drop commutative=True" if law == "commutative" else None,
        law=law,
        evidence=f"on {shown} it gives {_show(a)} one way and {_show(b)} the other",
        at=user_location(),
    )


def _show(value: tuple[Exact, ...]) -> str:
    texts = [str(part) for part in value]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _close(a: Exact, b: Exact) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return a == b


def _draw(generator: random.Random, dtype: DType) -> Exact:
    if dtype is DType.BOOL:
        return generator.random() < 0.5
    if dtype.is_float:
        return Fraction(generator.randint(-6, 6), generator.randint(1, 4))
    if generator.random() < 0.25:
        return _wrap(generator.getrandbits(64), dtype)
    return _wrap(generator.randint(-6, 6), dtype)


def _exact(const: Const) -> Exact:
    if isinstance(const.value, float) and math.isfinite(const.value):
        return Fraction(const.value)
    return const.value


def _wrap(value: int, dtype: DType) -> int:
    value &= (1 << dtype.bits) - 1
    return value - (1 << dtype.bits) if dtype.kind is Kind.SIGNED and value >> (dtype.bits - 1) else value


def _combine(monoid: Monoid, p: tuple[Exact, ...], q: tuple[Exact, ...]) -> tuple[Exact, ...]:
    values = {var.name: value for var, value in zip((*monoid.left, *monoid.right), (*p, *q), strict=True)}
    return tuple(_evaluate(expr, values) for expr in monoid.combine)


def _evaluate(expr: Expr, values: Mapping[str, Exact]) -> Exact:
    match expr:
        case Var(name=name):
            return values[name]
        case Const():
            return _exact(expr)
        case Select(condition=condition, then=then, otherwise=otherwise):
            return _evaluate(then if _evaluate(condition, values) else otherwise, values)
        case Cast(value=value, dtype=dtype):
            number = _evaluate(value, values)
            return _wrap(int(number), dtype) if dtype.is_int else number
        case Op(name=name, args=args, dtype=dtype):
            result = _EXACT[name](*(_evaluate(arg, values) for arg in args))
            return _wrap(int(result), dtype) if dtype.is_int else result
        case _:
            raise AssertionError(f"{type(expr).__name__} in a monoid")


_EXACT: Final[dict[OpName, Callable[..., Any]]] = {
    OpName.ADD: lambda a, b: a + b,
    OpName.SUB: lambda a, b: a - b,
    OpName.MUL: lambda a, b: a * b,
    OpName.DIV: lambda a, b: a / b,
    OpName.FLOORDIV: lambda a, b: a // b,
    OpName.MOD: lambda a, b: a % b,
    OpName.NEG: lambda a: -a,
    OpName.ABS: abs,
    OpName.MIN: lambda a, b: a if a <= b else b,
    OpName.MAX: lambda a, b: a if a >= b else b,
    OpName.POW: lambda a, b: float(a) ** float(b),
    OpName.AND: lambda a, b: a & b,
    OpName.OR: lambda a, b: a | b,
    OpName.XOR: lambda a, b: a ^ b,
    OpName.NOT: lambda a: not a if isinstance(a, bool) else ~a,
    OpName.SHL: lambda a, b: a << b if 0 <= b < 64 else 0,
    OpName.SHR: lambda a, b: a >> b if 0 <= b < 64 else (-1 if a < 0 else 0),
    OpName.LT: lambda a, b: a < b,
    OpName.LE: lambda a, b: a <= b,
    OpName.GT: lambda a, b: a > b,
    OpName.GE: lambda a, b: a >= b,
    OpName.EQ: lambda a, b: a == b,
    OpName.NE: lambda a, b: a != b,
    OpName.EXP: math.exp,
    OpName.EXP2: lambda a: 2.0 ** float(a),
    OpName.LOG: math.log,
    OpName.LOG2: math.log2,
    OpName.SQRT: math.sqrt,
    OpName.RSQRT: lambda a: 1 / math.sqrt(a),
    OpName.SIN: math.sin,
    OpName.COS: math.cos,
    OpName.TANH: math.tanh,
    OpName.ERF: math.erf,
    OpName.FLOOR: math.floor,
    OpName.CEIL: math.ceil,
    OpName.FMA: lambda a, b, c: a * b + c,
}
