"""Arithmetic on numbers with error bounds: the rules of a running error analysis, one per operation.

A :class:`Bounded` array says: the exact (reference) value, how far a correct kernel's value may be from it, and where
it may be something else altogether because a comparison or a rounding to integer could have gone the other way.
Bounds propagate by the range of each function over ``value +- bound``, which is exact for monotone functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from texpr.dtypes import DType
from texpr.lang.accuracy import OpError, unit
from texpr.lang.arrays import Array, round_float
from texpr.lang.evaluate import OPERATIONS, convert
from texpr.lang.ir import COMPARISONS, OpName

EXACT: Final[Array] = np.zeros((), np.float64)
"""The bound of what is exact."""
NO_DOUBT: Final[Array] = np.zeros((), np.bool_)
"""Nothing is ambiguous."""

_F32_LARGEST: Final = float.fromhex("0x1.fffffep127")
_F32_LEAST_NORMAL: Final = 2.0**-126
_LARGE: Final = 2.0**100
"""What is near enough to overflow that it is worth knowing."""
_EXP_ACCURACY: Final = 0.9
"""Exponentials of numbers up to a few thousand are at most this much too small: (2 + |x|) ulps."""
_SLACK: Final = 2.0**-50
"""Relative error of the bound's own float64 arithmetic."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """``value`` is the reference's; ``|kernel - value| <= bound`` wherever not ``ambiguous``. Integers and bools have
    bound 0; of an output, what is no element has bound NaN. ``least`` is known of the kernel's magnitude even where it
    may have overflowed and the bound is infinite.
    """

    value: Array
    bound: Array
    ambiguous: Array
    least: Array = field(default_factory=lambda: EXACT)

    @staticmethod
    def exact(value: Array) -> Bounded:
        """A value that every kernel gets right."""
        return Bounded(value, EXACT, NO_DOUBT)

    def reshape(self, shape: tuple[int, ...]) -> Bounded:
        """All three arrays in this shape."""
        spread = [np.broadcast_to(part, self.value.shape).reshape(shape) for part in (self.bound, self.ambiguous)]
        return Bounded(self.value.reshape(shape), spread[0], spread[1])

    def ratios(self, actual: Array) -> Array:
        """The error of ``actual`` (a value array) in units of its bound: at most 1 where it is right, 0 where nothing
        can be said.

        NaN and infinities must be met exactly; an exact element that differs gives infinity.
        """
        with np.errstate(all="ignore"):
            same = (actual == self.value) | ((actual != actual) & (self.value != self.value))
            error = np.abs(actual.astype(np.float64) - self.value.astype(np.float64))
            ratio = np.where(np.isfinite(error) & (self.bound > 0), error / self.bound, np.inf)
        undecided = self.ambiguous | ~np.isfinite(self.bound)
        return np.where(same | undecided, 0.0, ratio)

    @property
    def limits(self) -> Array:
        """The bound, infinite where nothing is said."""
        return np.where(self.ambiguous | np.isnan(self.bound), np.inf, self.bound)


def apply(name: OpName, args: Sequence[Bounded], value: Array, dtype: DType, error: OpError | None) -> Bounded:
    """The result of an operation whose reference value is ``value``; ``error`` is None for integers and bools."""
    if name in COMPARISONS:
        return _compare(args[0], args[1], value)
    ambiguous = _ambiguous(name, args)
    if error is None:
        return Bounded(value, EXACT, ambiguous)
    if error.flushes and dtype is not DType.F64:
        args = [_flushable(arg) for arg in args]
    with np.errstate(all="ignore"):
        carried = _settle(_carried(name, args, value), args)
        finite = np.isfinite(value)
        relative = error.ulps + (error.per_argument * np.abs(args[0].value) if error.per_argument else 0.0)
        scale = np.where(finite, np.abs(value) + np.where(np.isfinite(carried), carried, 0.0), 0.0)
        if name is OpName.FMA and dtype is DType.F64:  # the reference rounds the product, a kernel does not
            scale = scale + np.abs(args[0].value * args[1].value)
        committed = relative * unit(dtype) * scale + (error.absolute if dtype is not DType.F64 else 0.0)
        bound = carried + np.where(finite & np.isfinite(committed), committed, 0.0)
        least = _least(name, args)
    return overflow(Bounded(value, bound, ambiguous, least), dtype)


def _flushable(arg: Bounded) -> Bounded:
    """An operand that may be taken for zero where it is subnormal."""
    small = (np.abs(arg.value) < _F32_LEAST_NORMAL) & (arg.value != 0)
    if not small.any():
        return arg
    return replace(arg, bound=np.where(small, np.maximum(arg.bound, np.abs(arg.value)), arg.bound))


def overflow(result: Bounded, dtype: DType) -> Bounded:
    """Where f32 may overflow while the reference does not, the result may be infinite: it is known to be large."""
    if dtype is DType.F64:
        return result
    with np.errstate(all="ignore"):
        beyond = np.isfinite(result.value) & (np.abs(result.value) + result.bound > _F32_LARGEST)
    if not beyond.any():
        return result
    least = np.maximum(result.least, np.where(beyond, np.minimum(magnitude(result), _F32_LARGEST), 0.0))
    return Bounded(result.value, np.where(beyond, np.inf, result.bound), result.ambiguous, least)


def magnitude(operand: Bounded) -> Array:
    """What the kernel's magnitude is at least."""
    finite = np.isfinite(operand.value) & np.isfinite(operand.bound)
    with np.errstate(all="ignore"):
        near = np.where(finite, np.abs(operand.value) - operand.bound, 0.0)
    return np.asarray(np.maximum(near, operand.least))


