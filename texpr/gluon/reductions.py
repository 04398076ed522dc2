"""Reductions of tiles as Gluon code: which combine function a reduction uses, and how a user's monoid becomes one.

``gl.reduce`` combines in registers, then between lanes, then between warps, in an order of its own: the combine
function must be commutative.
"""

from __future__ import annotations

from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.gluon.casts import cast
from texpr.gluon.helpers import Preamble
from texpr.gluon.operations import LARGEST_UNROLLED_POWER, choose, elementwise, power, word
from texpr.gluon.text import Text, call, constant, method
from texpr.gluon.types import Dialect, plain_constant, typed_constant
from texpr.lang.ir import Cast, Const, Expr, Monoid, Op, OpName, ReduceOp, Select, Var, children, walk


def reduce_text(
    op: ReduceOp, dtype: DType, args: tuple[Text, ...], axis: int, dialect: Dialect, preamble: Preamble
) -> Text:
    """The reduction of ``args`` along ``axis``: a tile, or a tuple of tiles for the arg-reductions."""
    if op is ReduceOp.SUM:
        total = call("gl.sum", args[0], str(axis))
        # gl.sum adds narrow integers up in 32 bits; wrapping once at the end is the same.
        narrow = dtype.is_int and dtype.bits < 32
        return method(total, f"to({dialect.register(dtype)})") if narrow else total
    return reduce_with(preamble.use(combine_helper(op, dtype)), args, axis)


def reduce_with(combine: str, args: tuple[Text, ...], axis: int) -> Text:
    """A reduction by the device function ``combine``."""
    operand = args[0].code if len(args) == 1 else f"({', '.join(arg.code for arg in args)})"
    return call("gl.reduce", operand, str(axis), combine)


def scan_with(combine: str, args: tuple[Text, ...], axis: int, reverse: bool) -> Text:
    """A scan by the device function ``combine``; order is kept, association is Triton's."""
    operand = args[0].code if len(args) == 1 else f"({', '.join(arg.code for arg in args)})"
    return call("gl.associative_scan", operand, str(axis), combine, *(["reverse=True"] if reverse else []))


def combine_helper(op: ReduceOp, dtype: DType) -> str:
    """The device function that combines two values."""
    match op:
        case ReduceOp.SUM:
            return "add"
        case ReduceOp.PROD:
            return "multiply"
        case ReduceOp.MAX | ReduceOp.MIN:
            return f"{op.value}_{'nan' if dtype.is_float else 'int'}"
        case ReduceOp.ARGMAX | ReduceOp.ARGMIN:
            return f"{op.value}_{'float' if dtype.is_float else 'int'}"
        case ReduceOp.ANY | ReduceOp.OR:
            return "bit_or"
        case ReduceOp.ALL | ReduceOp.AND:
            return "bit_and"
        case ReduceOp.XOR:
            return "bit_xor"
        case _:
            raise AssertionError(f"{op} has no combine function")


def define_monoid(name: str, monoid: Monoid, dialect: Dialect, preamble: Preamble) -> str:
    """Make ``monoid``'s combine function under the identifier ``name``; returns the name."""
    writer = _MonoidWriter(dialect, preamble)
    for side, variables in (("left", monoid.left), ("right", monoid.right)):
        for n, variable in enumerate(variables):
            writer.name(variable, f"{side}_{n}" if len(variables) > 1 else side)
    parameters = ", ".join(writer.known[id(v)].code for v in (*monoid.left, *monoid.right))
    counts = _use_counts(monoid.combine)
    results = [writer.result(expr, counts) for expr in monoid.combine]
    lines = [
        "@gluon.jit",
        f"def {name}({parameters}):",
        f'    """The combine function of monoid {monoid.name}."""',
        *writer.lines,
        f"    return {', '.join(result.code for result in results)}",
    ]
    return preamble.define(name, "\n".join(lines))


def _use_counts(exprs: tuple[Expr, ...]) -> dict[int, int]:
    counts: dict[int, int] = {}
    seen: dict[int, Expr] = {}
    for root in exprs:
        counts[id(root)] = counts.get(id(root), 0) + 1
        for node in walk(root):
            if id(node) not in seen:
                seen[id(node)] = node
                for child in children(node):
                    counts[id(child)] = counts.get(id(child), 0) + 1
    return counts


@dataclass(slots=True)
class _MonoidWriter:
    """The body of one combine function while it is written. ``known`` maps expressions (by identity) to their code."""

    dialect: Dialect
    preamble: Preamble
    known: dict[int, Text]
    lines: list[str]

    def __init__(self, dialect: Dialect, preamble: Preamble) -> None:
        self.dialect = dialect
        self.preamble = preamble
        self.known = {}
        self.lines = []

    def name(self, expr: Expr, identifier: str) -> Text:
        self.known[id(expr)] = Text(identifier)
        return self.known[id(expr)]

    def write(self, expr: Expr, counts: dict[int, int]) -> Text:
        if id(expr) in self.known:
            return self.known[id(expr)]
        text = self._operation(expr, counts)
        if counts[id(expr)] > 1 and not isinstance(expr, Const):
            text = self._local(expr, text)
        return text

    def result(self, expr: Expr, counts: dict[int, int]) -> Text:
        """As :func:`write`, but always a Gluon value."""
        if isinstance(expr, Const):
            number = plain_constant(expr.value, expr.dtype, self.dialect)
            return call("gl.full", "[]", number, self.dialect.register(expr.dtype))
        return self.write(expr, counts)

    def _local(self, expr: Expr, text: Text) -> Text:
        hint = word(expr.name) if isinstance(expr, Op) else "value"
        local = f"{hint}_{len(self.lines)}"
        self.lines.append(f"    {local} = {text.code}")
        return self.name(expr, local)

    def _operation(self, expr: Expr, counts: dict[int, int]) -> Text:
        match expr:
            case Const(value=value, dtype=dtype):
                return constant(plain_constant(value, dtype, self.dialect))
            case Op(name=OpName.POW, args=(base, Const(value=exponent))) if _small_whole(exponent):
                operand = self.write(base, counts)
                if not operand.is_name:
                    operand = self._local(base, operand)
                result = power(operand, int(exponent))
                assert result is not None
                return result
            case Op(name=name, args=args):
                texts = [self.write(arg, counts) for arg in args]
                if all(isinstance(arg, Const) for arg in args):
                    texts = [self._typed(arg) for arg in args]
                return elementwise(name, args[0].dtype, tuple(texts), False, self.preamble)
            case Select(condition=condition, then=then, otherwise=otherwise):
                branches = [self.write(branch, counts) for branch in (then, otherwise)]
                if isinstance(then, Const) and isinstance(otherwise, Const):
                    branches = [self._typed(branch) for branch in (then, otherwise)]
                return choose(self.write(condition, counts), *branches)
            case Cast(value=value, dtype=dtype):
                text = self._typed(value) if isinstance(value, Const) else self.write(value, counts)
                return cast(text, value.dtype, dtype, self.dialect, self.preamble)
            case Var(name=name):
                raise AssertionError(f"variable {name} is no parameter of the monoid")
            case _:
                raise AssertionError(f"{type(expr).__name__} cannot stand in a combine function")

    def _typed(self, expr: Expr) -> Text:
        assert isinstance(expr, Const)
        return constant(typed_constant(expr.value, expr.dtype, self.dialect))


def _small_whole(exponent: int | float | bool) -> bool:
    return float(exponent).is_integer() and 1 <= exponent <= LARGEST_UNROLLED_POWER
