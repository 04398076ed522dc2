"""The error bound of an expression at every point of a rectangle: :mod:`texpr.lang.evaluate` beside
:mod:`texpr.lang.bounded`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from texpr.lang import bounded
from texpr.lang.accuracy import Accuracy
from texpr.lang.arrays import Array
from texpr.lang.bounded import EXACT, NO_DOUBT, Bounded
from texpr.lang.evaluate import Mask, Points, State, both, evaluate, gather, ptx_values
from texpr.lang.ir import (
    AxisRef,
    Boundary,
    BoundaryMode,
    Cast,
    Const,
    DimRef,
    Expr,
    Func,
    Op,
    Present,
    Ptx,
    Read,
    ScalarRef,
    Select,
    Tensor,
    Var,
)


@dataclass(slots=True)
class Analysis:
    """What is known so far: the reference's state, and bounds and doubts of the funcs that have any."""

    state: State
    accuracy: Accuracy
    bounds: dict[Tensor | Func, Array] = field(default_factory=dict)
    doubts: dict[Tensor | Func, Array] = field(default_factory=dict)
    owner: str = ""  # the func whose definition is being bounded


@dataclass(slots=True)
class Rectangle:
    """Points, with memory of what was bounded on them. ``variables`` are a monoid's operands."""

    points: Points
    analysis: Analysis
    variables: Mapping[str, Bounded] = field(default_factory=dict)
    memo: dict[tuple[int, int], tuple[Mask, Bounded]] = field(default_factory=dict)


def bound_expr(expr: Expr, rectangle: Rectangle, mask: Mask) -> Bounded:
    """``expr`` with its bound, broadcastable to the rectangle."""
    key = (id(expr), id(mask))
    if key not in rectangle.memo:
        rectangle.memo[key] = (mask, _bound_expr(expr, rectangle, mask))
    return rectangle.memo[key][1]


def _bound_expr(expr: Expr, rectangle: Rectangle, mask: Mask) -> Bounded:
    if isinstance(expr, Var):
        return rectangle.variables[expr.name]
    value = evaluate(expr, rectangle.points, mask)
    match expr:
        case Const() | ScalarRef() | AxisRef() | DimRef() | Present():
            return Bounded.exact(value)
        case Read(source=source, absent=absent):
            if source not in rectangle.analysis.state.arrays and absent is not None:
                return bound_expr(absent, rectangle, mask)
            return _bound_read(expr, value, rectangle, mask)
        case Op(name=name, args=args):
            operands = [bound_expr(arg, rectangle, mask) for arg in args]
            error = rectangle.analysis.accuracy.of(name) if expr.dtype.is_float else None
            return bounded.apply(name, operands, value, expr.dtype, error)
        case Select(condition=condition, then=then, otherwise=otherwise):
            chosen = bound_expr(condition, rectangle, mask)
            a = bound_expr(then, rectangle, both(mask, chosen.value | chosen.ambiguous))
            b = bound_expr(otherwise, rectangle, both(mask, ~chosen.value | chosen.ambiguous))
            return bounded.select(chosen, a, b, value)
        case Cast(value=inner, dtype=dtype):
            named = inner.source if isinstance(inner, Read) else None
            owner = named.name if isinstance(named, Func) else rectangle.analysis.owner
            if owner in rectangle.analysis.accuracy.relaxed and inner.dtype.is_float and dtype.is_float:
                return bounded.rounded_elsewhere(bound_expr(inner, rectangle, mask), dtype, value)
            return bounded.cast(bound_expr(inner, rectangle, mask), inner.dtype, dtype, value)
        case Ptx():
            return _bound_ptx(expr, value, rectangle, mask)


def _bound_read(read: Read, value: Array, rectangle: Rectangle, mask: Mask) -> Bounded:
    """The source's bounds at the same place; a fill value is exact."""
    doubt = NO_DOUBT
    for index in read.indices:
        if not isinstance(index, AxisRef):
            doubt = doubt | bound_expr(index, rectangle, mask).ambiguous
    outside_is_exact = read.boundary.mode in (BoundaryMode.NONE, BoundaryMode.FILL)
    silent = replace(read, boundary=Boundary(BoundaryMode.FILL, 0)) if outside_is_exact else read
    bounds, doubts = rectangle.analysis.bounds.get(read.source), rectangle.analysis.doubts.get(read.source)
    if doubts is not None:
        doubt = doubt | gather(silent, doubts, rectangle.points, mask)
    bound = EXACT if bounds is None else gather(silent, bounds, rectangle.points, mask)
    return Bounded(value, bound, doubt)


def _bound_ptx(expr: Ptx, value: Array, rectangle: Rectangle, mask: Mask) -> Bounded:
    """The stated error, and the operands' errors through the reference function, which is taken to be monotone."""
    operands = [bound_expr(arg, rectangle, mask) for arg in expr.args]
    doubt = NO_DOUBT
    for operand in operands:
        doubt = doubt | operand.ambiguous

    def function(*values: Array) -> Array:
        return ptx_values(expr, values).astype(np.float64)

    uncertain = any(operand.bound.any() for operand in operands)
    with np.errstate(all="ignore"):
        carried = bounded.corners(function, operands, value.astype(np.float64)) if uncertain else EXACT
    if not expr.dtype.is_float:
        return Bounded(value, EXACT, doubt | (carried > 0))
    stated = expr.max_ulp * 2.0**-expr.dtype.mantissa_bits * np.where(np.isfinite(value), np.abs(value), 0.0)
    return Bounded(value, np.where(np.isnan(carried), math.inf, carried) + stated, doubt)