def _least(name: OpName, args: Sequence[Bounded]) -> Array:
    """What is known of a result's magnitude because an operand is known to be large."""
    a = args[0]
    if name in (OpName.EXP, OpName.EXP2):
        lowest = np.nan_to_num(OPERATIONS[name](a.value - a.bound))
        return np.asarray(np.where(lowest > _LARGE, np.minimum(lowest * _EXP_ACCURACY, _F32_LARGEST), 0.0))
    if not any(arg.least.any() for arg in args):
        return EXACT
    match name:
        case OpName.ADD | OpName.SUB:
            b = args[1]
            found = np.maximum(a.least - (np.abs(b.value) + b.bound), b.least - (np.abs(a.value) + a.bound))
            return np.where(np.isfinite(found), np.maximum(found, 0.0), 0.0)
        case OpName.NEG | OpName.ABS:
            return a.least
        case OpName.MUL:
            return np.asarray(np.minimum(np.nan_to_num(magnitude(a) * magnitude(args[1])), _F32_LARGEST))
        case _:
            return EXACT


def _settle(carried: Array, args: Sequence[Bounded]) -> Array:
    """inf - inf: certain if the operands are, unknown otherwise."""
    certain = np.asarray(True)
    for arg in args:
        certain = certain & (arg.bound == 0)
    return np.where(np.isnan(carried), np.where(certain, 0.0, np.inf), carried)


def _carried(name: OpName, args: Sequence[Bounded], value: Array) -> Array:
    """The error that the operands bring, before this operation adds its own."""
    a = args[0]
    match name:
        case OpName.ADD | OpName.SUB:
            return a.bound + args[1].bound
        case OpName.MUL:
            return _product(a, args[1])
        case OpName.FMA:
            return _product(a, args[1]) + args[2].bound
        case OpName.DIV:
            b = args[1]
            safe = np.abs(b.value) > b.bound
            quotient = (a.bound + np.abs(value) * b.bound) / (np.abs(b.value) - b.bound)
            quotient = np.where(np.isinf(a.value) & (a.bound == 0), 0.0, quotient)  # still infinite, with the same sign
            found = np.where(safe | (b.bound == 0), np.where(b.bound == 0, a.bound / np.abs(b.value), quotient), np.inf)
            small = np.abs(value) + (np.abs(a.value) + a.bound) / b.least  # by a large divisor, even an infinite one
            return np.where((b.least > 0) & np.isfinite(small), np.minimum(found, small), found)
        case OpName.NEG | OpName.ABS:
            return a.bound
        case OpName.MIN | OpName.MAX:
            return np.maximum(a.bound, args[1].bound)
        case OpName.SIN | OpName.COS:
            return np.asarray(np.minimum(a.bound, 2.0))
        case _:
            return corners(OPERATIONS[name], args, value)


def _product(a: Bounded, b: Bounded) -> Array:
    """Zero bounds stay zero next to infinities."""
    parts = [_times(np.abs(a.value), b.bound), _times(np.abs(b.value), a.bound), _times(a.bound, b.bound)]
    return parts[0] + parts[1] + parts[2]


