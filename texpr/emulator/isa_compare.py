"""Comparisons and selections of integers and floats: setp, set, selp, slct, testp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import elementwise_step, store
from texpr.emulator.floats import FORMATS, flush_subnormals
from texpr.emulator.ptx import Instruction, Pair
from texpr.emulator.rows import Array, ArrayFunction, Mask, Modifiers, Row, Step, elementwise, family, special
from texpr.emulator.types import PREDICATE, Kind, ScalarType

_ORDERED: dict[str, np.ufunc] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_COMPLEMENT = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}


def comparison(name: str, scalar: ScalarType, flush: bool = False) -> ArrayFunction:
    """The predicate function of a PTX comparison on values of one type.

    For floats the plain forms are false, and the forms ending in `u` true, if an input is NaN.
    """
    if scalar.kind is Kind.ENCODED:
        decode = FORMATS[scalar.name.removesuffix("x2")].decode
        compare = _float_comparison(name)
        return lambda a, b: compare(decode(a), decode(b))
    if scalar.kind is not Kind.FLOAT:
        return _ORDERED[name]
    compare = _float_comparison(name)
    if not flush:
        return compare
    return lambda a, b: compare(flush_subnormals(a), flush_subnormals(b))


def _float_comparison(name: str) -> ArrayFunction:
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name == "ne":
        return lambda a, b: (a < b) | (a > b)
    if name in _ORDERED:
        return _ORDERED[name]
    complement = _float_comparison(_COMPLEMENT[name])
    return lambda a, b: ~complement(a, b)


def _combined(name: str, result: Array, other: Array) -> Array:
    match name:
        case "and":
            return result & other
        case "or":
            return result | other
        case _:
            return result ^ other


def _set_predicate(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """setp: `p|q` sets p to the comparison and q to its complement, each combined with a third predicate.

    Of packed types, p takes the comparison of the lower and q that of the upper halves.
    """
    scalar = modifiers.type("type")
    compare = comparison(modifiers["compare"], scalar, "ftz" in modifiers)
    operator = modifiers.get("boolean")
    to, first, second, *rest = instruction.operands
    prologue: list[Callable[[], None]] = []
    sources = [batch.registers.source(operand, scalar, prologue) for operand in (first, second)]
    other = batch.registers.source(rest[0], PREDICATE, prologue) if rest else None
    places = (to.first, to.second) if isinstance(to, Pair) else (to,)
    destinations = [batch.registers.destination(place, PREDICATE) for place in places]
    if len(destinations) == 1 and scalar.count == 1 and other is None and destinations[0] is not None:
        return elementwise_step(compare, sources, destinations[0])

    def run(mask: Mask) -> None:
        for prepare in prologue:
            prepare()
        holds = compare(*sources)
        results = (holds[0::2], holds[1::2]) if scalar.count == 2 else (holds, ~holds)
        if other is not None:
            results = (_combined(operator, results[0], other), _combined(operator, results[1], other))
        for destination, result in zip(destinations, results, strict=False):
            if destination is not None:
                store(destination, result, mask)

    return run


def _set_value(modifiers: Modifiers) -> ArrayFunction:
    """set: all ones (integer destination) or 1.0 (float destination) where the comparison holds, else zero."""
    compare = comparison(modifiers["compare"], modifiers.type("type"), "ftz" in modifiers)
    to = modifiers.type("to")
    match to.kind:
        case Kind.FLOAT:
            one = np.array(1, to.dtype)
        case Kind.ENCODED:
            one = np.array(FORMATS[to.name.removesuffix("x2")].one, to.dtype)
        case _:
            one = np.array(-1).astype(to.dtype)
    zero = np.zeros_like(one)
    return lambda a, b: np.where(compare(a, b), one, zero)


def _set_combined(modifiers: Modifiers) -> ArrayFunction:
    """set with a predicate that the comparison is combined with."""
    compare = comparison(modifiers["compare"], modifiers.type("type"), "ftz" in modifiers)
    to = modifiers.type("to")
    one = np.array(1 if to.kind is Kind.FLOAT else -1).astype(to.dtype)
    return lambda a, b, other: np.where(_combined(modifiers["boolean"], compare(a, b), other), one, np.zeros_like(one))


def _select(a: Array, b: Array, predicate: Array) -> Array:
    return np.where(predicate, a, b)


def _select_by_sign(modifiers: Modifiers) -> ArrayFunction:
    """slct: a where the third operand is not negative; .ftz makes a zero of a subnormal one."""
    if "ftz" in modifiers:
        return lambda a, b, c: np.where(flush_subnormals(c) >= 0, a, b)
    return lambda a, b, c: np.where(c >= 0, a, b)


def _test_property(modifiers: Modifiers) -> ArrayFunction:
    smallest_normal = 2.0**-126 if modifiers["type"] == "f32" else 2.0**-1022
    tests: dict[str, ArrayFunction] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= smallest_normal),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < smallest_normal),
    }
    return tests[modifiers["property"]]


_BRAIN = "bf16|bf16x2: sm_90 ptx7.8"

ROWS: tuple[Row, ...] = (
    family("set.compare:COMPARE.boolean:BOOLEAN.ftz?.to:(u32|s32|f32).type:(BITS|INT|FLOAT)", "to = type type pred",
           _set_combined),
    special("setp.compare:COMPARE.boolean:BOOLEAN?.ftz?.type:(BITS|INT|HALF|FLOAT)", "any = type type pred?",
            _set_predicate, since=_BRAIN),
    family("set.compare:COMPARE.to:(u32|s32|f32).type:(BITS|INT)", "to = type type", _set_value),
    family("set.compare:COMPARE.ftz?.to:(u16|s16|u32|s32|f32|f16|bf16).type:(f16|bf16|f32|f64)", "to = type type",
           _set_value, since=_BRAIN),
    family("set.compare:COMPARE.ftz?.to:f16x2.type:f16x2", "to = type type", _set_value),
    family("set.compare:COMPARE.to:bf16x2.type:bf16x2", "to = type type", _set_value, since=_BRAIN),
    elementwise("selp.type:(BITS|INT|f32|f64)", "type = type type pred", _select),
    family("slct.ftz?.type:(BITS|INT|f32|f64).by:(s32|f32)", "type = type type by", _select_by_sign),
    family("testp.property:(finite|infinite|number|notanumber|normal|subnormal).type:FLOAT", "pred = type",
           _test_property),
)
