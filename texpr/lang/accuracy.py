"""How far an operation on a GPU may be from the exact result: the numbers that an error bound is made of.

Errors are in ULPs of the result in the type computed in (f32 or f64), where 0.5 means correctly rounded. Defaults
cover the instructions that generated code uses for f32: ``div.full``, ``ex2.approx`` (``exp`` multiplies by log2(e)
first, which costs an error that grows with the argument), ``lg2.approx``, ``sqrt.approx``, ``rsqrt.approx`` (PTX ISA,
floating-point instructions), and tanh and erf computed from exp, which near 0 are accurate absolutely rather than
relatively."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from texpr.dtypes import DType
from texpr.lang.ir import OpName


@dataclass(frozen=True, slots=True)
class OpError:
    """``|computed - exact| <= (ulps + per_argument * |x|) * ulp(exact) + absolute``, with ``x`` the operation's
    argument. ``flushes``: an f32 operand below the least normal number may count as zero, and that tells."""

    ulps: float = 0.5
    per_argument: float = 0.0
    absolute: float = 0.0
    flushes: bool = False


_FLUSHED: Final = 2.0**-126
"""Results below the least normal number may be flushed to zero by the ``.ftz`` instructions."""

DEFAULT_OPERATIONS: Final[Mapping[OpName, OpError]] = MappingProxyType(
    {
        OpName.ADD: OpError(),
        OpName.SUB: OpError(),
        OpName.MUL: OpError(absolute=2.0**-149),
        OpName.FMA: OpError(absolute=2.0**-149),
        OpName.DIV: OpError(2.0, absolute=_FLUSHED),
        OpName.NEG: OpError(0.0),
        OpName.ABS: OpError(0.0),
        OpName.MIN: OpError(0.0),
        OpName.MAX: OpError(0.0),
        OpName.FLOOR: OpError(0.0),
        OpName.CEIL: OpError(0.0),
        OpName.EXP: OpError(3.0, per_argument=1.0, absolute=_FLUSHED),
        OpName.EXP2: OpError(2.0, absolute=_FLUSHED),
        OpName.LOG: OpError(3.0, absolute=2.0**-22),
        OpName.LOG2: OpError(2.0, absolute=2.0**-22),
        OpName.SQRT: OpError(2.0, absolute=_FLUSHED, flushes=True),
        OpName.RSQRT: OpError(2.0, absolute=_FLUSHED, flushes=True),
        OpName.SIN: OpError(2.0, absolute=2.0**-22),
        OpName.COS: OpError(2.0, absolute=2.0**-22),
        OpName.TANH: OpError(4.0, absolute=2.0**-22),
        OpName.ERF: OpError(4.0, absolute=2.0**-22),
        OpName.POW: OpError(16.0, absolute=_FLUSHED),
    }
)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``operations`` overrides single entries of the defaults; ``sum_ulps`` is the error of one addition inside a
    sum: 1, because tensor cores truncate where other units round. ``relaxed`` are the funcs whose values a schedule may
    round at another scale than the algorithm (``relax: rounding``)."""

    operations: Mapping[OpName, OpError] = field(default_factory=dict)
    sum_ulps: float = 1.0
    relaxed: frozenset[str] = frozenset()

    def of(self, name: OpName) -> OpError:
        """The error of an operation on floats."""
        return self.operations.get(name) or DEFAULT_OPERATIONS[name]


def unit(dtype: DType) -> float:
    """One ULP relative to the number, at most: ``2 ** -mantissa_bits``, plus what the float64 reference itself may be
    off."""
    return 2.0**-50 if dtype is DType.F64 else 2.0**-23 * (1 + 2.0**-20)