def _times(a: Array, b: Array) -> Array:
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def corners(function: Callable[..., Array], args: Sequence[Bounded], value: Array) -> Array:
    """The largest deviation of ``function`` at the ends of its arguments' ranges: the bound itself for a monotone
    function."""
    if all(not arg.bound.any() for arg in args):
        return EXACT
    worst = EXACT
    for signs in itertools.product((-1.0, 1.0), repeat=len(args)):
        moved = function(*(arg.value + sign * arg.bound for sign, arg in zip(signs, args, strict=True)))
        deviation = np.where(moved == value, 0.0, np.abs(moved - value))
        worst = np.maximum(worst, deviation)
    return worst + np.where(worst > 0, np.abs(value) * _SLACK, 0.0)


def _ambiguous(name: OpName, args: Sequence[Bounded]) -> Array:
    if name in (OpName.AND, OpName.OR) and args[0].value.dtype == np.bool_:
        a, b = args
        settles = name is OpName.OR  # True settles an "or", False an "and"
        certain_a = ~a.ambiguous & (a.value == settles)
        certain_b = ~b.ambiguous & (b.value == settles)
        return np.asarray((a.ambiguous | b.ambiguous) & ~certain_a & ~certain_b)
    result = NO_DOUBT
    for arg in args:
        result = result | arg.ambiguous
    return result


def _compare(a: Bounded, b: Bounded, value: Array) -> Bounded:
    """Two numbers that could be equal within their bounds could compare either way."""
    doubt = a.ambiguous | b.ambiguous
    reach = a.bound + b.bound
    if reach.any():
        with np.errstate(all="ignore"):
            distance = np.abs(a.value.astype(np.float64) - b.value.astype(np.float64))
        doubt = doubt | ((reach > 0) & ~(distance > reach))
    return Bounded(value, EXACT, doubt)


def select(condition: Bounded, then: Bounded, otherwise: Bounded, value: Array) -> Bounded:
    """Where the condition is in doubt, a float may come from either branch: the bound reaches both."""
    chosen = condition.value
    bound = np.where(chosen, then.bound, otherwise.bound)
    ambiguous = np.where(chosen, then.ambiguous, otherwise.ambiguous)
    if not condition.ambiguous.any():
        return Bounded(value, bound, ambiguous)
    if value.dtype.kind != "f":
        differ = (then.value != otherwise.value) | then.ambiguous | otherwise.ambiguous
        return Bounded(value, bound, ambiguous | (condition.ambiguous & differ))
    with np.errstate(all="ignore"):
        reach = np.where(then.value == otherwise.value, 0.0, np.abs(then.value - otherwise.value))
    reach = np.where(np.isnan(reach), np.inf, reach) + np.maximum(then.bound, otherwise.bound)
    either = then.ambiguous | otherwise.ambiguous
    return Bounded(value, np.where(condition.ambiguous, reach, bound), np.where(condition.ambiguous, either, ambiguous))


def cast(operand: Bounded, source: DType, target: DType, value: Array) -> Bounded:
    """Conversion of a value that may be off: to a float, the neighbours that it may round to; to an integer,
    ambiguous if they differ."""

    def convert_values(values: Array) -> Array:
        return convert(values, source, target)

    if not source.is_float or not operand.bound.any():
        return Bounded(value, EXACT, operand.ambiguous)
    if not target.is_float:
        doubt = corners(lambda v: convert_values(v).astype(np.float64), [operand], value.astype(np.float64)) > 0
        return Bounded(value, EXACT, operand.ambiguous | doubt)
    if target is DType.F64 or (target is DType.F32 and source is not DType.F64):
        return Bounded(value, operand.bound, operand.ambiguous)
    with np.errstate(all="ignore"):
        bound = _settle(corners(convert_values, [operand], value), [operand])
    bound = np.where(np.isinf(operand.bound), np.inf, bound)
    return Bounded(value, bound, operand.ambiguous)


def rounded_elsewhere(operand: Bounded, target: DType, value: Array) -> Bounded:
    """Conversion of a float that a kernel may round at another scale: the factor that makes up for it later is at most
    1. Both roundings are off by half a unit each, relative to the number or to the least one, wherever they happen; no
    element is ambiguous for that."""
    size = np.abs(value) + np.where(np.isfinite(operand.bound), operand.bound, 0.0)
    with np.errstate(all="ignore"):
        unit = 2.0**-target.mantissa_bits * size + _least_step(target)
        return Bounded(value, np.where(np.isfinite(unit), operand.bound + unit, operand.bound), operand.ambiguous)


def _least_step(target: DType) -> float:
    """The distance of the numbers next to zero: the least that is not rounded to zero."""
    step = 1.0
    while float(round_float(np.asarray(step / 2), target)) > 0.0:
        step /= 2
    return step
